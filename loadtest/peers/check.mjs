// Proves that a stock client of each server syncs through it: an edit of one arrives at another.
//
// `node check.mjs [NAME…]` starts each server as peers.toml does, over a directory of its own, and ends it.
import { HocuspocusProvider } from "@hocuspocus/provider";
import { createYjsProvider } from "@y-sweet/client";
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { WebsocketProvider } from "y-websocket";
import WebSocket from "ws";
import * as Y from "yjs";

const WAIT_MS_MAX = 30_000;
const here = dirname(fileURLToPath(import.meta.url));
const DOC = "check-1";

// What the stock clients of each dialect are given; the rest is theirs.
const clients = {
  "y-websocket": (port, doc) =>
    new WebsocketProvider(`ws://127.0.0.1:${port}`, DOC, doc, { WebSocketPolyfill: WebSocket, disableBc: true }),
  quire: (port, doc) =>
    new WebsocketProvider(`ws://127.0.0.1:${port}/ws`, DOC, doc, { WebSocketPolyfill: WebSocket, disableBc: true }),
  hocuspocus: (port, doc) => new HocuspocusProvider({ url: `ws://127.0.0.1:${port}`, name: DOC, document: doc }),
  "y-sweet": (port, doc) =>
    createYjsProvider(doc, DOC, () => token(port), { WebSocketPolyfill: WebSocket, showDebuggerLink: false }),
};

// A backend's part: the document is made, and its address is asked for.
async function token(port) {
  const post = async (path, body) => {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer.json();
  };
  await post("/doc/new", { docId: DOC });
  return post(`/doc/${DOC}/auth`, {});
}

// Of peers.toml only what is needed here, which is written plainly enough there to be read line by line.
function peers() {
  const found = [];
  let peer = {};
  for (const line of readFileSync(join(here, "peers.toml"), "utf8").split("\n")) {
    if (line.startsWith("[[")) peer = {};
    if (line === "[[peer]]") found.push(peer);
    const [, key, value] = /^(name|command|dialect|env) = (.*)$/.exec(line) ?? [];
    if (key === "env") peer.env = Object.fromEntries([...value.matchAll(/(\w+) = "([^"]*)"/g)].map(([, k, v]) => [k, v]));
    else if (key) peer[key] = JSON.parse(value);
  }
  return found;
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function until(is, what) {
  const end = Date.now() + WAIT_MS_MAX;
  while (!is()) {
    if (Date.now() > end) throw new Error(`${what}: not within ${WAIT_MS_MAX / 1000} s`);
    await wait(20);
  }
}

async function check({ name, command, env = {}, dialect }) {
  const port = await freePort();
  const data = mkdtempSync(join(tmpdir(), "peers-check-"));
  const log = join(data, "server.log");
  const bin = process.env.QUIRE_BIN ? dirname(process.env.QUIRE_BIN) : join(here, "../../target/release");
  const fill = (text) => text.replaceAll("{port}", port).replaceAll("{data}", data).replaceAll("{bin}", bin);
  const [program, ...args] = command.map(fill);
  const file = openSync(log, "w");
  const filled = Object.fromEntries(Object.entries(env).map(([key, value]) => [key, fill(value)]));
  const server = spawn(join(program.startsWith("/") ? "" : here, program), args, {
    cwd: here,
    env: { ...process.env, ...filled },
    stdio: ["ignore", file, file],
  });
  const ended = new Promise((resolve) => server.once("exit", resolve).once("error", resolve));
  const docs = [new Y.Doc(), new Y.Doc()];
  const providers = [];
  try {
    for (const doc of docs) providers.push(clients[dialect](port, doc));
    const [one, other] = docs.map((doc) => doc.getText("text"));
    await until(() => providers.every((provider) => provider.synced), "both clients are synced");
    one.insert(0, "an edit");
    await until(() => other.toString() === "an edit", "it arrives at the other");
    other.insert(7, " and an answer");
    await until(() => one.toString() === "an edit and an answer", "the answer arrives");
    // One that comes later gets it from the server.
    const late = new Y.Doc();
    providers.push(clients[dialect](port, late));
    docs.push(late);
    await until(() => late.getText("text").toString() === "an edit and an answer", "a third gets it");
    console.log(`${name.padEnd(20)} syncs`);
    return true;
  } catch (error) {
    const said = readFileSync(log, "utf8").trim().split("\n").slice(-5).join("\n  ");
    console.log(`${name.padEnd(20)} FAILED: ${error.message}\n  ${said}`);
    return false;
  } finally {
    for (const provider of providers) provider.destroy();
    for (const doc of docs) doc.destroy();
    server.kill("SIGTERM");
    const killer = setTimeout(() => server.kill("SIGKILL"), 10_000);
    if (server.pid) await ended;
    clearTimeout(killer);
    rmSync(data, { recursive: true, force: true });
  }
}

const only = process.argv.slice(2);
const results = [];
for (const peer of peers().filter(({ name }) => only.length === 0 || only.includes(name))) {
  results.push(await check(peer));
}
process.exit(results.length > 0 && results.every(Boolean) ? 0 : 1);
