// Who knew what of a document's fields, as its editors tell it when they write: no word of a region is believed.
//
// A write names the item that its editor was shown. What a region writes back names no write of its own: who writes on
// it was shown the siblings that the region knew then.
//
// Invariant: of a field that is not `loose`, siblings and base are exact. It becomes loose when its key is deleted,
// which Yjs gives no name, or when a write-back is seen of which nobody can tell what it renders.
import * as Y from "yjs";

export const ROOT = "fields";
const CONFLICTS = "__conflicts";

export class Oracle {
  /** By the item's name: `{ place, origin, value }`; the value is `undefined` where it is a shared type. */
  writes = new Map();
  /** The editors' client ids: everybody else is a region. */
  editors = new Set();
  /** What a region's write-back renders. */
  #renders = new Map();
  /** Writes of loose fields that may have been replaced without our being told. */
  #perhapsGone = new Set();
  loose = new Set();

  /** Takes what an editor wrote in one transaction. */
  hear(update) {
    for (const { unit, struct, origin } of unitsOf(update)) {
      if (!(struct instanceof Y.Item)) continue;
      const place = this.#placeOf(struct, origin);
      const value = struct.content instanceof Y.ContentAny ? struct.content.arr[unit.clock - struct.id.clock] : undefined;
      this.writes.set(nameOf(unit), { place, origin, value });
    }
  }

  #placeOf(struct, origin) {
    if (origin !== undefined) return this.writes.get(origin)?.place ?? this.#writtenBack.get(origin);
    return struct.parent instanceof Y.ID ? `${this.writes.get(nameOf(struct.parent)).place}/${struct.parentSub}` : struct.parentSub;
  }

  /** Where the write-backs stand that somebody was shown. */
  #writtenBack = new Map();

  /** An editor, or whoever asks, is shown this write-back by a region that knows `known`. */
  shown(item, place, known) {
    const name = nameOf(item);
    this.#writtenBack.set(name, place);
    if (!this.loose.has(place) && !this.#renders.has(name)) this.#renders.set(name, this.siblings(place, known));
  }

  rendered(item) {
    return this.#renders.get(nameOf(item));
  }

  isOfRegion(item) {
    return !this.editors.has(item.id.client);
  }

  /** From here on nobody can tell all of what becomes of this field. */
  loosen(place) {
    this.loose.add(place);
  }

  /** The writes of a field that a document holds. */
  heldBy(doc, place) {
    return [...this.writes].filter(([name, write]) => write.place === place && holds(doc, name)).map(([name]) => name);
  }

  /** An editor that held these writes replaced what it was shown, or deleted the key. */
  replaced(place, { name, client }, held, { isDeleted }) {
    if (!this.loose.has(place)) return;
    // A write-back renders no more than what its editor held with it.
    const gone = this.editors.has(client) ? [name] : (this.#renders.get(name) ?? held);
    if (isDeleted || !this.editors.has(client)) for (const one of gone) this.#perhapsGone.add(one);
  }

  mayBeGone(name) {
    return this.#perhapsGone.has(name);
  }

  places(known) {
    return new Set([...known].map((name) => this.writes.get(name).place));
  }

  /** The writes of a field that are known and that no known write was made on, sorted. */
  siblings(place, known) {
    const all = [...known].filter((name) => this.writes.get(name).place === place);
    const below = new Set(all.flatMap((name) => this.#parents(name)));
    return all.filter((name) => !below.has(name)).sort();
  }

  #parents(name) {
    const { origin } = this.writes.get(name);
    if (origin === undefined) return [];
    return this.#renders.get(origin) ?? (this.writes.has(origin) ? [origin] : []);
  }

  /** The nearest writes that all of these were made on, or are. */
  nearestCommon(names) {
    const above = (name, all = new Set()) => {
      if (!all.has(name)) for (const parent of this.#parents(name, all.add(name))) above(parent, all);
      return all;
    };
    const common = names.map((name) => above(name)).reduce((a, b) => new Set([...a].filter((name) => b.has(name))));
    return [...common].filter((name) => ![...common].some((other) => other !== name && above(other).has(name)));
  }
}

/** What one region was sent, as far as its fields go. */
export class Knowledge {
  known = new Set();
  /** Writes of which it was sent the value, not only that there had been one. */
  valued = new Set();

  /** Takes an update; of what it knew already nothing is new. */
  take(update, oracle) {
    const fresh = [...unitsOf(update)].filter(({ unit }) => oracle.writes.has(nameOf(unit)) && !this.known.has(nameOf(unit)));
    for (const { unit, struct } of fresh) {
      this.known.add(nameOf(unit));
      // Of values that an undo manager keeps, and Yjs sends as one item, a region keeps the last.
      const isLast = unit.clock === struct.id.clock + struct.length - 1;
      if (struct.content instanceof Y.ContentAny && isLast) this.valued.add(nameOf(unit));
    }
  }

  join(other) {
    for (const name of other.known) this.known.add(name);
    for (const name of other.valued) this.valued.add(name);
  }
}

/** The item whose value Yjs shows at a place, deleted or not. */
export function tailOf(doc, place) {
  let map = doc.getMap(ROOT);
  const keys = place.split("/");
  for (const key of keys.slice(0, -1)) map = map.get(key);
  return map instanceof Y.Map ? map._map.get(keys.at(-1)) : undefined;
}

/** The values of what editors are told is in conflict at a place. */
export function toldOf(doc, place) {
  return doc.getMap(ROOT).get(CONFLICTS)?.get(place)?.versions.map(({ value }) => value);
}

function* unitsOf(update) {
  for (const struct of Y.decodeUpdate(update).structs) {
    if (struct instanceof Y.Skip) continue;
    for (let at = 0; at < struct.length; at++) {
      const unit = Y.createID(struct.id.client, struct.id.clock + at);
      const before = at > 0 ? Y.createID(unit.client, unit.clock - 1) : struct.origin;
      yield { unit, struct, origin: before ? nameOf(before) : undefined };
    }
  }
}

export const nameOf = ({ client, clock, id, length }) => (id ? `${id.client}:${id.clock + length - 1}` : `${client}:${clock}`);

function holds(doc, name) {
  const [client, clock] = name.split(":").map(Number);
  return Y.getState(doc.store, client) > clock;
}
