// What each dialect lets a client know about durability: it always arrives, and never early.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import { assertHolds, docOf } from "../harness/equal.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { Typist } from "../harness/typist.mjs";
import { breathe, until } from "../harness/until.mjs";

const SYNC_STATUS = 8;

for (const dialect of DIALECTS) {
  test(`${dialect}: what is acknowledged survives kill -9 at that very moment`, async (t) => {
    const server = await startServer(t);
    for (let round = 0; round < 5; round++) {
      const name = `round-${round}`;
      const editor = openEditor(t, server, dialect, name);
      await editor.synced();
      editor.text.insert(0, "kept until deleted. ");
      await editor.saved();
      editor.doc.transact(() => {
        editor.text.delete(0, 5);
        editor.text.insert(editor.text.length, "the end");
      });
      await editor.saved();
      const acknowledged = Y.encodeStateAsUpdate(editor.doc);
      const gone = server.kill("SIGKILL");
      editor.close();
      await gone;
      await server.restart();
      assertHolds(await storedDoc(server, name), docOf(acknowledged), name);
    }
  });

  test(`${dialect}: a change that changes nothing new is acknowledged too`, async (t) => {
    const server = await startServer(t);
    const [a, b] = [1, 2].map(() => openEditor(t, server, dialect, "same"));
    await Promise.all([a.synced(), b.synced()]);
    a.text.insert(0, "delete me, both");
    await until("b has it", () => b.text.length === 15);
    // Neither can have heard of the other's deletion yet, and only one of them is news to the server.
    a.text.delete(0, 10);
    b.text.delete(0, 10);
    await Promise.all([a.saved(), b.saved()]);
    assert.equal(a.text.toString(), " both");
  });
}

test(`hocuspocus: exactly one sync status for each update or step 2 (QUIRE_SEED=${SEED})`, async (t) => {
  const server = await startServer(t);
  const editor = openEditor(t, server, "hocuspocus", "counted");
  const other = openEditor(t, server, "y-websocket", "counted");
  await Promise.all([editor.saved(), other.synced()]);
  let sent = 0;
  let confirmed = 0;
  editor.doc.on("update", (_update, origin) => {
    if (origin !== editor.provider) sent++;
  });
  editor.provider.on("message", ({ message }) => {
    message.readVarString();
    if (message.readVarUint() === SYNC_STATUS) confirmed++;
  });
  const random = randomFrom(SEED);
  const typists = [editor, other].map((each) => new Typist(each, random));
  for (let act = 0; act < 500; act++) {
    typists.forEach((typist) => typist.act());
    if (random.chance(0.3)) await breathe();
  }
  await editor.saved();
  await other.saved();
  assert.ok(sent > 100);
  assert.equal(confirmed, sent);
});

for (const dialect of DIALECTS) {
  test(`${dialect}: who sends too fast is slowed down, loses nothing and misses nothing`, async (t) => {
    // The deadline for tokens passes while the server holds the socket back.
    const server = await startServer(t, "--session-messages-per-second", "40", "--preauth-seconds", "1");
    const [editor, other] = [dialect, "y-websocket"].map((each) => openEditor(t, server, each, "fast"));
    await Promise.all([editor.synced(), other.synced()]);
    for (let edit = 0; edit < 200; edit++) editor.text.insert(editor.text.length, `${edit} `);
    // What others type reaches it all the while.
    other.text.insert(0, "meanwhile ");
    await until("the held editor hears of others", () => editor.text.toString().includes("meanwhile "));
    assert.equal(editor.isSaved, false, "it was not held back, so nothing was tested");
    await editor.saved();
    assertHolds(await storedDoc(server, "fast"), editor.doc, "fast");
  });
}
