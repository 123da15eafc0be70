// What was typed without a connection goes up when there is one again, deletes included.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { startServer } from "../harness/server.mjs";
import { untilStored } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";

for (const dialect of DIALECTS) {
  test(`a ${dialect} editor uploads offline edits when it reconnects`, async (t) => {
    const server = await startServer(t);
    const away = openEditor(t, server, dialect, "notes");
    const here = openEditor(t, server, "y-websocket", "notes");
    await Promise.all([away.synced(), here.synced()]);
    away.text.insert(0, "one two three");
    await until("both have the text", () => here.text.toString() === "one two three");
    await away.saved();

    await away.disconnect();
    away.text.insert(13, " four");
    away.text.delete(0, 4);
    here.text.insert(3, "!");
    await here.saved();
    assert.notEqual(away.text.toString(), here.text.toString());

    away.connect();
    await away.saved();
    await untilStored(server, "notes", [away.doc, here.doc]);
    assert.equal(here.text.toString(), "!two three four");
  });

  test(`a ${dialect} editor that only deleted offline uploads the deletion`, async (t) => {
    const server = await startServer(t);
    const away = openEditor(t, server, dialect, "notes");
    await away.synced();
    away.text.insert(0, "keep drop keep");
    await away.saved();
    await away.disconnect();
    away.text.delete(5, 5);
    away.connect();
    await away.saved();
    const fresh = openEditor(t, server, "y-websocket", "notes");
    await until("the deletion is there", () => fresh.text.toString() === "keep keep");
  });

  test(`a ${dialect} editor keeps typing through a server that is killed and comes back`, async (t) => {
    const server = await startServer(t);
    const editor = openEditor(t, server, dialect, "notes");
    await editor.synced();
    for (let round = 0; round < 3; round++) {
      editor.text.insert(editor.text.length, `before ${round}. `);
      await server.kill("SIGKILL");
      await until("the loss is noticed", () => !editor.isConnected);
      editor.text.insert(editor.text.length, `during ${round}. `);
      await server.restart();
      await editor.saved();
      await untilStored(server, "notes", [editor.doc]);
    }
  });
}

test("two tabs of one browser, sharing edits before the server has them", async (t) => {
  const server = await startServer(t);
  // y-websocket tabs talk over BroadcastChannel, so one tab's socket carries blocks that rest on the other's.
  const tabs = [1, 2].map(() => openEditor(t, server, "y-websocket", "tabs", { tabs: true }));
  await Promise.all(tabs.map((tab) => tab.synced()));
  for (let round = 0; round < 100; round++) {
    const tab = tabs[round % 2];
    tab.text.insert(tab.text.length, `${round} `);
    if (round % 10 === 9) await tab.disconnect();
    if (round % 10 === 4) tabs.forEach((other) => other.connect());
    await new Promise((resolve) => setImmediate(resolve));
  }
  tabs.forEach((tab) => tab.connect());
  await until("both tabs are synced", () => tabs.every((tab) => tab.isSynced));
  await untilStored(server, "tabs", tabs.map((tab) => tab.doc));
});
