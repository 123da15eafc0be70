// Random histories of stock Yjs documents in two regions that are parted and joined, against an oracle that was told by
// every writer what it saw: what is concurrent is reported, what is not is not, and the base is exact.
//
// Editors have no socket: they post what they wrote and read all there is, when they are on line. A region that has been
// sent something is waited for before it is sent more, so that it is known what each write-back renders; an editor does
// not wait, and writes on what it is shown, be that a write-back or what it is to come on.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { Knowledge, Oracle, ROOT, nameOf, tailOf, toldOf } from "../harness/fields-oracle.mjs";
import { randomFrom } from "../harness/random.mjs";
import { until } from "../harness/until.mjs";

const SEED = Number(process.env.QUIRE_FIELDS_SEED || Math.floor(Math.random() * 2 ** 31));
const HISTORIES = Number(process.env.QUIRE_FIELDS_HISTORIES || 120);
/** Documents that live at the same time, so that a parting is for all of them. */
const BATCH_MAX = 60;
const REGIONS = [0, 1];
const SEEDED = ["title", "status", "nest/city"];
/** Keys that nobody has written before the editors do. */
const UNSEEDED = ["tags", "nest/zip"];
const PLACES = [...SEEDED, ...UNSEEDED];
/** A field that is the map of others. */
const NEST = "nest";

class History {
  acts = [];
  editors = [];
  oracle = new Oracle();
  /** What each region was sent. */
  knows = REGIONS.map(() => new Knowledge());
  isCut = false;
  #written = 0;
  compared = { fields: 0, conflicts: 0, siblings: 0, bases: 0, severalBases: 0, loose: 0 };

  constructor(cluster, at) {
    this.cluster = cluster;
    this.name = `history/${SEED}/${at}`;
    this.random = randomFrom(SEED + Math.imul(at, 0x9e3779b1));
    /** In the other half nothing is deleted, but by undoing. */
    this.deletes = this.random.chance(0.5);
  }

  /** Somebody makes the document in one of the regions, and everybody has it. */
  async begin() {
    const { random } = this;
    const maker = this.#editor(random.below(2));
    this.#write(maker, "make", () => {
      const nest = new Y.Map();
      root(maker).set(NEST, nest);
      for (const place of SEEDED) put(maker, place, this.#value());
    });
    await this.#push(maker);
    const home = await fetch(this.#at(maker.region, "home"), {
      method: "PUT",
      body: JSON.stringify({ replica: 1 + random.below(2) }),
      headers: { "content-type": "application/json" },
    });
    assert.ok(home.ok, `${home.status}`);
    await this.writtenBack(0);
    this.editors = REGIONS.flatMap((region) => Array.from({ length: 2 + random.below(2) }, () => this.#editor(region)));
    for (const editor of this.editors) await this.#pull(editor);
  }

  /** Editors do one thing after the other, in an order that chance makes. */
  async goOn(steps) {
    const { random } = this;
    for (let step = 0; step < steps; step++) {
      const editor = random.pick(this.editors);
      const chance = random.below(20);
      if (chance < 11) this.#edit(editor);
      else if (chance < 15) await this.#push(editor);
      else if (chance < 19) await this.#pull(editor);
      else this.#clone(editor);
    }
  }

  /** Everybody sends what they have. */
  async pushAll() {
    for (const editor of this.editors) await this.#push(editor);
  }

  #edit(editor) {
    const { random } = this;
    const place = random.pick(PLACES);
    const chance = random.below(this.deletes ? 20 : 16);
    const set = (at) => put(editor, at, this.#value());
    if (chance < 9) this.#write(editor, `set ${place}`, () => set(place));
    else if (chance < 11) this.#write(editor, "set several", () => PLACES.filter(() => random.chance(0.5)).forEach(set));
    else if (chance < 12) this.#write(editor, `set ${place} twice`, () => [place, place].forEach(set));
    else if (chance < 15) this.#write(editor, "undo", () => editor.undo.undo(), false);
    else if (chance < 16) this.#write(editor, "redo", () => editor.undo.redo(), false);
    else if (chance < 19) this.#write(editor, `delete ${place}`, () => mapOf(editor, place).delete(keyOf(place)));
    else {
      // No write-back can show a shared type.
      this.oracle.loosen("title");
      this.#write(editor, "set title to a map", () => root(editor).set("title", new Y.Map([["value", this.#value()]])));
    }
  }

  #value() {
    return `v${++this.#written}`;
  }

  /** An editor does something, and tells the oracle what it saw. */
  #write(editor, what, act, inOne = true) {
    const { doc } = editor;
    const before = PLACES.map((place) => ({ place, tail: shownAt(doc, place), held: this.oracle.heldBy(doc, place) }));
    const sent = editor.outbox.length;
    if (inOne) doc.transact(act);
    else act();
    for (const { place, tail, held } of before) {
      const after = shownAt(doc, place);
      if (tail && !after) this.oracle.loosen(place);
      if (tail && tail.name !== after?.name) this.oracle.replaced(place, tail, held, { isDeleted: !after });
    }
    this.acts.push(`${editor.name}: ${what}${editor.outbox.length === sent ? " (nothing)" : ""} -> ${show(doc)}`);
  }

  #editor(region, from) {
    const doc = new Y.Doc();
    do doc.clientID = 2 + this.random.below(2 ** 31);
    while (this.oracle.editors.has(doc.clientID));
    this.oracle.editors.add(doc.clientID);
    if (from) Y.applyUpdate(doc, from);
    const undo = new Y.UndoManager(doc.getMap(ROOT), { captureTimeout: 0 });
    const editor = { name: `${doc.clientID}@${region}`, doc, region, undo, outbox: [] };
    doc.on("update", (update, _origin, _doc, { local }) => {
      if (!local) return;
      editor.outbox.push(update);
      this.oracle.hear(update);
    });
    return editor;
  }

  /** Another document that has all that an editor has goes on, in its place or beside it. */
  #clone(editor) {
    const all = Y.encodeStateAsUpdate(editor.doc);
    const clone = this.#editor(editor.region, all);
    clone.outbox.push(all);
    this.acts.push(`${editor.name}: cloned as ${clone.name}`);
    if (this.random.chance(0.5)) this.editors.push(clone);
    else this.editors[this.editors.indexOf(editor)] = clone;
  }

  /** Sends what an editor has written: one by one, as one, or as the whole document. */
  async #push(editor) {
    if (editor.outbox.length === 0) return;
    const updates = editor.outbox.splice(0);
    const way = this.random.pick(["each", "merged", "whole"]);
    this.acts.push(`${editor.name}: pushes ${way}`);
    if (way === "each") for (const update of updates) await this.#send(editor.region, update);
    else await this.#send(editor.region, way === "merged" ? Y.mergeUpdates(updates) : Y.encodeStateAsUpdate(editor.doc));
  }

  async #send(region, update) {
    if (this.knows[region].known.size > 0) await this.writtenBack(region);
    const response = await fetch(this.#at(region, "update"), {
      method: "POST",
      body: update,
      headers: { "content-type": "application/octet-stream" },
    });
    assert.ok(response.ok, `${this.story()}\n${response.status}: ${await response.text()}`);
    const told = this.isCut ? [region] : REGIONS;
    for (const at of told) this.knows[at].take(update, this.oracle);
    await this.compare(region);
  }

  async #pull(editor) {
    const state = await this.#state(editor.region);
    if (!state) return;
    // Without an origin the undo manager would take it for an edit.
    Y.applyUpdate(editor.doc, state, "the region");
    this.#shown(editor.doc, editor.region);
    this.acts.push(`${editor.name}: pulls -> ${show(editor.doc)}`);
  }

  #shown(doc, region) {
    for (const place of PLACES) {
      const tail = tailOf(doc, place);
      if (tail && this.oracle.isOfRegion(tail)) this.oracle.shown(tail, place, this.knows[region].known);
    }
  }

  /** Waits until a region, or both where they reach each other, have written back whatever they must. */
  async writtenBack(region) {
    const regions = this.isCut ? [region] : REGIONS;
    let why;
    await until(
      () => `${why}\n${this.story()}`,
      async () => {
        const docs = [];
        for (const at of regions) {
          const state = await this.#state(at);
          if (!state) return false;
          docs.push(docOf(state));
        }
        const [first, second] = docs.map((doc) => JSON.stringify([...Y.decodeStateVector(Y.encodeStateVector(doc))].sort()));
        if (second !== undefined && first !== second) return (why = "the regions are different"), false;
        const late = [...this.#exact(region)].find((place) => !this.#isWrittenBack(docs[0], place, region));
        why = `${late} is not written back in ${region}: ${JSON.stringify(docs[0].getMap(ROOT))}`;
        if (late !== undefined) return false;
        this.#shown(docs[0], region);
        return true;
      },
    );
  }

  #isWrittenBack(doc, place, region) {
    const siblings = this.oracle.siblings(place, this.knows[region].known);
    const tail = tailOf(doc, place);
    const told = toldOf(doc, place);
    if (!tail || tail.deleted) return false;
    if (siblings.length === 1) return nameOf(tail) === siblings[0] && told === undefined;
    const values = this.#values(siblings);
    const isTold = isConflict(values) ? told !== undefined && same(told.sort(), values) : told === undefined;
    if (!isTold || !this.oracle.isOfRegion(tail)) return false;
    return same(this.oracle.rendered(tail) ?? siblings, siblings);
  }

  #values(names) {
    return names.map((name) => this.oracle.writes.get(name).value).sort();
  }

  /** The fields of which the oracle knows everything. */
  *#exact(region) {
    for (const place of this.oracle.places(this.knows[region].known)) {
      if (place !== NEST && !this.oracle.loose.has(place) && PLACES.includes(place)) yield place;
    }
  }

  /** What a region says of each field, against what its writers knew. */
  async compare(region) {
    const { fields } = await (await fetch(this.#at(region, "fields"))).json();
    for (const place of this.oracle.places(this.knows[region].known)) {
      if (!PLACES.includes(place)) continue;
      try {
        if (this.#isUnseen(region, place)) this.oracle.loosen(place);
        if (this.oracle.loose.has(place)) this.#compareLoose(region, place, fields[place]);
        else this.#compareExact(region, place, fields[place]);
      } catch (error) {
        throw new Error(`${place} in region ${region}: ${error.message}\nit says ${JSON.stringify(fields[place])}\n${this.story()}`);
      }
    }
    return fields;
  }

  /** An editor may have let go of what it wrote, on seeing what won against it, before it sent it: that is gone for all. */
  #isUnseen(region, place) {
    const { known, valued } = this.knows[region];
    return this.oracle.siblings(place, known).some((name) => !valued.has(name));
  }

  #compareExact(region, place, said) {
    const { known, valued } = this.knows[region];
    const siblings = this.oracle.siblings(place, known);
    const values = this.#values(siblings);
    this.compared.fields++;
    this.compared.siblings += siblings.length;
    const found = said.versions?.map(({ value }) => value).sort() ?? [said.value];
    assert.deepEqual(found, values, "the siblings");
    assert.equal(said.conflict, isConflict(values), "whether there is a conflict");
    assert.ok(values.includes(said.value), "one of them is shown");
    assert.equal(said.base !== undefined, siblings.length > 1, "whether there is a base");
    if (siblings.length === 1) return;
    this.compared.conflicts += said.conflict ? 1 : 0;
    const nearest = this.oracle.nearestCommon(siblings);
    if (nearest.length > 1) {
      this.compared.severalBases++;
      assert.ok(said.base.unknown || this.#values(nearest).includes(said.base.value), "the base, of several");
      return;
    }
    const left = (name) => (valued.has(name) ? { value: this.oracle.writes.get(name).value } : { unknown: true });
    assert.deepEqual(said.base, nearest.length === 0 ? { absent: true } : left(nearest[0]), "the base");
    this.compared.bases++;
  }

  /** Nothing is missing that nobody replaced, and nothing is reported that somebody did. */
  #compareLoose(region, place, said) {
    this.compared.loose++;
    const siblings = this.oracle.siblings(place, this.knows[region].known);
    const { valued } = this.knows[region];
    const plain = (name) => this.oracle.writes.get(name).value !== undefined && valued.has(name);
    const found = (said?.versions ?? [said ?? {}]).map(({ value }) => value).filter((value) => typeof value === "string");
    const wanted = this.#values(siblings.filter((name) => plain(name) && !this.oracle.mayBeGone(name)));
    for (const value of wanted) assert.ok(found.includes(value), `${value} is missing`);
    // Of a write without a value nothing is shown, but what Yjs shows.
    if (this.#isUnseen(region, place)) return;
    const standing = this.#values(siblings.filter(plain));
    for (const value of found) assert.ok(standing.includes(value), `${value} has been replaced`);
  }

  /** Both regions know everything, and say the same. */
  async joined() {
    const [here, there] = this.knows;
    here.join(there);
    there.join(here);
    this.isCut = false;
    this.acts.push("the regions are joined");
    // Of equal siblings nobody is told, so nobody can tell whether their write-back had seen all of them.
    for (const place of [...this.#exact(0)]) {
      const siblings = this.oracle.siblings(place, here.known);
      if (siblings.length > 1 && !isConflict(this.#values(siblings))) this.oracle.loosen(place);
    }
    const said = [];
    for (const region of REGIONS) said.push(await this.compare(region));
    assert.deepEqual(said[0], said[1], `the regions say the same\n${this.story()}`);
    await this.writtenBack(0);
  }

  parted() {
    this.isCut = true;
    this.acts.push("the regions are parted");
  }

  async #state(region) {
    const response = await fetch(this.#at(region, "update"));
    const bytes = new Uint8Array(await response.arrayBuffer());
    return response.ok ? bytes : undefined;
  }

  #at(region, what) {
    return `${this.cluster.regions[region].http}/v1/docs/${encodeURIComponent(this.name)}/${what}`;
  }

  story() {
    return `--- ${this.name} (QUIRE_FIELDS_SEED=${SEED}) ---\n${this.acts.join("\n")}`;
  }
}

/** The item whose value is shown at a place. */
function shownAt(doc, place) {
  const tail = tailOf(doc, place);
  return tail && !tail.deleted ? { name: nameOf(tail), client: tail.id.client } : undefined;
}

const root = ({ doc }) => doc.getMap(ROOT);
const mapOf = (editor, place) => (place.includes("/") ? root(editor).get(NEST) : root(editor));
const keyOf = (place) => place.split("/").at(-1);
const put = (editor, place, value) => mapOf(editor, place).set(keyOf(place), value);
const isConflict = (values) => new Set(values).size > 1;
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const show = (doc) => JSON.stringify(doc.getMap(ROOT), (key, value) => (key === "__conflicts" ? undefined : value));

function docOf(state) {
  const doc = new Y.Doc();
  Y.applyUpdate(doc, state);
  return doc;
}

/** A batch of documents is made, and lives through two partings and what is between them. */
async function live(cluster, batch) {
  const wire = cluster.wireBetween(0, 1);
  const all = (act) => Promise.all(batch.map(act));
  const part = async () => {
    await all((history) => history.writtenBack(0));
    wire.cut();
    batch.forEach((history) => history.parted());
  };
  const join = async () => {
    wire.heal();
    await cluster.linked();
    await cluster.settled();
    await all((history) => history.joined());
  };
  await all((history) => history.begin());
  await all((history) => history.goOn(4));
  await part();
  await all((history) => history.goOn(14));
  await join();
  await all((history) => history.goOn(6));
  await part();
  await all((history) => history.goOn(10));
  await all((history) => history.pushAll());
  await join();
}

test(`${HISTORIES} histories of fields in two regions (QUIRE_FIELDS_SEED=${SEED})`, { timeout: 120_000 + HISTORIES * 500 }, async (t) => {
  // A document that only writes back when it is opened again never does.
  const cluster = await startCluster(t, 2, SHAPES.mesh(2), { args: ["--unload-seconds", "3600"] });
  await cluster.linked();
  const compared = {};
  for (let from = 0; from < HISTORIES; from += BATCH_MAX) {
    const count = Math.min(BATCH_MAX, HISTORIES - from);
    const batch = Array.from({ length: count }, (_, at) => new History(cluster, from + at));
    await live(cluster, batch);
    for (const history of batch) {
      for (const [what, times] of Object.entries(history.compared)) compared[what] = (compared[what] ?? 0) + times;
    }
  }
  assert.ok(compared.conflicts > HISTORIES, `histories without conflicts prove nothing: ${JSON.stringify(compared)}`);
  t.diagnostic(JSON.stringify(compared));
});
