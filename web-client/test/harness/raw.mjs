// A client without manners: a bare WebSocket that sends what it is given and notes how it is answered.
import * as encoding from "lib0/encoding";
import WebSocket from "ws";
import { within } from "./until.mjs";

export class RawClient {
  constructor(t, url) {
    this.socket = new WebSocket(url);
    this.opened = new Promise((resolve) => this.socket.once("open", resolve));
    this.closed = new Promise((resolve) => {
      this.socket.once("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.socket.on("error", () => {});
    t.after(() => this.socket.terminate());
  }

  /** Sends a frame, or the bare bytes of a frame's head. */
  async send(frame) {
    await within("the connection", this.opened);
    if (frame.head) this.socket._socket.write(frame.head);
    else this.socket.send(frame);
  }

  /** How the server ended it. */
  end() {
    return within("the close", this.closed);
  }
}

/** Bytes from numbers (as varints), strings (as varStrings) and byte arrays (with their length). */
export function frame(...parts) {
  const encoder = encoding.createEncoder();
  for (const part of parts) {
    if (typeof part === "number") encoding.writeVarUint(encoder, part);
    else if (typeof part === "string") encoding.writeVarString(encoder, part);
    else encoding.writeVarUint8Array(encoder, part);
  }
  return encoding.toUint8Array(encoder);
}
