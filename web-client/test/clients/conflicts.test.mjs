// What regions have on record of conflicts, from their beginning to their end, the third region too, where nobody has the
// document open.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { editorsOf, is, post, send } from "../harness/fields.mjs";
import { temporaryDirectory } from "../harness/server.mjs";
import { SECRET, token } from "../harness/token.mjs";
import { until } from "../harness/until.mjs";

const SCHEMA = `
[[collections]]
name = "tasks"
pattern = "tasks/*"
[[collections]]
name = "kept"
pattern = "kept/*"
on-delete = "delete_wins"
`;

/** Three regions with an editor in the first two, who have both seen the topic. */
const three = (t, name, options = {}) => editorsOf(t, name, { topic: "base" }, { schema: SCHEMA, regions: 3, editors: 2, ...options });

const set = (value) => (fields) => fields.set("topic", value);
const values = ({ versions }) => versions.map(({ value }) => value).sort();

/** Both editors are shown the conflict, so that what they write next has seen it. */
const told = (world, id) =>
  until("both editors are told of the conflict", () => world.fields.every((fields) => fields.get("__conflicts")?.get("topic")?.id === id));

test("a conflict is listed as open in every region, and once it is resolved with who did it, when and how", async (t) => {
  const keyFile = path.join(await temporaryDirectory(t), "jwt.key");
  await writeFile(keyFile, SECRET);
  const tokens = ["ann", "ben"].map((who) => token({ "**": "write" }, 600, SECRET, who));
  const world = await three(t, "tasks/whole", { tokens, args: ["--auth", "jwt", "--jwt-key-file", keyFile] });
  await world.apart(set("here"), set("there"));
  const [open, ...others] = await world.onRecord("status=open", (all) => all.length > 0);
  assert.deepEqual(others, []);
  const { conflict_id: id, versions } = await world.field(2, "topic");
  assert.equal(open.id, id);
  assert.deepEqual([open.document, open.field, open.kind, open.policy, open.status], ["tasks/whole", "topic", "write", "siblings", "open"]);
  assert.deepEqual(open.versions, versions);
  assert.deepEqual(versions.map(({ author, origin }) => `${author} in ${origin}`).sort(), ["ann in region-0", "ben in region-1"]);
  assert.deepEqual(open.base, { value: "base" });
  assert.equal(open.since_ms, Math.max(...versions.map(({ timestamp }) => timestamp)));

  await told(world, id);
  world.fields[1].set("topic", "settled");
  await world.agreed("topic", is("settled"));
  const [over] = await world.onRecord("status=resolved", (all) => all.length === 1);
  const { resolved, ...rest } = over;
  assert.deepEqual(rest, { ...open, status: "resolved" });
  const { timestamp, ...by } = resolved;
  assert.deepEqual(by, { value: "settled", author: "ben", origin: "region-1", replica: 2 });
  assert.ok(timestamp > open.since_ms, "it ended after it had begun");
  assert.deepEqual(await world.onRecord("status=open,merged", () => true), []);
});

test("two resolutions at once are a conflict of their own; the one that they end is history", async (t) => {
  const world = await three(t, "tasks/twice");
  await world.apart(set("here"), set("there"));
  const [first] = await world.onRecord("status=open", (all) => all.length === 1);
  await told(world, first.id);
  await world.apart(set("mine"), set("yours"));
  const [second] = await world.onRecord("status=open", ([one]) => one !== undefined && one.id !== first.id);
  assert.deepEqual(values(second), ["mine", "yours"]);
  const [over] = await world.onRecord("status=resolved", (all) => all.length === 1);
  assert.equal(over.id, first.id);
  assert.deepEqual(values(over), ["here", "there"]);
  const earliest = second.versions[0];
  assert.deepEqual([over.resolved.value, over.resolved.origin], [earliest.value, earliest.origin], "whoever was first ended it");
  // Over HTTP in the region where nobody has it open.
  const resolved = await post(world.at(2, "/topic/resolve"), { conflict: second.id, value: "ours" });
  assert.equal(resolved.status, 200, await resolved.clone().text());
  const all = await world.onRecord("status=resolved", (all) => all.length === 2);
  assert.deepEqual(all.map(({ id, resolved }) => [id, resolved.value]), [
    [second.id, "ours"],
    [first.id, over.resolved.value],
  ]);
  assert.equal(all[0].resolved.origin, "region-2");
});

test("sixteen versions are one conflict, on record once; a region that is killed at once has it after its restart", async (t) => {
  const world = await three(t, "tasks/many");
  await world.cluster.settled();
  const { version } = await world.field(0, "topic");
  world.part();
  for (let i = 0; i < 16; i++) {
    const taken = await send("PATCH", world.at(i % 2), { fields: { topic: { value: `v${i}`, version } } });
    assert.equal(taken.status, 200, await taken.clone().text());
  }
  await world.meet();
  const killed = world.cluster.regions[1];
  await killed.kill("SIGKILL");
  await killed.restart();
  await world.cluster.linked();
  const all = await world.onRecord("status=all", ([one]) => one?.versions.length === 16);
  assert.equal(all.length, 1, "smaller ones on the way to it have left nothing");
  assert.equal(new Set(values(all[0])).size, 16);
  assert.deepEqual(all[0].base, { value: "base" });

  await told(world, all[0].id);
  world.fields[0].set("topic", "settled");
  await world.agreed("topic", is("settled"));
  for (const region of world.cluster.regions) await region.kill("SIGKILL");
  for (const region of world.cluster.regions) await region.restart();
  await world.cluster.linked();
  const [over] = await world.onRecord("status=all", ([one]) => one?.status === "resolved");
  assert.deepEqual([over.id, over.versions, over.resolved.value], [all[0].id, all[0].versions, "settled"]);
});

for (const [name, policy, isRevived] of [
  ["tasks/deleted", "revive", true],
  ["kept/deleted", "delete_wins", false],
]) {
  test(`a deletion against an edit is on record in every region until somebody restores the document (${policy})`, async (t) => {
    const world = await three(t, name);
    await world.cluster.settled();
    world.part();
    const deleted = await fetch(world.document(0), { method: "DELETE" });
    assert.ok(deleted.ok, `${deleted.status}`);
    world.fields[1].set("topic", "edited");
    await world.editors[1].saved();
    await world.meet();
    const all = await world.onRecord("status=open", (all) => all.length > 0);
    assert.equal(all.length, 1);
    const [open] = all;
    assert.deepEqual([open.kind, open.policy, open.document, open.revived], ["delete", policy, name, isRevived]);
    assert.deepEqual(open.deletions.map(({ replica }) => replica), [1]);
    assert.deepEqual(open.edits.map(({ replica }) => replica), [2]);
    for (let region = 0; region < 3; region++) {
      const { deleted, revived } = await (await fetch(world.document(region))).json();
      assert.deepEqual([deleted, revived ?? false], [!isRevived, isRevived], `region ${region}`);
    }

    const restored = await post(world.document(2, "/restore"));
    assert.ok(restored.ok, `${restored.status} ${await restored.clone().text()}`);
    await world.cluster.settled();
    const [over] = await world.onRecord("status=all", ([one]) => one?.resolved !== undefined);
    assert.deepEqual([over.id, over.status, over.resolved.replica], [open.id, "resolved", 3]);
    for (let region = 0; region < 3; region++) assert.equal((await world.field(region, "topic")).value, "edited");
  });
}
