// A region that is added to one that has long been there gets everything from the beginning.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { assertEqual } from "../harness/equal.mjs";
import { openEditor } from "../harness/editors.mjs";
import { startServer, temporaryDirectory } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";

test("a region added later gets what was written before, and what is written from then on", async (t) => {
  const secret = path.join(await temporaryDirectory(t), "secret");
  await writeFile(secret, randomBytes(32).toString("hex"));
  const first = await startServer(t, "--cluster-secret-file", secret);
  const write = async (text) => {
    const editor = openEditor(t, first, "y-websocket", "notes");
    await editor.synced();
    editor.text.insert(0, text);
    await editor.saved();
    editor.close();
  };
  for (const text of ["one ", "two ", "three "]) {
    await write(text);
    // An orderly stop moves everything from the journal to the store.
    await first.kill("SIGTERM");
    await first.restart();
  }
  const second = await startServer(t, "--replica", "2", "--cluster-secret-file", secret, "--peer", first.http.replace("http", "ws"));
  await until("it has what was written before", async () => (await storedDoc(second, "notes")).getText("content").toString() === "three two one ");
  await write("four ");
  await until("it has what is written now", async () => (await storedDoc(second, "notes")).getText("content").toString() === "four three two one ");
  assertEqual([await storedDoc(first, "notes"), await storedDoc(second, "notes")]);
  const { peers } = await (await fetch(`${first.http}/v1/regions`)).json();
  assert.deepEqual(peers.map(({ replica, linked, problem }) => [replica, linked, problem]), [[2, true, undefined]]);
});
