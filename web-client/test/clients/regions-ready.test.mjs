// When people may be sent to a region: not while it is joining or merges a snapshot, and whatever its peers do once it
// has joined.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { rm, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { write } from "../harness/editors.mjs";
import { batch, FalsePeer } from "../harness/peer.mjs";
import { frame } from "../harness/raw.mjs";
import { runQuire, Server, startServer, temporaryDirectory } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";

const FRONTIER = 4;
/** Nobody listens there. */
const NOBODY = "ws://127.0.0.1:1";

async function ready(region) {
  const answer = await fetch(`${region.http}/readyz`);
  return { code: answer.status, detail: answer.ok ? undefined : (await answer.json()).detail };
}

const untilReady = (region) => until("it is ready", async () => (await ready(region)).code === 200);
const untilUnready = (region, reason) => until(`it is not ready: ${reason}`, async () => {
  const { code, detail } = await ready(region);
  return code === 503 && reason.test(detail);
});

async function withSecret(t) {
  const secret = randomBytes(32).toString("hex");
  const file = path.join(await temporaryDirectory(t), "secret");
  await writeFile(file, secret);
  return { secret, words: ["--cluster-secret-file", file] };
}

/** A region like another one, on the same directory, with other peers. */
async function likeIt(t, region, ...words) {
  const other = new Server(region.dataDir, words);
  t.after(() => other.stopped && other.kill("SIGKILL"));
  await other.start();
  return other;
}

test("an empty region that reaches none of its peers is not ready, serves who comes, and stays so over restarts", async (t) => {
  const { words } = await withSecret(t);
  const region = await startServer(t, ...words, "--peer", NOBODY);
  await untilUnready(region, /^joining: this region began empty and has met none of its peers; \/healthz\/peers says why/);
  await until("the log says so", () => /INFO joining: not ready until/.test(region.log));
  assert.doesNotMatch(region.log, /request failed/, "a probe was answered, and nothing failed");
  assert.match((await runQuire("status", "--url", region.http)).stdout, /^not ready: joining: /m);
  await write(t, region, "notes", "early");
  await region.kill("SIGKILL");
  await region.restart();
  assert.equal((await ready(region)).code, 503, "what is there now is its own alone");

  // Whoever says that it has no peers has the first region of a cluster, and gives it peers later.
  await region.kill("SIGKILL");
  const first = await likeIt(t, region, ...words);
  assert.equal((await ready(first)).code, 200);
  await first.kill("SIGKILL");
  const later = await likeIt(t, region, ...words, "--peer", NOBODY);
  assert.equal((await ready(later)).code, 200);
  assert.equal((await storedDoc(later, "notes")).getText("content").toString(), "early");
});

test("a region alone, and the first of a cluster, are ready at once", async (t) => {
  const { words } = await withSecret(t);
  for (const region of [await startServer(t), await startServer(t, ...words)]) assert.equal((await ready(region)).code, 200);
});

test("a region that is joining is ready when it has what its peer had when it met it", async (t) => {
  const { secret, words } = await withSecret(t);
  const peer = await new FalsePeer(t, secret).listen();
  const region = await startServer(t, ...words, "--peer", peer.url);
  // It says that it has the first entry of its stream, 9.1, and does not send it.
  const meet = async () => {
    const connection = await peer.dialled();
    await connection.hello();
    await connection.prove();
    connection.send(Buffer.concat([Buffer.from([FRONTIER]), frame(1, (9 << 16) | 1, 1, 0)]));
    connection.answerPings(0);
    return connection;
  };
  await meet();
  const lacks = /^joining: 1 entries are still to come that region 9 had when it was met$/;
  await untilUnready(region, lacks);
  await write(t, region, "notes", "early");
  await region.kill("SIGKILL");
  await region.restart();
  const connection = await meet();
  await untilUnready(region, lacks);
  connection.send(batch());
  await untilReady(region);

  // From now on it may lose them all.
  await region.kill("SIGKILL");
  connection.socket.terminate();
  await region.restart();
  assert.equal((await ready(region)).code, 200);
});

test("a region that lost its disk is ready when it has everything back", async (t) => {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  await cluster.linked();
  for (const region of cluster.regions) await untilReady(region);
  await write(t, cluster.regions[0], "notes", randomBytes(1 << 18).toString("hex"));
  await cluster.settled();
  const lost = cluster.regions[2];
  await lost.kill("SIGKILL");
  await rm(lost.dataDir, { recursive: true });
  await mkdir(lost.dataDir);
  for (const wire of cluster.wiresOf(2)) [wire.isCut, wire.delayMs] = [true, 100];
  await lost.restart();
  await untilUnready(lost, /met none of its peers/);
  for (const wire of cluster.wiresOf(2)) wire.heal();
  await untilReady(lost);
  assert.equal((await storedDoc(lost, "notes")).getText("content").length, 1 << 19);
  // Its peers were ready all the time, and it is when they are gone.
  for (const region of cluster.regions.slice(0, 2)) {
    assert.equal((await ready(region)).code, 200);
    await region.kill("SIGKILL");
  }
  await lost.kill("SIGKILL");
  await lost.restart();
  assert.equal((await ready(lost)).code, 200);
});
