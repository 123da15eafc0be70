// A thousand documents opened, typed in, closed and reopened at random by fifty clients while the server unloads
// what nobody uses: a second instance of a document would lose what the first one took.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";

const DOCUMENTS = 1_000;
const CLIENTS = 50;
/** QUIRE_REOPEN_SECONDS=60 is the full run. */
const SECONDS = Number(process.env.QUIRE_REOPEN_SECONDS || 15);

test(`${CLIENTS} clients reopen ${DOCUMENTS} documents for ${SECONDS} s (QUIRE_SEED=${SEED})`, { timeout: 120_000 + SECONDS * 2_000 }, async (t) => {
  const server = await startServer(t, "--unload-seconds", "0");
  const typed = new Map();
  const end = performance.now() + SECONDS * 1_000;
  const visits = await Promise.all(
    Array.from({ length: CLIENTS }, async (_, client) => {
      const random = randomFrom(SEED + client);
      let visit = 0;
      for (; performance.now() < end; visit++) {
        // Half of the visits meet on few documents: that is where opening and unloading cross.
        const name = `document ${random.below(random.chance(0.5) ? 20 : DOCUMENTS)}`;
        const editor = openEditor(t, server, random.pick(DIALECTS), name);
        await editor.synced();
        const mark = `<${client}.${visit}>`;
        editor.text.insert(random.below(editor.text.length + 1), mark);
        // What others insert may split a mark in the text, so the blocks are what is looked for.
        await editor.saved();
        const marks = typed.get(name) ?? [];
        marks.push({ client: editor.doc.clientID, length: mark.length });
        typed.set(name, marks);
        editor.close();
      }
      return visit;
    }),
  );
  t.diagnostic(`${visits.reduce((sum, each) => sum + each, 0)} visits to ${typed.size} documents`);
  for (const [name, marks] of typed) {
    const stored = await storedDoc(server, name);
    for (const { client, length } of marks) {
      assert.equal(stored.store.clients.get(client)?.reduce((sum, block) => sum + block.length, 0), length, `${name} lost a mark`);
    }
    assert.equal(stored.getText("content").length, marks.reduce((sum, { length }) => sum + length, 0), name);
  }
});
