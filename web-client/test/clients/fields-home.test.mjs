// Fields that are written at their document's home: by stock Yjs editors, who cannot be refused, and over HTTP while the
// home answers, while it is cut off, and while it says nothing.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { temporaryDirectory } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

const CONFIG = `
home-seconds = 1
[[collections]]
name = "pages"
pattern = "pages/*"
[collections.fields.slug]
home = "reject"
[collections.fields.note]
home = "accept_and_flag"
[collections.fields.votes]
type = "number"
policy = "counter"
home = "accept_and_flag"
`;
const PAGE = "pages/1";

/** Three linked regions, the first of which is the page's home, and an editor at each. */
async function threeRegions(t) {
  const file = path.join(await temporaryDirectory(t), "quire.toml");
  await writeFile(file, CONFIG);
  const cluster = await startCluster(t, 3, SHAPES.mesh(3), { args: ["--config", file] });
  await cluster.linked();
  const headers = { "content-type": "application/json" };
  const at = (region) => `${cluster.regions[region].http}/v1/docs/${encodeURIComponent(PAGE)}`;
  const made = await fetch(`${cluster.regions[0].http}/v1/docs`, { method: "POST", headers, body: JSON.stringify({ name: PAGE }) });
  assert.equal(made.status, 201);
  await cluster.settled();
  const editors = cluster.regions.map((region, of) => openEditor(t, region, DIALECTS[of % DIALECTS.length], PAGE));
  await Promise.all(editors.map((editor) => editor.synced()));
  return {
    cluster,
    editors,
    fields: editors.map(({ doc }) => doc.getMap("fields")),
    patch(region, values) {
      const fields = Object.fromEntries(Object.entries(values).map(([key, value]) => [key, { value }]));
      return fetch(`${at(region)}/fields`, { method: "PATCH", headers, body: JSON.stringify({ fields }) });
    },
    async written(region, values) {
      const response = await this.patch(region, values);
      assert.equal(response.status, 200, await response.clone().text());
      return (await response.json()).fields;
    },
    async refused(region, values, kind, detail) {
      const response = await this.patch(region, values);
      const problem = await response.json();
      assert.deepEqual([response.status, problem.type], [503, `urn:quire:problem:${kind}`], JSON.stringify(problem));
      assert.match(problem.detail, detail);
    },
    async field(region, key) {
      return (await (await fetch(`${at(region)}/fields/${key}`)).json());
    },
    /** What all regions say of a field, once they have the same. */
    async agreed(key) {
      await cluster.settled();
      const said = await Promise.all([0, 1, 2].map((region) => this.field(region, key)));
      assert.deepEqual(said[1], said[0]);
      assert.deepEqual(said[2], said[0]);
      return said[0];
    },
    async linkEnds(a, b) {
      for (const [here, there] of [[a, b], [b, a]]) {
        await until(`region ${here} knows that it has no link to ${there}`, async () => {
          const { peers } = await cluster.status(here);
          return !peers.some(({ replica, linked }) => replica === there + 1 && linked);
        });
      }
    },
  };
}

test("who writes a home's field elsewhere reads it there at once, and editors everywhere see it", async (t) => {
  const three = await threeRegions(t);
  for (const { wire } of three.cluster.wires) wire.delayMs = 20;
  for (let count = 1; count <= 12; count++) {
    const region = count % 3;
    const fields = await three.written(region, { slug: `s${count}`, free: count });
    assert.equal(fields.slug.value, `s${count}`);
    const read = await three.field(region, "slug");
    assert.equal(read.value, `s${count}`);
    assert.equal(read.away_from_home, undefined, "the home took it");
  }
  const slug = await three.agreed("slug");
  assert.deepEqual([slug.value, slug.conflict], ["s12", false]);
  await until("all editors show the last", () => three.fields.every((fields) => fields.get("slug") === "s12" && fields.get("free") === 12));
});

test("what an editor writes away from home is kept and flagged, until somebody writes it at home", async (t) => {
  const three = await threeRegions(t);
  for (const key of ["slug", "note"]) {
    three.fields[1].set(key, "from afar");
    await three.editors[1].saved();
    const flagged = await three.agreed(key);
    assert.deepEqual([flagged.value, flagged.conflict, flagged.away_from_home], ["from afar", false, true]);
    await until("the editor at home sees it", () => three.fields[0].get(key) === "from afar");
    three.fields[0].set(key, "at home");
    await three.editors[0].saved();
    const settled = await three.agreed(key);
    assert.deepEqual([settled.value, settled.away_from_home], ["at home", undefined]);
  }
});

test("a home that is cut off: one field is refused, the other kept, flagged, and everywhere after healing", async (t) => {
  const three = await threeRegions(t);
  await three.written(1, { slug: "a", note: "a" });
  const wires = [three.cluster.wireBetween(0, 1), three.cluster.wireBetween(0, 2)];
  for (const wire of wires) wire.cut();
  await three.linkEnds(0, 1);
  await three.linkEnds(0, 2);
  await three.refused(1, { slug: "b", note: "b" }, "home-unreachable", /`slug`.*region 1.*Nothing was written/);
  assert.equal((await three.field(1, "note")).value, "a", "all or none");
  const kept = await three.written(2, { note: "b" });
  assert.deepEqual([kept.note.value, kept.note.away_from_home], ["b", true]);
  for (const wire of wires) wire.heal();
  await three.cluster.linked();
  const note = await three.agreed("note");
  assert.deepEqual([note.value, note.away_from_home], ["b", true]);
  await until("all editors show it", () => three.fields.every((fields) => fields.get("note") === "b"));
  await three.written(1, { slug: "c", note: "c" });
  for (const key of ["slug", "note"]) {
    const field = await three.agreed(key);
    assert.deepEqual([field.value, field.conflict, field.away_from_home], ["c", false, undefined]);
  }
});

test("a home that has written and cannot say so: nothing is counted twice, and equal values are no conflict", async (t) => {
  const three = await threeRegions(t);
  await three.written(1, { slug: "a", note: "a", votes: 1 });
  await three.cluster.settled();
  // Region 1 dialled the home: what it says arrives, and nothing comes back.
  const wire = three.cluster.wireBetween(0, 1);
  const since = async (here, there) => {
    const { peers } = await three.cluster.status(here);
    return peers.find(({ replica, rtt_ms }) => replica === there + 1 && rtt_ms !== undefined)?.linked_since_ms;
  };
  const silent = async (act) => {
    const before = [await since(0, 1), await since(1, 0)];
    wire.deaf = { there: false, back: true };
    await act();
    wire.reset();
    wire.heal();
    await until("both regions have a new link", async () => {
      const after = [await since(0, 1), await since(1, 0)];
      return after.every((at, side) => at !== undefined && at !== before[side]);
    });
  };
  await silent(() => three.refused(1, { slug: "b" }, "home-unanswered", /`slug`.*region 1.*may have been written/));
  await silent(() => three.refused(1, { votes: 2 }, "home-unanswered", /`votes`/));
  await silent(async () => {
    const kept = await three.written(1, { note: "b" });
    assert.deepEqual([kept.note.value, kept.note.conflict, kept.note.away_from_home], ["b", false, true]);
  });
  const [slug, votes, note] = [await three.agreed("slug"), await three.agreed("votes"), await three.agreed("note")];
  assert.equal(slug.value, "b", "the home had written it");
  assert.deepEqual([votes.value, votes.away_from_home], [2, undefined]);
  assert.deepEqual([note.value, note.conflict, note.away_from_home], ["b", false, true]);
  // The third region may have brought the home's before this region wrote its own on top of it.
  for (const { value } of note.versions ?? []) assert.equal(value, "b");
});
