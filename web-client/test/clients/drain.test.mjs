// A graceful stop: SIGTERM under load closes every session with 1012, spread over time, commits all, exits 0.
import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { openEditors } from "../harness/editors.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { startServer } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { Typist } from "../harness/typist.mjs";
import { breathe, until, within } from "../harness/until.mjs";
import { Witness } from "../harness/witness.mjs";

const EDITORS = 12;
const WATCHERS = 80;
const TYPE_EVERY_MS = 5;
/** All at once would bring everybody back at once. */
const SPREAD_MS_MIN = 200;

test(`SIGTERM under load (QUIRE_SEED=${SEED})`, async (t) => {
  const random = randomFrom(SEED);
  const server = await startServer(t);
  const editors = openEditors(t, server, "busy", EDITORS);
  await Promise.all(editors.map((editor) => editor.synced()));
  const witnesses = editors.map((editor) => new Witness(editor));
  const closes = [];
  const watchers = Array.from({ length: WATCHERS }, (_, index) => watch(t, `${server.ws}/watched-${index}`, closes));
  await until("all watchers are connected", () => watchers.every(({ readyState }) => readyState === WebSocket.OPEN));

  // Plain text: each change of format makes every other Yjs editor clean up, and this process is all of them.
  const typists = editors.map((editor) => new Typist(editor, random));
  for (let act = 0; act < 50; act++) {
    typists.forEach((typist) => (random.chance(0.3) ? typist.erase() : typist.type()));
    await breathe();
  }
  // Steady from here on: this process must also notice when it is closed.
  const typing = setInterval(() => random.pick(typists).type(), TYPE_EVERY_MS);
  t.after(() => clearInterval(typing));
  const ended = await within("the server's end", server.kill("SIGTERM"));
  assert.deepEqual(ended, { code: 0, signal: null });

  await until("every watcher saw its close", () => closes.length === WATCHERS);
  assert.deepEqual([...new Set(closes.map(({ code }) => code))], [1012]);
  for (const { reason } of closes) assert.notEqual(reason, "");
  const times = closes.map(({ at }) => at);
  const spread = Math.max(...times) - Math.min(...times);
  t.diagnostic(`${WATCHERS} sessions closed over ${Math.round(spread)} ms`);
  assert.ok(spread > SPREAD_MS_MIN, `all sessions were closed within ${Math.round(spread)} ms`);
  for (const { closes } of editors) assert.equal(closes[0].code, 1012);

  clearInterval(typing);
  editors.forEach((editor) => editor.close());
  await server.restart();
  const stored = await storedDoc(server, "busy");
  for (const witness of witnesses) witness.assertHeldBy(stored, "after the stop");
});

function watch(t, url, closes) {
  const socket = new WebSocket(url);
  socket.on("close", (code, reason) => closes.push({ code, reason: reason.toString(), at: performance.now() }));
  socket.on("error", () => {});
  t.after(() => socket.terminate());
  return socket;
}
