// Rounds of typing under load, ended by a real `kill -9` at a random moment: whatever any session was sent, or
// was told is saved, is there after the restart. QUIRE_KILLS sets the number of rounds.
import assert from "node:assert/strict";
import { test } from "node:test";
import { openEditors } from "../harness/editors.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { Typist } from "../harness/typist.mjs";
import { breathe } from "../harness/until.mjs";
import { Witness } from "../harness/witness.mjs";

const ROUNDS = Number(process.env.QUIRE_KILLS || 3);
const ROUNDS_EACH = 10;
const DOCUMENTS = 2;
const EDITORS_EACH = 4;
const LOAD_MS_MAX = 1_000;
/** Generous: the machine is busy with other tests. What it took is printed. */
const RESTART_MS_MAX = 10_000;

test(`${ROUNDS} rounds of kill -9 under load (QUIRE_SEED=${SEED})`, { timeout: 60_000 + ROUNDS * 20_000 }, async (t) => {
  const random = randomFrom(SEED);
  const server = await startServer(t);
  const seen = { messages: 0, slowest: 0 };
  for (let first = 0; first < ROUNDS; first += ROUNDS_EACH) {
    const last = Math.min(first + ROUNDS_EACH, ROUNDS) - 1;
    // Documents and editors of their own: this process could not hold what all rounds type.
    await t.test(`rounds ${first} to ${last}`, async (t) => {
      for (let round = first; round <= last; round++) await killOnce(t, server, random, { set: first, round, seen });
    });
  }
  t.diagnostic(`${seen.messages} messages witnessed, none missing; slowest restart ${Math.round(seen.slowest)} ms`);
  assert.ok(seen.messages > ROUNDS * 20, "hardly anything was typed");
  assert.ok(seen.slowest < RESTART_MS_MAX, `a restart took ${Math.round(seen.slowest)} ms`);
});

async function killOnce(t, server, random, { set, round, seen }) {
  const names = Array.from({ length: DOCUMENTS }, (_, index) => `document ${set}.${index}`);
  const editors = names.flatMap((name) => openEditors(t, server, name, EDITORS_EACH));
  const witnesses = editors.map((editor) => ({ editor, witness: new Witness(editor) }));
  await Promise.all(editors.map((editor) => editor.synced()));

  await typeUntilKilled(server, editors, random);
  // Editors that stay would upload again what was lost, and hide it.
  editors.forEach((editor) => editor.close());
  const began = performance.now();
  await server.restart();
  seen.slowest = Math.max(seen.slowest, performance.now() - began);

  const stored = new Map();
  for (const { editor, witness } of witnesses) {
    if (!stored.has(editor.name)) stored.set(editor.name, await storedDoc(server, editor.name));
    witness.assertHeldBy(stored.get(editor.name), `round ${round}, ${editor.dialect} editor of ${editor.name}`);
    seen.messages += witness.updates;
  }
}

async function typeUntilKilled(server, editors, random) {
  const typists = editors.map((editor) => new Typist(editor, random));
  let dead = false;
  const killed = new Promise((resolve) => setTimeout(resolve, 50 + random.below(LOAD_MS_MAX)))
    .then(() => server.kill("SIGKILL"))
    .then(() => (dead = true));
  while (!dead) {
    typists.forEach((typist) => random.chance(0.3) && typist.act());
    await breathe();
  }
  await killed;
}
