// What the page counts as unsaved, told as small stories of edits and of messages from the server.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import { ClockRanges, Unsaved } from "../../src/saved.ts";

/** A document whose own updates are collected, as the page does. */
function author(clientID) {
  const doc = new Y.Doc();
  doc.clientID = clientID;
  const unsaved = new Unsaved();
  const updates = [];
  doc.on("update", (update, origin) => {
    if (origin === "server") return;
    unsaved.made(update);
    updates.push(update);
  });
  return { doc, text: doc.getText("content"), unsaved, updates };
}

test("an insert is unsaved until it is echoed", () => {
  const { text, unsaved, updates } = author(1);
  text.insert(0, "hello");
  assert.equal(unsaved.count, 5);
  unsaved.seen(updates[0]);
  assert.equal(unsaved.count, 0);
});

test("a delete alone is unsaved until it is echoed", () => {
  const { text, unsaved, updates } = author(1);
  text.insert(0, "hello");
  unsaved.seen(updates[0]);
  text.delete(1, 3);
  assert.equal(unsaved.count, 3);
  unsaved.seen(updates[0]);
  assert.equal(unsaved.count, 3, "an old echo confirms nothing new");
  unsaved.seen(updates[1]);
  assert.equal(unsaved.count, 0);
});

test("merged echoes confirm all they hold, and partial ones only that", () => {
  const { text, unsaved, updates } = author(1);
  for (const letter of "abcdef") text.insert(text.length, letter);
  unsaved.seen(Y.mergeUpdates(updates.slice(1, 3)));
  assert.equal(unsaved.count, 4);
  unsaved.seen(Y.mergeUpdates([updates[0], ...updates.slice(3)]));
  assert.equal(unsaved.count, 0);
});

test("a gap in an echo is not taken for its content", () => {
  const { text, unsaved, updates } = author(1);
  for (const letter of "abc") text.insert(text.length, letter);
  unsaved.seen(Y.mergeUpdates([updates[0], updates[2]]));
  assert.equal(unsaved.count, 1);
});

test("other people's edits confirm nothing", () => {
  const { text, unsaved, doc } = author(1);
  const other = new Y.Doc();
  other.getText("content").insert(0, "other");
  text.insert(0, "mine");
  const update = Y.encodeStateAsUpdate(other);
  Y.applyUpdate(doc, update, "server");
  unsaved.seen(update);
  assert.equal(unsaved.count, 4);
});

test("a delete of the same letters by somebody else confirms ours", () => {
  const one = author(1);
  one.text.insert(0, "letters");
  one.unsaved.seen(one.updates[0]);
  const two = author(2);
  Y.applyUpdate(two.doc, one.updates[0], "server");
  one.text.delete(0, 7);
  two.text.delete(0, 7);
  one.unsaved.seen(two.updates[0]);
  assert.equal(one.unsaved.count, 0);
});

test("an undo is a change like any other", () => {
  const { text, unsaved, updates } = author(1);
  const undo = new Y.UndoManager(text);
  text.insert(0, "hello");
  undo.undo();
  assert.equal(unsaved.count, 10);
  for (const update of updates) unsaved.seen(update);
  assert.equal(unsaved.count, 0);
});

test("content the server has collected as garbage confirms the insert and the delete", () => {
  const { doc, text, unsaved } = author(1);
  text.insert(0, "hello");
  text.delete(0, 5);
  unsaved.seen(Y.encodeStateAsUpdate(doc));
  assert.equal(unsaved.count, 0);
});

test("a lost echo is asked for: the answer to the lowered state vector confirms it", () => {
  const { doc, text, unsaved, updates } = author(1);
  text.insert(0, "abc");
  unsaved.seen(updates[0]);
  text.insert(3, "def");
  text.delete(0, 1);

  const server = new Y.Doc();
  for (const update of updates) Y.applyUpdate(server, update);
  const held = Y.decodeStateVector(Y.encodeStateVector(doc));
  unsaved.seen(Y.encodeStateAsUpdate(server, Y.encodeStateVector(doc)));
  assert.equal(unsaved.count, 3, "an ordinary answer repeats deletes, not inserts");

  const claim = unsaved.stateVectorWithout(held);
  assert.deepEqual([...claim], [[1, 3]]);
  unsaved.seen(Y.encodeStateAsUpdate(server, Y.encodeStateVector(claim)));
  assert.equal(unsaved.count, 0);
});

test("a client with nothing confirmed is left out of the lowered state vector", () => {
  const { doc, text, unsaved } = author(7);
  text.insert(0, "abc");
  assert.equal(unsaved.stateVectorWithout(Y.decodeStateVector(Y.encodeStateVector(doc))).size, 0);
});

test("ranges agree with a plain set of clocks, whatever the order", () => {
  let seed = 12345;
  const random = (below) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  const ranges = new ClockRanges();
  const plain = new Set();
  for (let step = 0; step < 5_000; step++) {
    const client = random(3);
    const start = random(60);
    const length = random(9);
    const add = random(2) === 0;
    ranges[add ? "add" : "remove"](client, start, length);
    for (let clock = start; clock < start + length; clock++) {
      if (add) plain.add(`${client}:${clock}`);
      else plain.delete(`${client}:${clock}`);
    }
    assert.equal(ranges.size, plain.size);
  }
});
