// JWTs for the tests: minted by `quire token`, or here where a token must be odd (expiring at once, say).
import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { BIN, startServer, temporaryDirectory } from "./server.mjs";

export const SECRET = "a secret for tests only, of some length";

/** The server takes a token as valid this much longer, since clocks differ. */
export const LEEWAY_SECONDS = 30;

/** A server that asks for tokens. */
export async function startGuarded(t, ...args) {
  const keyFile = path.join(await temporaryDirectory(t), "jwt.key");
  await writeFile(keyFile, SECRET);
  const server = await startServer(t, "--auth", "jwt", "--jwt-key-file", keyFile, ...args);
  server.keyFile = keyFile;
  return server;
}

/** A token from `quire token`, with these flags. */
export async function mint(server, ...flags) {
  const { stdout } = await promisify(execFile)(BIN, ["token", "--jwt-key-file", server.keyFile, ...flags]);
  return stdout.trim();
}

/** A token for `docs` (`{ pattern: "read" | "write" }`) that is accepted for `seconds` from now, of somebody of that name. */
export function token(docs, seconds = 600, secret = SECRET, sub = "tester") {
  const claims = {
    sub,
    exp: Date.now() / 1000 - LEEWAY_SECONDS + seconds,
    docs: Object.entries(docs).map(([match, access]) => ({ match, access })),
  };
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const message = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${message}.${createHmac("sha256", secret).update(message).digest("base64url")}`;
}
