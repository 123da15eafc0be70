// A region whose disk is set back to an old backup, and which is written to before it reaches any peer: it has another
// history than they remember, finds that out from them, and nothing of either is lost.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { openEditor, openEditors, write } from "../harness/editors.mjs";
import { assertEqual, untilEqual } from "../harness/equal.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { runQuire } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { Typist } from "../harness/typist.mjs";
import { breathe, until } from "../harness/until.mjs";
import { Witness } from "../harness/witness.mjs";

const VICTIM = 1;
const stored = (cluster, name) => Promise.all(cluster.regions.map((region) => storedDoc(region, name)));
const streamsOf = async (cluster, at) => (await cluster.status(at)).region.streams.filter(({ replica }) => replica === VICTIM + 1);

/** A cluster whose second region has a backup, and has since then written more that the others have. */
async function withBackup(t, options) {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3), options);
  await cluster.linked();
  const victim = cluster.regions[VICTIM];
  await write(t, victim, "kept", "before the backup. ");
  await cluster.settled();
  await victim.kill("SIGTERM");
  const backup = await victim.copyData(t);
  await victim.restart();
  await cluster.linked();
  for (let sentence = 0; sentence < 5; sentence++) await write(t, victim, "kept", `after the backup ${sentence}. `);
  await write(t, victim, "made after the backup", "whole. ");
  await cluster.settled();
  return { cluster, victim, backup };
}

/** Sets the region back, and starts it where no peer can be reached. */
async function restore({ cluster, victim, backup }) {
  cluster.wiresOf(VICTIM).forEach((wire) => wire.cut());
  await victim.kill("SIGKILL");
  await victim.setBackTo(backup);
  await victim.restart();
}

for (const [what, sentences] of [
  ["less than was lost", 2],
  ["more than was lost", 12],
]) {
  test(`a restored region that wrote ${what} before it met a peer heals by itself, and nothing is lost`, async (t) => {
    const world = await withBackup(t);
    const { cluster, victim } = world;
    const { incarnation } = (await cluster.status(VICTIM)).region;
    await restore(world);
    for (let sentence = 0; sentence < sentences; sentence++) await write(t, victim, "kept", `alone ${sentence}. `);
    await write(t, victim, "made alone", "here too. ");
    // The others go on meanwhile, and on what the region has forgotten.
    await write(t, cluster.regions[0], "kept", "elsewhere. ");
    // It is killed before it is healed: what it is to do is found again.
    await victim.kill("SIGKILL");
    await victim.restart();
    assert.equal((await cluster.status(VICTIM)).region.incarnation, incarnation, "nobody has told it anything yet");

    cluster.wiresOf(VICTIM).forEach((wire) => wire.heal());
    await until("it goes on under a new incarnation", async () => (await cluster.status(VICTIM)).region.incarnation === incarnation + 1);
    await cluster.linked();
    await cluster.settled();
    const docs = await stored(cluster, "kept");
    assertEqual(docs);
    const text = docs[0].getText("content").toString();
    const alone = Array.from({ length: sentences }, (_, sentence) => `alone ${sentence}. `);
    const lost = Array.from({ length: 5 }, (_, sentence) => `after the backup ${sentence}. `);
    for (const sentence of ["before the backup. ", "elsewhere. ", ...alone, ...lost]) {
      assert.equal(text.split(sentence).length, 2, `${sentence}is there once: ${text}`);
    }
    for (const name of ["made alone", "made after the backup"]) assertEqual(await stored(cluster, name));
    assert.match(victim.log, /the disk went back in time/);

    // Whatever anyone writes from now on reaches all, and a restart finds the same.
    for (const [at, region] of cluster.regions.entries()) await write(t, region, "kept", `later ${at}. `);
    await victim.kill("SIGKILL");
    await victim.restart();
    await cluster.linked();
    await write(t, victim, "kept", "at last. ");
    await cluster.settled();
    const last = await stored(cluster, "kept");
    assertEqual(last);
    assert.match(last[2].getText("content").toString(), /at last. .*later \d. /s);
    const streams = await Promise.all(cluster.regions.map((_, at) => streamsOf(cluster, at)));
    assert.deepEqual(streams[0].map((stream) => stream.incarnation), [incarnation, incarnation + 1]);
    for (const at of [0, 1, 2]) assert.deepEqual((await cluster.status(at)).peers.filter(({ problem }) => problem), []);
    await victim.kill("SIGTERM");
    const { code, stdout, stderr } = await runQuire("check", victim.dataDir);
    assert.equal(code, 0, stdout + stderr);
  });
}

test("a restored region heals although its peers' logs begin after what it has lost", async (t) => {
  const world = await withBackup(t, { args: ["--max-kept-bytes", String(1 << 20)] });
  const { cluster, victim } = world;
  const { incarnation } = (await cluster.status(VICTIM)).region;
  const long = openEditor(t, victim, "y-websocket", "long");
  await long.synced();
  for (let piece = 0; piece < 30; piece++) long.text.insert(0, `${piece} ${"x".repeat(60_000)} `);
  await long.saved();
  long.close();
  await cluster.settled();
  for (const at of [0, 2]) {
    // An orderly stop lets go of what is beyond the limit.
    await cluster.regions[at].kill("SIGTERM");
    await cluster.regions[at].restart();
  }
  await cluster.linked();
  await restore(world);
  await write(t, victim, "kept", "alone. ");
  await write(t, victim, "made alone", "here too. ");
  cluster.wiresOf(VICTIM).forEach((wire) => wire.heal());
  await until("it goes on under a new incarnation", async () => (await cluster.status(VICTIM)).region.incarnation > incarnation);
  await cluster.settled();
  await cluster.linked();
  await until("a snapshot was taken: else the logs had it all, and nothing was tested", async () => {
    return /^quire_snapshots_imported_total [1-9]/m.test(await (await fetch(`${victim.http}/metrics`)).text());
  });
  for (const name of ["kept", "long", "made alone", "made after the backup"]) assertEqual(await stored(cluster, name));
  const text = (await storedDoc(cluster.regions[0], "kept")).getText("content").toString();
  for (const sentence of ["alone. ", "before the backup. ", "after the backup 4. "]) assert.ok(text.includes(sentence), text);
  await write(t, victim, "kept", "later. ");
  await cluster.settled();
  assertEqual(await stored(cluster, "kept"));
  // A snapshot that both of the others have begun to send counts as needed until what came by one is acknowledged to both.
  for (const at of [0, 1, 2]) await until(`region ${at} complains of nobody`, async () => (await cluster.status(at)).peers.every(({ problem }) => !problem));
});

test(`editors that type on while their region finds that its disk went back lose nothing (QUIRE_SEED=${SEED})`, async (t) => {
  const random = randomFrom(SEED);
  const world = await withBackup(t);
  const { cluster, victim } = world;
  const { incarnation } = (await cluster.status(VICTIM)).region;
  await restore(world);
  const editors = cluster.regions.flatMap((region) => openEditors(t, region, "kept", 2));
  const witnesses = editors.map((editor) => new Witness(editor));
  await Promise.all(editors.map((editor) => editor.synced()));
  const typists = editors.map((editor) => new Typist(editor, random));
  let typing = true;
  t.after(() => (typing = false));
  const typed = (async () => {
    while (typing) {
      typists.forEach((typist) => random.chance(0.3) && typist.act());
      await breathe();
    }
  })();
  await until("each region has been typed into", () => witnesses.every(({ updates }) => updates > 20));
  cluster.wiresOf(VICTIM).forEach((wire) => wire.heal());
  await until("it goes on under a new incarnation", async () => (await cluster.status(VICTIM)).region.incarnation > incarnation);
  await cluster.linked();
  const seen = witnesses.map(({ updates }) => updates);
  await until("the editors have typed on", () => witnesses.every(({ updates }, at) => updates > seen[at] + 20));
  typing = false;
  await typed;
  await Promise.all(editors.map((editor) => editor.saved()));
  await untilEqual(editors.map((editor) => editor.doc));
  await cluster.settled();
  const docs = await stored(cluster, "kept");
  assertEqual([editors[0].doc, ...docs]);
  witnesses.forEach((witness, at) => witness.assertHeldBy(docs[0], `editor ${at}`));
  assert.deepEqual(editors.map(({ losses }) => losses), editors.map(() => 0), "nobody was sent away");
  for (const at of [0, 1, 2]) {
    const metrics = await (await fetch(`${cluster.regions[at].http}/metrics`)).text();
    assert.doesNotMatch(metrics, /^quire_divergence_total.* [1-9]/m, "nobody was given an effect without its cause");
  }
});
