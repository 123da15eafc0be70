// Regions that are killed, cut off, wiped and set back: what was seen or told to be saved is in all of them in the
// end. QUIRE_REGION_KILLS sets the number of kills, QUIRE_CUT_SECONDS how long a region is cut off.
import assert from "node:assert/strict";
import { mkdir, rm } from "node:fs/promises";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { areEqual, assertEqual, stateOf, untilEqual } from "../harness/equal.mjs";
import { openEditor, openEditors, write } from "../harness/editors.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { Typist } from "../harness/typist.mjs";
import { breathe, until } from "../harness/until.mjs";
import { Witness } from "../harness/witness.mjs";

const KILLS = Number(process.env.QUIRE_REGION_KILLS || 3);
const CUT_SECONDS = Number(process.env.QUIRE_CUT_SECONDS || 4);
/** What a region may take to have all that it missed, once it is reached again. */
const HEAL_MS_MAX = 5_000;

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const stored = (cluster, name) => Promise.all(cluster.regions.map((region) => storedDoc(region, name)));

test(`${KILLS} kills of random regions under load (QUIRE_SEED=${SEED})`, { timeout: 60_000 + KILLS * 30_000 }, async (t) => {
  const random = randomFrom(SEED);
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  let messages = 0;
  for (let round = 0; round < KILLS; round++) {
    await cluster.linked();
    const name = `document ${round}`;
    const editors = cluster.regions.flatMap((region) => openEditors(t, region, name, 2));
    const witnesses = editors.map((editor) => new Witness(editor));
    await Promise.all(editors.map((editor) => editor.synced()));
    const typists = editors.map((editor) => new Typist(editor, random));
    const victim = cluster.regions[random.below(3)];
    let dead = false;
    const killed = later(50 + random.below(1_000)).then(() => victim.kill("SIGKILL")).then(() => (dead = true));
    while (!dead) {
      typists.forEach((typist) => random.chance(0.3) && typist.act());
      await breathe();
    }
    await killed;
    // Editors that stay would upload again what was lost, and hide it.
    editors.forEach((editor) => editor.close());
    await victim.restart();
    await cluster.settled();
    const docs = await stored(cluster, name);
    assertEqual(docs);
    witnesses.forEach((witness, at) => {
      witness.assertHeldBy(docs[0], `round ${round}, editor ${at}`);
      messages += witness.updates;
    });
  }
  t.diagnostic(`${messages} messages witnessed, none missing`);
  assert.ok(messages > KILLS * 20, "hardly anything was typed");
});

test(`a region cut off for ${CUT_SECONDS} s works on, and has everything soon after (QUIRE_SEED=${SEED})`, async (t) => {
  const random = randomFrom(SEED);
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  await cluster.linked();
  const editors = cluster.regions.flatMap((region) => openEditors(t, region, "crowd", 2));
  await Promise.all(editors.map((editor) => editor.synced()));
  const typists = editors.map((editor) => new Typist(editor, random));
  // A document that is there before: it must not travel again.
  const ballast = openEditor(t, cluster.regions[0], "y-websocket", "ballast");
  await ballast.synced();
  // More than is typed during the cut.
  const pieces = Math.ceil(CUT_SECONDS / 4);
  for (let piece = 0; piece < pieces; piece++) {
    ballast.text.insert(0, "ballast ".repeat(200_000));
    await ballast.saved();
  }
  await cluster.settled();

  let asked = 0;
  const post = async (path, method, body) => {
    const answer = await fetch(`${cluster.regions[2].http}${path}`, { method, body, headers: { "content-type": "application/json" } });
    assert.ok(answer.ok, await answer.text());
  };
  const type = async (seconds) => {
    const acks = [];
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      typists.forEach((typist) => random.chance(0.2) && typist.act());
      // A document of its own now and then: a long one takes longer, cut off or not.
      const name = `acks ${Math.floor(asked / 100)}`;
      if (asked++ % 100 === 0) await post("/v1/docs", "POST", JSON.stringify({ name }));
      const began = performance.now();
      const body = '{"splices":[{"at":0,"insert":"x"}]}';
      await post(`/v1/docs/${encodeURIComponent(name)}/text`, "PATCH", body);
      acks.push(performance.now() - began);
      await breathe();
    }
    return acks.sort((a, b) => a - b)[Math.floor(acks.length / 2)];
  };
  const before = await type(1.5);
  cluster.wiresOf(2).forEach((wire) => wire.cut());
  const during = await type(CUT_SECONDS);
  await Promise.all(editors.map((editor) => editor.saved()));
  const missed = editors.map((editor) => JSON.stringify(stateOf(editor.doc)));
  assert.notEqual(missed[0], missed[4], "the regions have not grown apart");

  const carried = () => cluster.wiresOf(2).reduce((sum, wire) => sum + wire.bytes, 0);
  const already = carried();
  const docs = editors.map((editor) => editor.doc);
  const settledAt = cluster.settledAt();
  const healed = performance.now();
  cluster.wiresOf(2).forEach((wire) => wire.heal());
  await until("the editors are equal", () => areEqual(docs));
  const took = performance.now() - healed;
  const applied = (await settledAt) - healed;
  const bytes = carried() - already;
  assertEqual([...docs, ...(await stored(cluster, "crowd"))]);
  assertEqual(await stored(cluster, "acks 0"));
  t.diagnostic(`ack p50 before ${before.toFixed(2)} ms, during ${during.toFixed(2)} ms: ${(during / before).toFixed(2)}`);
  t.diagnostic(`after the heal: regions equal in ${Math.round(applied)} ms, editors in ${Math.round(took)} ms, ${bytes} bytes carried`);
  assert.ok(Math.max(applied, took) < HEAL_MS_MAX + 5_000, `it took ${applied} ms and ${took} ms`);
  assert.ok(bytes < pieces * 1_600_000, `${bytes} bytes: the ballast has travelled again`);
});

test("a region that lost its disk gets everything back under a new incarnation", async (t) => {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  await cluster.linked();
  for (const [at, region] of cluster.regions.entries()) {
    const editor = openEditor(t, region, "y-websocket", "kept");
    await editor.synced();
    editor.text.insert(0, `region ${at} was here. `);
    await editor.saved();
    editor.close();
  }
  await cluster.settled();
  const before = (await cluster.status(1)).region.incarnation;
  await cluster.regions[1].kill("SIGKILL");
  await rm(cluster.regions[1].dataDir, { recursive: true });
  await mkdir(cluster.regions[1].dataDir);
  // Its editors are there before its peers are.
  cluster.wiresOf(1).forEach((wire) => wire.cut());
  await cluster.regions[1].restart();
  const early = openEditor(t, cluster.regions[1], "hocuspocus", "kept");
  await early.synced();
  early.text.insert(0, "Written on the empty disk. ");
  await early.saved();
  cluster.wiresOf(1).forEach((wire) => wire.heal());
  await cluster.settled();
  await untilEqual([early.doc, ...(await stored(cluster, "kept"))]);
  const text = early.text.toString();
  for (const part of ["region 0", "region 1", "region 2", "Written on"]) assert.ok(text.includes(part), text);
  assert.notEqual((await cluster.status(1)).region.incarnation, before);

  const editor = openEditor(t, cluster.regions[1], "y-websocket", "kept");
  await editor.synced();
  editor.text.insert(0, "And again. ");
  await editor.saved();
  await cluster.settled();
  assertEqual([editor.doc, ...(await stored(cluster, "kept"))]);
  await cluster.linked();
  for (const at of [0, 1, 2]) assert.deepEqual((await cluster.status(at)).peers.filter(({ problem }) => problem), []);
});

test("a region restored from an old backup is told that its disk went back, and loses nothing that others had", async (t) => {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  await cluster.linked();
  const victim = cluster.regions[1];
  const before = (await cluster.status(1)).region.incarnation;
  await write(t, victim, "kept", "before the backup. ");
  await cluster.settled();
  await victim.kill("SIGTERM");
  const backup = await victim.copyData(t);
  await victim.restart();
  await cluster.linked();
  await write(t, victim, "kept", "after the backup. ");
  await cluster.settled();
  await victim.kill("SIGKILL");
  await victim.setBackTo(backup);
  await victim.restart();
  await cluster.settled();
  await until("the region goes on under a new incarnation", async () => (await cluster.status(1)).region.incarnation === before + 1);
  await write(t, victim, "kept", "and goes on. ");
  await cluster.settled();
  const docs = await stored(cluster, "kept");
  assertEqual(docs);
  assert.equal(docs[0].getText("content").toString(), "and goes on. after the backup. before the backup. ");
  assert.match(victim.log, /the disk went back in time/);
});
