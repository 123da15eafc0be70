// A stream of Server-Sent Events, read as a program does that reads it with fetch.
import { within } from "./until.mjs";

/** Follows the events at an address, from behind one where its id is given; ends with the test. */
export async function follow(t, url, lastEventId) {
  const closing = new AbortController();
  t.after(() => closing.abort());
  const headers = lastEventId === undefined ? {} : { "last-event-id": lastEventId };
  const response = await fetch(url, { headers, signal: closing.signal });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const events = blocks(response.body.pipeThrough(new TextDecoderStream()));
  // The first says from where on, and is no event.
  await within("the stream to begin", events.next());
  const next = async () => {
    for (;;) {
      const { value, done } = await events.next();
      if (done) throw new Error("the stream has ended");
      if (value.data !== undefined) return { event: value.event, id: value.id, conflict: JSON.parse(value.data) };
    }
  };
  // What keeps the connection open must not keep a test waiting.
  /** The next event: its name, its id and what it says. */
  return { next: () => within("an event", next()) };
}

async function* blocks(chunks) {
  let text = "";
  for await (const chunk of chunks) {
    text += chunk;
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const block of whole) yield Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
  }
}
