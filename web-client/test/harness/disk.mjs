// A disk that fails: it is full, it cannot sync or is slow at it, it may not be written, or a page of it is damaged.
//
// A fault that strikes one server is part of its `conditions`, so that a restart without them is the repair.
import assert from "node:assert/strict";
import { chown, copyFile, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { compiled } from "./preload.mjs";
import { BIN, temporaryDirectory } from "./server.mjs";

/** POSIX counts a file's length in these for `ulimit`. */
const ULIMIT_BLOCK_BYTES = 512;
const PAGE_BYTES = 4096;
const NOBODY = 65534;

/** Conditions under which no file grows beyond so many bytes: the write is refused with EFBIG, as by a full disk. */
export function fullBeyond(bytes) {
  const script = `trap '' XFSZ; ulimit -f ${bytes / ULIMIT_BLOCK_BYTES}; exec "$@"`;
  return { before: ["/bin/sh", "-c", script, "sh"] };
}

const FAILING_SYNC_C = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Refuses while the file named by FAILING_SYNC exists, and notes each refusal in it. */
static long answer(long call, int fd) {
  const char *trigger = getenv("FAILING_SYNC");
  int noted = trigger ? open(trigger, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
  if (noted < 0) return syscall(call, fd);
  ssize_t written = write(noted, "x", 1);
  (void)written;
  close(noted);
  errno = EIO;
  return -1;
}

int fsync(int fd) { return (int)answer(SYS_fsync, fd); }
int fdatasync(int fd) { return (int)answer(SYS_fdatasync, fd); }
`;

const SLOW_SYNC_C = `
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Takes half a second while the file named by SLOW_SYNC exists. */
static long answer(long call, int fd) {
  const char *trigger = getenv("SLOW_SYNC");
  struct timespec nap = {0, 500000000};
  if (trigger && access(trigger, F_OK) == 0) nanosleep(&nap, 0);
  return syscall(call, fd);
}

int fsync(int fd) { return (int)answer(SYS_fsync, fd); }
int fdatasync(int fd) { return (int)answer(SYS_fdatasync, fd); }
`;

/** A disk whose syncs take their time from `slow()` to `fast()`. */
export class SlowSync {
  #trigger;

  static async prepare(t) {
    return new SlowSync(...(await compiled(t, SLOW_SYNC_C)));
  }

  constructor(directory, library) {
    this.#trigger = path.join(directory, "slow");
    this.conditions = { env: { LD_PRELOAD: library, SLOW_SYNC: this.#trigger } };
  }

  async slow() {
    await writeFile(this.#trigger, "");
  }

  async fast() {
    await rm(this.#trigger);
  }
}

/** A disk whose syncs fail from `fail()` to `repair()`. */
export class FailingSync {
  #trigger;

  static async prepare(t) {
    return new FailingSync(...(await compiled(t, FAILING_SYNC_C)));
  }

  constructor(directory, library) {
    this.#trigger = path.join(directory, "fails");
    this.conditions = { env: { LD_PRELOAD: library, FAILING_SYNC: this.#trigger } };
  }

  async fail() {
    await writeFile(this.#trigger, "");
  }

  async repair() {
    await rm(this.#trigger);
  }

  /** How many syncs were refused. */
  async refused() {
    return (await stat(this.#trigger)).size;
  }
}

/**
 * Conditions under which permissions mean something: root is given none of them, so that a test run by root has
 * its server run by nobody, who is given the directory and a copy of the binary.
 */
export async function withoutPrivileges(t, directory) {
  if (process.getuid() !== 0) return {};
  const home = await temporaryDirectory(t);
  const bin = path.join(home, "quire");
  await copyFile(BIN, bin);
  for (const owned of [home, bin, directory]) await chown(owned, NOBODY, NOBODY);
  return { bin, uid: NOBODY, gid: NOBODY };
}

/** The bytes of each file in a directory. */
export async function filesOf(directory) {
  const names = (await readdir(directory)).sort();
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(path.join(directory, name))])));
}

/** Asserts that a directory holds what it held. */
export async function assertUntouched(directory, before) {
  const after = await filesOf(directory);
  assert.deepEqual([...after.keys()], [...before.keys()]);
  for (const [name, bytes] of before) assert.ok(bytes.equals(after.get(name)), `${name} has changed`);
}

/**
 * A page of each run of `text` in a file, overwritten as a failing disk would. There may be several runs: where the
 * text is, and where it was before it was moved.
 */
export class DamagedPages {
  #file;
  #runs;

  static async of(file, text) {
    const bytes = await readFile(file);
    const runs = runsOf(bytes, text).map((run) => ({ ...run, page: pageWithin(run) })).filter(({ page }) => page !== null);
    assert.ok(runs.length > 0, `no page of ${file} holds nothing but this text`);
    const damaged = new DamagedPages(file, runs.map(({ start, end, page }) => ({ start, page, whole: bytes.subarray(start, end) })));
    await damaged.#overwrite(() => Buffer.alloc(PAGE_BYTES, 0xdb));
    return damaged;
  }

  constructor(file, runs) {
    this.#file = file;
    this.#runs = runs;
  }

  async repair() {
    await this.#overwrite(({ start, page, whole }) => whole.subarray(page - start, page - start + PAGE_BYTES));
  }

  /** Asserts that each run is still as the damage left it. */
  async assertUntouched() {
    const bytes = await readFile(this.#file);
    for (const { start, page, whole } of this.#runs) {
      const left = Buffer.from(whole).fill(0xdb, page - start, page - start + PAGE_BYTES);
      assert.ok(left.equals(bytes.subarray(start, start + whole.length)), "what is stored beside a damaged page has changed");
    }
  }

  async #overwrite(bytesOf) {
    const handle = await open(this.#file, "r+");
    for (const run of this.#runs) await handle.write(bytesOf(run), 0, PAGE_BYTES, run.page);
    await handle.close();
  }
}

/** Where `text` comes again and again without anything between. */
function runsOf(bytes, text) {
  const runs = [];
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + text.length)) {
    const run = runs.at(-1);
    if (run?.end === at) run.end = at + text.length;
    else runs.push({ start: at, end: at + text.length });
  }
  return runs;
}

/** Where the middle one of the pages begins that lie in a run; null when none does. */
function pageWithin({ start, end }) {
  const [first, beyond] = [Math.ceil(start / PAGE_BYTES), Math.floor(end / PAGE_BYTES)];
  return first < beyond ? Math.floor((first + beyond) / 2) * PAGE_BYTES : null;
}
