// A schema that changes while three regions run and people write; and one that differs: `quire status` and
// /healthz/peers name the collection, the field and what differs, at both ends.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { openEditors, write } from "../harness/editors.mjs";
import { assertEqual, untilEqual } from "../harness/equal.mjs";
import { runQuire, temporaryDirectory } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";

const schema = (title) => `
[[collections]]
name = "tasks"
pattern = "tasks/*"
[collections.fields.title]
type = "string"
policy = "${title}"
`;
const OLD = schema("lww");
/** One policy is another, and a field is new. */
const NEW = `${schema("text3")}
[collections.fields.due]
type = "timestamp"
policy = "max"
`;

/** The file that all regions of a cluster are started with, and its schema's hash each time it is written. */
async function configuration(t) {
  const file = path.join(await temporaryDirectory(t), "quire.toml");
  const save = async (text) => {
    await writeFile(file, text);
    const { code, stdout, stderr } = await runQuire("schema", "hash", "--config", file);
    assert.deepEqual([code, stderr], [0, ""]);
    return stdout.trim();
  };
  return { file, save };
}

/** Somebody who writes without a pause, each time once the last time is saved. */
class Pen {
  written = 0;
  #stopped = false;
  #done;

  constructor(editor) {
    this.editor = editor;
    this.#done = this.#write();
  }

  async #write() {
    const { doc, text } = this.editor;
    const fields = doc.getMap("fields");
    while (!this.#stopped) {
      doc.transact(() => {
        fields.set("title", `${doc.clientID}: ${this.written}`);
        if (this.written % 3 === 0) fields.set("due", this.written);
        text.insert(0, "x");
      });
      await this.editor.saved();
      this.written += 1;
    }
  }

  async stop() {
    this.#stopped = true;
    await this.#done;
  }
}

/** Waits until each of these has had so many more writes saved. */
async function untilMore(pens, count, what) {
  const before = pens.map(({ written }) => written);
  await until(`everybody writes on ${what}`, () => pens.every(({ written }, at) => written >= before[at] + count));
}

const schemasOf = async (cluster) =>
  (await Promise.all(cluster.regions.map((_, at) => cluster.status(at)))).flatMap(({ region, peers }) => [region.schema, ...peers.map((peer) => peer.schema)]);

test("a schema change rolls through three running regions while people write in all of them", async (t) => {
  const { file, save } = await configuration(t);
  const old = await save(OLD);
  const cluster = await startCluster(t, 3, SHAPES.mesh(3), { args: ["--config", file] });
  await cluster.linked();
  assert.deepEqual([...new Set(await schemasOf(cluster))], [old]);
  const editors = cluster.regions.map((region) => openEditors(t, region, "tasks/1", 2));
  await Promise.all(editors.flat().map((editor) => editor.synced()));
  const pens = editors.map((here) => here.map((editor) => new Pen(editor)));

  const roll = async (text) => {
    const hash = await save(text);
    for (const [at, region] of cluster.regions.entries()) {
      const others = pens.filter((_, other) => other !== at).flat();
      assert.deepEqual(await region.kill("SIGTERM"), { code: 0, signal: null });
      await untilMore(others, 3, `while region ${at} is down`);
      await region.restart();
      await cluster.linked();
      assert.equal((await cluster.status(at)).region.schema, hash);
      // Two of three pairs have different schemas by now, or had.
      await untilMore(pens.flat(), 3, `once region ${at} has ${hash}`);
      for (const other of cluster.regions.keys()) {
        const { peers } = await cluster.status(other);
        assert.deepEqual(peers.filter(({ linked, problem }) => !linked || problem), [], `as region ${other} sees it`);
      }
    }
    assert.deepEqual([...new Set(await schemasOf(cluster))], [hash]);
    return hash;
  };
  const rolled = await roll(`previous-schema = ["${old}"]\n${NEW}`);
  assert.notEqual(rolled, old);
  // The roll ends: nobody gets on with the old schema any more.
  assert.equal(await roll(NEW), rolled);

  await Promise.all(pens.flat().map((pen) => pen.stop()));
  const docs = editors.flat().map(({ doc }) => doc);
  await untilEqual(docs);
  await cluster.settled();
  assertEqual([docs[0], ...(await Promise.all(cluster.regions.map((region) => storedDoc(region, "tasks/1"))))]);
  const written = pens.flat().reduce((sum, pen) => sum + pen.written, 0);
  assert.equal(docs[0].getText("content").length, written, "each write was saved once");
  for (const { closes } of editors.flat()) {
    // A region that goes says so, and comes back: nothing that a retry cannot help.
    assert.ok(closes.every(({ code }) => code === undefined || code < 4400), JSON.stringify(closes));
  }
});

test("regions whose schemas differ have no link, both ends name the field, and each serves its own", async (t) => {
  const { file, save } = await configuration(t);
  const old = await save(OLD);
  const cluster = await startCluster(t, 2, SHAPES.mesh(2), { args: ["--config", file] });
  const [listener, dialler] = cluster.regions;
  await cluster.linked();
  await save(NEW);
  await dialler.kill("SIGTERM");
  await dialler.restart();

  const remedy = "give both regions one schema, or name the other's as previous-schema: see schema.md";
  const told = async (at, other, [due, title]) => {
    const region = cluster.regions[at];
    const pair = `region ${at + 1} and region ${other + 1}: schema`;
    const cause = `the schemas differ: collection \`tasks\`, field \`due\`: only ${due}; collection \`tasks\`, field \`title\`: policy ${title}`;
    const answer = await until(`${pair} is told of`, async () => {
      const answer = await fetch(`${region.http}/healthz/peers`);
      const text = await answer.text();
      return text.includes(`${pair}:`) && { code: answer.status, text };
    });
    assert.deepEqual(answer, { code: 503, text: `${pair}: ${cause}; ${remedy}\n` });
    const { stdout } = await runQuire("status", "--url", region.http);
    assert.ok(stdout.endsWith(`\n${pair}\n  cause   ${cause}\n  remedy  ${remedy}\n`), stdout);
  };
  await told(1, 0, ["here", "text3 here, lww there"]);
  await told(0, 1, ["there", "lww here, text3 there"]);
  await until("it was refused again and again", async () => {
    const metrics = await (await fetch(`${listener.http}/metrics`)).text();
    return Number(/^quire_peers_refused_total\{reason="schema"\} (\d+)$/m.exec(metrics)?.[1]) > 2;
  });
  assert.equal(listener.log.match(/a peer was refused/g).length, 1, "the log says it once");
  for (const [at, region] of cluster.regions.entries()) {
    assert.equal((await fetch(`${region.http}/readyz`)).status, 200);
    await write(t, region, "tasks/1", `${at}`);
  }

  await save(`previous-schema = ["${old}"]\n${NEW}`);
  await dialler.kill("SIGTERM");
  await dialler.restart();
  await cluster.linked();
  await cluster.settled();
  const texts = await Promise.all(cluster.regions.map(async (region) => (await storedDoc(region, "tasks/1")).getText("content").toString()));
  assert.ok(texts[0].length === 2 && texts[0] === texts[1], texts.join());
  for (const region of cluster.regions) assert.equal((await fetch(`${region.http}/healthz/peers`)).status, 200);
});
