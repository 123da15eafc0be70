// Random histories of stock Yjs documents in two regions that are parted and joined, against an oracle that was told by
// every writer what it saw: what is concurrent is reported, what is not is not, and the base is exact, by the rules that
// docs/fields.md has for deletions. How often those are not what the writers knew is counted.
//
// Editors have no socket: they post what they wrote and read all there is, when they are on line. A region that has been
// sent something is waited for before it is sent more, so that it is known what each write-back renders; an editor does
// not wait, and writes on what it is shown, be that a write-back or what it is to come on.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { Knowledge, Oracle, ROOT, deletionOf, nameOf, tailOf, toldOf } from "../harness/fields-oracle.mjs";
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
/** What editors must have done for the histories to prove anything. */
const DONE = ["set", "set several", "set twice", "undo", "redo", "delete", "set a map", "in a nested map", "by a clone", "offline"];
/** A field that is the map of others. */
const NEST = "nest";

class History {
  acts = [];
  editors = [];
  oracle = new Oracle();
  /** What each region was sent. */
  knows = REGIONS.map(() => new Knowledge());
  isCut = false;
  isJoining = false;
  #written = 0;
  did = {};
  compared = {
    fields: 0, siblings: 0, conflicts: 0, bases: 0, severalBases: 0, deletions: 0, unknown: 0, loose: 0,
    siblingsByRule: 0, basesByRule: 0,
  };

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
    this.#write(maker, "make", "", () => {
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
    if (chance < 9) this.#write(editor, "set", place, () => set(place));
    else if (chance < 11) this.#write(editor, "set several", "", () => PLACES.filter(() => random.chance(0.5)).forEach(set));
    else if (chance < 12) this.#write(editor, "set twice", place, () => [place, place].forEach(set));
    else if (chance < 15) {
      this.#write(editor, "undo", "", () => editor.undo.undo(), false);
      if (random.chance(0.3)) this.#write(editor, "redo", "", () => editor.undo.redo(), false);
    } else if (chance < 16) this.#write(editor, "redo", "", () => editor.undo.redo(), false);
    else if (chance < 19) this.#write(editor, "delete", place, () => mapOf(editor, place).delete(keyOf(place)));
    else this.#write(editor, "set a map", "title", () => root(editor).set("title", new Y.Map([["value", this.#value()]])));
  }

  #value() {
    return `v${++this.#written}`;
  }

  /** An editor does something, and tells the oracle what it saw. */
  #write(editor, what, place, act, inOne = true) {
    const { doc, outbox } = editor;
    const tails = PLACES.map((at) => tailOf(doc, at)).filter((tail) => tail !== undefined);
    editor.deleted = new Set(tails.filter((tail) => tail.deleted).map(nameOf));
    const sent = outbox.length;
    if (inOne) doc.transact(act);
    else act();
    const nothing = outbox.length === sent;
    if (!nothing) {
      this.#count(what);
      if (place.startsWith(NEST)) this.#count("in a nested map");
      if (editor.isClone) this.#count("by a clone");
      if (this.#isBehind(editor)) this.#count("offline");
    }
    this.acts.push(`${editor.name}: ${what} ${place}${nothing ? " (nothing)" : ""} -> ${show(doc)}`);
  }

  #count(what) {
    this.did[what] = (this.did[what] ?? 0) + 1;
  }

  /** Whether an editor lacks what its region was sent. */
  #isBehind({ doc, region }) {
    return [...this.knows[region].known].some((name) => !this.oracle.isHeldBy(doc, name));
  }

  #editor(region, from) {
    const doc = new Y.Doc();
    do doc.clientID = 2 + this.random.below(2 ** 31);
    while (this.oracle.editors.has(doc.clientID));
    this.oracle.editors.add(doc.clientID);
    if (from) Y.applyUpdate(doc, from);
    const undo = new Y.UndoManager(doc.getMap(ROOT), { captureTimeout: 0 });
    const editor = { name: `${doc.clientID}@${region}`, doc, region, undo, outbox: [], deleted: new Set(), isClone: !!from };
    doc.on("update", (update, _origin, _doc, { local }) => {
      if (!local) return;
      editor.outbox.push(update);
      this.oracle.hear(update, editor.deleted);
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
    const before = this.knows[region].known.size > 0 ? await this.writtenBack(region) : new Y.Doc();
    const response = await fetch(this.#at(region, "update"), {
      method: "POST",
      body: update,
      headers: { "content-type": "application/octet-stream" },
    });
    assert.ok(response.ok, `${this.story()}\n${response.status}: ${await response.text()}`);
    const after = docOf(Y.encodeStateAsUpdate(before));
    Y.applyUpdate(after, update);
    this.knows[region].take(update, this.oracle, PLACES, before, after);
    if (!this.isCut) this.knows[1 - region].join(this.knows[region]);
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
      if (!tail || !this.oracle.isOfRegion(tail)) continue;
      // Of equal siblings nobody is told, so nobody can tell whether their write-back had seen all that came at once.
      const isNew = this.oracle.rendered(tail) === undefined;
      if (this.isJoining && isNew && toldOf(doc, place) === undefined) this.oracle.doubt(tail);
      this.oracle.shown(tail, place, this.knows[region]);
    }
  }

  /** Waits until a region, or both where they reach each other, have written back what they must; returns that. */
  async writtenBack(region) {
    const regions = this.isCut ? [region] : REGIONS;
    let why;
    return until(
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
        if (late !== undefined) {
          const siblings = this.oracle.siblings(late, this.knows[region]).map((name) => [name, this.#left(region, name)]);
          const shown = JSON.stringify(docs[0].getMap(ROOT));
          why = `${late} is not written back in ${region}: ${JSON.stringify(siblings)} are not in ${shown}`;
          return false;
        }
        this.#shown(docs[0], region);
        return docs[0];
      },
    );
  }

  #isWrittenBack(doc, place, region) {
    const siblings = this.oracle.siblings(place, this.knows[region]);
    const tail = tailOf(doc, place);
    const told = toldOf(doc, place);
    const left = siblings.map((name) => this.#left(region, name));
    const isOpaque = left.some(({ unknown, value }) => unknown || value?.$shared);
    const isTold = isConflict(left) ? told !== undefined && same(spelt(told), spelt(left.map(toEditors))) : told === undefined;
    // What no plain value is cannot be written back: shown is what Yjs shows.
    if (!tail || !isTold || isOpaque) return !!tail && isTold;
    if (siblings.length === 1 && siblings[0] === (tail.deleted ? deletionOf(nameOf(tail)) : nameOf(tail))) return true;
    if (!this.oracle.isOfRegion(tail)) return false;
    const shown = tail.deleted ? { absent: true } : { value: tail.content.arr?.at(-1) };
    return left.some((one) => same(one, shown)) && same(this.oracle.rendered(tail) ?? siblings, siblings);
  }

  /** What a region can tell that a write left. */
  #left(region, name) {
    return this.knows[region].valued.has(name) ? this.oracle.writes.get(name).left : { unknown: true };
  }

  /** The fields of which the oracle knows everything. */
  *#exact(region) {
    for (const place of this.oracle.places(this.knows[region])) {
      if (!this.oracle.loose.has(place) && PLACES.includes(place)) yield place;
    }
  }

  /** What a region says of each field, against what its writers knew. */
  async compare(region) {
    const { fields } = await (await fetch(this.#at(region, "fields"))).json();
    for (const place of this.oracle.places(this.knows[region])) {
      if (!PLACES.includes(place)) continue;
      if (this.oracle.loose.has(place)) {
        this.compared.loose++;
        continue;
      }
      try {
        this.#compare(region, place, fields[place]);
      } catch (error) {
        throw new Error(`${place} in region ${region}: ${error.message}\nit says ${JSON.stringify(fields[place])}\n${this.story()}`);
      }
    }
    return fields;
  }

  #compare(region, place, said) {
    const { compared, oracle } = this;
    const knows = this.knows[region];
    const siblings = oracle.siblings(place, knows);
    const left = siblings.map((name) => this.#left(region, name));
    compared.fields++;
    compared.siblings += siblings.length;
    compared.deletions += siblings.some((name) => oracle.writes.get(name).isDeletion);
    compared.unknown += left.some(({ unknown }) => unknown);
    compared.siblingsByRule += !same(siblings, oracle.siblings(place, knows, true));
    assert.equal(said.conflict, isConflict(left), "whether there is a conflict");
    assert.equal(said.base !== undefined, siblings.length > 1, "whether there is a base");
    if (siblings.length === 1) {
      // Of what is no plain value, or is not known, nothing is shown but what Yjs shows.
      if (left[0].absent || typeof left[0].value === "string") assert.deepEqual(leftOf(said), left[0], "the one value");
      return;
    }
    assert.deepEqual(spelt(said.versions.map(leftOf)), spelt(left), "the siblings");
    compared.conflicts += said.conflict;
    const nearest = oracle.nearestCommon(siblings, knows);
    compared.basesByRule += !same(nearest, oracle.nearestCommon(siblings, knows, true));
    if (nearest.length > 1) {
      compared.severalBases++;
      const could = nearest.map((name) => this.#left(region, name));
      assert.ok(said.base.unknown || could.some((one) => same(one, said.base)), "the base, of several");
      return;
    }
    assert.deepEqual(said.base, nearest.length === 0 ? { absent: true } : this.#left(region, nearest[0]), "the base");
    compared.bases++;
  }

  /** Both regions know everything, and say the same. */
  async joined() {
    const [here, there] = this.knows;
    here.join(there);
    there.join(here);
    this.isCut = false;
    this.isJoining = true;
    this.acts.push("the regions are joined");
    const said = [];
    for (const region of REGIONS) said.push(await this.compare(region));
    assert.deepEqual(said[0], said[1], `the regions say the same\n${this.story()}`);
    await this.writtenBack(0);
    this.isJoining = false;
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

const root = ({ doc }) => doc.getMap(ROOT);
const mapOf = (editor, place) => (place.includes("/") ? root(editor).get(NEST) : root(editor));
const keyOf = (place) => place.split("/").at(-1);
const put = (editor, place, value) => mapOf(editor, place).set(keyOf(place), value);
/** What of a field's versions, or of the field, says what was left. */
const leftOf = ({ value, unknown }) => (value !== undefined ? { value } : unknown ? { unknown } : { absent: true });
const spelt = (left) => left.map((one) => JSON.stringify(one)).sort();
const toEditors = ({ value, unknown, absent }) => (absent ? { absent } : { value: unknown ? { $unknown: true } : value?.$shared ? { $shared: true } : value });
/** What no plain value is cannot be merged, not even with its like. */
const isConflict = (left) => left.length > 1 && (new Set(spelt(left)).size > 1 || left.some(({ unknown, value }) => unknown || value?.$shared));
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
    await all((history) => Promise.all(REGIONS.map((region) => history.writtenBack(region))));
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
  const [compared, did] = [{}, {}];
  const add = (sum, figures) => Object.entries(figures).forEach(([what, times]) => (sum[what] = (sum[what] ?? 0) + times));
  for (let from = 0; from < HISTORIES; from += BATCH_MAX) {
    const count = Math.min(BATCH_MAX, HISTORIES - from);
    const batch = Array.from({ length: count }, (_, at) => new History(cluster, from + at));
    await live(cluster, batch);
    for (const history of batch) {
      add(compared, history.compared);
      add(did, history.did);
    }
  }
  assert.ok(compared.conflicts > HISTORIES, `histories without conflicts prove nothing: ${JSON.stringify(compared)}`);
  assert.ok(compared.loose < compared.fields / 100, `too much is not compared: ${JSON.stringify(compared)}`);
  for (const what of DONE) assert.ok(did[what] > 0, `nobody did "${what}": ${JSON.stringify(did)}`);
  t.diagnostic(JSON.stringify({ compared, did }));
});
