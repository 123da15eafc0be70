// What is loaded into a server before the C library, so that a call of the system answers otherwise.
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { temporaryDirectory } from "./server.mjs";

const run = promisify(execFile);

/** A directory of a test's own, and in it the library that a C text makes. */
export async function compiled(t, text) {
  const directory = await temporaryDirectory(t);
  const [source, library] = ["preload.c", "preload.so"].map((name) => path.join(directory, name));
  await writeFile(source, text);
  await run("cc", ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source]).catch((error) => {
    if (error.code === "ENOENT") throw new Error("faults of the system are made with a C compiler: install one as `cc`");
    throw error;
  });
  return [directory, library];
}
