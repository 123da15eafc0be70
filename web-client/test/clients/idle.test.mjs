// Editors that do nothing for 70 s stay connected: both dialects, with and without awareness, all at once.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { startServer } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

// Stock providers give up after 30 s without a message. Two such periods and a margin.
const IDLE_MS = 70_000;

test("idle editors keep their connection", async (t) => {
  const server = await startServer(t);
  // One document each: in a shared one, the awareness of one would keep the others busy.
  const editors = DIALECTS.flatMap((dialect) =>
    [true, false].map((awareness) => openEditor(t, server, dialect, `idle ${dialect} ${awareness}`, { awareness })),
  );
  await Promise.all(editors.map((editor) => editor.synced()));
  const sockets = editors.map((editor) => editor.socket);

  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));

  for (const [index, editor] of editors.entries()) {
    assert.equal(editor.losses, 0, `${editor.name} lost its connection`);
    assert.equal(editor.socket, sockets[index], `${editor.name} has another socket`);
    editor.text.insert(0, "still here");
  }
  await Promise.all(editors.map((editor) => editor.saved()));
  for (const editor of editors) {
    const other = openEditor(t, server, "y-websocket", editor.name);
    await until("the text is there", () => other.text.toString() === "still here");
  }
});
