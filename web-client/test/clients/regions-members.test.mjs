// Regions leave the cluster, in order or for good, and those who stay end equal and know it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { write } from "../harness/editors.mjs";
import { assertEqual } from "../harness/equal.mjs";
import { runQuire } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { startGuarded, token } from "../harness/token.mjs";
import { until } from "../harness/until.mjs";

const region = (at, ...words) => runQuire("region", "--url", at.http, ...words);
/** The metrics of replication that a region has, each with its label. */
const gauges = async (at) => (await (await fetch(`${at.http}/metrics`)).text()).match(/^quire_\w+\{(?:peer|origin)=.*?\}/gm) ?? [];
const text = async (at, name) => (await storedDoc(at, name))?.getText("content").toString();

test("a region that is removed in order leaves nothing behind, is let in no more, and may be added again", async (t) => {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  const [first, second, third] = cluster.regions;
  await cluster.linked();
  await write(t, third, "notes", "from the third ");
  const { code, stdout, stderr } = await region(first, "remove", "3");
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /region 3 is removed/);
  for (const [at, one] of [first, second].entries()) {
    await until("it has no link to the third", async () => {
      const { removed, peers } = await cluster.status(at);
      return removed.includes(3) && !peers.some(({ replica, linked }) => replica === 3 && linked);
    });
    assert.match((await region(one, "ls")).stdout, /removed from the cluster: 3/);
  }
  const { peers } = await cluster.status(0);
  assert.deepEqual(peers.filter(({ replica, url }) => replica === 3 && !url), [], "it is missed where it is not dialled");
  // The third is told, and its own editors go on.
  await until("the third says why it has no links", async () => {
    const health = await (await fetch(`${third.http}/healthz/peers`)).text();
    return (health.match(/removed: /g) ?? []).length === 2;
  });
  assert.match((await runQuire("status", "--url", third.http)).stdout, /^region 3 and region 1: removed$/m);
  // Nobody is called because of a region that was removed on purpose.
  assert.deepEqual(await gauges(third), []);
  for (const one of [first, second]) assert.deepEqual((await gauges(one)).filter((name) => name.includes('"3"')), []);
  assert.ok((await gauges(first)).includes('quire_peer_linked{peer="2"}'));
  await until("it was turned away again and again", async () => {
    const [refused] = (await cluster.status(0)).refused;
    return refused?.problem.kind === "removed" && refused.times > 3;
  });
  assert.equal(third.log.match(/no link: .*region 3 was removed from the cluster/g).length, 2, "each is told of once");
  assert.equal(third.log.match(/INFO linked/g).length, 2);
  await write(t, third, "notes", "alone ");
  await write(t, first, "notes", "without it ");
  await until("those who stay share it", async () => (await text(second, "notes")) === "without it from the third ");
  // It is not let in after restarts either.
  await second.kill("SIGKILL");
  await second.restart();
  assert.equal((await region(second, "add", "3")).code, 0);
  await cluster.linked();
  await cluster.settled();
  assertEqual(await Promise.all(cluster.regions.map((one) => storedDoc(one, "notes"))));
  assert.deepEqual((await cluster.status(0)).removed, []);
  for (const [one, peer] of [[first, 3], [third, 1]]) assert.ok((await gauges(one)).includes(`quire_peer_linked{peer="${peer}"}`));
});

test("what only some hold of a lost region is with all before it is removed", async (t) => {
  // A line, 1 - 2 - 3 - 4: the fourth is lost, and the first has not heard of its last words.
  const cluster = await startCluster(t, 4, [[0, 1], [1, 2], [2, 3]]);
  await cluster.linked();
  await write(t, cluster.regions[3], "notes", "early ");
  await cluster.settled();
  cluster.wireBetween(0, 1).cut();
  await write(t, cluster.regions[3], "notes", "last words ");
  await until("the third has it", async () => (await text(cluster.regions[2], "notes")) === "last words early ");
  await until("the second has it", async () => (await text(cluster.regions[1], "notes")) === "last words early ");
  const early = await region(cluster.regions[2], "remove", "4", "--lost");
  assert.match(early.stderr, /region 4 has a link to this one: it is not lost/);
  await cluster.regions[3].kill("SIGKILL");
  await until("the third has lost it", async () => !(await cluster.status(2)).peers.some(({ replica, linked }) => replica === 4 && linked));
  assert.match((await region(cluster.regions[2], "remove", "4")).stderr, /there is no link to region 4: when it is gone for good, remove it as lost/);
  assert.match((await region(cluster.regions[2], "remove", "3")).stderr, /a region does not remove itself/);
  const { code, stderr } = await region(cluster.regions[2], "remove", "4", "--lost");
  assert.deepEqual([code, stderr], [0, ""]);
  cluster.wireBetween(0, 1).heal();
  for (const at of [0, 1, 2]) await until("it knows", async () => (await cluster.status(at)).removed.includes(4));
  const survivors = cluster.regions.slice(0, 3);
  assert.deepEqual(await Promise.all(survivors.map((one) => text(one, "notes"))), Array(3).fill("last words early "));
  const streams = await Promise.all([0, 1, 2].map(async (at) => JSON.stringify((await cluster.status(at)).region.streams.filter(({ replica }) => replica === 4))));
  assert.deepEqual(streams, Array(3).fill(streams[0]));
  // Should it come back after all, it is told, and the others keep it out.
  await cluster.regions[3].restart();
  await until("the third says that it keeps it out", async () => (await (await fetch(`${cluster.regions[2].http}/healthz/peers`)).text()).includes("removed: "));
  assert.ok(!(await cluster.status(2)).peers.some(({ replica, linked }) => replica === 4 && linked));
});

test("only who may write everything changes the members", async (t) => {
  const guarded = await startGuarded(t);
  for (const [docs, status] of [[{ "notes/**": "write" }, 403], [{ "**": "read" }, 403], [{ "**": "write" }, 404]]) {
    const headers = { authorization: `Bearer ${token(docs)}` };
    const answer = await fetch(`${guarded.http}/v1/regions/9`, { method: "DELETE", headers });
    assert.equal(answer.status, status, JSON.stringify(docs));
  }
});
