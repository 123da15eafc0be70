// Waiting for what must become true. A deadline is generous: passing it is a failure, never a way to go on.

export const DEADLINE_MS = 60_000;
const LOOK_EVERY_MS = 10;

/** Waits until `holds()` is truthy, and returns what it gave. */
export async function until(what, holds, deadlineMs = DEADLINE_MS) {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const result = await holds();
    if (result) return result;
    if (performance.now() > deadline) {
      const text = typeof what === "function" ? what() : what;
      throw new Error(`after ${deadlineMs} ms still not true: ${text}`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
}

/** Rejects where `promise` takes longer than the deadline. */
export function within(what, promise, deadlineMs = DEADLINE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`after ${deadlineMs} ms still waiting for ${what}`)), deadlineMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Lets other events happen, without waiting for anything. */
export function breathe() {
  return new Promise((resolve) => setImmediate(resolve));
}
