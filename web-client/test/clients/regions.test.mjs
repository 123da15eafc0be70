// People in several regions edit one document at once, in every shape of cluster: all end equal.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { assertEqual, untilEqual } from "../harness/equal.mjs";
import { openEditors } from "../harness/editors.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { typeAtOnce, Typist } from "../harness/typist.mjs";

const ACTS_EACH = 150;
const CLUSTERS = [
  ["mesh", 3],
  ["star", 3],
  ["ring", 4],
];

for (const [shape, count] of CLUSTERS) {
  test(`people in ${count} regions in a ${shape} type at once (QUIRE_SEED=${SEED})`, async (t) => {
    const random = randomFrom(SEED);
    const cluster = await startCluster(t, count, SHAPES[shape](count));
    await cluster.linked();
    const editors = cluster.regions.flatMap((region) => openEditors(t, region, "crowd", 2));
    await Promise.all(editors.map((editor) => editor.synced()));
    const typists = editors.map((editor) => new Typist(editor, random));
    await typeAtOnce(typists, random, ACTS_EACH);
    await Promise.all(editors.map((editor) => editor.saved()));
    await untilEqual(editors.map((editor) => editor.doc));
    await cluster.settled();
    assertEqual([editors[0].doc, ...(await Promise.all(cluster.regions.map((region) => storedDoc(region, "crowd"))))]);
    assert.equal(editors.reduce((sum, { losses }) => sum + losses, 0), 0, "a connection was lost");
    for (const at of cluster.regions.keys()) {
      const { peers } = await cluster.status(at);
      assert.deepEqual(peers.filter(({ problem }) => problem), [], "a healthy cluster has nothing to complain of");
    }
  });
}

for (const [shape, count] of CLUSTERS) {
  test(`latency, resets, half-open and one-way connections in a ${shape} of ${count} lose nothing (QUIRE_SEED=${SEED})`, async (t) => {
    const random = randomFrom(SEED);
    const cluster = await startCluster(t, count, SHAPES[shape](count));
    await cluster.linked();
    for (const { wire } of cluster.wires) [wire.delayMs, wire.jitterMs] = [100, 40];
    const editors = cluster.regions.flatMap((region) => openEditors(t, region, "crowd", 2));
    await Promise.all(editors.map((editor) => editor.synced()));
    const typists = editors.map((editor) => new Typist(editor, random));
    const mischief = [
      (wire) => wire.reset(),
      (wire) => wire.cut(),
      (wire) => (wire.deaf = { there: true, back: true }),
      (wire) => (wire.deaf = { there: true, back: false }),
      (wire) => (wire.deaf = { there: false, back: true }),
      (wire) => wire.heal(),
    ];
    for (let round = 0; round < 12; round++) {
      const { wire } = cluster.wires[random.below(cluster.wires.length)];
      mischief[random.below(mischief.length)](wire);
      for (let act = 0; act < 15; act++) {
        for (const typist of typists) typist.act();
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    }
    for (const { wire } of cluster.wires) wire.heal();
    await Promise.all(editors.map((editor) => editor.saved()));
    await untilEqual(editors.map((editor) => editor.doc));
    await cluster.settled();
    assertEqual([editors[0].doc, ...(await Promise.all(cluster.regions.map((region) => storedDoc(region, "crowd"))))]);
    assert.equal(editors.reduce((sum, { losses }) => sum + losses, 0), 0, "an editor noticed something");
  });
}
