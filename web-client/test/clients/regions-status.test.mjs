// Clusters that are put together wrongly: `quire status` and /healthz/peers name the pair, the cause and the remedy,
// and each region goes on serving its own editors.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { write } from "../harness/editors.mjs";
import { FalsePeer } from "../harness/peer.mjs";
import { runQuire, startServer, temporaryDirectory } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";

/** What `quire status` prints of a region. */
async function status(region) {
  const { code, stdout, stderr } = await runQuire("status", "--url", region.http);
  assert.deepEqual([code, stderr], [0, ""]);
  return stdout;
}

/** What /healthz/peers answers: its status and its lines. */
async function health(region) {
  const answer = await fetch(`${region.http}/healthz/peers`);
  assert.match(answer.headers.get("content-type"), /^text\/plain/);
  return { code: answer.status, lines: (await answer.text()).trimEnd().split("\n") };
}

/** Waits until both name a pair, what is wrong between them and what to do, and returns what `quire status` printed. */
async function untilTold(region, { pair, kind, cause, remedy, code = 503 }) {
  const line = new RegExp(`^${pair}: ${kind}: ${cause}; ${remedy}$`);
  const told = await until(`${pair} is told of`, async () => {
    const answer = await health(region);
    return answer.lines.some((one) => line.test(one)) && answer;
  });
  assert.equal(told.code, code);
  const printed = await status(region);
  assert.match(printed, new RegExp(`^${pair}(?: \\(turned away \\d+ times\\))?: ${kind}\n  cause   ${cause}\n  remedy  ${remedy}$`, "m"));
  return printed;
}

const untilText = (region, name, text) => until(`${name} is ${text}`, async () => (await storedDoc(region, name))?.getText("content").toString() === text);

async function secretFile(t) {
  const file = path.join(await temporaryDirectory(t), "secret");
  await writeFile(file, randomBytes(32).toString("hex"));
  return file;
}

test("a peer whose URL does not resolve, or leads nowhere, is told of", async (t) => {
  const [nameless, nobody] = ["ws://no-such-region.invalid:8080", "ws://127.0.0.1:1"];
  const region = await startServer(t, "--cluster-secret-file", await secretFile(t), "--peer", nameless, "--peer", nobody);
  await untilTold(region, { pair: `region 1 and ${nameless}`, kind: "resolve", cause: "its name does not resolve: .+", remedy: "correct the peer's URL, or the name in DNS" });
  const printed = await untilTold(region, { pair: `region 1 and ${nobody}`, kind: "connect", cause: "it cannot be reached: .+", remedy: "see whether the peer runs, .+" });
  assert.match(printed, /^-     down  -     -       -    -      -      -    ws:\/\/127\.0\.0\.1:1$/m);
  await write(t, region, "notes", "still here");
});

test("two regions with one number are told of at both, and the log of the one that is dialled says it once", async (t) => {
  const secret = ["--cluster-secret-file", await secretFile(t)];
  const dialled = await startServer(t, "--replica", "4", ...secret);
  const url = dialled.http.replace("http", "ws");
  const dialling = await startServer(t, "--replica", "4", ...secret, "--peer", url);
  const wrong = { kind: "same_replica", remedy: "give each region its own replica number, and let none dial itself" };
  await untilTold(dialling, { pair: `region 4 and ${url}`, cause: "the peer refused: both regions are replica 4", ...wrong });
  // Whoever was turned away has not proved anything, so it is told of and the region is well.
  const pair = "region 4 and whoever dials from 127.0.0.1";
  await untilTold(dialled, { pair, code: 200, cause: "both regions are replica 4", ...wrong });
  await until("it was turned away again and again", async () => {
    const [refused] = (await (await fetch(`${dialled.http}/v1/regions`)).json()).refused;
    return refused.times > 2;
  });
  assert.equal(dialled.log.match(/a peer was refused/g).length, 1);
  for (const [at, region] of [dialling, dialled].entries()) await write(t, region, `notes ${at}`, "still here");
});

test("in a ring with a gap entries go the long way round, and the two at the gap are named", async (t) => {
  const gap = [[1, 2]];
  const cluster = await startCluster(t, 4, SHAPES.ring(4), { cut: gap });
  const [first, before, behind, last] = cluster.regions;
  const wire = cluster.wireBetween(1, 2);
  await cluster.linked();
  const url = `ws://127.0.0.1:${wire.port}`;
  const noWay = { kind: "(?:http|connect|broken)", cause: ".+", remedy: "see .+" };
  const printed = await untilTold(before, { pair: `region 2 and ${url}`, ...noWay });
  assert.match(printed, new RegExp(`^-     down .* ${url}$`, "m"));
  assert.match(printed, /^1     up /m);
  await write(t, before, "notes", "from the second, ");
  await untilText(behind, "notes", "from the second, ");
  await write(t, behind, "notes", "from the third, ");
  await untilText(before, "notes", "from the third, from the second, ");
  for (const region of [first, behind, last]) assert.equal((await health(region)).code, 200, "a link that it has not is told of where it is configured");

  wire.heal();
  await cluster.linked();
  await until("all are well", async () => (await Promise.all(cluster.regions.map(health))).every(({ code }) => code === 200));
  // Whoever had a link misses it, whether it dials or not.
  wire.cut();
  await untilTold(before, { pair: "region 2 and region 3", ...noWay });
  await untilTold(behind, { pair: "region 3 and region 2", kind: "unlinked", cause: "it has no link to this region", remedy: "see whether it runs and can reach this region" });
  for (const region of [first, last]) assert.doesNotMatch(await status(region), /cause/);
  await write(t, behind, "notes", "and round, ");
  await untilText(before, "notes", "and round, from the third, from the second, ");
});

for (const [aheadMs, side] of [[10_000, "ahead of"], [-10_000, "behind"]]) {
  test(`a peer whose clock is 10 s ${side} this region's is told of, and keeps its link`, async (t) => {
    const secret = randomBytes(32).toString("hex");
    const file = path.join(await temporaryDirectory(t), "secret");
    await writeFile(file, secret);
    const peer = await new FalsePeer(t, secret).listen();
    const region = await startServer(t, "--cluster-secret-file", file, "--peer", peer.url);
    const connection = await peer.dialled();
    await connection.hello();
    await connection.prove();
    connection.answerPings(aheadMs);
    const cause = `its clock is (?:9\\.9|10\\.\\d) s ${side} this region's`;
    const printed = await untilTold(region, { pair: "region 1 and region 9", kind: "clock", cause, remedy: "set both clocks by NTP" });
    assert.match(printed, /^9 {5}up +leader/m);
    await write(t, region, "notes", "still here");
  });
}
