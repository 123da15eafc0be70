// A connection between two regions that can be slow, cut, reset, half-open or deaf in one direction.
//
// One region dials the wire's port, and the wire dials the other. What it does to bytes it does to TCP, as a
// network does: bytes are late or the connection ends, they are never changed, left out or reordered.
import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Wire {
  #server = createServer((socket) => this.#join(socket));
  #pairs = new Set();
  #target;
  /** Milliseconds each way, and how much more at random. */
  delayMs = 0;
  jitterMs = 0;
  /** Nothing gets through, and nobody is told: `there`, `back`, both or neither. */
  deaf = { there: false, back: false };
  /** New connections are refused, those that are there are gone. */
  isCut = false;
  /** Bytes carried, in both directions, since the wire was made. */
  bytes = 0;

  /** `target()` gives the port of the region that is dialled, nothing while it does not listen. */
  constructor(target) {
    this.#target = target;
  }

  async open() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = this.#server.address().port;
    return this;
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
    for (const pair of this.#pairs) pair.forEach((socket) => socket.resetAndDestroy());
    this.#pairs.clear();
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #join(near) {
    const port = this.#target();
    if (this.isCut || !port) return near.resetAndDestroy();
    const far = connect(port, "127.0.0.1");
    const pair = [near, far];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      pair.forEach((socket) => socket.destroy());
    };
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on("error", end).on("close", end);
    }
    this.#carry(near, far, "there");
    this.#carry(far, near, "back");
  }

  #carry(from, to, direction) {
    let last = 0;
    from.on("data", (chunk) => {
      if (this.deaf[direction]) return;
      this.bytes += chunk.length;
      if (this.delayMs === 0 && this.jitterMs === 0 && last <= performance.now()) return void to.write(chunk);
      // Never before what came before.
      last = Math.max(last, performance.now() + this.delayMs + Math.random() * this.jitterMs);
      setTimeout(() => to.destroyed || to.write(chunk), last - performance.now());
    });
  }
}
