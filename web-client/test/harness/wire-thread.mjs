// The thread of a wire: takes connections and carries their bytes.
//
// What it does to bytes it does to TCP, as a network does: bytes are late or the connection ends, they are never
// changed, left out or reordered.
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { parentPort, workerData as fields } from "node:worker_threads";
import { FIELDS } from "./wire-fields.mjs";

const pairs = new Set();
/** The region's port, once it is told: a region keeps it, and whoever told it may be busy later. */
let port;
/** Connections that came before that. */
const asking = new Map();
let asked = 0;

const get = (field) => Number(Atomics.load(fields, field));

parentPort.on("message", (told) => {
  if (told.reset) return reset();
  const near = asking.get(told.asked);
  asking.delete(told.asked);
  port ??= told.port;
  join(near);
});

const server = createServer((near) => {
  near.on("error", () => near.destroy());
  if (port || get(FIELDS.isCut)) return join(near);
  asking.set(++asked, near);
  parentPort.postMessage(asked);
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
parentPort.postMessage(server.address().port);

function reset() {
  for (const pair of pairs) pair.forEach((socket) => socket.resetAndDestroy());
  pairs.clear();
}

function join(near) {
  if (get(FIELDS.isCut) || near.destroyed || !port) return near.resetAndDestroy();
  const far = connect(port, "127.0.0.1");
  const pair = [near, far];
  pairs.add(pair);
  const end = () => {
    pairs.delete(pair);
    pair.forEach((socket) => socket.destroy());
  };
  for (const socket of pair) {
    socket.setNoDelay(true);
    socket.on("error", end).on("close", end);
  }
  carry(near, far, FIELDS.deafThere);
  carry(far, near, FIELDS.deafBack);
}

function carry(from, to, deaf) {
  let last = 0;
  from.on("data", (chunk) => {
    // A cut holds before the connection has heard of it.
    if (get(deaf) || get(FIELDS.isCut)) return;
    Atomics.add(fields, FIELDS.bytes, BigInt(chunk.length));
    const [delayMs, jitterMs] = [get(FIELDS.delayMs), get(FIELDS.jitterMs)];
    if (delayMs === 0 && jitterMs === 0 && last <= performance.now()) return void to.write(chunk);
    // Never before what came before.
    last = Math.max(last, performance.now() + delayMs + Math.random() * jitterMs);
    setTimeout(() => to.destroyed || to.write(chunk), last - performance.now());
  });
}
