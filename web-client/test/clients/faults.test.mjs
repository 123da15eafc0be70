// A disk that fails under a running server, or under its start: readiness says so, writes are refused with a reason,
// nothing stored is overwritten, nothing is called saved that is not, and after repair it goes on.
import assert from "node:assert/strict";
import { chmod } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import * as Y from "yjs";
import { assertUntouched, DamagedPages, FailingSync, filesOf, fullBeyond, withoutPrivileges } from "../harness/disk.mjs";
import { DIALECTS, openEditor } from "../harness/editors.mjs";
import { docOf } from "../harness/equal.mjs";
import { prepareServer, runQuire, startServer } from "../harness/server.mjs";
import { storedDoc, untilStored } from "../harness/stored.mjs";
import { until } from "../harness/until.mjs";
import { Witness } from "../harness/witness.mjs";

const TRY_AGAIN_LATER = 1013;
/** Nobody is to be spared a crowd that comes back: a stop need not take its time. */
const AT_ONCE = ["--drain-seconds", "0"];
/** A small journal fits, and so does a small store; a journal that holds what is typed then does not. */
const DISK_BYTES = 3 << 20;
const OVERFLOWING = "x".repeat(DISK_BYTES);

test("a full disk refuses writes, and what was refused is saved when there is room", async (t) => {
  const server = await prepareServer(t, ...AT_ONCE);
  server.conditions = fullBeyond(DISK_BYTES);
  await server.start();
  const region = await inUse(t, server);
  region.typed(OVERFLOWING);
  await region.refusesWrites("the disk is full", /^\S+: .*(too large|no space)/i);
  await region.goesOnAfterRestart();
});

test("a failed sync refuses writes, is not tried again, and what was refused is saved after a restart", async (t) => {
  const sync = await FailingSync.prepare(t);
  const server = await prepareServer(t, ...AT_ONCE);
  server.conditions = sync.conditions;
  await server.start();
  const region = await inUse(t, server);
  await sync.fail();
  region.typed("refused");
  await region.refusesWrites("the disk failed", /^\S+: .*input\/output error/i);
  assert.equal(await sync.refused(), 1, "a failed sync was tried again");
  // The disk is whole again, and still nobody knows what it holds before it has been read.
  await sync.repair();
  await region.stillRefuses();
  await region.goesOnAfterRestart();
});

test("a sync that fails as the server stops loses nothing", async (t) => {
  const sync = await FailingSync.prepare(t);
  const server = await prepareServer(t, ...AT_ONCE);
  server.conditions = sync.conditions;
  await server.start();
  const region = await inUse(t, server);
  await sync.fail();
  await region.stopsBadly(/^quire: the log failed while the server ran: store\.redb: .*input\/output error/im);
  await sync.repair();
  await region.comesBack();
});

test("a directory that may not be written is one clear line, and is left as it is", async (t) => {
  const server = await prepareServer(t, ...AT_ONCE);
  server.conditions = await withoutPrivileges(t, server.dataDir);
  const refuses = async (mode) => {
    const before = await filesOf(server.dataDir);
    await chmod(server.dataDir, mode);
    await assert.rejects(server.start(), /ended \(1\) before it listened/);
    await chmod(server.dataDir, 0o755);
    const said = server.log.trimEnd();
    assert.match(said.slice(said.lastIndexOf("\n") + 1), /^quire: cannot use the data directory \S+: .*permission denied/i);
    await assertUntouched(server.dataDir, before);
    return said;
  };
  assert.equal((await refuses(0o555)).split("\n").length, 1, "an empty directory");
  await server.start();
  assert.equal((await post(server, "", { name: "kept", seed: { text: "kept" } })).status, 201);
  assert.equal((await server.kill("SIGTERM")).code, 0);

  const names = [...(await filesOf(server.dataDir)).keys()];
  const permit = (mode) => Promise.all(names.map((name) => chmod(path.join(server.dataDir, name), mode)));
  await permit(0o444);
  await refuses(0o555);
  await refuses(0o000);
  await permit(0o644);
  await server.start();
  assert.equal(await textOf(server, "kept"), "kept");
  assert.equal((await post(server, "/kept/update", updateOf("more"))).status, 204);
});

test("a damaged page closes its document alone, and is not written over", async (t) => {
  const server = await startServer(t, ...AT_ONCE);
  const TEXT = "what this page holds. ";
  const writer = openEditor(t, server, "y-websocket", "damaged");
  await writer.synced();
  writer.text.insert(0, TEXT.repeat(4_000));
  await writer.saved();
  writer.close();
  assert.equal((await post(server, "", { name: "whole", seed: { text: "whole" } })).status, 201);
  assert.equal((await server.kill("SIGTERM")).code, 0);
  const damage = await DamagedPages.of(path.join(server.dataDir, "store.redb"), TEXT);
  await checkTells(server);

  await server.restart();
  const others = DIALECTS.map((dialect) => openEditor(t, server, dialect, "whole"));
  const refused = [
    openEditor(t, server, "y-websocket", "damaged"),
    openEditor(t, server, "hocuspocus", "damaged"),
    openEditor(t, server, "hocuspocus", "damaged", { beside: others[1] }),
  ];
  refused.forEach(({ text, dialect }) => text.insert(0, `typed with ${dialect}. `));
  const falselySaved = refused.map(watchSaved);
  await until("everybody is told why", () => refused.every(({ closes }) => closes.length > 0));
  for (const editor of refused) {
    assert.match(editor.closes[0].reason, /cannot be read/, editor.dialect);
    assert.ok(!editor.isSynced && editor.unsaved > 0, editor.dialect);
  }
  assert.equal(refused[0].closes[0].code, TRY_AGAIN_LATER);
  for (const request of writesTo(server, "damaged", "damaged")) await isRefused(await request(), /cannot be read/);
  for (const rest of ["", "/text", "/update"]) await isRefused(await fetch(at(server, "damaged", rest)), /cannot be read/);
  const { documents } = await (await fetch(`${server.http}/v1/docs`)).json();
  assert.deepEqual(documents.map(({ name }) => name), ["damaged", "whole"]);

  others.forEach(({ text, dialect }) => text.insert(0, `typed with ${dialect}. `));
  await Promise.all(others.map((editor) => editor.saved()));
  await untilStored(server, "whole", others.map(({ doc }) => doc));
  assert.deepEqual(others.map(({ losses }) => losses), [0, 0], "another document lost its connection");
  const ready = await fetch(`${server.http}/readyz`);
  assert.equal(ready.status, 200);
  assert.match(await ready.text(), /^ok, but 1 document cannot be read; /);
  assert.match(await (await fetch(`${server.http}/metrics`)).text(), /^quire_documents_load_failed_total [1-9]/m);
  assert.deepEqual(falselySaved.map((count) => count()), [0, 0, 0]);
  assert.deepEqual(await server.kill("SIGTERM"), { code: 0, signal: null });
  await damage.assertUntouched();

  await damage.repair();
  await server.restart();
  await Promise.all(refused.map((editor) => editor.saved()));
  await untilStored(server, "damaged", refused.map(({ doc }) => doc));
  const { length } = refused[0].text;
  assert.equal(length, refused.reduce((sum, { dialect }) => sum + `typed with ${dialect}. `.length, TEXT.length * 4_000));
});

/** A server with two editors of one document and a second one made over HTTP, all of it saved. */
async function inUse(t, server) {
  const editors = DIALECTS.map((dialect) => openEditor(t, server, dialect, "edited"));
  const readers = DIALECTS.map((dialect) => openEditor(t, server, dialect, "edited", { present: false }));
  const witnesses = editors.map((editor) => new Witness(editor));
  await Promise.all([...editors, ...readers].map((editor) => editor.synced()));
  editors.forEach(({ text, dialect }) => text.insert(0, `saved with ${dialect}. `));
  await Promise.all(editors.map((editor) => editor.saved()));
  await untilStored(server, "edited", editors.map(({ doc }) => doc));
  assert.equal((await post(server, "", { name: "quiet", seed: { text: "kept" } })).status, 201);
  return new Region(t, server, { editors, readers, witnesses });
}

/** What is expected of a server whose disk has failed. */
class Region {
  #saved;
  #falselySaved = [];
  #files;

  constructor(t, server, people) {
    Object.assign(this, { t, server, ...people });
    this.#saved = this.editors[0].text.toString();
  }

  /** Each editor types something that the disk will not take. */
  typed(text) {
    this.editors.forEach((editor) => editor.text.insert(editor.text.length, text));
    this.#falselySaved = this.editors.map(watchSaved);
  }

  async refusesWrites(kind, cause) {
    const { server, editors } = this;
    await until("everybody was closed, came back and was closed again", () => editors.every(({ losses }) => losses >= 2));
    for (const { closes, dialect } of editors) {
      assert.deepEqual(closes[0], { code: TRY_AGAIN_LATER, reason: "the server's disk takes no writes" }, dialect);
      assert.ok(closes.every(({ code, reason }) => code === TRY_AGAIN_LATER && reason !== ""), JSON.stringify(closes));
    }
    const { detail } = await isRefused(await fetch(`${server.http}/readyz`), new RegExp(`^${kind}; .*restart`));
    assert.match(detail.slice(detail.indexOf(": ") + 2), cause);
    const live = await fetch(`${server.http}/livez`);
    assert.deepEqual([live.status, await live.text()], [200, "ok\n"]);
    this.#files = await filesOf(server.dataDir);
    await this.stillRefuses();
    await this.#goesOnReading();
    await assertUntouched(server.dataDir, this.#files);
  }

  /** However small a write is, and whoever makes it. */
  async stillRefuses() {
    for (const request of writesTo(this.server, "quiet")) await isRefused(await request(), /takes no writes|cannot be opened/);
    for (const dialect of DIALECTS) {
      const name = `made with ${dialect}`;
      const editor = openEditor(this.t, this.server, dialect, name);
      const falselySaved = watchSaved(editor);
      editor.text.insert(0, "small");
      await until(`${name} is refused`, () => editor.losses > 0);
      assert.equal(editor.closes[0].code, TRY_AGAIN_LATER);
      assert.ok(editor.unsaved > 0);
      assert.equal(falselySaved(), 0);
      editor.close();
    }
    await isRefused(await fetch(`${this.server.http}/readyz`), /restart/);
    for (const editor of this.editors) assert.ok(editor.unsaved > 0, editor.dialect);
    assert.deepEqual(this.#falselySaved.map((count) => count()), [0, 0]);
  }

  async #goesOnReading() {
    const { server, editors, readers } = this;
    await until("the readers are back", () => readers.every((reader) => reader.losses > 0 && reader.isSynced));
    const [turnedAway, lost] = [editors, readers].map((people) => people.map(({ losses }) => losses));
    await until("the editors were turned away once more", () => editors.every(({ losses }, index) => losses > turnedAway[index] + 1));
    assert.deepEqual(readers.map(({ losses }) => losses), lost, "a reader is sent away with those who write");
    for (const { text } of readers) assert.equal(text.toString(), this.#saved);
    assert.equal(await textOf(server, "quiet"), "kept");
    assert.equal((await storedDoc(server, "quiet")).getText("content").toString(), "kept");
    assert.equal(await textOf(server, "edited"), this.#saved);
    for (const dialect of DIALECTS) {
      const reader = openEditor(this.t, server, dialect, "quiet");
      await reader.synced();
      assert.equal(reader.text.toString(), "kept");
      assert.equal(reader.losses, 0);
      reader.close();
    }
    const { documents } = await (await fetch(`${server.http}/v1/docs`)).json();
    assert.deepEqual(documents.map(({ name }) => name), ["edited", "quiet"]);
  }

  async goesOnAfterRestart() {
    await this.stopsBadly(/^quire: the log failed while the server ran: /m);
    await this.comesBack();
    assert.equal((await post(this.server, "/quiet/update", updateOf("more"))).status, 204);
    assert.equal((await this.server.kill("SIGTERM")).code, 0);
    const { code, stdout } = await runQuire("check", this.server.dataDir);
    assert.deepEqual([code, stdout.endsWith("Nothing is wrong.\n")], [0, true], stdout);
  }

  async stopsBadly(said) {
    assert.deepEqual(await this.server.kill("SIGTERM"), { code: 1, signal: null });
    await until("the server said why", () => said.test(this.server.log));
  }

  /** Nothing that was acknowledged is missing, and the editors bring the rest by themselves. */
  async comesBack() {
    const { server, editors, witnesses } = this;
    server.conditions = {};
    await server.restart();
    assert.equal((await fetch(`${server.http}/readyz`)).status, 200);
    assert.equal(await textOf(server, "quiet"), "kept");
    await Promise.all(editors.map((editor) => editor.saved()));
    await untilStored(server, "edited", editors.map(({ doc }) => doc));
    const stored = await storedDoc(server, "edited");
    witnesses.forEach((witness, index) => witness.assertHeldBy(stored, editors[index].dialect));
    assert.ok(stored.getText("content").toString().startsWith(this.#saved));
  }
}

/** Counts how often an editor believes from here on that all is saved. */
function watchSaved(editor) {
  let count = 0;
  if (editor.dialect === "hocuspocus") editor.provider.on("unsyncedChanges", ({ number }) => number === 0 && count++);
  // What a y-websocket editor was once told of it never takes back.
  return () => count + Number(editor.isSaved);
}

/** `quire check` names what cannot be read, and leaves the directory as it is. */
async function checkTells(server) {
  const before = await filesOf(server.dataDir);
  const { code, stdout, stderr } = await runQuire("check", server.dataDir);
  assert.equal(code, 1);
  assert.match(stdout, /^- store\.redb: .*corrupted.*; what can be read all the same is checked below$/m);
  assert.match(stdout, /^- store\.redb: the (tail|snapshot) of document "damaged".*checksum/m);
  assert.match(stderr, /is damaged; keep a copy of it, and restore it from a backup/);
  await assertUntouched(server.dataDir, before);
}

/** Every way to write to a document over HTTP, and to make one. Making one that exists writes nothing. */
function writesTo(server, name, made = `${name} too`) {
  const json = { "content-type": "application/json" };
  const splices = JSON.stringify({ splices: [{ at: 0, insert: "more" }] });
  return [
    () => post(server, `/${name}/update`, updateOf("more")),
    () => fetch(at(server, name, "/text"), { method: "PATCH", headers: json, body: splices }),
    () => fetch(at(server, name, ""), { method: "DELETE" }),
    () => post(server, `/${name}/copy`, { to: "copy" }),
    () => post(server, "", { name: made, seed: { text: "made" } }),
  ];
}

function at(server, name, rest) {
  return `${server.http}/v1/docs/${encodeURIComponent(name)}${rest}`;
}

function post(server, rest, body) {
  const bytes = body instanceof Uint8Array;
  const headers = { "content-type": bytes ? "application/octet-stream" : "application/json" };
  return fetch(`${server.http}/v1/docs${rest}`, { method: "POST", headers, body: bytes ? body : JSON.stringify(body) });
}

/** Asserts a problem document that says so, and returns it. */
async function isRefused(response, reason) {
  const text = await response.text();
  assert.deepEqual([response.status, response.headers.get("content-type")], [503, "application/problem+json"], `${response.url}: ${text}`);
  const problem = JSON.parse(text);
  assert.equal(problem.type, "urn:quire:problem:unavailable");
  assert.match(problem.detail, reason);
  return problem;
}

async function textOf(server, name) {
  const response = await fetch(at(server, name, "/text"));
  assert.equal(response.status, 200, name);
  return response.text();
}

function updateOf(text) {
  const doc = docOf(Uint8Array.of(0, 0));
  doc.getText("content").insert(0, text);
  return Y.encodeStateAsUpdate(doc);
}
