// A region that lacks what the others' logs no longer have gets their documents, and loses nothing of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { SlowSync } from "../harness/disk.mjs";
import { openEditor, openEditors } from "../harness/editors.mjs";
import { assertEqual, untilEqual } from "../harness/equal.mjs";
import { metricOf } from "../harness/metrics.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";

const MIB = 1024 * 1024;
const DOCUMENTS = ["notes", "plans", "empty/again", "long"];

/** Far more than a log of one MiB holds, in several documents, some of it deleted again. */
async function writeMuch(t, region) {
  const editors = DOCUMENTS.map((name, at) => openEditor(t, region, at % 2 ? "hocuspocus" : "y-websocket", name));
  for (const editor of editors) await editor.synced();
  for (const [at, { text }] of editors.entries()) {
    for (let piece = 0; piece < 20; piece++) text.insert(0, `${at}.${piece} ${"x".repeat(50_000)} `);
    text.delete(100, 70_000);
  }
  editors[2].text.delete(0, editors[2].text.length);
  for (const editor of editors) await editor.saved();
  for (const editor of editors) editor.close();
  const gone = { method: "POST", headers: { "content-type": "application/json" }, body: '{"name":"gone"}' };
  assert.equal((await fetch(`${region.http}/v1/docs`, gone)).status, 201);
  assert.ok((await fetch(`${region.http}/v1/docs/gone`, { method: "DELETE" })).ok);
}

const isDeleted = async (region, name) => (await (await fetch(`${region.http}/v1/docs/${name}`)).json()).deleted;

test("a region whose lack is beyond the others' logs gets a snapshot, merges it, and goes on by the log", async (t) => {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3), { args: ["--max-kept-bytes", String(MIB)] });
  const [old, other, late] = cluster.regions;
  await cluster.linked();
  for (const wire of cluster.wiresOf(2)) wire.cut();
  await writeMuch(t, old);
  for (const region of [old, other]) {
    await until("it has all", async () => (await storedDoc(region, "long"))?.getText("content").length > 100_000);
    // An orderly stop moves everything from the journal to the store, and lets go of what is beyond the limit.
    await region.kill("SIGTERM");
    await region.restart();
    assert.ok((await metricOf(region, "quire_log_kept_bytes")) <= MIB, "it keeps more than it should");
  }
  // People are at work in the late region meanwhile, in a document that the others have and in one of its own.
  const editors = ["notes", "only-here"].flatMap((name) => openEditors(t, late, name, 2));
  for (const editor of editors) await editor.synced();
  for (const [at, { text }] of editors.entries()) text.insert(0, `late ${at} `);
  for (const editor of editors) await editor.saved();
  for (const { wire } of cluster.wires) wire.heal();
  await cluster.settled();
  // It is counted once the documents that are open have been told.
  await until("a snapshot was taken: else the log had it all, and nothing was tested", async () => (await metricOf(late, "quire_snapshots_imported_total")) >= 1);
  const reader = openEditor(t, old, "y-websocket", "notes");
  await reader.synced();
  await untilEqual([reader.doc, editors[0].doc, editors[1].doc]);
  for (const part of ["late 0 ", "late 1 ", "0.19 x"]) assert.ok(reader.text.toString().includes(part), `${part}is not there`);
  for (let act = 0; act < 30; act++) editors[act % 2].text.insert(act, "+");
  await editors[0].saved();
  await editors[1].saved();
  await untilEqual([reader.doc, editors[0].doc, editors[1].doc]);
  await cluster.settled();
  for (let round = 0; round < 2; round++) {
    for (const name of [...DOCUMENTS, "only-here"]) assertEqual(await Promise.all(cluster.regions.map((region) => storedDoc(region, name))));
    assert.deepEqual(await Promise.all(cluster.regions.map((region) => isDeleted(region, "gone"))), [true, true, true]);
    await late.kill("SIGKILL");
    await late.restart();
  }
  await cluster.linked();
  for (const at of cluster.regions.keys()) {
    const { peers } = await cluster.status(at);
    assert.deepEqual(peers.filter(({ problem }) => problem), [], "nothing is left to complain of");
  }
  const refused = editors.flatMap(({ closes }) => closes).filter(({ code }) => code >= 4000);
  assert.deepEqual(refused, [], "an editor was sent away");
});

test("a region is no place for people while it imports a snapshot, and is again afterwards", async (t) => {
  const cluster = await startCluster(t, 2, SHAPES.mesh(2), { args: ["--max-kept-bytes", String(MIB)] });
  const [old, late] = cluster.regions;
  const sync = await SlowSync.prepare(t);
  const ready = () => fetch(`${late.http}/readyz`);
  await until("the late one has joined", async () => (await ready()).ok);
  const editor = openEditor(t, late, "y-websocket", "notes");
  await editor.synced();
  editor.text.insert(0, "early ");
  await editor.saved();
  editor.close();
  await late.kill("SIGKILL");
  await writeMuch(t, old);
  await old.kill("SIGTERM");
  await old.restart();
  cluster.wireBetween(0, 1).cut();
  late.conditions = sync.conditions;
  await late.restart();
  assert.equal((await ready()).status, 200, "it has joined long ago, and its editors need nobody else");
  await sync.slow();
  cluster.wireBetween(0, 1).heal();
  await until("it says that it imports", async () => {
    const answer = await ready();
    return answer.status === 503 && /^importing a snapshot/.test((await answer.json()).detail);
  });
  await sync.fast();
  await until("it is ready", async () => (await ready()).ok);
  await cluster.settled();
  assert.equal(await metricOf(late, "quire_snapshots_imported_total"), 1);
});
