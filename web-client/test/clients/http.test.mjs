// The HTTP API and the editors are of one document: what one writes, the other has.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import { docOf, untilEqual } from "../harness/equal.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { startServer } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

const NAME = "team/launch notes 🚀";

test("text, updates and deletion over HTTP reach the editors, and theirs reach HTTP", async (t) => {
  const server = await startServer(t);
  const at = (rest) => `${server.http}/v1/docs/${encodeURIComponent(NAME)}${rest}`;
  const editors = DIALECTS.map((dialect) => openEditor(t, server, dialect, NAME));
  await Promise.all(editors.map((editor) => editor.synced()));
  editors[0].text.insert(0, "typed by an editor");
  await editors[0].saved();
  assert.equal(await textOf(at("/text?root=content")), "typed by an editor");

  const other = new Y.Doc();
  other.getText("content").insert(0, "posted. ");
  const posted = await fetch(at("/update"), { method: "POST", body: Y.encodeStateAsUpdate(other), headers: { "content-type": "application/octet-stream" } });
  assert.ok(posted.ok, await posted.text());
  await until("both editors have it", () => editors.every(({ text }) => text.toString().includes("posted. ")));
  await untilEqual([...editors.map(({ doc }) => doc), docOf(new Uint8Array(await (await fetch(at("/update"))).arrayBuffer()))]);

  const deleted = await fetch(at(""), { method: "DELETE" });
  assert.ok(deleted.ok, await deleted.text());
  await until("the y-websocket editor is told that it is deleted", () => editors[0].refusal?.code === 4404);
});

async function textOf(url) {
  const response = await fetch(url);
  const text = await response.text();
  assert.ok(response.ok, text);
  return text;
}
