// What the page says about saving, against a server in this process that can hold echoes back and lose them.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import * as decoding from "lib0/decoding";
import WebSocket, { WebSocketServer } from "ws";
import * as Y from "yjs";
import { frame } from "../harness/raw.mjs";
import { until } from "../harness/until.mjs";

// The provider takes the browser's; Node 20 has none.
globalThis.WebSocket ??= WebSocket;
const { Connection } = await import("../../src/connection.ts");

const [SYNC, AWARENESS, AUTH] = [0, 1, 2];
const [STEP1, STEP2, UPDATE] = [0, 1, 2];

/** A y-websocket server of one document. `withhold` keeps echoes back, `deny` takes no writes. */
async function startFake(t) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const fake = { doc: new Y.Doc(), withhold: false, deny: false, questions: 0, presence: [], base: `ws://127.0.0.1:${server.address().port}` };
  fake.dropAll = (code = 1012, reason = "restarting") => server.clients.forEach((socket) => socket.close(code, reason));
  fake.echo = (update) => server.clients.forEach((socket) => socket.send(frame(SYNC, UPDATE, update)));
  server.on("connection", (socket) => {
    socket.send(frame(SYNC, STEP1, Y.encodeStateVector(fake.doc)));
    socket.on("message", (data) => {
      const decoder = decoding.createDecoder(new Uint8Array(data));
      const message = decoding.readVarUint(decoder);
      if (message === AWARENESS) fake.presence.push(clockIn(decoding.readVarUint8Array(decoder)));
      if (message !== SYNC) return;
      const kind = decoding.readVarUint(decoder);
      const body = decoding.readVarUint8Array(decoder);
      if (kind === STEP1) {
        fake.questions++;
        socket.send(frame(SYNC, STEP2, Y.encodeStateAsUpdate(fake.doc, body)));
      } else if (fake.deny) {
        socket.send(frame(AUTH, 0, "this session may read but not write"));
      } else {
        Y.applyUpdate(fake.doc, body);
        if (!fake.withhold) fake.echo(body);
      }
    });
  });
  t.after(() => {
    server.clients.forEach((socket) => socket.terminate());
    server.close();
  });
  return fake;
}

/** The clock of the first client in an awareness update. */
function clockIn(update) {
  const decoder = decoding.createDecoder(update);
  const [, , clock] = [1, 2, 3].map(() => decoding.readVarUint(decoder));
  return clock;
}

function open(t, { base }) {
  const connection = new Connection(new Y.Doc(), { base, room: "notes", token: null });
  const seen = [];
  connection.onState((state) => seen.push(state));
  connection.connect();
  t.after(() => {
    connection.provider.destroy();
    connection.provider.awareness.destroy();
  });
  return { connection, seen, text: connection.doc.getText("content"), is: (kind) => until(kind, () => connection.state.kind === kind) };
}

test("it is saved when the echo comes, and not before", async (t) => {
  const fake = await startFake(t);
  const { connection, seen, text, is } = open(t, fake);
  assert.deepEqual(seen[0], { kind: "opening" });
  await is("saved");
  fake.withhold = true;
  text.insert(0, "hello");
  assert.deepEqual(connection.state, { kind: "saving", unsaved: 5 });
  await until("the server has it", () => fake.doc.getText("content").toString() === "hello");
  assert.deepEqual(connection.state, { kind: "saving", unsaved: 5 });
  fake.echo(Y.encodeStateAsUpdate(fake.doc));
  await is("saved");
});

test("an echo that was lost with its connection is asked for", async (t) => {
  const fake = await startFake(t);
  const { connection, text, is } = open(t, fake);
  await is("saved");
  text.insert(0, "echoed. ");
  await is("saved");
  fake.withhold = true;
  text.insert(8, "not echoed");
  text.delete(0, 3);
  await until("the server has it", () => fake.doc.getText("content").toString() === "oed. not echoed");
  fake.dropAll();
  await is("offline");
  assert.deepEqual(connection.state, { kind: "offline", unsaved: 13 });
  await is("saved");
  assert.ok(fake.questions >= 3, "the provider's own questions do not bring it back");
});

test("an echo that never came is asked for without a new connection", async (t) => {
  const fake = await startFake(t);
  const { text, is } = open(t, fake);
  await is("saved");
  fake.withhold = true;
  text.insert(0, "hello");
  await is("saving");
  await is("saved");
  assert.equal(fake.questions, 2);
});

test("what the server lost is not called saved, and is sent again", async (t) => {
  const fake = await startFake(t);
  const { connection, text, is } = open(t, fake);
  await is("saved");
  fake.withhold = true;
  text.insert(0, "hello");
  await until("the server has it", () => fake.doc.getText("content").length === 5);
  const heldWhenSaved = [];
  connection.onState(({ kind }) => kind === "saved" && heldWhenSaved.push(fake.doc.getText("content").length));
  // It crashes before its disk has it.
  fake.doc = new Y.Doc();
  fake.dropAll();
  await is("offline");
  await is("saved");
  assert.deepEqual([...new Set(heldWhenSaved)], [5]);
});

test("a permanent refusal is told with its reason, and can be tried again", async (t) => {
  const fake = await startFake(t);
  const { connection, text, is } = open(t, fake);
  await is("saved");
  fake.dropAll(4403, "the token does not cover this document");
  await is("refused");
  text.insert(0, "abc");
  assert.deepEqual(connection.state, { kind: "refused", unsaved: 3, code: 4403, reason: "the token does not cover this document" });
  connection.connect();
  await is("saved");
});

test("a session that may not write is told so, and never called saved", async (t) => {
  const fake = await startFake(t);
  fake.deny = true;
  const { connection, text, is } = open(t, fake);
  await until("an answer to the first step 2", () => connection.state.kind === "denied" || connection.state.kind === "saved");
  text.insert(0, "abc");
  await is("denied");
  assert.deepEqual(connection.state, { kind: "denied", unsaved: 3, reason: "this session may read but not write" });
});

test("who comes back is announced under a new clock, since others have forgotten the old one's owner", async (t) => {
  const fake = await startFake(t);
  const { is } = open(t, fake);
  await is("saved");
  await until("the page is announced", () => fake.presence.length > 0);
  const last = Math.max(...fake.presence.splice(0));
  fake.dropAll();
  await until("the page is announced again", () => fake.presence.length > 0);
  assert.ok(Math.max(...fake.presence) > last, `announced under ${fake.presence}, after ${last}`);
});
