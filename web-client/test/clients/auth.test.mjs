// Tokens: what they open, what they do not, renewed in place, and running out under a live session.
import assert from "node:assert/strict";
import { test } from "node:test";
import { untilEqual } from "../harness/equal.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { mint, startGuarded, token } from "../harness/token.mjs";
import { until } from "../harness/until.mjs";

for (const dialect of DIALECTS) {
  test(`${dialect}: no token, a wrong one and another document's are refused with a reason`, async (t) => {
    const server = await startGuarded(t);
    const refusals = [
      [undefined, 4401],
      [token({ "**": "write" }, 600, "another secret, as long as the first"), 4401],
      [token({ "**": "write" }, -1), 4401],
      [token({ "other/*": "write" }), 4403],
    ];
    for (const [shown, code] of refusals) {
      const editor = openEditor(t, server, dialect, "team/plan", { token: shown });
      await until("it is refused", () => editor.refusal);
      if (dialect === "y-websocket") assert.equal(editor.refusal.code, code);
      assert.notEqual(editor.refusal.reason, "");
      assert.equal(editor.isSynced, false);
      editor.close();
    }
  });

  test(`${dialect}: a reader follows, and what it types reaches nobody`, async (t) => {
    const server = await startGuarded(t);
    const write = await mint(server, "--write", "team/*");
    const writer = openEditor(t, server, "y-websocket", "team/plan", { token: write });
    const reader = openEditor(t, server, dialect, "team/plan", { token: await mint(server, "--read", "team/**") });
    await Promise.all([writer.synced(), reader.synced()]);
    writer.text.insert(0, "for all to read");
    await until("the reader has it", () => reader.text.toString() === "for all to read");

    reader.text.insert(0, "never seen");
    writer.text.insert(0, "more ");
    await writer.saved();
    await until("the reader has more", () => reader.text.toString().includes("more "));
    assert.equal(writer.text.toString(), "more for all to read");
    const stored = await storedDoc(server, "team/plan", write);
    await untilEqual([writer.doc, stored]);
    assert.ok(reader.unsaved > 0, "a refused change was called saved");
    if (dialect === "hocuspocus") assert.equal(reader.scope, "readonly");
  });
}

test("hocuspocus: a token sent again replaces the first, on the same socket", async (t) => {
  const server = await startGuarded(t);
  let shown = token({ plan: "read" });
  const editor = openEditor(t, server, "hocuspocus", "plan", { token: () => shown });
  await editor.synced();
  await until("it may read", () => editor.scope === "readonly");
  const { socket } = editor;

  shown = token({ plan: "write" });
  await editor.provider.sendToken();
  await until("it may write", () => editor.scope === "read-write");
  editor.text.insert(0, "written");
  const other = openEditor(t, server, "y-websocket", "plan", { token: shown });
  await until("the other has it", () => other.text.toString() === "written");
  assert.equal(editor.socket, socket);
  assert.equal(editor.losses, 0);
});

test("hocuspocus: a refused document can be opened by a better token, on the same socket", async (t) => {
  const server = await startGuarded(t);
  let shown = token({ other: "write" });
  const editor = openEditor(t, server, "hocuspocus", "plan", { token: () => shown });
  await until("it is refused", () => editor.refusal);
  const { socket } = editor;
  shown = token({ plan: "write" });
  await editor.provider.sendToken();
  await until("it may write", () => editor.scope === "read-write");
  editor.provider.startSync();
  await editor.synced();
  editor.text.insert(0, "in");
  await editor.saved();
  assert.equal(editor.socket, socket);
});

test("y-websocket: a live session ends with its token", async (t) => {
  const server = await startGuarded(t);
  const editor = openEditor(t, server, "y-websocket", "plan", { token: token({ plan: "write" }, 3) });
  await editor.synced();
  editor.text.insert(0, "in time");
  await editor.saved();
  await until("the token runs out", () => editor.refusal);
  assert.equal(editor.refusal.code, 4401);
  assert.match(editor.refusal.reason, /expired/);
});

test("hocuspocus: a live session ends with its token, unless it was renewed", async (t) => {
  const server = await startGuarded(t);
  let shown = token({ "**": "write" }, 3);
  const ending = openEditor(t, server, "hocuspocus", "one", { token: shown });
  const renewed = openEditor(t, server, "hocuspocus", "two", { token: () => shown });
  await Promise.all([ending.synced(), renewed.synced()]);
  shown = token({ "**": "write" });
  await renewed.provider.sendToken();
  await until("the first one's token runs out", () => ending.refusal || ending.losses > 0);
  renewed.text.insert(0, "still here");
  await renewed.saved();
  assert.equal(renewed.losses, 0);
});
