// A reader that stops reading while others type is resynced when it reads again, and ends equal; what it has not
// read costs the server bounded memory.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import * as Y from "yjs";
import { untilEqual } from "../harness/equal.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { frame, RawClient } from "../harness/raw.mjs";
import { startServer } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

/** Each is typed and deleted again, so that the document stays small and the traffic does not. */
const CHUNK = "x".repeat(200_000);
const CHUNKS = 150;
/** Far more than the outbox of one reader, far less than what was sent past it. */
const MEMORY_GROWTH_MAX = 256 << 20;

/** QUIRE_STALL_SECONDS=30 QUIRE_STALL_TYPISTS=100 is the full run. */
const SECONDS = Number(process.env.QUIRE_STALL_SECONDS || 5);
const TYPISTS = Number(process.env.QUIRE_STALL_TYPISTS || 20);
const WORDS_A_SECOND = 2;
/** What passes each reader meanwhile: more than the kernel keeps for a socket that nobody reads. */
const PASSING = 32 << 20;
const OUTBOX = 1 << 20;
const INGEST = 16 << 20;
/** What the log keeps in memory between checkpoints, and pages of its store. */
const LOG = 2 * (128 << 20);

for (const dialect of DIALECTS) {
  test(`a stalled ${dialect} reader is resynced`, async (t) => {
    const server = await startServer(t, "--max-outbox-bytes", "1048576");
    const writers = DIALECTS.map((each) => openEditor(t, server, each, "flood"));
    const reader = openEditor(t, server, dialect, "flood");
    await Promise.all([...writers, reader].map((editor) => editor.synced()));
    writers[0].text.insert(0, "start. ");
    await untilEqual([...writers, reader].map((editor) => editor.doc));
    const before = await memoryOf(server.pid);

    const stalled = reader.socket;
    stalled.pause();
    for (let chunk = 0; chunk < CHUNKS; chunk++) {
      const { doc, text } = writers[chunk % 2];
      doc.transact(() => text.insert(text.length, CHUNK));
      doc.transact(() => text.delete(text.length - CHUNK.length, CHUNK.length));
      if (chunk % 10 === 0) await Promise.all(writers.map((writer) => writer.saved()));
    }
    writers[0].text.insert(0, "end. ");
    await Promise.all(writers.map((writer) => writer.saved()));
    const grown = (await memoryOf(server.pid)) - before;
    assert.notEqual(reader.text.toString().slice(0, 5), "end. ", "the reader was not stalled");

    stalled.resume();
    await untilEqual([...writers, reader].map((editor) => editor.doc));
    assert.equal(reader.losses, 0, "the reader was cut off instead");
    assert.ok((await metric(server, "quire_sessions_lagging_total")) > 0, "it was never behind, so nothing was tested");
    // It follows again.
    reader.text.insert(0, "back. ");
    await reader.saved();
    await untilEqual([...writers, reader].map((editor) => editor.doc));
    t.diagnostic(`${(CHUNKS * CHUNK.length) >> 20} MiB typed past it, server memory grew by ${grown >> 20} MiB`);
    assert.ok(grown < MEMORY_GROWTH_MAX, `server memory grew by ${grown >> 20} MiB`);
  });
}

test("readers that stall while a crowd types are resynced, in bounded memory", async (t) => {
  const server = await startServer(t, "--max-outbox-bytes", String(OUTBOX), "--max-ingest-bytes", String(INGEST));
  const readers = DIALECTS.map((dialect) => openEditor(t, server, dialect, "crowd"));
  await Promise.all(readers.map((reader) => reader.synced()));
  const typists = Array.from({ length: TYPISTS }, () => new RawTypist(t, server, "crowd"));
  await Promise.all(typists.map((typist) => typist.opened));
  const before = await memoryOf(server.pid);
  let most = before;

  const sockets = readers.map((reader) => reader.socket);
  sockets.forEach((socket) => socket.pause());
  const words = SECONDS * WORDS_A_SECOND * TYPISTS;
  const began = performance.now();
  for (let typed = 0; typed < words; typed++) {
    // Paced, so that the stall lasts as long as it is meant to.
    const due = began + (typed * 1000) / (WORDS_A_SECOND * TYPISTS);
    await until("the next word", () => performance.now() >= due);
    typists[typed % TYPISTS].replace("x".repeat(PASSING / words));
    if (typed % TYPISTS === 0) most = Math.max(most, await memoryOf(server.pid));
  }
  const witness = openEditor(t, server, "y-websocket", "crowd");
  const holdsAll = (doc) => typists.every((typist) => Y.getState(doc.store, typist.doc.clientID) === typist.units);
  await until("everything typed is there", () => holdsAll(witness.doc));
  most = Math.max(most, await memoryOf(server.pid));
  assert.ok(readers.every((reader) => !holdsAll(reader.doc)), "the readers were not stalled");
  const lagging = await metric(server, "quire_sessions_lagging_total");
  assert.ok(lagging >= readers.length, "the readers were never behind, so nothing was tested");

  sockets.forEach((socket) => socket.resume());
  await untilEqual([witness, ...readers].map((editor) => editor.doc));
  assert.ok(readers.every((reader) => reader.losses === 0), "a reader was cut off instead");
  const bound = LOG + INGEST + OUTBOX * (TYPISTS + readers.length + 1);
  const grown = most - before;
  t.diagnostic(`${TYPISTS} typists for ${SECONDS} s; server memory grew by ${grown >> 20} MiB, bound ${bound >> 20} MiB`);
  assert.ok(grown < bound, `server memory grew by ${grown >> 20} MiB`);
});

/** Types into a document of its own, and passes over what others type. */
class RawTypist {
  constructor(t, server, name) {
    const client = new RawClient(t, `${server.ws}/${name}`);
    this.opened = client.opened;
    this.doc = new Y.Doc();
    this.text = this.doc.getText("content");
    this.doc.on("update", (update) => client.send(frame(0, 2, update)));
  }

  /** How many units it has typed. */
  get units() {
    return Y.getState(this.doc.store, this.doc.clientID);
  }

  /** Puts a word in the place of its last one. */
  replace(word) {
    this.doc.transact(() => {
      this.text.delete(0, this.text.length);
      this.text.insert(0, word);
    });
  }
}

async function metric(server, name) {
  const text = await (await fetch(`${server.http}/metrics`)).text();
  const values = text.split("\n").filter((line) => line.startsWith(name)).map((line) => Number(line.split(" ").at(-1)));
  return values.reduce((sum, value) => sum + value, 0);
}

async function memoryOf(pid) {
  if (process.platform !== "linux") return 0;
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
}
