/**
 * The conflicts of a document's fields, as Quire tells editors of them beside the fields themselves.
 *
 * What stands there are bytes from outside. Nothing of them is used before it has been checked.
 */
import * as Y from "yjs";

/** The root map of a document's fields. */
export const FIELDS_ROOT = "fields";

const CONFLICTS_KEY = "__conflicts";

/** So many characters of a value are shown: the whole is in the field, and over HTTP. */
const SHOWN_CHARS_MAX = 400;

export interface Version {
  /** What it left, to be read by people. */
  text: string;
  /** What to write to take it; none where it is too long or too special to be told of in full. */
  take: { value: unknown } | "delete" | null;
  /** The region it came to. */
  region: string;
  /** Who wrote it, where the region knew. */
  author: string | null;
  /** When, in milliseconds since 1970. */
  time: number;
}

export interface Conflict {
  id: string;
  /** The keys that lead to the field. */
  path: string[];
  versions: Version[];
  /** What all who wrote had seen, to be read by people; none where there was nothing, or nobody knows. */
  base: string | null;
  /** Why its policy could not merge them. */
  reason: string | null;
}

/** What is in conflict now, by field. */
export function conflictsIn(fields: Y.Map<unknown>): Conflict[] {
  const told = fields.get(CONFLICTS_KEY);
  if (!(told instanceof Y.Map)) return [];
  const all = [...told.entries()].map(([key, value]) => conflictIn(key, value));
  return all.filter((conflict) => conflict !== null).sort((a, b) => a.path.join("/").localeCompare(b.path.join("/")));
}

/** Takes a version: writes its value to the field, which resolves the conflict everywhere. False when it cannot. */
export function take(fields: Y.Map<unknown>, { path }: Conflict, { take: taken }: Version): boolean {
  const key = path.at(-1);
  let map = fields;
  for (const part of path.slice(0, -1)) {
    const inner = map.get(part);
    if (!(inner instanceof Y.Map)) return false;
    map = inner;
  }
  if (key === undefined || taken === null) return false;
  if (taken === "delete") map.delete(key);
  else map.set(key, taken.value);
  return true;
}

function conflictIn(key: string, value: unknown): Conflict | null {
  if (!isObject(value) || typeof value["id"] !== "string" || !Array.isArray(value["versions"])) return null;
  const versions = value["versions"].map(versionIn).filter((version) => version !== null);
  if (versions.length === 0) return null;
  // In a key of a path `~1` stands for a slash, and `~0` for a tilde.
  const path = key.split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  const { id, base, reason } = value;
  return {
    id,
    path,
    versions,
    base: base === undefined || base === null ? null : spelt(base).text,
    reason: typeof reason === "string" ? reason : null,
  };
}

function versionIn(value: unknown): Version | null {
  if (!isObject(value)) return null;
  const { timestamp, origin, author, deleted } = value;
  const about = {
    region: typeof origin === "string" ? origin : "",
    // An editor that did not say who it is goes by the number of its client, which tells people nothing.
    author: typeof author === "string" && !/^client \d+$/u.test(author) ? author : null,
    time: typeof timestamp === "number" && Number.isFinite(timestamp) ? timestamp : 0,
  };
  if (deleted === true) return { text: "Deleted", take: "delete", ...about };
  if (!("value" in value)) return null;
  return { ...spelt(value["value"]), ...about };
}

/** A value for people, and whether it is one that can be written. */
function spelt(value: unknown): Pick<Version, "text" | "take"> {
  if (isObject(value)) {
    const left = value["$bytes_left_out"];
    if (typeof left === "number") return { text: `A value of ${left.toLocaleString("en")} bytes`, take: null };
    if (value["$shared"] === true) return { text: "A shared text or list", take: null };
    if (value["$document"] === true) return { text: "A subdocument", take: null };
    if (value["$unknown"] === true) return { text: "A value that is not kept any more", take: null };
  }
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "Nothing");
  const chars = [...text];
  return { text: chars.length > SHOWN_CHARS_MAX ? `${chars.slice(0, SHOWN_CHARS_MAX).join("")}…` : text, take: { value } };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
