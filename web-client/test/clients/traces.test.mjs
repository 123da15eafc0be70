// Editing traces replayed by real sessions: as one typist, and handed around among eight of both dialects.
import assert from "node:assert/strict";
import { test } from "node:test";
import { untilEqual } from "../harness/equal.mjs";
import { DIALECTS, openEditor, openEditors } from "../harness/editors.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { traces } from "../harness/traces.mjs";
import { breathe, until } from "../harness/until.mjs";

const TYPISTS = 8;
/** How many edits one of the eight makes before the next one takes over. */
const TURN = 500;
/** An editor with this much unsaved waits: nobody types faster than a connection carries. */
const UNSAVED_MAX = 2_000;
const DEADLINE_MS = 400_000;

// A replay sends as fast as it can, which no person does.
const UNTHROTTLED = ["--session-messages-per-second", "1000000"];

const recorded = await traces();

for (const { name, endContent, edits } of recorded) {
  for (const dialect of DIALECTS) {
    test(`${name}: ${edits.length} edits by one ${dialect} typist`, { timeout: DEADLINE_MS }, async (t) => {
      const server = await startServer(t, ...UNTHROTTLED);
      const typist = openEditor(t, server, dialect, "trace");
      await typist.synced();
      for (const edit of edits) await type(typist, edit);
      await until("all of it is saved", () => typist.isSaved, DEADLINE_MS);
      await assertStored(t, server, typist, endContent);
    });
  }

  test(`${name}: split over ${TYPISTS} typists of both dialects`, { timeout: DEADLINE_MS }, async (t) => {
    const server = await startServer(t, ...UNTHROTTLED);
    const typists = openEditors(t, server, "trace", TYPISTS);
    await Promise.all(typists.map((typist) => typist.synced()));
    let last = typists[0];
    for (let from = 0; from < edits.length; from += TURN) {
      const typist = typists[(from / TURN) % TYPISTS];
      // The positions in a trace hold for whoever has seen everything before them.
      await untilEqual([last.doc, typist.doc], DEADLINE_MS);
      for (const edit of edits.slice(from, from + TURN)) await type(typist, edit);
      last = typist;
    }
    await Promise.all(typists.map((typist) => typist.saved()));
    await untilEqual(typists.map((typist) => typist.doc), DEADLINE_MS);
    await assertStored(t, server, last, endContent);
  });
}

async function type(typist, { at, remove, insert }) {
  typist.doc.transact(() => {
    if (remove > 0) typist.text.delete(at, remove);
    if (insert !== "") typist.text.insert(at, insert);
  });
  while (typist.unsaved > UNSAVED_MAX) await breathe();
}

async function assertStored(t, server, typist, endContent) {
  assert.equal(typist.losses, 0, "the connection was lost");
  assert.ok(typist.text.toString() === endContent, "the typist's own text differs from the trace");
  const stored = await storedDoc(server, "trace");
  assert.ok(stored.getText("content").toString() === endContent, "what is stored differs from the trace");
  const late = openEditor(t, server, "y-websocket", "trace");
  await late.synced();
  await untilEqual([typist.doc, stored, late.doc]);
}
