// What the server has of a document, read without being an editor of it: one question, one answer.
//
// Whoever asks this way uploads nothing, so what was lost stays lost and is seen to be.
import * as decoding from "lib0/decoding";
import WebSocket from "ws";
import * as Y from "yjs";
import { assertEqual, docOf, stateOf, untilEqual } from "./equal.mjs";
import { frame } from "./raw.mjs";
import { until, within } from "./until.mjs";

const [SYNC, STEP1, STEP2] = [0, 0, 1];

/** The document as the server shows it to somebody who comes with nothing. */
export async function storedDoc(server, name, token) {
  const parameters = token === undefined ? "" : `?token=${token}`;
  const socket = new WebSocket(`${server.ws}/${encodeURIComponent(name)}${parameters}`);
  try {
    return docOf(await within(`the state of ${name}`, answerTo(socket)));
  } finally {
    socket.close();
  }
}

/**
 * Waits until the server has exactly what these documents have.
 *
 * A Hocuspocus editor that comes back sends its offline edits one by one and then once more as a whole, but
 * counts one acknowledgement for all of it: its "saved" may come before the last of them.
 */
export async function untilStored(server, name, docs, token) {
  await untilEqual(docs);
  const wanted = JSON.stringify(stateOf(docs[0]));
  await until(`${name} is stored whole`, async () => JSON.stringify(stateOf(await storedDoc(server, name, token))) === wanted);
  assertEqual([docs[0], await storedDoc(server, name, token)]);
}

function answerTo(socket) {
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("close", (code, reason) => reject(new Error(`closed with ${code} ${reason}`)));
    socket.on("open", () => socket.send(frame(SYNC, STEP1, Y.encodeStateVector(new Y.Doc()))));
    socket.on("message", (data) => {
      const decoder = decoding.createDecoder(new Uint8Array(data));
      if (decoding.readVarUint(decoder) !== SYNC || decoding.readVarUint(decoder) !== STEP2) return;
      resolve(decoding.readVarUint8Array(decoder));
    });
  });
}
