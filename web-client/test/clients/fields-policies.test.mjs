// Policies that need more than two values: a clock that is wrong, an order, a script of somebody's own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { clockAheadBy } from "../harness/clock.mjs";
import { editorsOf, is } from "../harness/fields.mjs";
import { until } from "../harness/until.mjs";

const SCHEMA = `
[[collections]]
name = "tasks"
pattern = "tasks/*"
[collections.fields.owner]
policy = "lww"
[collections.fields.due]
type = "timestamp"
policy = "min"
[collections.fields.labels]
policy = "custom"
script = '''
fn merge(base, versions) {
    let best = versions[0].value;
    for version in versions {
        if version.value.len() > best.len() { best = version.value; }
    }
    best
}
'''
[collections.fields.endless]
policy = "custom"
script = "fn merge(base, versions) { while true {} }"
[collections.fields.growing]
policy = "custom"
script = '''
fn merge(base, versions) {
    let text = "x";
    while true { text += text; }
}
'''
`;

for (const ahead of [0, 1]) {
  test(`with 10 s between two clocks, the last write of region ${ahead}, which is ahead, stands; the other's is on record`, async (t) => {
    const conditions = [{}, {}];
    conditions[ahead] = await clockAheadBy(t, 10);
    const two = await editorsOf(t, "tasks/clocks", { owner: "ann" }, { schema: SCHEMA, conditions });
    await until("the clocks are known to differ", async () => {
      const [{ clock_offset_ms }] = (await two.cluster.status(0)).peers;
      return Math.abs(Math.abs(clock_offset_ms) - 10_000) < 1_000;
    });
    // Who is behind writes last: by a clock on the wall it would win.
    const write = async (at, value) => {
      two.fields[at].set("owner", value);
      await two.editors[at].saved();
    };
    two.part();
    await write(ahead, "first");
    await write(1 - ahead, "second");
    await two.meet();
    const owner = await two.agreed("owner", is("first"));
    assert.deepEqual([owner.conflict, owner.conflict_id], [false, undefined]);
    assert.deepEqual(owner.versions.map(({ value }) => value), ["second", "first"]);

    const [merged] = await two.onRecord("status=merged", (all) => all.length === 1);
    assert.match(merged.id, /^[0-9a-f]{32}$/);
    assert.deepEqual([merged.field, merged.policy, merged.kind, merged.value], ["owner", "lww", "write", "first"]);
    assert.deepEqual(merged.versions, owner.versions);
    assert.deepEqual(merged.base, { value: "ann" });
    assert.equal(merged.resolved, undefined, "nobody has written it since");
    // The next write leaves it on record, and says by whom it was ended.
    two.fields[0].set("owner", "third");
    await two.agreed("owner", is("third"));
    const [over] = await two.onRecord("status=merged", ([one]) => one?.resolved !== undefined);
    const { resolved, ...rest } = over;
    assert.deepEqual(rest, merged);
    assert.deepEqual([resolved.value, resolved.origin, resolved.replica], ["third", "region-0", 1]);
    assert.deepEqual(await two.onRecord("status=open,resolved", () => true), []);
  });
}

test("min and a script merge; a script that is stopped leaves versions, and says at which of its limits", async (t) => {
  const before = { due: 500, labels: [], endless: 0, growing: "" };
  const two = await editorsOf(t, "tasks/scripts", before, { schema: SCHEMA });
  await two.apart(
    (fields) => {
      fields.set("due", 300);
      fields.set("labels", ["one", "two"]);
      fields.set("endless", 1);
      fields.set("growing", "a");
    },
    (fields) => {
      fields.set("due", 400);
      fields.set("labels", ["three"]);
      fields.set("endless", 2);
      fields.set("growing", "b");
    },
  );
  const due = await two.agreed("due", is(300));
  const labels = await two.agreed("labels", is(["one", "two"]));
  assert.deepEqual([due.conflict, labels.conflict], [false, false]);
  const endless = await two.agreed("endless", (found) => found === 1 || found === 2);
  const growing = await two.agreed("growing", (found) => found === "a" || found === "b");
  assert.deepEqual([endless.conflict, growing.conflict], [true, true]);
  assert.match(endless.reason, /^the script was stopped after \d+ operations$/);
  assert.match(growing.reason, /^the script was stopped: it made a value of more than \d+ bytes/);
  assert.deepEqual(endless.versions.map(({ value }) => value).sort(), [1, 2]);
  assert.deepEqual(growing.versions.map(({ value }) => value).sort(), ["a", "b"]);

  const open = await two.onRecord("status=open", (all) => all.length === 2);
  assert.deepEqual(open.map(({ field, policy, reason }) => [field, policy, reason]).sort(), [
    ["endless", "custom", endless.reason],
    ["growing", "custom", growing.reason],
  ]);
  const merged = await two.onRecord("status=merged", (all) => all.length === 2);
  assert.deepEqual(merged.map(({ field, value }) => [field, value]).sort(), [
    ["due", 300],
    ["labels", ["one", "two"]],
  ]);
  // Editors are told why, too.
  await until("both editors are told", () => two.fields.every((fields) => fields.get("__conflicts")?.get("endless")?.reason === endless.reason));
});
