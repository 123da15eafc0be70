// Who knew what of a document's fields, as its editors tell it when they write: no word of a region is believed.
//
// A write names the item that its editor was shown. What a region writes back names no write of its own: who writes on
// it was shown the siblings that the region knew then. The deletion of a key is a write that Yjs gives no name: here it
// has that of the item that was shown.
//
// Invariant: of a field that is not `loose`, siblings and base are exact. It becomes loose when somebody writes on a
// write-back of which nobody can tell what it renders.
import * as Y from "yjs";

export const ROOT = "fields";
const CONFLICTS = "__conflicts";

export class Oracle {
  /** By the item's name: `{ place, origin, left }`, and whether its editor saw that the origin `wasDeleted`. */
  writes = new Map();
  /** The editors' client ids: everybody else is a region. */
  editors = new Set();
  /** What a region's write-back renders. */
  #renders = new Map();
  /** Where the write-backs stand that somebody was shown. */
  #writtenBack = new Map();
  /** Write-backs that may have been made before all that is known was. */
  #unsure = new Set();
  loose = new Set();

  /** Takes what an editor wrote in one transaction, before which what it was shown of these was deleted. */
  hear(update, deleted) {
    for (const { unit, struct, origin } of unitsOf(update)) {
      if (!(struct instanceof Y.Item)) continue;
      const place = this.#placeOf(struct, origin);
      if (this.#unsure.has(origin)) this.loose.add(place);
      this.writes.set(nameOf(unit), { place, origin, left: leftBy(struct, unit), wasDeleted: deleted.has(origin) });
    }
  }

  #placeOf(struct, origin) {
    if (origin !== undefined) return this.writes.get(origin)?.place ?? this.#writtenBack.get(origin);
    return struct.parent instanceof Y.ID ? `${this.writes.get(nameOf(struct.parent)).place}/${struct.parentSub}` : struct.parentSub;
  }

  /** A key was deleted while this item was shown. Returns the name of that. */
  deleted(place, item) {
    const name = deletionOf(item);
    if (this.#unsure.has(item)) this.loose.add(place);
    if (!this.writes.has(name)) this.writes.set(name, { place, origin: item, left: ABSENT, isDeletion: true });
    return name;
  }

  /** An editor, or whoever asks, is shown this write-back by a region that knows no more than `knowledge`. */
  shown(item, place, knowledge) {
    const name = nameOf(item);
    this.#writtenBack.set(name, place);
    if (!this.#renders.has(name)) this.#renders.set(name, this.siblings(place, knowledge));
  }

  /** This write-back may render less than what the region knew when it was first seen. */
  doubt(item) {
    this.#unsure.add(nameOf(item));
  }

  rendered(item) {
    return this.#renders.get(nameOf(item));
  }

  /** Whether a document holds a write. */
  isHeldBy(doc, name) {
    const { origin, isDeletion } = this.writes.get(name);
    const [client, clock] = unitOf(isDeletion ? origin : name);
    return Y.getState(doc.store, client) > clock && (!isDeletion || Y.getItem(doc.store, Y.createID(client, clock)).deleted);
  }

  isOfRegion(item) {
    return !this.editors.has(item.id.client);
  }

  places({ known }) {
    return new Set([...known].map((name) => this.writes.get(name).place));
  }

  /** The writes of a field that are known and that no known write was made on, sorted. */
  siblings(place, knowledge, truth) {
    const all = [...knowledge.known].filter((name) => this.writes.get(name).place === place);
    const below = new Set(all.flatMap((name) => this.#parents(name, knowledge, truth)));
    return all.filter((name) => !below.has(name)).sort();
  }

  /** What a write was made on: by what a region can tell, or by what its writer knew. */
  #parents(name, knowledge, truth) {
    const { origin, wasDeleted } = this.writes.get(name);
    if (truth && wasDeleted && knowledge.known.has(deletionOf(origin))) return [deletionOf(origin)];
    const seen = truth ? [] : (knowledge.sees.get(name) ?? []);
    if (origin === undefined) return [...seen];
    return [...seen, ...(this.#renders.get(origin) ?? (this.writes.has(origin) ? [origin] : []))];
  }

  /** The nearest writes that all of these were made on, or are. */
  nearestCommon(names, knowledge, truth) {
    const above = (name, all = new Set()) => {
      if (!all.has(name)) for (const parent of this.#parents(name, knowledge, truth, all.add(name))) above(parent, all);
      return all;
    };
    const common = names.map((name) => above(name)).reduce((a, b) => new Set([...a].filter((name) => b.has(name))));
    return [...common].filter((name) => ![...common].some((other) => other !== name && above(other).has(name))).sort();
  }

  /** The deletions of a field's key that stand. */
  standing(place, knowledge) {
    return this.siblings(place, knowledge).filter((name) => this.writes.get(name).isDeletion);
  }
}

/** What one region was sent, as far as its fields go. */
export class Knowledge {
  known = new Set();
  /** Writes of which it was sent the value, not only that there had been one. */
  valued = new Set();
  /** By the write's name, the deletions that it comes after, by what the region that took it could tell. */
  sees = new Map();

  /**
   * Takes an update, by the rules of `docs/fields.md`; of what it knew already nothing is new. `before` and `after` are
   * what Yjs makes of the region's document.
   */
  take(update, oracle, places, before, after) {
    const isFresh = ({ unit }) => oracle.writes.has(nameOf(unit)) && !this.known.has(nameOf(unit));
    const fresh = [...unitsOf(update)].filter(isFresh);
    const sees = fresh.map((carried) => this.#comesAfter(carried, fresh, update, oracle, after));
    for (const [at, { unit, struct }] of fresh.entries()) {
      const name = nameOf(unit);
      this.known.add(name);
      if (sees[at].length > 0) this.sees.set(name, new Set(sees[at]));
      // Of values that an undo manager keeps, and Yjs sends as one item, a region keeps the last.
      if (isLast(unit, struct) && leftBy(struct, unit) !== undefined) this.valued.add(name);
    }
    for (const place of places) {
      const [was, is] = [tailOf(before, place), tailOf(after, place)];
      if (!is?.deleted || (was?.deleted && nameOf(was) === nameOf(is))) continue;
      const name = oracle.deleted(place, nameOf(is));
      this.known.add(name);
      this.valued.add(name);
    }
  }

  /** Which deletions come before a write, by what a region can tell when it takes it. */
  #comesAfter({ unit, struct }, fresh, update, oracle, after) {
    if (!isLast(unit, struct)) return [];
    const { place } = oracle.writes.get(nameOf(unit));
    const rests = (deletion) => restsOn(after, unit, oracle.writes.get(deletion).origin);
    const sees = oracle.standing(place, this).filter(rests);
    // Whoever replaces what is shown deletes it: who does not has known that it was deleted.
    const { origin } = fresh.find((carried) => carried.struct === struct);
    if (origin && this.known.has(deletionOf(origin)) && !deletes(update, origin)) sees.push(deletionOf(origin));
    return sees;
  }

  join(other) {
    for (const name of other.known) this.known.add(name);
    for (const name of other.valued) this.valued.add(name);
    for (const [name, seen] of other.sees) this.sees.set(name, new Set([...seen, ...(this.sees.get(name) ?? [])]));
  }
}

const ABSENT = { absent: true };

/** What a unit of an item leaves; undefined where the item does not tell any more. */
function leftBy(struct, unit) {
  if (struct.content instanceof Y.ContentAny) return { value: struct.content.arr[unit.clock - struct.id.clock] };
  return struct.content instanceof Y.ContentType ? { value: { $shared: "Map" } } : undefined;
}

/** The item whose value Yjs shows at a place, deleted or not. */
export function tailOf(doc, place) {
  let map = doc.getMap(ROOT);
  const keys = place.split("/");
  for (const key of keys.slice(0, -1)) map = map.get(key);
  return map instanceof Y.Map ? map._map.get(keys.at(-1)) : undefined;
}

/** What editors are told is in conflict at a place. */
export function toldOf(doc, place) {
  return doc.getMap(ROOT).get(CONFLICTS)?.get(place)?.versions.map(({ value, deleted }) => (deleted ? ABSENT : { value }));
}

const isLast = (unit, struct) => unit.clock === struct.id.clock + struct.length - 1;

/** Whether an item is another, or replaces it, at once or through others. */
function restsOn(doc, id, name) {
  const [client, clock] = unitOf(name);
  while (id) {
    const { id: start, origin } = Y.getItem(doc.store, id);
    if (start.client === client && start.clock <= clock && clock <= id.clock) return true;
    id = origin;
  }
  return false;
}

function deletes(update, name) {
  const [client, clock] = unitOf(name);
  const ranges = Y.decodeUpdate(update).ds.clients.get(client) ?? [];
  return ranges.some((range) => range.clock <= clock && clock < range.clock + range.len);
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
const unitOf = (name) => name.split(":").map(Number);
export const deletionOf = (name) => `${name} deleted`;
