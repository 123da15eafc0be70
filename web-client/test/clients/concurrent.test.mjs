// Eight editors, four of each dialect, edit one document at once with everything Yjs has: all end equal.
import assert from "node:assert/strict";
import { test } from "node:test";
import { untilEqual } from "../harness/equal.mjs";
import { openEditor, openEditors } from "../harness/editors.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { typeAtOnce, Typist } from "../harness/typist.mjs";

const EDITORS = 8;
const ACTS_EACH = 300;

test(`eight editors type, delete, format and undo at once (QUIRE_SEED=${SEED})`, async (t) => {
  const random = randomFrom(SEED);
  const server = await startServer(t);
  const editors = openEditors(t, server, "crowd", EDITORS);
  await Promise.all(editors.map((editor) => editor.synced()));
  const typists = editors.map((editor) => new Typist(editor, random));

  await typeAtOnce(typists, random, ACTS_EACH);
  await Promise.all(editors.map((editor) => editor.saved()));
  await untilEqual(editors.map((editor) => editor.doc));
  assert.equal(editors.reduce((sum, { losses }) => sum + losses, 0), 0, "a connection was lost");

  const late = openEditor(t, server, "y-websocket", "crowd");
  await late.synced();
  const stored = await storedDoc(server, "crowd");
  await untilEqual([editors[0].doc, late.doc, stored]);

  await server.kill("SIGKILL");
  await server.restart();
  const after = openEditor(t, server, "hocuspocus", "crowd-nobody-else");
  await after.synced();
  await untilEqual([editors[0].doc, await storedDoc(server, "crowd")]);
});
