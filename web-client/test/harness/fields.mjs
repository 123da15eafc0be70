// One document's fields in several regions: stock Yjs editors write them while no region reaches another, and then all do.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { SHAPES, startCluster } from "./cluster.mjs";
import { DIALECTS, openEditor } from "./editors.mjs";
import { temporaryDirectory } from "./server.mjs";
import { until } from "./until.mjs";

/**
 * Linked regions and an editor in each of the first `editors` of them, of different dialects, who have all seen `before`.
 * `schema` is TOML; `conditions` and `args` go to the regions; `tokens` has those of the editors.
 */
export async function editorsOf(t, name, before, { schema, regions = 2, editors: count = regions, args = [], conditions, tokens = [] }) {
  const file = path.join(await temporaryDirectory(t), "quire.toml");
  await writeFile(file, schema);
  const cluster = await startCluster(t, regions, SHAPES.mesh(regions), { args: ["--config", file, ...args], conditions, token: tokens[0] });
  await cluster.linked();
  const editors = cluster.regions
    .slice(0, count)
    .map((region, at) => openEditor(t, region, DIALECTS[at % DIALECTS.length], name, { token: tokens[at] }));
  await Promise.all(editors.map((editor) => editor.synced()));
  const world = new Fields(cluster, name, editors);
  const [first, ...others] = world.fields;
  for (const [key, value] of Object.entries(before)) first.set(key, value);
  await until("all have seen what was before", () => others.every((map) => Object.keys(before).every((key) => map.has(key))));
  await editors[0].saved();
  return world;
}

class Fields {
  #name;

  constructor(cluster, name, editors) {
    this.cluster = cluster;
    this.editors = editors;
    /** What each editor sees. */
    this.fields = editors.map(({ doc }) => doc.getMap("fields"));
    this.#name = name;
  }

  /** From here on no region reaches another. */
  part() {
    this.cluster.wires.forEach(({ wire }) => wire.cut());
  }

  /** From here on all do; waits until they have the same. */
  async meet() {
    this.cluster.wires.forEach(({ wire }) => wire.heal());
    await this.cluster.linked();
    await this.cluster.settled();
  }

  /** Each does this while no region reaches the other, one after the other; then they do, and have all. */
  async apart(...acts) {
    this.part();
    for (const [at, act] of acts.entries()) {
      this.editors[at].doc.transact(() => act(this.fields[at]));
      await this.editors[at].saved();
    }
    await this.meet();
  }

  /** Where a region serves the document, its fields, or one of them. */
  at(region, rest = "") {
    return `${this.document(region)}/fields${rest}`;
  }

  document(region, rest = "") {
    return `${this.cluster.regions[region].http}/v1/docs/${encodeURIComponent(this.#name)}${rest}`;
  }

  /** What a region says of a field. */
  async field(region, key) {
    return this.#get(this.at(region, `/${encodeURIComponent(key)}`));
  }

  /** What a region has on record of the document's conflicts, each without the number of its last change there. */
  async conflicts(region, query = "status=all") {
    const all = await this.#get(`${this.cluster.regions[region].http}/v1/conflicts?document=${encodeURIComponent(this.#name)}&${query}`);
    assert.equal(all.next, undefined, "there is one page");
    return all.conflicts.map(({ change, ...conflict }) => {
      assert.ok(Number.isSafeInteger(change), `${change}`);
      return conflict;
    });
  }

  async #get(url) {
    const response = await fetch(url, { headers: this.cluster.headers });
    assert.ok(response.ok, `${response.status} ${await response.clone().text()}`);
    return response.json();
  }

  /** Waits until all editors show a value, and checks that all regions say the same. */
  async agreed(key, isIt) {
    const { fields } = this;
    const short = (value) => JSON.stringify(value)?.slice(0, 500);
    await until(
      () => `all editors show ${key}: ${fields.map((map) => short(map.get(key)))}`,
      () => fields.every((map) => isIt(map.get(key)) && JSON.stringify(map.get(key)) === JSON.stringify(fields[0].get(key))),
    );
    await this.cluster.settled();
    const said = await Promise.all(this.cluster.regions.map((_, region) => this.field(region, key)));
    for (const other of said) assert.deepEqual(other, said[0]);
    assert.ok(isIt(said[0].value), short(said[0]));
    return said[0];
  }

  /** Waits until all regions have the same on record, and that is what is wanted. */
  async onRecord(query, isIt) {
    let said;
    await until(
      () => `all regions have on record what is wanted: ${JSON.stringify(said).slice(0, 4_000)}`,
      async () => {
        said = await Promise.all(this.cluster.regions.map((_, region) => this.conflicts(region, query)));
        return said.every((one) => JSON.stringify(one) === JSON.stringify(said[0])) && isIt(said[0]);
      },
    );
    return said[0];
  }
}

export const is = (expected) => (found) => JSON.stringify(found) === JSON.stringify(expected);

export const hasAll =
  (...expected) =>
  (found) =>
    Array.isArray(found) && found.length === expected.length && expected.every((one) => found.includes(one));

export const send = (method, url, body, headers = {}) =>
  fetch(url, { method, body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } });

export const post = (url, body, headers = {}) => send("POST", url, body, headers);
