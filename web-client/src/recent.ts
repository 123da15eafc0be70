/**
 * The documents opened lately in this browser, newest first.
 */

const KEY = "quire.recent";
const RECENT_MAX = 6;

export function loadRecent(storage: Storage): string[] {
  try {
    const kept: unknown = JSON.parse(storage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((name) => typeof name === "string").slice(0, RECENT_MAX) : [];
  } catch {
    return [];
  }
}

export function saveRecent(storage: Storage, name: string): void {
  const names = [name, ...loadRecent(storage).filter((other) => other !== name)].slice(0, RECENT_MAX);
  try {
    storage.setItem(KEY, JSON.stringify(names));
  } catch {
    // Without storage there is no list; the address still works.
  }
}
