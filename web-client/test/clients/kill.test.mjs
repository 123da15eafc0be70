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
const DOCUMENTS = 2;
const EDITORS_EACH = 4;
const LOAD_MS_MAX = 1_000;
/** Generous: the machine is busy with other tests. What it took is printed. */
const RESTART_MS_MAX = 10_000;

test(`${ROUNDS} rounds of kill -9 under load (QUIRE_SEED=${SEED})`, { timeout: 60_000 + ROUNDS * 20_000 }, async (t) => {
  const random = randomFrom(SEED);
  const server = await startServer(t);
  let witnessed = 0;
  let slowest = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const editors = Array.from({ length: DOCUMENTS }, (_, index) => openEditors(t, server, `document ${index}`, EDITORS_EACH)).flat();
    const witnesses = editors.map((editor) => ({ editor, witness: new Witness(editor) }));
    await Promise.all(editors.map((editor) => editor.synced()));

    await typeUntilKilled(server, editors, random);
    // Editors that stay would upload again what was lost, and hide it.
    editors.forEach((editor) => editor.close());
    const began = performance.now();
    await server.restart();
    slowest = Math.max(slowest, performance.now() - began);

    const stored = new Map();
    for (const { editor, witness } of witnesses) {
      if (!stored.has(editor.name)) stored.set(editor.name, await storedDoc(server, editor.name));
      witness.assertHeldBy(stored.get(editor.name), `round ${round}, ${editor.dialect} editor of ${editor.name}`);
      witnessed += witness.updates;
    }
  }
  t.diagnostic(`${witnessed} messages witnessed, none missing; slowest restart ${Math.round(slowest)} ms`);
  assert.ok(witnessed > ROUNDS * 20, "hardly anything was typed");
  assert.ok(slowest < RESTART_MS_MAX, `a restart took ${Math.round(slowest)} ms`);
});

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
