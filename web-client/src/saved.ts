/**
 * Which of this editor's own changes the server has not confirmed yet.
 *
 * A change is confirmed when the server sends it back: Quire echoes an update only after it is on disk.
 * This file knows Yjs updates and nothing of sockets or the page; it never guesses from a timer.
 *
 * Invariant: what `unsaved` holds was made here and has not been seen in any message from the server.
 */
import * as Y from "yjs";

interface Range {
  start: number;
  /** One past the last clock. */
  end: number;
}

/** Sets of clocks, per Yjs client, kept as sorted ranges that neither touch nor overlap. */
export class ClockRanges {
  readonly #clients = new Map<number, Range[]>();

  /** How many clocks the set holds. */
  get size(): number {
    let size = 0;
    for (const ranges of this.#clients.values()) for (const { start, end } of ranges) size += end - start;
    return size;
  }

  /** The lowest clock held of each client. */
  lowest(): Map<number, number> {
    const lowest = new Map<number, number>();
    for (const [client, [first]] of this.#clients) if (first) lowest.set(client, first.start);
    return lowest;
  }

  add(client: number, start: number, length: number): void {
    if (length <= 0) return;
    const added: Range = { start, end: start + length };
    const kept: Range[] = [];
    for (const range of this.#clients.get(client) ?? []) {
      if (range.end < added.start || range.start > added.end) {
        kept.push(range);
      } else {
        added.start = Math.min(added.start, range.start);
        added.end = Math.max(added.end, range.end);
      }
    }
    kept.push(added);
    this.#clients.set(client, kept.sort((a, b) => a.start - b.start));
  }

  remove(client: number, start: number, length: number): void {
    const ranges = this.#clients.get(client);
    if (ranges === undefined || length <= 0) return;
    const end = start + length;
    const kept: Range[] = [];
    for (const range of ranges) {
      if (range.start < start) kept.push({ start: range.start, end: Math.min(range.end, start) });
      if (range.end > end) kept.push({ start: Math.max(range.start, end), end: range.end });
    }
    if (kept.length > 0) this.#clients.set(client, kept);
    else this.#clients.delete(client);
  }
}

/** The changes made here that the server has not sent back. */
export class Unsaved {
  readonly #inserts = new ClockRanges();
  // Deletes have no clock of their own: what identifies one is the range it deletes.
  readonly #deletes = new ClockRanges();

  /** How many characters (or other items) inserted or deleted here are not confirmed. */
  get count(): number {
    return this.#inserts.size + this.#deletes.size;
  }

  /** Takes an update that was made here. */
  made(update: Uint8Array): void {
    eachRange(
      update,
      (client, clock, length) => this.#inserts.add(client, clock, length),
      (client, clock, length) => this.#deletes.add(client, clock, length),
    );
  }

  /** Takes an update the server sent, whoever made it. */
  seen(update: Uint8Array): void {
    // A large document's first message is not worth decoding a second time when nothing waits for it.
    if (this.count === 0) return;
    eachRange(
      update,
      (client, clock, length) => this.#inserts.remove(client, clock, length),
      (client, clock, length) => this.#deletes.remove(client, clock, length),
    );
  }

  /**
   * What to claim to hold when asking the server for everything unconfirmed: the document's state vector,
   * lowered to the first unconfirmed insert of each client. An answer holds the whole delete set anyway.
   *
   * An echo can be lost with its connection. The server then has the change, and would otherwise never
   * mention it again to an editor whose state vector covers it.
   */
  stateVectorWithout(stateVector: Map<number, number>): Map<number, number> {
    const lowered = new Map(stateVector);
    for (const [client, clock] of this.#inserts.lowest()) {
      if (clock === 0) lowered.delete(client);
      else lowered.set(client, Math.min(clock, lowered.get(client) ?? 0));
    }
    return lowered;
  }
}

type EachRange = (client: number, clock: number, length: number) => void;

function eachRange(update: Uint8Array, inserted: EachRange, deleted: EachRange): void {
  const { structs, ds } = Y.decodeUpdate(update);
  for (const struct of structs) {
    // A Skip stands for blocks that are *not* in the update.
    if (struct instanceof Y.Skip) continue;
    inserted(struct.id.client, struct.id.clock, struct.length);
  }
  for (const [client, ranges] of ds.clients) {
    for (const { clock, len } of ranges) deleted(client, clock, len);
  }
}
