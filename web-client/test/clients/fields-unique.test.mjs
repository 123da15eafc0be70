// Values that no two documents may have, and references to documents that are deleted: written by stock Yjs editors in
// two regions that cannot reach each other, and then can.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { follow } from "../harness/following.mjs";
import { metricOf } from "../harness/metrics.mjs";
import { temporaryDirectory } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

const SCHEMA = `
[[collections]]
name = "pages"
pattern = "pages/*"
[collections.fields.slug]
type = "string"
unique = true
[collections.fields.author]
reference = { collection = "people", on-delete = "keep" }
[collections.fields.editor]
reference = { collection = "people", on-delete = "null" }
[collections.fields.chapter]
reference = { collection = "people", on-delete = "cascade" }
[[collections]]
name = "people"
pattern = "people/*"
`;

/** Two linked regions. */
async function twoRegions(t, args = []) {
  const file = path.join(await temporaryDirectory(t), "quire.toml");
  await writeFile(file, SCHEMA);
  const cluster = await startCluster(t, 2, SHAPES.mesh(2), { args: ["--config", file, ...args] });
  await cluster.linked();
  const wire = cluster.wireBetween(0, 1);
  const at = (region, rest) => `${cluster.regions[region].http}/v1/${rest}`;
  const of = (name) => `docs/${encodeURIComponent(name)}`;
  const json = async (region, rest) => (await fetch(at(region, rest))).json();
  return {
    cluster,
    at,
    of,
    cut: () => wire.cut(),
    async heal() {
      wire.heal();
      await cluster.linked();
      await cluster.settled();
    },
    /** An editor of a document in a region. */
    async editor(region, name) {
      const editor = openEditor(t, cluster.regions[region], DIALECTS[region], name);
      await editor.synced();
      return editor;
    },
    field: (region, name, key) => json(region, `${of(name)}/fields/${key}`),
    isDeleted: async (region, name) => (await json(region, of(name))).deleted,
    listed: async (region, kind) => (await json(region, `conflicts?kind=${kind}`)).conflicts,
    /** Waits until both regions list so many conflicts of a kind; what they list. */
    async bothList(kind, count) {
      const listed = () => Promise.all([0, 1].map((region) => this.listed(region, kind)));
      await until(`both list ${count} of kind ${kind}`, async () => (await listed()).every((one) => one.length === count));
      return listed();
    },
  };
}

test("of two documents that are given one slug at once the first has it in both regions, and the other is told until it is renamed", async (t) => {
  const two = await twoRegions(t);
  two.cut();
  const names = ["pages/here", "pages/there"];
  const editors = [];
  for (const [region, name] of names.entries()) {
    const editor = await two.editor(region, name);
    editor.doc.getMap("fields").set("slug", "welcome");
    await editor.saved();
    editors.push(editor);
    assert.deepEqual(await two.listed(region, "unique"), [], "neither region knows of the other's");
  }
  await two.heal();
  const [[here], [there]] = await two.bothList("unique", 1);
  assert.deepEqual([here.id, here.versions], [there.id, there.versions]);
  const [winner, loser] = here.versions.map(({ document }) => document);
  assert.deepEqual([winner, loser].sort(), names);
  for (const region of [0, 1]) {
    assert.equal((await two.field(region, loser, "slug")).taken_by.document, winner);
    assert.equal((await two.field(region, winner, "slug")).taken_by, undefined);
  }
  const at = names.indexOf(loser);
  editors[at].doc.getMap("fields").set("slug", "welcome-too");
  await editors[at].saved();
  await two.bothList("unique", 0);
  for (const region of [0, 1]) assert.equal((await two.field(region, loser, "slug")).taken_by, undefined);
});

test("a slug that two editors gave at once is told of in both regions until it is over; who comes back after a restart is told what it missed", async (t) => {
  const two = await twoRegions(t);
  const events = (region, id) => follow(t, two.at(region, "conflicts/events?kind=unique"), id);
  const followings = await Promise.all([0, 1].map((region) => events(region)));
  const next = () => Promise.all(followings.map((following) => following.next()));
  two.cut();
  const editors = {};
  for (const [region, name] of ["pages/here", "pages/there"].entries()) {
    editors[name] = await two.editor(region, name);
    editors[name].doc.getMap("fields").set("slug", "welcome");
    await editors[name].saved();
  }
  await two.heal();
  const opened = await next();
  const listed = await two.bothList("unique", 1);
  for (const [region, told] of opened.entries()) {
    assert.deepEqual([told.event, told.conflict], ["opened", listed[region][0]]);
    assert.equal(told.id, String(told.conflict.change));
  }
  const { document: loser, ...conflict } = opened[0].conflict;
  editors[loser].doc.getMap("fields").set("slug", "welcome-too");
  const [over] = await next();
  assert.equal(over.event, "resolved");
  assert.deepEqual(over.conflict, { ...conflict, document: loser, status: "resolved", change: over.conflict.change });

  await two.cluster.regions[0].kill("SIGTERM");
  await two.cluster.regions[0].restart();
  const again = await events(0, opened[0].id);
  assert.deepEqual(await again.next(), over);
});

test("a slug that its document gives up, or takes with it when it is deleted, goes to the next that claims it", async (t) => {
  const two = await twoRegions(t);
  const editors = [];
  for (const name of ["pages/1", "pages/2", "pages/3"]) {
    const editor = await two.editor(editors.length % 2, name);
    editor.doc.getMap("fields").set("slug", "news");
    await editor.saved();
    await two.cluster.settled();
    editors.push(editor);
  }
  const holders = async (expected) => {
    const taken = () => Promise.all([0, 1].flatMap((region) => ["pages/2", "pages/3"].map(async (name) => (await two.field(region, name, "slug")).taken_by?.document)));
    await until(`taken by ${expected}`, async () => JSON.stringify(await taken()) === JSON.stringify([...expected, ...expected].map((one) => one ?? null)));
  };
  await holders(["pages/1", "pages/1"]);
  editors[0].doc.getMap("fields").delete("slug");
  await holders([undefined, "pages/2"]);
  assert.ok((await fetch(two.at(1, two.of("pages/2")), { method: "DELETE" })).ok);
  await two.bothList("unique", 0);
  for (const region of [0, 1]) assert.equal((await two.field(region, "pages/3", "slug")).taken_by, undefined);
});

test("a document that is deleted while another region refers to it: listed, cleared or deleted, by the field's policy", async (t) => {
  const two = await twoRegions(t);
  const people = await two.editor(0, "people/ada");
  people.doc.getMap("fields").set("name", "Ada");
  await people.saved();
  const policies = { "pages/keep": "author", "pages/null": "editor", "pages/cascade": "chapter" };
  const editors = {};
  for (const name of Object.keys(policies)) {
    editors[name] = await two.editor(1, name);
    editors[name].doc.getMap("fields").set("title", name);
    await editors[name].saved();
  }
  await two.cluster.settled();
  two.cut();
  assert.ok((await fetch(two.at(0, two.of("people/ada")), { method: "DELETE" })).ok);
  for (const [name, key] of Object.entries(policies)) {
    editors[name].doc.getMap("fields").set(key, "people/ada");
    await editors[name].saved();
  }
  await two.heal();
  for (const region of [0, 1]) {
    await until("the document is deleted", () => two.isDeleted(region, "pages/cascade"));
    await until("the field is cleared", async () => (await two.field(region, "pages/null", "editor")).value === null);
  }
  await until("its editor sees that", () => editors["pages/null"].doc.getMap("fields").get("editor") === null);
  const [here, there] = await two.bothList("reference", 1);
  for (const [one] of [here, there]) {
    assert.deepEqual([one.document, one.field, one.target, one.policy], ["pages/keep", "author", "people/ada", "keep"]);
  }
  assert.equal(editors["pages/keep"].doc.getMap("fields").get("author"), "people/ada");
  assert.ok((await fetch(`${two.at(1, two.of("people/ada"))}/restore`, { method: "POST" })).ok);
  await two.bothList("reference", 0);
});

test("what a snapshot brings claims and is referred to as if it had come by the log", async (t) => {
  const two = await twoRegions(t, ["--max-kept-bytes", String(1024 * 1024)]);
  const [old, late] = two.cluster.regions;
  two.cut();
  const write = async (region, name, fields, length = 0) => {
    const editor = await two.editor(region, name);
    for (const [key, value] of Object.entries(fields)) editor.doc.getMap("fields").set(key, value);
    for (let written = 0; written < length; written += 50_000) editor.text.insert(0, "x".repeat(50_000));
    await editor.saved();
    editor.close();
  };
  await write(0, "people/ada", { name: "Ada" });
  await write(0, "pages/old", { slug: "welcome", author: "people/ada" });
  await write(0, "long", {}, 3_000_000);
  assert.ok((await fetch(two.at(0, two.of("people/ada")), { method: "DELETE" })).ok);
  // An orderly stop moves everything to the store, and lets go of what is beyond the limit.
  await old.kill("SIGTERM");
  await old.restart();
  await write(1, "pages/late", { slug: "welcome", editor: "people/ada" });
  await two.heal();
  await until("a snapshot was taken", async () => (await metricOf(late, "quire_snapshots_imported_total")) >= 1);
  const [[here], [there]] = await two.bothList("unique", 1);
  assert.deepEqual(here.versions, there.versions);
  assert.deepEqual(here.versions.map(({ document }) => document).sort(), ["pages/late", "pages/old"]);
  const dangling = await two.bothList("reference", 1);
  for (const [one] of dangling) assert.deepEqual([one.document, one.target], ["pages/old", "people/ada"]);
  for (const region of [0, 1]) {
    await until("the field is cleared", async () => (await two.field(region, "pages/late", "editor")).value === null);
  }
});
