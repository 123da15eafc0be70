/**
 * Who is here: this person's name and colour, kept in the browser, and everybody else's, from awareness.
 *
 * Other people's states are bytes from outside. Nothing of them is used before it has been checked.
 */
import type { Awareness } from "y-protocols/awareness";

export interface Person {
  name: string;
  color: string;
}

export interface Other extends Person {
  client: number;
}

export const NAME_CHARS_MAX = 40;

/** Each has a contrast of at least 4.5 with white, in which its name is written beside a cursor. */
export const COLOURS = [
  { name: "Indigo", color: "#4f56d6" },
  { name: "Blue", color: "#1b6fc2" },
  { name: "Teal", color: "#0b7a75" },
  { name: "Green", color: "#2f7d32" },
  { name: "Amber", color: "#a35c00" },
  { name: "Red", color: "#c2382f" },
  { name: "Pink", color: "#b8357f" },
  { name: "Violet", color: "#8544b8" },
] as const;

const KEY = "quire.me";
const FIRST = ["Amber", "Brisk", "Calm", "Deft", "Early", "Fond", "Keen", "Lucid", "Merry", "Quiet", "Swift", "Warm"];
const SECOND = ["Finch", "Heron", "Ibis", "Lark", "Martin", "Owl", "Plover", "Robin", "Swallow", "Teal", "Tern", "Wren"];

/** The person at this browser: what they chose last, or a new name and colour. */
export function loadMe(storage: Storage): Person {
  try {
    const kept = personIn(JSON.parse(storage.getItem(KEY) ?? "null"));
    if (kept !== null) return kept;
  } catch {
    // Storage can be unreadable or forbidden. A new name does no harm.
  }
  const me = { name: `${pick(FIRST)} ${pick(SECOND)}`, color: pick(COLOURS).color };
  saveMe(storage, me);
  return me;
}

export function saveMe(storage: Storage, me: Person): void {
  try {
    storage.setItem(KEY, JSON.stringify(me));
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

/** Tells the others who this is; y-codemirror takes the colours of cursor and selection from here. */
export function announce(awareness: Awareness, me: Person): void {
  // y-codemirror draws a cursor anew for a new colour only, so a new name would not be seen beside the old
  // one. Without the cursor it is taken away, and it comes back with the name when the editor has the focus.
  if (awareness.getLocalState()?.["cursor"]) awareness.setLocalStateField("cursor", null);
  awareness.setLocalStateField("user", { name: me.name, color: me.color, colorLight: `${me.color}33` });
}

/** Everybody else in the document, by name. */
export function others(awareness: Awareness): Other[] {
  const here: Other[] = [];
  for (const [client, state] of awareness.getStates()) {
    if (client === awareness.clientID) continue;
    const person = personIn((state as { user?: unknown }).user);
    here.push({ client, ...(person ?? { name: "Someone", color: COLOURS[client % COLOURS.length]?.color ?? "#4f56d6" }) });
  }
  return here.sort((a, b) => a.name.localeCompare(b.name) || a.client - b.client);
}

export function initials(name: string): string {
  const words = name.trim().split(/\s+/u);
  const first = [...(words[0] ?? "")][0] ?? "?";
  const last = words.length > 1 ? ([...(words.at(-1) ?? "")][0] ?? "") : "";
  return (first + last).toUpperCase();
}

/** A name as it may be shown: one line, trimmed, not too long. */
export function cleanName(name: string): string {
  return [...name.replace(/\s+/gu, " ").trim()].slice(0, NAME_CHARS_MAX).join("");
}

function personIn(value: unknown): Person | null {
  if (typeof value !== "object" || value === null) return null;
  const { name, color } = value as { name?: unknown; color?: unknown };
  if (typeof name !== "string" || typeof color !== "string" || !/^#[0-9a-f]{6}$/iu.test(color)) return null;
  const clean = cleanName(name);
  return clean === "" ? null : { name: clean, color };
}

function pick<T>(from: readonly T[]): T {
  return from[Math.floor(Math.random() * from.length)] as T;
}
