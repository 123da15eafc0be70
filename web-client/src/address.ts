/**
 * Document names, and how they travel in addresses: the page's own (`/?doc=notes`) and the server's socket.
 *
 * Pure: it reads the location it is given and changes nothing.
 */

/** The server's limit on a name, in UTF-8 bytes. */
export const NAME_BYTES_MAX = 512;

export const DEFAULT_NAME = "welcome";

/** Why `name` cannot name a document, or `null` where it can. */
export function nameProblem(name: string): string | null {
  if (name === "") return "A document needs a name.";
  if (/[\u0000-\u001f\u007f-\u009f]/u.test(name)) return "A name cannot hold control characters.";
  // Browsers drop such a path segment from an address, however it is escaped.
  if (name === "." || name === "..") return `“${name}” cannot name a document.`;
  if (new TextEncoder().encode(name).length > NAME_BYTES_MAX) return `A name is at most ${NAME_BYTES_MAX} bytes long.`;
  return null;
}

/** The document an address of the page names: `?doc=`, else what follows `#`, else the default. */
export function nameIn(address: URL): string {
  const asked = address.searchParams.get("doc");
  if (asked !== null && asked !== "") return asked;
  const hash = address.hash.slice(1);
  if (hash === "") return DEFAULT_NAME;
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash;
  }
}

/** The page's address for a document, keeping its other parameters (a token, say). */
export function addressOf(name: string, current: URL): URL {
  const address = new URL(current);
  address.hash = "";
  address.searchParams.set("doc", name);
  return address;
}

/** Where the server's y-websocket endpoint is, seen from the page: `ws` beside it. */
export function socketBase(current: URL): string {
  const base = new URL("ws", current);
  base.protocol = base.protocol === "https:" ? "wss:" : "ws:";
  base.search = "";
  base.hash = "";
  return base.href;
}

/**
 * A name as the provider must be given it: y-websocket puts it into the address as it is.
 * The `/` is escaped too, or a browser would resolve `a/../b` before it asks.
 */
export function roomOf(name: string): string {
  return encodeURIComponent(name);
}
