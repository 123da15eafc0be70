// A reader that stops reading while others type is resynced when it reads again, and ends equal; what it has not
// read costs the server bounded memory.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { untilEqual } from "../harness/equal.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { startServer } from "../harness/server.mjs";

/** Each is typed and deleted again, so that the document stays small and the traffic does not. */
const CHUNK = "x".repeat(200_000);
const CHUNKS = 150;
/** Far more than the outbox of one reader, far less than what was sent past it. */
const MEMORY_GROWTH_MAX = 256 << 20;

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
