// A typist: random edits of every kind Yjs has, as a person with a rich editor makes them.
import * as Y from "yjs";
import { breathe } from "./until.mjs";

const WORDS = ["quire", "folio", "naïve", "日本", "🚀", "margin", "ink", " ", "\n", "well-known"];

/** Gives one editor a hand: `act()` makes one random edit. */
export class Typist {
  #doc;
  #random;
  #undo;

  constructor(editor, random) {
    this.#doc = editor.doc;
    this.#random = random;
    this.text = editor.text;
    this.map = this.#doc.getMap("fields");
    this.list = this.#doc.getArray("list");
    this.xml = this.#doc.getXmlFragment("page");
    this.#undo = new Y.UndoManager([this.text, this.map, this.list], { captureTimeout: 0 });
  }

  act() {
    const acts = [
      [30, () => this.type()],
      [16, () => this.erase()],
      [8, () => this.format()],
      [12, () => this.setField()],
      [4, () => this.map.delete(this.#field())],
      [10, () => this.editList()],
      [10, () => this.editXml()],
      [5, () => this.#undo.undo()],
      [3, () => this.#undo.redo()],
      [2, () => this.map.set("attachment", new Y.Doc({ guid: `attachment-${this.#random.below(1e6)}` }))],
    ];
    let left = this.#random.below(acts.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, act] of acts) {
      if (left < weight) return act();
      left -= weight;
    }
  }

  type() {
    const at = this.#random.below(this.text.length + 1);
    this.text.insert(this.#range(at, 0).from, this.#random.pick(WORDS));
  }

  erase() {
    if (this.text.length === 0) return;
    const { from, length } = this.#range(this.#random.below(this.text.length), 1 + this.#random.below(6));
    this.text.delete(from, length);
  }

  /**
   * A range that cuts no surrogate pair, as no editor does. Yjs replaces both halves of a pair that it cuts, and
   * it cuts where it only looks for a place to format: one client then shows another text than all others.
   */
  #range(at, length) {
    const units = this.text.toDelta().map(({ insert }) => (typeof insert === "string" ? insert : "\ufffc")).join("");
    const inPair = (index) => /^[\udc00-\udfff]/.test(units.slice(index, index + 1));
    const from = inPair(at) ? at - 1 : at;
    const end = Math.min(at + length, units.length);
    return { from, length: (inPair(end) ? end + 1 : end) - from };
  }

  format() {
    if (this.text.length === 0) return;
    const { from, length } = this.#range(this.#random.below(this.text.length), 1 + this.#random.below(12));
    this.text.format(from, length, this.#random.pick([{ bold: true }, { bold: null }, { link: "https://example.org" }, { size: 3 }]));
  }

  setField() {
    const value = this.#random.pick([
      this.#random.below(1e9),
      this.#random.pick(WORDS),
      null,
      true,
      -0.5,
      { nested: [1, { deep: "yes" }] },
      new Uint8Array([1, 2, 3]),
      new Y.Text("a text in a field"),
      new Y.Map([["inner", 1]]),
    ]);
    this.map.set(this.#field(), value);
    const inner = this.map.get(this.#field());
    if (inner instanceof Y.Text) inner.insert(0, "more ");
    if (inner instanceof Y.Map) inner.set("count", this.#random.below(100));
  }

  editList() {
    const at = this.#random.below(this.list.length + 1);
    if (at < this.list.length && this.#random.chance(0.4)) return this.list.delete(at, 1);
    this.list.insert(at, [this.#random.below(1000), this.#random.pick(WORDS), Y.Array.from([1, 2])]);
  }

  editXml() {
    const at = this.#random.below(this.xml.length + 1);
    if (at < this.xml.length && this.#random.chance(0.3)) return this.xml.delete(at, 1);
    const paragraph = new Y.XmlElement("paragraph");
    paragraph.setAttribute("align", this.#random.pick(["left", "right"]));
    paragraph.insert(0, [new Y.XmlText(this.#random.pick(WORDS)), new Y.XmlElement("br")]);
    this.xml.insert(at, [paragraph]);
  }

  #field() {
    return `field-${this.#random.below(6)}`;
  }
}

/** Has everybody make so many edits at once. */
export async function typeAtOnce(typists, random, actsEach) {
  for (let act = 0; act < actsEach; act++) {
    for (const typist of typists) typist.act();
    // Sometimes let the network catch up, sometimes pile edits up: both happen to people.
    if (random.chance(0.5)) await breathe();
  }
}
