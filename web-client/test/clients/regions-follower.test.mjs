// A follower: it serves what others wrote, and takes nothing itself.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { openEditor } from "../harness/editors.mjs";
import { runQuire, startServer, temporaryDirectory } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

test("a follower shows what leaders write and takes no writes", async (t) => {
  const secret = path.join(await temporaryDirectory(t), "secret");
  await writeFile(secret, randomBytes(32).toString("hex"));
  const leader = await startServer(t, "--cluster-secret-file", secret);
  const peer = leader.http.replace("http", "ws");
  const follower = await startServer(t, "--replica", "2", "--role", "follower", "--cluster-secret-file", secret, "--peer", peer);

  const writer = openEditor(t, leader, "y-websocket", "notes");
  await writer.synced();
  writer.text.insert(0, "from the leader");
  const readers = ["y-websocket", "hocuspocus"].map((dialect) => openEditor(t, follower, dialect, "notes"));
  for (const reader of readers) await until("the follower shows it", () => reader.text.toString() === "from the leader");

  readers[1].text.insert(0, "not taken ");
  const headers = { "content-type": "application/json" };
  const asked = (what, method, body) => fetch(`${follower.http}/v1/docs${what}`, { method, body, headers });
  for (const answer of [await asked("/notes/text", "PATCH", '{"splices":[{"at":0,"insert":"x"}]}'), await asked("", "POST", '{"name":"new"}')]) {
    assert.equal(answer.status, 403);
    assert.match((await answer.json()).detail, /takes no writes: write to a leader/);
  }
  // A token from the leader: the follower waits until it has what the write covers.
  for (let count = 1; count <= 50; count++) {
    const written = await fetch(`${leader.http}/v1/docs/notes/text`, { method: "PATCH", body: '{"splices":[{"at":0,"insert":"-"}]}', headers });
    const read = await fetch(`${follower.http}/v1/docs/notes/text`, { headers: { "quire-after": written.headers.get("quire-frontier") } });
    assert.equal(await read.text(), `${"-".repeat(count)}from the leader`);
  }

  const { stdout } = await runQuire("status", "--url", follower.http);
  assert.match(stdout, /replica 2\.\d+, follower in cluster quire/);
  assert.match(stdout, /\n1 +up +leader/);
  const { region } = await (await fetch(`${leader.http}/v1/regions`)).json();
  assert.ok(!region.streams.some(({ replica }) => replica === 2), "a follower originates nothing");
});
