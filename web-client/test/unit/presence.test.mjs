// What is shown of other people, whatever their awareness states hold.
import assert from "node:assert/strict";
import { test } from "node:test";
import { cleanName, initials, loadMe, others, saveMe } from "../../src/presence.ts";

const storage = () => {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
};

test("a name and colour are kept", () => {
  const kept = storage();
  const first = loadMe(kept);
  assert.deepEqual(loadMe(kept), first);
  saveMe(kept, { name: "Ada", color: "#4f56d6" });
  assert.deepEqual(loadMe(kept), { name: "Ada", color: "#4f56d6" });
});

test("storage that is broken or forbidden gives a new name", () => {
  const forbidden = {
    getItem() {
      throw new Error("SecurityError");
    },
    setItem() {
      throw new Error("SecurityError");
    },
  };
  assert.notEqual(loadMe(forbidden).name, "");
  const broken = storage();
  broken.setItem("quire.me", '{"name": 7');
  assert.notEqual(loadMe(broken).name, "");
});

test("a state that is not a person's is shown as someone", () => {
  const states = new Map([
    [1, { user: { name: "Me", color: "#000000" } }],
    [2, { user: { name: "Grace", color: "#b8357f" } }],
    [3, { user: { name: "Mallory", color: "red; background: url(//x)" } }],
    [4, { user: 5 }],
    [5, {}],
  ]);
  const seen = others({ clientID: 1, getStates: () => states });
  assert.deepEqual(
    seen.map(({ name }) => name),
    ["Grace", "Someone", "Someone", "Someone"],
  );
  for (const { color } of seen) assert.match(color, /^#[0-9a-f]{6}$/);
});

test("names are one line and short; initials take whole letters", () => {
  assert.equal(cleanName("  Ada\n Lovelace "), "Ada Lovelace");
  assert.equal([...cleanName("🚀".repeat(90))].length, 40);
  assert.equal(initials("Ada King Lovelace"), "AL");
  assert.equal(initials("🚀 man"), "🚀M");
  assert.equal(initials(""), "?");
});
