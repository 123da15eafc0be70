// Bytes no editor sends: each has its stated answer, and the editors beside it keep typing.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import * as Y from "yjs";
import { openEditor } from "../harness/editors.mjs";
import { frame, RawClient } from "../harness/raw.mjs";
import { startServer } from "../harness/server.mjs";
import { until, within } from "../harness/until.mjs";

const [SYNC, AWARENESS, AUTH] = [0, 1, 2];
const [STEP1, STEP2, UPDATE] = [0, 1, 2];

const MALFORMED = 4400;
const TOO_LARGE = [1009, 4413];
const NOT_BINARY = 1003;
const TIMED_OUT = 4508;

/** How long an editor beside the attack may wait for another's letter. */
const LETTER_MS_MAX = 5_000;
const CONNECTS = Number(process.env.QUIRE_CONNECTS || 1_000);
const MEMORY_GROWTH_MAX = 192 << 20;

/** A masked binary frame's head that announces 68 MiB, and nothing behind it. */
const OVERSIZED = { head: Uint8Array.from([0x82, 0xff, 0, 0, 0, 0, 4, 16, 0, 0, 1, 2, 3, 4]) };

const HUGE = [0xff, 0xff, 0xff, 0xff, 0x0f];

/** One block at clock 0 of client 1: ContentAny in the root text, holding `any`. */
function updateOfAny(any) {
  return Uint8Array.from([1, 1, 1, 0, 8, 1, 1, 0x74, 1, ...any, 0]);
}

function realUpdate() {
  const doc = new Y.Doc();
  doc.getText("content").insert(0, "a real update");
  doc.getText("content").delete(2, 3);
  return Y.encodeStateAsUpdate(doc);
}

/** What is sent to both dialects as the body of a sync, awareness or unknown message. */
const BODIES = [
  ["an unknown message type", [77], MALFORMED],
  ["an unknown sync message", [SYNC, 9, new Uint8Array(3)], MALFORMED],
  ["an update of noise", [SYNC, UPDATE, Uint8Array.from([3, 1, 4, 1, 5, 9, 2, 6, 5])], MALFORMED],
  ["an update that ends early", [SYNC, UPDATE, realUpdate().slice(0, -3)], MALFORMED],
  ["an update with something behind it", [SYNC, UPDATE, Uint8Array.from([...realUpdate(), 0])], MALFORMED],
  ["an update that claims 2^32 clients", [SYNC, UPDATE, Uint8Array.from(HUGE)], MALFORMED],
  ["an update that claims 2^32 deletions", [SYNC, UPDATE, Uint8Array.from([0, 1, 1, ...HUGE])], MALFORMED],
  ["a step 2 nested 100,000 deep", [SYNC, STEP2, updateOfAny(new Array(100_000).fill([116, 1]).flat().concat(126))], MALFORMED],
  ["a state vector that claims 2^32 clients", [SYNC, STEP1, Uint8Array.from(HUGE)], MALFORMED],
  ["an awareness update of noise", [AWARENESS, Uint8Array.from([200, 1, 2, 3])], MALFORMED],
  ["an awareness update that claims 2^32 clients", [AWARENESS, Uint8Array.from(HUGE)], MALFORMED],
];

test("y-websocket: every hostile frame has its answer, and others keep typing", async (t) => {
  const server = await startServer(t);
  const others = await typing(t, server, "attacked");
  const url = `${server.ws}/attacked`;
  const cases = [
    ...BODIES.map(([what, parts, code]) => [what, frame(...parts), code]),
    ["noise", Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), MALFORMED],
    ["an empty frame", new Uint8Array(0), MALFORMED],
    ["half a frame", Uint8Array.from([SYNC, UPDATE, 50, 1, 2, 3]), MALFORMED],
    ["a text frame", "hello", NOT_BINARY],
    ["an oversized frame", OVERSIZED, TOO_LARGE],
  ];
  for (const [what, bytes, code] of cases) {
    const attacker = new RawClient(t, url);
    await attacker.send(bytes);
    const end = await attacker.end();
    assert.ok([code].flat().includes(end.code), `${what}: closed with ${end.code} ${end.reason}`);
    assert.notEqual(end.reason, "", what);
    await others.stillType(what);
  }
});

test("hocuspocus: every hostile frame has its answer, and others keep typing", async (t) => {
  const server = await startServer(t);
  const others = await typing(t, server, "attacked");
  for (const [what, parts] of BODIES) {
    const attacker = new RawClient(t, server.hocuspocus);
    let answer = null;
    attacker.socket.on("message", (data) => (answer = endingIn(data) ?? answer));
    void attacker.closed.then((end) => (answer = end));
    await attacker.send(frame("attacked", AUTH, 0, "", "4.8.0"));
    await attacker.send(frame("attacked", ...parts));
    await until(`an answer to ${what}`, () => answer);
    assert.notEqual(answer.reason, "", what);
    await others.stillType(what);
  }
  const cases = [
    ["noise", Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), [MALFORMED, NOT_BINARY]],
    ["a text frame", "hello", NOT_BINARY],
    ["an oversized frame", OVERSIZED, TOO_LARGE],
  ];
  for (const [what, bytes, code] of cases) {
    const attacker = new RawClient(t, server.hocuspocus);
    await attacker.send(bytes);
    const end = await attacker.end();
    assert.ok([code].flat().includes(end.code), `${what}: closed with ${end.code} ${end.reason}`);
    assert.notEqual(end.reason, "", what);
    await others.stillType(what);
  }
});

test("hocuspocus: who says nothing is shown out", async (t) => {
  const server = await startServer(t, "--preauth-seconds", "1");
  const silent = new RawClient(t, server.hocuspocus);
  const end = await silent.end();
  assert.equal(end.code, TIMED_OUT);
  assert.notEqual(end.reason, "");
});

test("an oversized frame that is really sent ends its sender, and nobody else", async (t) => {
  const server = await startServer(t);
  const others = await typing(t, server, "attacked");
  for (const url of [`${server.ws}/attacked`, server.hocuspocus]) {
    const attacker = new RawClient(t, url);
    await attacker.send(new Uint8Array(17 << 20));
    const { code } = await attacker.end();
    assert.ok(TOO_LARGE.includes(code), `closed with ${code}`);
    await others.stillType("17 MiB");
  }
});

test("names that cannot be are refused before a document is made", async (t) => {
  const server = await startServer(t);
  for (const name of ["", "a%00b", "line%0Abreak", "%FF%FE", "x".repeat(513)]) {
    const attacker = new RawClient(t, `${server.ws}/${name}`);
    const refused = new Promise((resolve) => attacker.socket.once("unexpected-response", (_, response) => resolve(response.statusCode)));
    const answer = await within("an answer", Promise.race([refused, attacker.closed]));
    if (typeof answer === "number") assert.ok(answer >= 400 && answer < 500, `${name}: ${answer}`);
    else assert.deepEqual([answer.code, answer.reason !== ""], [MALFORMED, true], name);
  }
});

test(`${CONNECTS} connects and disconnects leave nothing behind`, async (t) => {
  const server = await startServer(t);
  const others = await typing(t, server, "beside");
  const before = await memoryOf(server.pid);
  const AT_ONCE = 50;
  for (let from = 0; from < CONNECTS; from += AT_ONCE) {
    const clients = Array.from({ length: AT_ONCE }, (_, index) => {
      const hocuspocus = (from + index) % 2 === 0;
      return new RawClient(t, hocuspocus ? server.hocuspocus : `${server.ws}/passing-${from + index}`);
    });
    await Promise.all(clients.map(({ opened }) => within("a connection", opened)));
    // Some say goodbye, some are just gone.
    clients.forEach(({ socket }, index) => (index % 3 === 0 ? socket.close() : socket.terminate()));
    await Promise.all(clients.map(({ closed }) => closed));
  }
  await others.stillType("the connects");
  const grown = (await memoryOf(server.pid)) - before;
  t.diagnostic(`server memory grew by ${grown >> 20} MiB`);
  assert.ok(grown < MEMORY_GROWTH_MAX, `server memory grew by ${grown >> 20} MiB`);
});

/** Two editors of the attacked document; `stillType` sends a letter through and expects it soon. */
async function typing(t, server, name) {
  const a = openEditor(t, server, "y-websocket", name);
  const b = openEditor(t, server, "hocuspocus", name);
  await Promise.all([a.synced(), b.synced()]);
  return {
    async stillType(after) {
      a.text.insert(a.text.length, ".");
      const { length } = a.text;
      await until(`a letter arrives after ${after}`, () => b.text.length === length, LETTER_MS_MAX);
      assert.equal(a.losses + b.losses, 0, `${after} cost another editor its connection`);
    },
  };
}

/** A Hocuspocus message that ends a document: permission denied, or close. */
function endingIn(data) {
  const type = data[0] + 1;
  if (data[type] === 7) return { reason: data.subarray(type + 2).toString() };
  if (data[type] === AUTH && data[type + 1] === 1) return { reason: data.subarray(type + 3).toString() };
  return null;
}

async function memoryOf(pid) {
  if (process.platform !== "linux") return 0;
  return Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, "utf8"))[1]) * 1024;
}
