// A reply is never shown before what it replies to, however slow the way from where that was written.
//
// Somebody in eu writes a message into one document; us, which sees it, replies in another; asia is close to
// us and far from eu. QUIRE_CAUSAL_TRIALS sets how often. Where asia's two documents share a socket, the message
// is there when the reply is. On two sockets nothing orders what the network carries: whoever sees a reply there
// then asks the region for the message, and a region that answers without it has shown an effect before its cause.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as decoding from "lib0/decoding";
import * as Y from "yjs";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { openEditor } from "../harness/editors.mjs";
import { quantiles } from "../harness/quantiles.mjs";
import { randomFrom, SEED } from "../harness/random.mjs";
import { frame } from "../harness/raw.mjs";
import { until, within } from "../harness/until.mjs";

const TRIALS = Number(process.env.QUIRE_CAUSAL_TRIALS || 200);
/** Conversations at once, each with two documents. */
const LANES = 40;
const [EU, US, ASIA] = [0, 1, 2];
const [SYNC, STEP1, STEP2] = [0, 0, 1];

const line = (editor) => editor.doc.getMap("lines").get("last") ?? 0;
const write = (editor, number) => editor.doc.getMap("lines").set("last", number);

/** Calls `back` with the line that an editor shows, whenever that changes, until the returned function is called. */
function onLine(editor, back) {
  const lines = editor.doc.getMap("lines");
  const look = () => back(line(editor));
  lines.observe(look);
  return () => lines.unobserve(look);
}

/** Waits until an editor shows a line, and tells when it did. */
function shown(editor, number) {
  return within(`line ${number} of ${editor.name}`, new Promise((resolve) => {
    if (line(editor) >= number) return resolve(performance.now());
    const stop = onLine(editor, (now) => {
      if (now < number) return;
      stop();
      resolve(performance.now());
    });
  }));
}

/** Asks the region what an editor lacks, over the editor's own socket, and waits until the editor has it. */
function ask(editor) {
  const { socket } = editor;
  return within(`an answer about ${editor.name}`, new Promise((resolve) => {
    socket.on("message", function hear(data) {
      const decoder = decoding.createDecoder(new Uint8Array(data));
      if (decoding.readVarUint(decoder) !== SYNC || decoding.readVarUint(decoder) !== STEP2) return;
      socket.off("message", hear);
      resolve();
    });
    socket.send(frame(SYNC, STEP1, Y.encodeStateVector(editor.doc)));
  }));
}

test(`${TRIALS} replies, none before its message (QUIRE_SEED=${SEED})`, { timeout: 120_000 + TRIALS * 60 }, async (t) => {
  const random = randomFrom(SEED);
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  await cluster.linked();
  const open = (at, name, dialect = "y-websocket", beside = undefined) =>
    openEditor(t, cluster.regions[at], dialect, name, { awareness: false, beside });
  const lanes = Array.from({ length: LANES }, (_, lane) => {
    const dialect = lane % 2 === 0 ? "hocuspocus" : "y-websocket";
    const inAsia = open(ASIA, `message-${lane}`, dialect);
    const messages = [...[EU, US].map((at) => open(at, `message-${lane}`)), inAsia];
    const beside = dialect === "hocuspocus" ? inAsia : undefined;
    return { messages, replies: [open(US, `reply-${lane}`), open(ASIA, `reply-${lane}`, dialect, beside)] };
  });
  const unrelated = [US, ASIA].map((at) => open(at, "unrelated"));
  const editors = [...lanes.flatMap(({ messages, replies }) => [...messages, ...replies]), ...unrelated];
  await Promise.all(editors.map((editor) => editor.synced()));

  const slow = cluster.wireBetween(EU, ASIA);
  const messageDelays = [];
  const wrong = [];
  /** By how much a reply came before its message, by dialect: on one socket, and on two. */
  const overtakes = { "hocuspocus": [], "y-websocket": [] };
  let started = 0;
  const converse = async ({ messages: [eu, us, asia], replies: [ours, theirs] }) => {
    onLine(us, (number) => write(ours, number));
    for (let number = 1; started < TRIALS; number++) {
      started++;
      [slow.delayMs, slow.jitterMs] = [random.below(100), random.below(100)];
      const written = performance.now();
      const message = shown(asia, number);
      const reply = shown(theirs, number);
      write(eu, number);
      const repliedAt = await reply;
      if (asia.dialect === "y-websocket") await ask(asia);
      if (line(asia) < number) wrong.push(`reply ${number} of ${theirs.name}: ${asia.name} is at ${line(asia)}`);
      const messageAt = await message;
      messageDelays.push(messageAt - written);
      if (repliedAt < messageAt) overtakes[asia.dialect].push(messageAt - repliedAt);
    }
  };

  // What us writes meanwhile and nobody in eu is the cause of, but in the order in which us saw it.
  const writtenAt = [];
  const unrelatedDelays = [];
  let last = 0;
  onLine(unrelated[1], (number) => {
    while (last < number) unrelatedDelays.push(performance.now() - writtenAt[++last]);
  });
  const ticking = setInterval(() => {
    writtenAt[writtenAt.length || 1] = performance.now();
    write(unrelated[0], writtenAt.length - 1);
  }, 20);
  t.after(() => clearInterval(ticking));
  const began = performance.now();
  await Promise.all(lanes.map(converse));
  clearInterval(ticking);
  await until("all unrelated lines are seen", () => last === writtenAt.length - 1);

  t.diagnostic(`${started} trials in ${Math.round((performance.now() - began) / 1000)} s; ${wrong.length} replies before their message`);
  const between = overtakes["y-websocket"];
  if (between.length > 0) t.diagnostic(`${between.length} overtook it between two sockets, by ms: ${JSON.stringify(quantiles(between))}`);
  t.diagnostic(`messages eu to asia, ms: ${JSON.stringify(quantiles(messageDelays))}`);
  t.diagnostic(`unrelated lines us to asia, ms, of ${last}: ${JSON.stringify(quantiles(unrelatedDelays))}`);
  assert.deepEqual(wrong, []);
  assert.deepEqual(overtakes.hocuspocus, []);
  assert.ok(started >= TRIALS && messageDelays.length > 0);
});
