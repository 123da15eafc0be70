// Fields that nobody had in mind: thousands of them, very long ones, texts that look like markers, every script, wrong types.
import assert from "node:assert/strict";
import { test } from "node:test";
import { editorsOf, is, post, send } from "../harness/fields.mjs";
import { until } from "../harness/until.mjs";

const SCHEMA = `
[[collections]]
name = "tasks"
pattern = "tasks/*"
[collections.fields.note]
type = "string"
policy = "text3"
[collections.fields.string]
type = "string"
[collections.fields.number]
type = "number"
[collections.fields.integer]
type = "integer"
[collections.fields.boolean]
type = "boolean"
[collections.fields.timestamp]
type = "timestamp"
[collections.fields.list]
type = "list"
[collections.fields.object]
type = "object"
`;
const two = (t, name, before, options = {}) => editorsOf(t, name, before, { schema: SCHEMA, ...options });

test("10,000 fields of one editor are there in both regions, after a restart too, and those written twice are merged", async (t) => {
  const FIELDS = 10_000;
  const world = await two(t, "tasks/wide", { k0: "before" });
  const all = Array.from({ length: FIELDS }, (_, i) => `k${i}`);
  await world.apart(
    (fields) => all.forEach((key, i) => fields.set(key, i)),
    (fields) => ["k0", "k1", `k${FIELDS - 1}`].forEach((key) => fields.set(key, "there")),
  );
  await until("both editors have all", () => world.fields.every((fields) => all.every((key) => fields.has(key))));
  const read = async (region) => (await (await fetch(world.at(region))).json()).fields;
  const [here, there] = await Promise.all([read(0), read(1)]);
  assert.equal(Object.keys(here).filter((key) => !key.startsWith("__")).length, FIELDS);
  assert.deepEqual(there, here);
  const contested = Object.keys(here).filter((key) => here[key].conflict);
  assert.deepEqual(contested.sort(), ["k0", "k1", `k${FIELDS - 1}`]);
  assert.deepEqual([here.k2.value, here.k0.versions.map(({ value }) => value)], [2, [0, "there"]]);
  await world.onRecord("status=open", (open) => open.length === 3);
  await world.cluster.regions[0].kill("SIGKILL");
  await world.cluster.regions[0].restart();
  assert.deepEqual(await read(0), here);
});

test("texts of a megabyte that two regions wrote at once are kept and shown; what is too long to be marked says so", async (t) => {
  // A value further back than 1 MiB of values is let go: these are just below.
  const MEGABYTE = 1_000_000;
  const long = (letter) => `${letter.repeat(MEGABYTE - 1)}\n`;
  const world = await two(t, "tasks/long", { note: long("a"), topic: long("a") });
  await world.cluster.settled();
  await world.apart(
    (fields) => ["note", "topic"].forEach((key) => fields.set(key, long("b"))),
    (fields) => ["note", "topic"].forEach((key) => fields.set(key, long("c"))),
  );
  // Not with deepEqual, which would print them.
  const isWhole = ({ versions, base }) => is([[long("b"), long("c")], { value: long("a") }])([versions.map(({ value }) => value), base]);
  const [note, topic] = [await world.agreed("note", is(long("c"))), await world.agreed("topic", is(long("c")))];
  assert.deepEqual([note.conflict, topic.conflict, topic.reason], [true, true, undefined]);
  assert.match(note.reason, /^with markers the text would have more than \d+ bytes$/);
  assert.ok(isWhole(note) && isWhole(topic), "both versions are there, whole, and what they were made on");
  const open = await world.onRecord("status=open", (all) => all.length === 2);
  assert.ok(open.every(isWhole), "on record, too");
  const resolved = await post(world.at(0, "/note/resolve"), { conflict: note.conflict_id, value: "short" });
  assert.equal(resolved.status, 200);
  await world.agreed("note", is("short"));
});

test("texts with conflict markers in them conflict again, with markers that are longer, and are read in every region", async (t) => {
  const git = "one\n<<<<<<< HEAD\nmine\n||||||| base\n=======\nyours\n>>>>>>> branch\ntwo\n";
  const world = await two(t, "tasks/markers", { note: git });
  let text = git;
  for (const length of [8, 9]) {
    const line = (word) => (fields) => fields.set("note", text.replace("two\n", `${word}\n`));
    await world.apart(line("zwei"), line("deux"));
    const opening = new RegExp(`^<{${length}} region-0, `, "m");
    const marked = await world.agreed("note", (found) => opening.test(found));
    assert.equal(marked.conflict, true);
    for (const part of [text.split("two\n")[0], "zwei", "deux"]) assert.ok(marked.value.includes(part), `${part} in ${marked.value}`);
    assert.match(marked.value, new RegExp(`^>{${length}} region-1, `, "m"));
    // Somebody keeps the markers and writes below them.
    text = `${marked.value}two\n`;
    world.fields[0].set("note", text);
    const kept = await world.agreed("note", is(text));
    assert.equal(kept.conflict, false);
  }
});

test("emoji, right-to-left text and marks of every kind come back as they were, from HTTP, editors and conflicts", async (t) => {
  const texts = {
    family: "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇨🇭",
    hebrew: "שלום עולם",
    arabic: "مرحبا بالعالم \u202b(١٢٣)\u202c",
    combining: "e\u0301 is not \u00e9; Z̸̢̛a̴͝l̷g̶o",
    "ключ/🗝️": "a path of two keys",
    controls: "\u0000\u0001\u200b\u2028\u2029\ufeff\ufffd\u{10ffff}",
  };
  const world = await two(t, "tasks/文書 👋", { family: "" });
  const patched = await send("PATCH", world.at(0), {
    fields: Object.fromEntries(Object.entries(texts).filter(([key]) => !key.includes("/")).map(([key, value]) => [key, { value }])),
  });
  assert.equal(patched.status, 200, await patched.clone().text());
  for (const [key, value] of Object.entries(texts).filter(([key]) => !key.includes("/"))) await world.agreed(key, is(value));
  // Written by an editor, and at once by another.
  await world.apart(
    (fields) => {
      fields.set("both", `${texts.hebrew} ${texts.family}`);
      fields.set("note", `${texts.arabic}\n`);
      fields.set("🗝️", { "ключ": texts.combining });
    },
    (fields) => {
      fields.set("both", `${texts.family} ${texts.hebrew}`);
      fields.set("note", `${texts.controls}\n`);
    },
  );
  const both = await world.agreed("both", (found) => found?.includes(texts.family) && found.includes(texts.hebrew));
  assert.deepEqual(both.versions.map(({ value }) => value), [`${texts.hebrew} ${texts.family}`, `${texts.family} ${texts.hebrew}`]);
  const note = await world.agreed("note", (found) => found?.includes("<<<<<<<"));
  assert.ok(note.value.includes(texts.arabic) && note.value.includes(texts.controls), JSON.stringify(note.value));
  await world.agreed("🗝️", is({ "ключ": texts.combining }));
  const open = await world.onRecord("status=open", (all) => all.length === 2);
  assert.ok(open.every(({ document }) => document === "tasks/文書 👋"));
  assert.deepEqual(open.find(({ field }) => field === "both").versions, both.versions);
  // Half of a character is no text: it is refused, not mended.
  const half = await fetch(world.at(0), {
    method: "PATCH",
    body: '{"fields":{"both":{"value":"\\ud83d"}}}',
    headers: { "content-type": "application/json" },
  });
  assert.equal(half.status, 400, await half.clone().text());
});

test("a value of the wrong type is refused over HTTP, with its field and type; an editor's is kept, and the last valid one served", async (t) => {
  const valid = { string: "text", number: 1.5, integer: 3, boolean: true, timestamp: 1_700_000_000_000, list: [1], object: { a: 1 } };
  const wrong = { string: 1, number: "1", integer: 1.5, boolean: "true", timestamp: 0.5, list: { 0: 1 }, object: [1] };
  const world = await two(t, "tasks/types", valid);
  await world.cluster.settled();
  for (const [type, value] of Object.entries(wrong)) {
    // With another that is valid: all or none.
    const refused = await send("PATCH", world.at(1), { fields: { [type]: { value }, free: { value: type } } });
    assert.equal(refused.status, 422, type);
    assert.equal(refused.headers.get("content-type"), "application/problem+json");
    assert.match((await refused.json()).detail, new RegExp(`\`${type}\`.* ${type}$`));
  }
  assert.equal((await fetch(world.at(1, "/free"))).status, 404, "nothing of a refused request is written");
  world.editors[0].doc.transact(() => Object.entries(wrong).forEach(([type, value]) => world.fields[0].set(type, value)));
  await world.editors[0].saved();
  await world.cluster.settled();
  for (const type of Object.keys(wrong)) {
    for (const region of [0, 1]) {
      const field = await world.field(region, type);
      assert.deepEqual([field.value, field.invalid, field.conflict], [valid[type], true, false], type);
      assert.deepEqual(field.versions.map(({ value }) => value), [wrong[type]], "it is kept");
    }
    assert.deepEqual(world.fields[1].get(type), wrong[type], "an editor shows what Yjs does");
  }
  // What is valid again is served.
  world.fields[1].set("integer", 4);
  const { invalid } = await world.agreed("integer", is(4));
  assert.equal(invalid, undefined);
});
