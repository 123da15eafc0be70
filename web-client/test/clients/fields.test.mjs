// Fields, written by stock Yjs editors in two regions that cannot reach each other, and then can: what the policies of
// a schema make of it, in HTTP and in every editor.
import assert from "node:assert/strict";
import { test } from "node:test";
import { editorsOf, hasAll, is, post, send } from "../harness/fields.mjs";
import { until } from "../harness/until.mjs";

const SCHEMA = `
[[collections]]
name = "tasks"
pattern = "tasks/*"
[collections.fields.owner]
policy = "lww"
[collections.fields.note]
type = "string"
policy = "text3"
[collections.fields.cart]
type = "list"
policy = "set"
[collections.fields.votes]
type = "number"
policy = "counter"
[collections.fields.peak]
type = "number"
policy = "max"
[collections.fields.state]
policy = { rank = ["todo", "doing", "done"] }
type = "string"
[collections.fields.address]
type = "object"
policy = "map"
`;
const LINES = "one\ntwo\nthree\nfour\nfive\n";

const twoEditors = (t, name, before, args = []) => editorsOf(t, name, before, { schema: SCHEMA, args });

test("values written in two regions at once are merged by their policies", async (t) => {
  const before = { owner: "ann", cart: ["item1"], votes: 0, peak: 3, state: "todo", address: { city: "Bern", zip: 3000 } };
  const two = await twoEditors(t, "tasks/1", before);
  await two.apart(
    (fields) => {
      fields.set("owner", "ben");
      fields.set("cart", ["item1", "item2"]);
      fields.set("votes", 5);
      fields.set("peak", 9);
      fields.set("state", "done");
      fields.set("address", { city: "Basel", zip: 3000 });
      fields.set("only here", 1);
    },
    (fields) => {
      fields.set("owner", "cleo");
      fields.set("cart", ["item1", "item3"]);
      fields.set("votes", 7);
      fields.set("peak", 4);
      fields.set("state", "doing");
      fields.set("address", { city: "Bern", zip: 4000 });
      fields.set("only there", 2);
    },
  );
  await two.agreed("cart", hasAll("item1", "item2", "item3"));
  await two.agreed("votes", is(12));
  await two.agreed("peak", is(9));
  await two.agreed("state", is("done"));
  await two.agreed("address", is({ city: "Basel", zip: 4000 }));
  await two.agreed("only here", is(1));
  await two.agreed("only there", is(2));
  // The last writer's is shown; the other is not lost.
  const owner = await two.agreed("owner", (found) => found === "ben" || found === "cleo");
  assert.equal(owner.conflict, false);
  assert.deepEqual(owner.versions.map(({ value }) => value).sort(), ["ben", "cleo"]);
  assert.equal(owner.versions.at(-1).value, owner.value, "the greatest stamp stands");
  assert.deepEqual(owner.base, { value: "ann" });
});

test("text edited in different lines is merged, in the same line it is marked", async (t) => {
  const two = await twoEditors(t, "tasks/2", { note: LINES });
  await two.apart(
    (fields) => fields.set("note", LINES.replace("one", "uno")),
    (fields) => fields.set("note", LINES.replace("five", "cinque")),
  );
  const merged = LINES.replace("one", "uno").replace("five", "cinque");
  const note = await two.agreed("note", is(merged));
  assert.equal(note.conflict, false);
  await two.apart(
    (fields) => fields.set("note", merged.replace("three", "tre")),
    (fields) => fields.set("note", merged.replace("three", "trois")),
  );
  const marked = await two.agreed("note", (found) => found?.includes("<<<<<<<"));
  assert.equal(marked.conflict, true);
  for (const part of ["tre", "trois", "region-0", "region-1", ">>>>>>>"]) assert.ok(marked.value.includes(part), `${part} in ${marked.value}`);
});

test("versions that nothing merges are all there, shown to editors, and resolved by whoever edits the field", async (t) => {
  const two = await twoEditors(t, "tasks/3", { topic: "base" });
  await two.apart(
    (fields) => fields.set("topic", "here"),
    (fields) => fields.set("topic", "there"),
  );
  const shown = () => two.fields.map((fields) => fields.get("__conflicts")?.get("topic"));
  await until("both editors are told of the conflict", () => shown().every((conflict) => conflict?.versions.length === 2));
  const topic = await two.agreed("topic", (found) => found === "here" || found === "there");
  assert.equal(topic.conflict, true);
  assert.deepEqual(topic.versions.map(({ value }) => value).sort(), ["here", "there"]);
  assert.deepEqual(topic.versions.map(({ origin }) => origin).sort(), ["region-0", "region-1"]);
  assert.ok(topic.versions.every(({ timestamp }) => Number.isSafeInteger(timestamp)));
  assert.deepEqual(topic.base, { value: "base" });
  assert.equal(shown()[0].id, topic.conflict_id);
  const listed = await (await fetch(two.at(1, "?conflicts=true"))).json();
  assert.deepEqual(Object.keys(listed.fields), ["topic"]);

  two.fields[1].set("topic", "settled");
  const settled = await two.agreed("topic", is("settled"));
  assert.deepEqual([settled.conflict, settled.versions], [false, undefined]);
  await until("no editor is told of a conflict any more", () => shown().every((conflict) => conflict === undefined));
});

test("two different resolutions at once are in conflict with each other alone; over HTTP one resolves what it has seen", async (t) => {
  const two = await twoEditors(t, "tasks/4", { topic: "base" });
  await two.apart(
    (fields) => fields.set("topic", "here"),
    (fields) => fields.set("topic", "there"),
  );
  await until("both editors are told of the conflict", () => two.fields.every((fields) => fields.get("__conflicts")?.get("topic")));
  await two.apart(
    (fields) => fields.set("topic", "mine"),
    (fields) => fields.set("topic", "yours"),
  );
  const again = await two.agreed("topic", (found) => found === "mine" || found === "yours");
  assert.deepEqual(again.versions.map(({ value }) => value).sort(), ["mine", "yours"]);
  const resolve = (conflict) => post(two.at(0, "/topic/resolve"), { conflict, value: "ours" });
  assert.equal((await resolve("0".repeat(32))).status, 404);
  const resolved = await resolve(again.conflict_id);
  assert.equal(resolved.status, 200, await resolved.clone().text());
  await two.agreed("topic", is("ours"));
});

test("a write over HTTP on an old version becomes a sibling, or is refused where the caller asks for that", async (t) => {
  const two = await twoEditors(t, "tasks/5", { topic: "base", votes: 1 });
  await two.cluster.settled();
  const { version } = await two.field(0, "topic");
  two.fields[0].set("topic", "newer");
  await two.editors[0].saved();
  const patch = (fields, headers = {}) => send("PATCH", two.at(0), { fields }, headers);
  const refused = await patch({ topic: { value: "late", version } }, { "if-match": "*" });
  assert.equal(refused.status, 412, await refused.clone().text());
  const taken = await patch({ topic: { value: "late", version } });
  assert.equal(taken.status, 200, await taken.clone().text());
  assert.ok(taken.headers.get("quire-frontier"));
  const topic = (await taken.json()).fields.topic;
  assert.deepEqual(topic.versions.map(({ value }) => value), ["newer", "late"]);
  assert.deepEqual(topic.base, { value: "base" });
  // On the current one it replaces both.
  const replaced = await patch({ topic: { value: "last", version: topic.version } }, { "if-match": `"${topic.version}"` });
  assert.equal(replaced.status, 200, await replaced.clone().text());
  await two.agreed("topic", is("last"));
  const wrong = await patch({ votes: { value: "many" } });
  assert.equal(wrong.status, 422);
  assert.match((await wrong.json()).detail, /votes.*number/);
  assert.equal((await patch({ topic: {} })).status, 400);
  assert.equal((await patch({ topic: { value: 1, version: "nonsense" } })).status, 400);
});

test("what an editor writes of the wrong type is kept and flagged, and the last valid value is served", async (t) => {
  const two = await twoEditors(t, "tasks/6", { votes: 4 });
  two.fields[0].set("votes", "many");
  await two.editors[0].saved();
  const votes = await two.field(0, "votes");
  assert.deepEqual([votes.value, votes.invalid], [4, true]);
  assert.deepEqual(votes.versions.map(({ value }) => value), ["many"]);
});

test("fields outlive a restart that finds a snapshot and nothing else, their versions and base too", async (t) => {
  const two = await twoEditors(t, "tasks/7", { topic: "base" });
  two.cluster.wireBetween(0, 1).cut();
  two.fields[0].set("topic", "here");
  two.fields[1].set("topic", "there");
  await Promise.all(two.editors.map((editor) => editor.saved()));
  // Enough text that a snapshot is stored, in which the overwritten values are gone.
  for (let i = 0; i < 30; i++) {
    two.editors[0].text.insert(0, "x".repeat(8_000));
    await two.editors[0].saved();
  }
  await two.cluster.regions[0].kill("SIGTERM");
  await two.cluster.regions[0].restart();
  two.cluster.wireBetween(0, 1).heal();
  await two.cluster.linked();
  await two.cluster.settled();
  const topic = await two.agreed("topic", (found) => found === "here" || found === "there");
  assert.deepEqual(topic.versions.map(({ value }) => value).sort(), ["here", "there"]);
  assert.deepEqual(topic.base, { value: "base" });
});

test("a document that nobody has open in its home is written back from there", async (t) => {
  const two = await twoEditors(t, "tasks/8", { topic: "base" }, ["--unload-seconds", "0"]);
  const about = await (await fetch(two.at(1).replace("/fields", ""))).json();
  assert.equal(about.home, 1, "the region that made it is its home");
  two.editors[0].close();
  const isOpen = async () => Number(/^quire_documents_open (\d+)/m.exec(await (await fetch(`${two.cluster.regions[0].http}/metrics`)).text())?.[1]);
  await until("the home has closed it", async () => (await isOpen()) === 0);
  const { version } = await two.field(1, "topic");
  for (const value of ["one", "other"]) {
    const taken = await send("PATCH", two.at(1), { fields: { topic: { value, version } } });
    assert.equal(taken.status, 200, await taken.clone().text());
  }
  await until("the editor is told of the conflict", () => two.fields[1].get("__conflicts")?.get("topic"));
});
