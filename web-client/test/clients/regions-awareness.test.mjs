// Who is in a document is seen in every region: soon, until they leave, and never instead of an edit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { openEditor } from "../harness/editors.mjs";
import { quantiles } from "../harness/quantiles.mjs";
import { until, within } from "../harness/until.mjs";

const ONE_WAY_MS = 50;
const MOVES = 100;

/** The names that an editor sees. */
const seen = (editor) => [...editor.awareness.getStates().values()].map(({ user }) => user?.name).filter(Boolean).sort();

for (const [shape, count] of [["mesh", 3], ["star", 3], ["ring", 4]]) {
  test(`people see each other across ${count} regions in a ${shape}, and who leaves is gone`, async (t) => {
    const cluster = await startCluster(t, count, SHAPES[shape](count));
    await cluster.linked();
    const names = cluster.regions.map((_, at) => `person-${at}`);
    const editors = cluster.regions.map((region, at) => openEditor(t, region, at % 2 ? "hocuspocus" : "y-websocket", "room"));
    await Promise.all(editors.map((editor) => editor.synced()));
    editors.forEach((editor, at) => editor.awareness.setLocalStateField("user", { name: names[at] }));
    for (const editor of editors) {
      await until(() => `everybody is seen (${seen(editor)})`, () => seen(editor).join() === names.join());
    }
    editors[1].awareness.setLocalStateField("cursor", 42);
    for (const editor of editors) {
      await until("a cursor moves everywhere", () => [...editor.awareness.getStates().values()].some(({ cursor }) => cursor === 42));
    }
    editors[1].close();
    for (const editor of editors.filter((_, at) => at !== 1)) {
      await until(() => `who left is gone (${seen(editor)})`, () => !seen(editor).includes("person-1"));
    }
    // Whoever comes later is told who is there.
    const late = openEditor(t, cluster.regions[0], "y-websocket", "room");
    await late.synced();
    await until(() => `the late one sees all (${seen(late)})`, () => names.filter((_, at) => at !== 1).every((name) => seen(late).includes(name)));
    assert.ok(!seen(late).includes("person-1"));
  });
}

test("a region where nobody had the document open asks who is there", async (t) => {
  const cluster = await startCluster(t, 2, SHAPES.mesh(2));
  await cluster.linked();
  const first = openEditor(t, cluster.regions[0], "y-websocket", "room");
  await first.synced();
  first.awareness.setLocalStateField("user", { name: "ann" });
  await until("it is told here", () => seen(first).includes("ann"));
  const second = openEditor(t, cluster.regions[1], "y-websocket", "room");
  await second.synced();
  // A stock client renews its state every 15 seconds only.
  await until("ann is seen", () => seen(second).includes("ann"), 10_000);
});

test("how long a cursor takes over wires of 50 ms is told", async (t) => {
  const cluster = await startCluster(t, 2, SHAPES.mesh(2));
  await cluster.linked();
  const [mover, watcher] = cluster.regions.map((region) => openEditor(t, region, "y-websocket", "room"));
  await Promise.all([mover.synced(), watcher.synced()]);
  cluster.wires[0].wire.delayMs = ONE_WAY_MS;
  const delays = [];
  for (let cursor = 1; cursor <= MOVES; cursor++) {
    const arrived = new Promise((resolve) => {
      watcher.awareness.on("change", function look() {
        if (watcher.awareness.getStates().get(mover.doc.clientID)?.cursor !== cursor) return;
        watcher.awareness.off("change", look);
        resolve();
      });
    });
    const moved = performance.now();
    mover.awareness.setLocalStateField("cursor", cursor);
    await within(`move ${cursor}`, arrived);
    delays.push(performance.now() - moved);
  }
  const { p50, p99, max } = quantiles(delays);
  t.diagnostic(`${MOVES} moves over ${ONE_WAY_MS} ms one way: p50 ${p50}, p99 ${p99}, max ${max} ms; the aim is ${ONE_WAY_MS + 100}`);
});
