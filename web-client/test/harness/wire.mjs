// A connection between two regions that can be slow, cut, reset, half-open or deaf in one direction.
//
// One region dials the wire's port, and the wire dials the other. It carries bytes in a thread of its own
// (`wire-thread.mjs`): a network does not wait until the editors of a test have taken what they got.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { FIELDS } from "./wire-fields.mjs";

export class Wire {
  #target;
  #thread;
  #fields = new BigInt64Array(new SharedArrayBuffer(8 * Object.keys(FIELDS).length));

  /** `target()` gives the port of the region that is dialled, nothing while it does not listen. */
  constructor(target) {
    this.#target = target;
  }

  async open() {
    this.#thread = new Worker(new URL("./wire-thread.mjs", import.meta.url), { workerData: this.#fields, execArgv: [] });
    [this.port] = await once(this.#thread, "message");
    this.#thread.on("message", (asked) => this.#thread.postMessage({ asked, port: this.#target() }));
    return this;
  }

  /** Milliseconds each way, and how much more at random. */
  get delayMs() {
    return this.#get(FIELDS.delayMs);
  }

  set delayMs(ms) {
    this.#set(FIELDS.delayMs, ms);
  }

  get jitterMs() {
    return this.#get(FIELDS.jitterMs);
  }

  set jitterMs(ms) {
    this.#set(FIELDS.jitterMs, ms);
  }

  /** Nothing gets through, and nobody is told: `there`, `back`, both or neither. */
  set deaf({ there, back }) {
    this.#set(FIELDS.deafThere, there);
    this.#set(FIELDS.deafBack, back);
  }

  /** New connections are refused, those that are there are gone. */
  get isCut() {
    return this.#get(FIELDS.isCut) === 1;
  }

  set isCut(cut) {
    this.#set(FIELDS.isCut, cut);
  }

  /** Bytes carried, in both directions, since the wire was made. */
  get bytes() {
    return this.#get(FIELDS.bytes);
  }

  /** Ends what is there and lets nothing new in until `heal`. */
  cut() {
    this.isCut = true;
    this.reset();
  }

  heal() {
    this.isCut = false;
    this.deaf = { there: false, back: false };
  }

  /** Ends what is there; the region may dial again at once. */
  reset() {
    this.#thread.postMessage({ reset: true });
  }

  close() {
    return this.#thread.terminate();
  }

  #get(field) {
    return Number(Atomics.load(this.#fields, field));
  }

  #set(field, value) {
    Atomics.store(this.#fields, field, BigInt(value));
  }
}
