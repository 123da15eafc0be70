// Peers that break the rules, and clusters that are put together wrongly: each is refused for a reason that has a
// name, told to operators, and changes nothing for the others.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { openEditor } from "../harness/editors.mjs";
import { batch, FalsePeer } from "../harness/peer.mjs";
import { frame } from "../harness/raw.mjs";
import { runQuire, startServer, temporaryDirectory } from "../harness/server.mjs";
import { until } from "../harness/until.mjs";

const FRONTIER = 4;
const CREDIT = 7;
const SCHEMA = 16;
/** The hash of a schema that no region here has. */
const ANOTHER = Buffer.alloc(16, 7);
const REASONS = ["version", "cluster", "schema", "same_replica", "secret", "malformed", "fork", "credit"];
const number = (reason) => REASONS.indexOf(reason) + 1;

const metric = async (region, pattern) => {
  const text = await (await fetch(`${region.http}/metrics`)).text();
  return text.split("\n").find((line) => pattern.test(line));
};
const peersOf = async (region) => (await (await fetch(`${region.http}/v1/regions`)).json()).peers;
const problemOf = (region, url) => until(`a problem with ${url}`, async () => (await peersOf(region)).find((peer) => peer.url === url && peer.problem && peer.problem.kind !== "dialling")?.problem);

/** A region with an honest peer and a false one. */
async function withFalsePeer(t) {
  const secret = randomBytes(32).toString("hex");
  const file = path.join(await temporaryDirectory(t), "secret");
  await writeFile(file, secret);
  const honest = await startServer(t, "--replica", "2", "--cluster-secret-file", file);
  const peer = await new FalsePeer(t, secret).listen();
  const peers = ["--peer", honest.http.replace("http", "ws"), "--peer", peer.url];
  const region = await startServer(t, "--replica", "1", "--cluster-secret-file", file, ...peers);
  return { region, honest, peer, file };
}

/** The honest peer still has its link and gets what is written. */
async function nothingElseHappened(t, { region, honest }) {
  const name = `notes ${Math.random()}`;
  const [writer, reader] = [region, honest].map((server) => openEditor(t, server, "y-websocket", name));
  await Promise.all([writer.synced(), reader.synced()]);
  writer.text.insert(0, "all is well");
  await until("the honest peer has it", () => reader.text.toString() === "all is well");
}

for (const [what, reason, misbehave] of [
  ["speaks a newer protocol", "version", async (peer) => peer.hello({ versions: [7, 9] })],
  ["belongs to another cluster", "cluster", async (peer) => peer.hello({ cluster: randomBytes(16) })],
  ["has this region's own number", "same_replica", async (peer) => peer.hello({ replica: 1 })],
  ["sends the challenge back", "secret", async (peer) => {
    const theirs = await peer.next();
    peer.send(theirs);
  }],
  ["does not know the secret", "secret", async (peer) => {
    await peer.hello();
    await peer.prove("some other secret of thirty-two bytes");
  }],
  ["names a schema and shows another", "malformed", async (peer) => {
    await peer.hello({ schema: ANOTHER });
    await peer.prove();
    assert.equal((await peer.next())[0], SCHEMA);
    peer.send(Buffer.from([SCHEMA, 0, 1, 0]));
  }],
  ["names another schema and shows none", "malformed", async (peer) => {
    await peer.hello({ schema: ANOTHER });
    await peer.prove();
    peer.send(Buffer.from([FRONTIER, 0, 0]));
  }],
  ["is no region at all", "malformed", async (peer) => {
    await peer.next();
    peer.send(Buffer.from("hello?"));
  }],
]) {
  test(`a peer that ${what} is refused as ${reason}`, async (t) => {
    const world = await withFalsePeer(t);
    const peer = await world.peer.dialled();
    await misbehave(peer);
    assert.equal((await peer.bye()).reason, number(reason));
    const problem = await problemOf(world.region, world.peer.url);
    assert.equal(problem.kind, reason);
    assert.ok(problem.cause && problem.remedy);
    assert.match(await metric(world.region, new RegExp(`^quire_peers_refused_total\\{reason="${reason}"\\}`)), / [1-9]/);
    const health = await fetch(`${world.region.http}/healthz/peers`);
    assert.equal(health.status, 503);
    assert.match(await health.text(), new RegExp(`: ${reason}: .*; `));
    await until("it is ready, since it has met the honest one", async () => (await fetch(`${world.region.http}/readyz`)).status === 200);
    await nothingElseHappened(t, world);
    // It is dialled again and again, and told once.
    await (await world.peer.dialled()).socket.close();
    assert.equal(world.region.log.match(/no link/g).length, 1);
  });
}

for (const [what, reason, frames] of [
  ["sends garbage", "malformed", [Buffer.from([99, 1, 2, 3])]],
  ["sends a batch with a wrong checksum", "malformed", [batch({ checksum: 7 })]],
  ["sends a batch that follows from nothing", "fork", [batch({ previous: Buffer.alloc(16, 1) })]],
  ["sends an update that no editor makes", "malformed", [batch({ kind: 1, payload: Buffer.from([1, 1, 1, 1]) })]],
  ["sends half a message", "malformed", [Buffer.from([8, 1])]],
]) {
  test(`a trusted peer that ${what} is cut off as ${reason}`, async (t) => {
    const world = await withFalsePeer(t);
    const peer = await world.peer.dialled();
    await peer.hello();
    await peer.prove();
    // It has nothing of the region's stream, so the region lets it speak.
    [Buffer.from([FRONTIER, 0, 0]), ...frames].forEach((bytes) => peer.send(bytes));
    assert.equal((await peer.bye()).reason, number(reason));
    assert.equal((await problemOf(world.region, world.peer.url)).kind, reason);
    assert.match(await metric(world.region, new RegExp(`^quire_links_ended_total\\{reason="${reason}"\\}`)), / [1-9]/);
    await nothingElseHappened(t, world);
    const { region } = await (await fetch(`${world.region.http}/v1/regions`)).json();
    assert.ok(!region.streams.some(({ replica }) => replica === 9), "nothing of it was stored");
  });
}

test("a trusted peer that sends an endless frame is cut off, and nobody holds it in memory", async (t) => {
  const world = await withFalsePeer(t);
  const peer = await world.peer.dialled();
  await peer.hello();
  await peer.prove();
  // The head of an unmasked frame of a tebibyte, as a server's frames are.
  const head = Buffer.alloc(10);
  head.writeUInt16BE(0x827f);
  head.writeBigUInt64BE(1n << 40n, 2);
  peer.socket._socket.write(head);
  await peer.closed;
  await nothingElseHappened(t, world);
});

/** What a region may have handed to a peer's connection that takes nothing: its own bound, and the system's buffers. */
const UNREAD_BYTES_MAX = 20 << 20;
const DOCUMENT_BYTES = 4 << 20;
const DOCUMENTS = 12;

test("a peer that gives endless credit and reads nothing is sent no more than a connection holds", async (t) => {
  const world = await withFalsePeer(t);
  const editors = Array.from({ length: DOCUMENTS }, (_, index) => openEditor(t, world.region, "y-websocket", `long ${index}`));
  for (const editor of editors) {
    await editor.synced();
    for (let piece = 0; piece < 8; piece++) editor.text.insert(0, randomBytes(DOCUMENT_BYTES / 16).toString("hex"));
    await editor.saved();
  }
  // Whoever dialled meanwhile may have lost patience, or be about to.
  let stale = await world.peer.dialled();
  while (stale.socket.readyState !== stale.socket.OPEN) stale = await world.peer.dialled();
  stale.socket.terminate();
  const peer = await world.peer.dialled();
  await peer.hello();
  await peer.prove();
  peer.send(Buffer.from([FRONTIER, 0, 0]));
  peer.send(Buffer.concat([Buffer.from([CREDIT]), frame(2 ** 50)]));
  peer.socket.pause();
  let sent = 0;
  let queued = 0;
  const ended = /^quire_links_ended_total\{reason="silent"\} [1-9]/;
  await until("the region gives it up", async () => {
    const of = (await peersOf(world.region)).find(({ replica }) => replica === 9);
    sent = Math.max(sent, of?.bytes_sent ?? 0);
    const line = await metric(world.region, /^quire_replication_queue_bytes\{peer="9"\}/);
    queued = Math.max(queued, Number(line?.split(" ")[1] ?? 0));
    return metric(world.region, ended);
  });
  t.diagnostic(`of ${DOCUMENTS * DOCUMENT_BYTES} bytes, ${sent} were taken out of the log and ${queued} waited`);
  assert.ok(queued > 0, "the queue is told of");
  assert.ok(sent < UNREAD_BYTES_MAX, `${sent} bytes were taken out of the log`);
  await nothingElseHappened(t, world);
});

test("a schema is shown to nobody who does not know the secret", async (t) => {
  const world = await withFalsePeer(t);
  const peer = await world.peer.dialled();
  await peer.hello({ schema: ANOTHER });
  await peer.prove("some other secret of thirty-two bytes");
  const { reason, before } = await peer.bye();
  assert.deepEqual([reason, before], [number("secret"), []]);
  await nothingElseHappened(t, world);
});

test("whoever connects without the secret learns nothing and is told so", async (t) => {
  const { region, file } = await withFalsePeer(t);
  const stranger = path.join(path.dirname(file), "stranger");
  await writeFile(stranger, randomBytes(32).toString("hex"));
  const url = region.http.replace("http", "ws");
  const other = await startServer(t, "--replica", "5", "--cluster-secret-file", stranger, "--peer", url);
  const problem = await problemOf(other, url);
  assert.equal(problem.kind, "secret");
  await until("the region has told of it", () => /a peer was refused.*secret/.test(region.log));
});

test("a peer whose name does not resolve is told of, and the region serves", async (t) => {
  const file = path.join(await temporaryDirectory(t), "secret");
  await writeFile(file, randomBytes(32).toString("hex"));
  const url = "ws://no-such-region.invalid:8080";
  const region = await startServer(t, "--cluster-secret-file", file, "--peer", url, "--peer", "ws://127.0.0.1:1");
  assert.equal((await problemOf(region, url)).kind, "resolve");
  assert.equal((await problemOf(region, "ws://127.0.0.1:1")).kind, "connect");
  const editor = openEditor(t, region, "y-websocket", "notes");
  await editor.synced();
  editor.text.insert(0, "still here");
  await editor.saved();
});

test("peers without a secret, and a follower without a cluster, are told before anything starts", async (t) => {
  const { code, stderr } = await runQuire("serve", "--data", await temporaryDirectory(t), "--peer", "ws://127.0.0.1:1", "--role", "follower");
  assert.equal(code, 2);
  assert.match(stderr, /peers need a secret to share/);
  assert.match(stderr, /a follower needs a cluster to follow/);
});
