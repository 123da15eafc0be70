// Starts the real `quire` binary on a free port with a fresh data directory, and ends only what it started.
//
// The binary is named by QUIRE_BIN. Nothing is read from the server but what it prints and serves.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const BIN =
  process.env.QUIRE_BIN || fileURLToPath(new URL("../../../target/debug/quire", import.meta.url));

// The tests' own variables, and whatever a person has set for a server of theirs, are not for this one.
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("QUIRE_")));

const START_DEADLINE_MS = 60_000;
const LOG_CHARS_KEPT = 20_000;
/** How a panic begins in the log. It ends one task, and the rest may go on as if nothing had happened. */
const PANIC = /^thread '.*' .*panicked at /m;

/** One running server. A killed one is started again on the same directory and port by `restart`. */
export class Server {
  #child;
  #args;
  #log = "";
  /**
   * What the next start is like: `bin` instead of the binary, `before` (words in front of it), `env` (variables
   * beside the process's own), `uid` and `gid`.
   */
  conditions = {};

  constructor(dataDir, args) {
    this.dataDir = dataDir;
    this.#args = args;
  }

  /** A copy of its data directory; while it is stopped. */
  async copyData(t) {
    const copy = `${await temporaryDirectory(t)}/backup`;
    await cp(this.dataDir, copy, { recursive: true });
    return copy;
  }

  /** Puts such a copy in the place of its data directory; while it is stopped. */
  async setBackTo(copy) {
    await rm(this.dataDir, { recursive: true });
    await cp(copy, this.dataDir, { recursive: true });
  }

  /** Runs the binary until it says that it listens. */
  async start(listen = "127.0.0.1:0") {
    const { bin = BIN, before = [], env = {}, uid, gid } = this.conditions;
    const [command, ...words] = [...before, bin, "serve", "--listen", listen, "--data", this.dataDir, ...this.#args];
    const child = spawn(command, words, { stdio: ["ignore", "pipe", "pipe"], env: { ...ENVIRONMENT, ...env }, uid, gid });
    this.#child = child;
    this.expectedToStop = false;
    this.stopped = once(child, "exit").then(([code, signal]) => ({ code, signal }));
    child.stderr.setEncoding("utf8").on("data", (text) => {
      this.#log = (this.#log + text).slice(-LOG_CHARS_KEPT);
      this.panicked ||= PANIC.test(this.#log);
    });
    const address = await this.#address(child);
    this.http = address;
    this.ws = `${address.replace(/^http/, "ws")}/ws`;
    this.hocuspocus = `${address.replace(/^http/, "ws")}/hocuspocus`;
  }

  get pid() {
    return this.#child.pid;
  }

  get log() {
    return this.#log;
  }

  get running() {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Sends a signal and waits for the end: `{ code, signal }`. */
  async kill(signal) {
    this.expectedToStop = true;
    if (this.running) this.#child.kill(signal);
    return this.stopped;
  }

  /** Starts it again where it was, so that its editors find it. */
  async restart() {
    await this.start(new URL(this.http).host);
  }

  async #address(child) {
    const lines = createInterface({ input: child.stdout });
    const said = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`quire is not listening after ${START_DEADLINE_MS} ms`)), START_DEADLINE_MS);
      lines.on("line", (line) => {
        const found = /^listening on (https?:\/\/\S+)$/.exec(line);
        if (!found) return;
        clearTimeout(timer);
        resolve(found[1]);
      });
      child.once("error", (error) => {
        clearTimeout(timer);
        reject(new Error(`cannot run ${child.spawnfile}: ${error.message}`));
      });
      // Not "exit": by "close" all that it said has been read.
      child.once("close", (code, signal) => {
        clearTimeout(timer);
        reject(new Error(`quire ended (${signal ?? code}) before it listened`));
      });
    });
    try {
      return await said;
    } catch (error) {
      error.message += `\n--- its log ---\n${this.#log}`;
      throw error;
    }
  }
}

/** A server for one test, gone when the test is. */
export async function startServer(t, ...args) {
  const server = await prepareServer(t, ...args);
  await server.start();
  return server;
}

/** The same, still to be started. */
export async function prepareServer(t, ...args) {
  const server = new Server(await temporaryDirectory(t), args);
  t.after(async () => {
    const died = server.stopped && !server.running && !server.expectedToStop;
    if (died || server.panicked || process.env.QUIRE_TEST_LOG) console.error(`--- log of quire (${t.name}) ---\n${server.log}`);
    if (server.stopped) await server.kill("SIGKILL");
    assert.ok(!server.panicked, "the server panicked");
  });
  return server;
}

/** Runs another command of the binary to its end: `{ code, stdout, stderr }`. */
export function runQuire(...words) {
  return new Promise((resolve) => {
    execFile(BIN, words, { env: ENVIRONMENT }, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, stdout, stderr }));
  });
}

/** A directory of its own for one test. */
export async function temporaryDirectory(t) {
  const directory = await mkdtemp(path.join(tmpdir(), "quire-test-"));
  t.after(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
  return directory;
}

