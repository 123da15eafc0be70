// Two editors of one document see each other's text, in every pairing of dialects, whatever the name and size.
import assert from "node:assert/strict";
import { test } from "node:test";
import { untilEqual } from "../harness/equal.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";

for (const one of DIALECTS) {
  for (const other of DIALECTS) {
    test(`${one} and ${other} type together`, async (t) => {
      const server = await startServer(t);
      const a = openEditor(t, server, one, "shared");
      const b = openEditor(t, server, other, "shared");
      await Promise.all([a.synced(), b.synced()]);
      a.text.insert(0, "from a. ");
      b.text.insert(0, "from b. ");
      a.text.delete(0, 5);
      await Promise.all([a.saved(), b.saved()]);
      await untilEqual([a.doc, b.doc]);
      await untilEqual([a.doc, await storedDoc(server, "shared")]);

      const late = openEditor(t, server, one, "shared");
      await late.synced();
      await untilEqual([a.doc, late.doc]);
    });
  }
}

test("any name opens its own document in both dialects", async (t) => {
  const server = await startServer(t);
  const names = ["team/2026/plan", "launch notes", "🚀 größer", "50% done?", "a#b&c=d+e", "a/../b", "%2F", "x", "é".repeat(256)];
  for (const name of names) {
    const a = openEditor(t, server, "y-websocket", name);
    const b = openEditor(t, server, "hocuspocus", name);
    await Promise.all([a.synced(), b.synced()]);
    assert.equal(a.text.toString(), "", `${name} was not empty`);
    a.text.insert(0, name);
    await until(`${name} reaches the other dialect`, () => b.text.toString() === name);
    a.close();
    b.close();
  }
});

test("a name the provider does not escape opens the same document", async (t) => {
  const server = await startServer(t);
  const a = openEditor(t, server, "hocuspocus", "team/launch notes 🚀");
  await a.synced();
  a.text.insert(0, "hello");
  await a.saved();
  const { WebsocketProvider } = await import("y-websocket");
  const { default: WebSocket } = await import("ws");
  const Y = await import("yjs");
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(server.ws, "team/launch notes 🚀", doc, { WebSocketPolyfill: WebSocket, disableBc: true });
  t.after(() => {
    provider.destroy();
    provider.awareness.destroy();
  });
  await until("the text arrives", () => doc.getText("content").toString() === "hello");
});

test("a 5 MB document goes up, comes down and takes a keystroke", async (t) => {
  const server = await startServer(t);
  const a = openEditor(t, server, "y-websocket", "large");
  await a.synced();
  // Not one item of 5 MB: many, with deletions between, as writing makes them.
  const paragraph = "All work and no play makes a long document. ".repeat(23);
  while (a.text.length < 5_000_000) {
    a.doc.transact(() => {
      for (let line = 0; line < 20; line++) {
        a.text.insert(a.text.length, paragraph);
        a.text.delete(a.text.length - 12, 5);
      }
    });
  }
  await a.saved();
  for (const dialect of DIALECTS) {
    const reader = openEditor(t, server, dialect, "large");
    await reader.synced();
    reader.text.insert(2_500_000, "here");
    await reader.saved();
    await untilEqual([a.doc, reader.doc]);
  }
});
