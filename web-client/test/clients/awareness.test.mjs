// Awareness: who is here, in and out of both dialects, and gone when their connection is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { startServer } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

const names = (editor) => editor.others().map(({ user }) => user?.name ?? null);

for (const leaving of DIALECTS) {
  test(`a ${leaving} editor is seen by both dialects, and gone once it leaves`, async (t) => {
    const server = await startServer(t);
    const watchers = DIALECTS.map((dialect) => openEditor(t, server, dialect, "room", { present: false }));
    await Promise.all(watchers.map((watcher) => watcher.synced()));

    const guest = openEditor(t, server, leaving, "room");
    guest.awareness.setLocalStateField("user", { name: "Ada 🚀" });
    await until("both see Ada", () => watchers.every((watcher) => names(watcher).includes("Ada 🚀")));

    const late = openEditor(t, server, "y-websocket", "room", { present: false });
    await until("one who comes later sees Ada too", () => names(late).includes("Ada 🚀"));

    guest.awareness.setLocalStateField("cursor", { anchor: 1, head: 2 });
    await until("a moved cursor is seen", () => watchers.every((watcher) => watcher.others().some(({ cursor }) => cursor?.head === 2)));

    // No goodbye: the socket just ends.
    guest.socket.terminate();
    guest.provider.awareness.setLocalState(null);
    await guest.disconnect();
    await until("Ada is gone everywhere", () => [...watchers, late].every((watcher) => watcher.others().length === 0));
  });
}

test("an editor that goes says so at once, and the others stay", async (t) => {
  const server = await startServer(t);
  const [a, b, c] = ["y-websocket", "hocuspocus", "y-websocket"].map((dialect) => openEditor(t, server, dialect, "room"));
  [a, b, c].forEach((editor, index) => editor.awareness.setLocalStateField("user", { name: `person ${index}` }));
  await until("each sees two others", () => [a, b, c].every((editor) => editor.others().length === 2));
  b.close();
  await until("b is gone", () => a.others().length === 1 && c.others().length === 1);
  assert.deepEqual(names(a), ["person 2"]);
  assert.deepEqual(names(c), ["person 0"]);
});
