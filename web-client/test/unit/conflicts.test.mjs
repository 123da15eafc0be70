// What a page makes of the conflicts that it is told of, whatever stands there.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import { conflictsIn, take } from "../../src/conflicts.ts";

const version = (value, more = {}) => ({ value, timestamp: 1_790_000_000_000, origin: "eu", author: "ada", write: "1:0", ...more });

/** A document's fields with what is told of them. */
function fieldsWith(told, held = {}) {
  const doc = new Y.Doc();
  const fields = doc.getMap("fields");
  for (const [key, value] of Object.entries(held)) fields.set(key, value);
  const conflicts = new Y.Map();
  fields.set("__conflicts", conflicts);
  for (const [key, value] of Object.entries(told)) conflicts.set(key, value);
  return fields;
}

test("versions are told with who wrote them, and each can be taken", () => {
  const told = { id: "c1", versions: [version("Plan A"), version(7, { author: "client 42", origin: "us" })], base: "Plan" };
  const fields = fieldsWith({ title: told }, { title: "Plan A" });
  const [conflict] = conflictsIn(fields);
  assert.deepEqual(conflict.path, ["title"]);
  assert.equal(conflict.base, "Plan");
  assert.deepEqual(conflict.versions.map(({ text, author, region }) => [text, author, region]), [
    ["Plan A", "ada", "eu"],
    ["7", null, "us"],
  ]);
  assert.equal(take(fields, conflict, conflict.versions[1]), true);
  assert.equal(fields.get("title"), 7);
});

test("a deletion is a version, and so is one in a nested map under an odd key", () => {
  const address = new Y.Map();
  const fields = fieldsWith({ "address/a~1b": { id: "c2", versions: [version("x"), { ...version(), value: undefined, deleted: true }] } });
  fields.set("address", address);
  address.set("a/b", "x");
  const [conflict] = conflictsIn(fields);
  assert.deepEqual(conflict.path, ["address", "a/b"]);
  assert.equal(conflict.versions[1].text, "Deleted");
  assert.equal(take(fields, conflict, conflict.versions[1]), true);
  assert.equal(address.has("a/b"), false);
  fields.delete("address");
  assert.equal(take(fields, conflict, conflict.versions[0]), false);
});

test("what is too long or special is told of and cannot be taken", () => {
  const special = [{ $bytes_left_out: 1_048_576 }, { $shared: true }, { $document: true }, { $unknown: true }];
  const fields = fieldsWith({ note: { id: "c3", versions: special.map((value) => version(value)), reason: "no base" } });
  const [conflict] = conflictsIn(fields);
  assert.equal(conflict.versions[0].text, "A value of 1,048,576 bytes");
  assert.equal(conflict.reason, "no base");
  for (const one of conflict.versions) assert.equal(take(fields, conflict, one), false);
});

test("a long value is cut where it is shown, between characters, and taken whole", () => {
  const long = "🚀".repeat(1_000);
  const fields = fieldsWith({ note: { id: "c4", versions: [version(long)] } });
  const [conflict] = conflictsIn(fields);
  assert.equal(conflict.versions[0].text, `${"🚀".repeat(400)}…`);
  take(fields, conflict, conflict.versions[0]);
  assert.equal(fields.get("note"), long);
});

test("anything else that stands there is left out", () => {
  assert.deepEqual(conflictsIn(new Y.Doc().getMap("fields")), []);
  const wrong = { a: 1, b: null, c: { id: 7, versions: [] }, d: { id: "x", versions: "no" }, e: { id: "x", versions: [3, null, {}] } };
  assert.deepEqual(conflictsIn(fieldsWith(wrong)), []);
  const doc = new Y.Doc();
  doc.getMap("fields").set("__conflicts", "a text");
  assert.deepEqual(conflictsIn(doc.getMap("fields")), []);
  const odd = fieldsWith({ t: { id: "x", versions: [{ value: 1, timestamp: "now", origin: 3, author: {} }] } });
  assert.deepEqual(conflictsIn(odd)[0].versions[0], { text: "1", take: { value: 1 }, region: "", author: null, time: 0 });
});
