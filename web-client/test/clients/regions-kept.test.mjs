// What of the log is kept for peers: what one of them lacks, however often its writer is restarted, and no more.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { openEditor } from "../harness/editors.mjs";
import { metricOf } from "../harness/metrics.mjs";
import { until } from "../harness/until.mjs";

const WRITTEN_BYTES = 400_000;
/** Canaries go on, so that there is always a little that not everybody has acknowledged. */
const LITTLE_BYTES = 20_000;
const kept = (region) => metricOf(region, "quire_log_kept_bytes");

async function write(t, region, name) {
  const editor = openEditor(t, region, "y-websocket", name);
  await editor.synced();
  for (let piece = 0; piece < 8; piece++) editor.text.insert(0, "x".repeat(WRITTEN_BYTES / 8));
  await editor.saved();
  editor.close();
}

test("the log is kept for a region that is away, across restarts, and goes once all that count have it", async (t) => {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3), { args: ["--kept-acknowledged-seconds", "0"] });
  const [writer, other, away] = cluster.regions;
  await cluster.linked();
  await write(t, writer, "everybody-has-it");
  await cluster.settled();
  await until("what all have is let go of", async () => (await kept(writer)) < LITTLE_BYTES);

  await away.kill("SIGKILL");
  await write(t, writer, "one-lacks-it");
  // What is acknowledged by those that are there is not let go of, before the restart and after it.
  for (let round = 0; round < 2; round++) {
    await writer.kill("SIGTERM");
    await writer.restart();
    await until("the other has it", async () => {
      const { region } = await cluster.status(1);
      return region.streams.some(({ replica, applied }) => replica === 1 && applied > 8);
    });
    assert.ok((await kept(writer)) > WRITTEN_BYTES, `${await kept(writer)} bytes are kept`);
  }
  await away.restart();
  await cluster.settled();
  assert.equal(await metricOf(away, "quire_snapshots_imported_total"), 0, "the log had what it lacked");
  await until("what all have is let go of", async () => (await kept(writer)) < LITTLE_BYTES);

  await away.kill("SIGKILL");
  await write(t, other, "it-never-comes-back");
  const removed = () => fetch(`${writer.http}/v1/regions/3?lost=true`, { method: "DELETE" });
  await until("it is removed", async () => (await removed()).ok);
  await until("nothing is kept for it", async () => (await kept(writer)) < LITTLE_BYTES && (await kept(other)) < LITTLE_BYTES);
});
