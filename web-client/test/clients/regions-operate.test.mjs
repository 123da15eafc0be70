// What operators rely on: every metric of replication is there, a region that stops has handed over what it wrote, and
// links can be encrypted.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { SHAPES, startCluster } from "../harness/cluster.mjs";
import { openEditor } from "../harness/editors.mjs";
import { prepareServer, startServer, temporaryDirectory } from "../harness/server.mjs";
import { storedDoc } from "../harness/stored.mjs";
import { until, within } from "../harness/until.mjs";

const metricsOf = async (region) => (await fetch(`${region.http}/metrics`)).text();

test("every metric of replication is there in a cluster of two", async (t) => {
  const cluster = await startCluster(t, 2, SHAPES.mesh(2));
  await cluster.linked();
  const names = [
    'quire_replication_lag_seconds{origin="2"}',
    'quire_replication_queue_entries{peer="2"}',
    'quire_replication_queue_bytes{peer="2"}',
    'quire_peer_rtt_seconds{peer="2"}',
    'quire_clock_offset_seconds{peer="2"}',
    'quire_peer_linked{peer="2"}',
    "quire_duplicates_total",
    "quire_causal_wait_seconds_count",
    "quire_divergence_total",
  ];
  // The lag is known once the first canary has come.
  await until("all are there", async () => {
    const lines = (await metricsOf(cluster.regions[0])).split("\n");
    return names.every((name) => lines.some((line) => line.startsWith(`${name} `)));
  });
});
