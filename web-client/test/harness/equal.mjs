// Whether documents are equal: the same blocks, the same deletions, the same content, nothing left pending.
//
// State vectors alone prove nothing: a deletion does not move them. So delete sets are compared too, as Yjs
// derives them from the blocks it holds, and then what a reader of the shared types would see.
import assert from "node:assert/strict";
import * as Y from "yjs";
import { DEADLINE_MS, until } from "./until.mjs";

/** What a document holds, as plain data that compares and prints. */
export function stateOf(doc) {
  const { ds } = Y.decodeUpdate(Y.encodeStateAsUpdate(doc));
  return {
    blocks: blocksOf(doc),
    deleted: sorted(ds.clients).map(([client, ranges]) => [client, merged(ranges)]),
    pending: doc.store.pendingStructs !== null || doc.store.pendingDs !== null,
  };
}

/** Waits until all documents are equal, then compares their content. */
export async function untilEqual(docs, deadlineMs = DEADLINE_MS) {
  await until(
    () => `${docs.length} documents are equal\n${docs.map((doc) => JSON.stringify(stateOf(doc)).slice(0, 400)).join("\n")}`,
    () => areEqual(docs),
    deadlineMs,
  );
  assertEqual(docs);
}

/**
 * Whether all documents are equal. To look often must cost little, since editors and wires share the process with
 * whoever looks: so blocks are compared first, and deletions, which are found block by block, only where those agree.
 */
export function areEqual(docs) {
  return allSame(docs, blocksOf) && allSame(docs, stateOf);
}

function allSame([first, ...rest], read) {
  const wanted = JSON.stringify(read(first));
  return rest.every((doc) => JSON.stringify(read(doc)) === wanted);
}

function blocksOf(doc) {
  return sorted(Y.decodeStateVector(Y.encodeStateVector(doc)));
}

/** Compares documents that must be equal by now. */
export function assertEqual([first, ...rest]) {
  const state = stateOf(first);
  assert.equal(state.pending, false, "blocks or deletions wait for something missing");
  for (const doc of rest) {
    assert.deepEqual(stateOf(doc), state);
    assert.deepEqual(contentOf(doc, first), contentOf(first, first));
  }
}

/** A new document with this update applied. */
export function docOf(update) {
  const doc = new Y.Doc();
  Y.applyUpdate(doc, update);
  return doc;
}

/** Asserts that `doc` holds every block and every deletion of `part`. */
export function assertHolds(doc, part, what) {
  const held = Y.decodeStateVector(Y.encodeStateVector(doc));
  for (const [client, clock] of Y.decodeStateVector(Y.encodeStateVector(part))) {
    assert.ok((held.get(client) ?? 0) >= clock, `${what}: blocks of ${client} end at ${held.get(client) ?? 0}, not ${clock}`);
  }
  const deleted = new Map(stateOf(doc).deleted);
  for (const [client, ranges] of stateOf(part).deleted) {
    for (const [start, end] of ranges) {
      const covered = (deleted.get(client) ?? []).some(([from, to]) => from <= start && end <= to);
      assert.ok(covered, `${what}: deletion of ${client}:${start}..${end} is missing`);
    }
  }
}

function contentOf(doc, typedLike) {
  const content = {};
  for (const [name, type] of typedLike.share) {
    // A root that arrived from elsewhere has no class until it is asked for by one.
    const own = doc.get(name, type.constructor);
    content[name] = own instanceof Y.Text ? own.toDelta() : own instanceof Y.XmlFragment ? own.toString() : plain(own.toJSON());
  }
  return content;
}

function plain(value) {
  if (value instanceof Y.Doc) return { subdocument: value.guid };
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

function merged(ranges) {
  const result = [];
  for (const { clock, len } of [...ranges].sort((a, b) => a.clock - b.clock)) {
    const last = result.at(-1);
    if (last && last[1] >= clock) last[1] = Math.max(last[1], clock + len);
    else result.push([clock, clock + len]);
  }
  return result;
}

function sorted(map) {
  return [...map].sort(([a], [b]) => a - b);
}
