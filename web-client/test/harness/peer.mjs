// A region that is none: it listens as a peer, and says what a test has it say.
//
// It knows the cluster's secret and learns the cluster from the hello of whoever dials it, so that it can go as far
// as a real peer and then do what no real peer does. docs/protocol.md, section L, has the bytes.
import { createHmac, randomBytes } from "node:crypto";
import { once } from "node:events";
import * as decoding from "lib0/decoding";
import { WebSocketServer } from "ws";
import { frame } from "./raw.mjs";
import { within } from "./until.mjs";

const HELLO = Buffer.from("quire\x01");
const PROOF = Buffer.from("quire\x02");
const [PING, PONG] = [12, 13];
const TRANSCRIPT = Buffer.from("quire peer link 1\0");

export class FalsePeer {
  #server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  #connections = [];
  #waiting = [];

  constructor(t, secret) {
    this.secret = secret;
    this.#server.on("connection", (socket) => {
      const connection = new Connection(socket, secret);
      const waiting = this.#waiting.shift();
      if (waiting) waiting(connection);
      else this.#connections.push(connection);
    });
    t.after(() => {
      this.#server.clients.forEach((socket) => socket.terminate());
      this.#server.close();
    });
  }

  async listen() {
    await once(this.#server, "listening");
    this.url = `ws://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  /** The next time that somebody dials it. */
  dialled() {
    const next = this.#connections.shift();
    return within("a region that dials", next ? Promise.resolve(next) : new Promise((resolve) => this.#waiting.push(resolve)));
  }
}

class Connection {
  #frames = [];
  #waiting = [];

  constructor(socket, secret) {
    this.socket = socket;
    this.secret = secret;
    this.closed = once(socket, "close");
    socket.on("error", () => {});
    socket.on("message", (data) => {
      const waiting = this.#waiting.shift();
      if (waiting) waiting(data);
      else this.#frames.push(data);
    });
  }

  next() {
    const next = this.#frames.shift();
    return within("a frame", next ? Promise.resolve(next) : new Promise((resolve) => this.#waiting.push(resolve)));
  }

  send(bytes) {
    this.socket.send(bytes);
  }

  /** Says hello, as replica 9 of the dialler's own cluster unless told otherwise. */
  async hello({ versions = [1, 1], cluster, replica = 9, schema = Buffer.alloc(16), challenge = randomBytes(32) } = {}) {
    this.theirs = await this.next();
    const own = this.theirs.subarray(8, 24);
    const ids = Buffer.from(frame(replica, 1, 1));
    this.ours = Buffer.concat([HELLO, Buffer.from(versions), cluster ?? own, ids, schema, challenge]);
    this.send(this.ours);
  }

  /** Waits for the dialler's proof and gives one, right unless another secret is given. */
  async prove(secret = this.secret) {
    await this.next();
    const transcript = Buffer.concat([TRANSCRIPT, Buffer.from([2]), frame(this.theirs), frame(this.ours)]);
    this.send(Buffer.concat([PROOF, createHmac("sha256", secret).update(transcript).digest()]));
  }

  /** Answers every ping from now on, by a clock that is so far ahead. */
  answerPings(aheadMs) {
    const answer = (data) => {
      if (data[0] !== PING) return;
      const decoder = decoding.createDecoder(data.subarray(1));
      const nonce = decoding.readVarUint(decoder);
      decoding.readVarUint(decoder);
      const digest = data.subarray(-16);
      this.send(Buffer.concat([Buffer.from([PONG]), frame(nonce, Date.now() + aheadMs), digest]));
    };
    this.#frames.splice(0).forEach(answer);
    this.socket.removeAllListeners("message").on("message", answer);
  }

  /** Reads until the region says goodbye: the reason's number, and the kinds of what came before. */
  async bye() {
    for (const before = []; ; ) {
      const data = await this.next();
      if (data[0] === 3) return { reason: data[1], detail: data.subarray(2).toString(), before };
      before.push(data[0]);
    }
  }
}

const CRC32C = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0x82f63b78 : byte >>> 1;
  return byte >>> 0;
});

/** A batch of one entry of an unknown kind, as replica 9 would write its first. */
export function batch({ replica = 9, previous = Buffer.alloc(16), kind = 200, payload = Buffer.from("x"), checksum } = {}) {
  const stream = Buffer.alloc(4);
  stream.writeUInt32LE(((replica << 16) | 1) >>> 0);
  const entry = Buffer.concat([Buffer.from([0, kind, 0]), frame(payload)]);
  const body = Buffer.concat([Buffer.from([1]), stream, Buffer.alloc(8), previous, frame(1, 1, 0, 1), Buffer.alloc(16), entry]);
  const crc = Buffer.alloc(4);
  crc.writeUInt32LE(checksum ?? (~body.reduce((state, byte) => CRC32C[(state ^ byte) & 255] ^ (state >>> 8), -1)) >>> 0);
  return Buffer.concat([Buffer.from([5]), body, crc]);
}
