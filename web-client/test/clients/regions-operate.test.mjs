// What operators rely on: every metric of replication is there, a region that stops has handed over what it wrote, and
// links can be encrypted.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
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

test("what is told of a link ends with it, and a peer that never came is told of by its URL", async (t) => {
  const cluster = await startCluster(t, 3, [[0, 1], [0, 2]], { cut: [[0, 2]] });
  await cluster.linked();
  const [region] = cluster.regions;
  const wire = cluster.wireBetween(0, 1);
  const nobody = `quire_peer_linked{peer="ws://127.0.0.1:${cluster.wireBetween(0, 2).port}"} 0`;
  const told = async () => (await metricsOf(region)).match(/^quire_\w+\{(?:peer|origin)=.*$/gm);
  const ofLink = ["clock_offset_seconds", "peer_rtt_seconds", "replication_queue_bytes", "replication_queue_entries"];
  const names = (lines) => lines.filter((line) => line.includes('{peer="2"}')).map((line) => line.split(/[{ ]/)[0].slice(6)).sort();
  await until("the lag is known", async () => (await told()).some((line) => line.startsWith('quire_replication_lag_seconds{origin="2"}')));
  let lines = await told();
  assert.deepEqual(names(lines), [...ofLink, "peer_linked"].sort());
  assert.ok(lines.includes('quire_peer_linked{peer="2"} 1') && lines.includes(nobody));

  wire.cut();
  await until("it has no link", async () => (lines = await told()).includes('quire_peer_linked{peer="2"} 0'));
  assert.deepEqual(names(lines), ["peer_linked"]);
  assert.ok(lines.includes(nobody));
  // The lag goes on: what the peer writes does not come.
  const lag = async () => Number((await told()).find((line) => line.startsWith('quire_replication_lag_seconds{origin="2"}')).split(" ")[1]);
  const before = await lag();
  await until("the lag grows", async () => (await lag()) > before + 1);
  wire.heal();
  await cluster.linked();
  assert.deepEqual(names(await told()), [...ofLink, "peer_linked"].sort());
});

test("every metric that the alerts and the dashboard ask for is there in a region with a peer", async (t) => {
  const operating = new URL("../../../docs/operating/", import.meta.url);
  const texts = await Promise.all(["alerts.yml", "grafana.json"].map((name) => readFile(new URL(name, operating), "utf8")));
  const asked = new Set(texts.flatMap((text) => text.match(/\b(?:quire|process)_\w+/g)));
  assert.ok(asked.size > 15, [...asked].join(" "));
  // There is one for each webhook.
  asked.delete("quire_webhook_behind_seconds");
  const cluster = await startCluster(t, 2, SHAPES.mesh(2));
  await cluster.linked();
  // Why links ended is counted from the first one on.
  cluster.wireBetween(0, 1).reset();
  await until(() => `there are: ${[...asked].join(" ")}`, async () => {
    const lines = (await metricsOf(cluster.regions[0])).split("\n");
    for (const line of lines) asked.delete(line.split(/[{ ]/)[0]);
    return asked.size === 0;
  });
});

test("a region that stops has handed over what it wrote, however far its peers are", async (t) => {
  const cluster = await startCluster(t, 3, SHAPES.mesh(3));
  await cluster.linked();
  for (const { wire } of cluster.wires) wire.delayMs = 200;
  const [region] = cluster.regions;
  const editor = openEditor(t, region, "y-websocket", "last words");
  await editor.synced();
  const text = randomBytes(1 << 20).toString("hex");
  editor.text.insert(0, text);
  await editor.saved();
  editor.close();
  const ended = await within("the region's end", region.kill("SIGTERM"));
  assert.deepEqual(ended, { code: 0, signal: null });
  assert.doesNotMatch(region.log, /before all peers have everything/);
  for (const other of cluster.regions.slice(1)) {
    const stored = await storedDoc(other, "last words");
    assert.ok(stored.getText("content").toString() === text, "it has everything, at once");
  }
});

test("a region that stops waits no longer than it drains for a peer that does not answer, and says so", async (t) => {
  const cluster = await startCluster(t, 2, SHAPES.mesh(2), { args: ["--drain-seconds", "1"] });
  await cluster.linked();
  const [region] = cluster.regions;
  cluster.wireBetween(0, 1).deaf = { there: true, back: true };
  const editor = openEditor(t, region, "y-websocket", "last words");
  await editor.synced();
  editor.text.insert(0, "nobody hears this");
  await editor.saved();
  editor.close();
  const ended = await within("the region's end", region.kill("SIGTERM"));
  assert.deepEqual(ended, { code: 0, signal: null });
  assert.match(region.log, /before all peers have everything.*peer 2: \d+/);
});

/** An authority of a test's own, and a certificate for this machine that it has signed: `{ authority, args }`. */
async function certified(t) {
  const directory = await temporaryDirectory(t);
  const at = (name) => path.join(directory, name);
  const openssl = (...words) => execFileSync("openssl", words, { stdio: "pipe" });
  const key = (name) => ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", at(name)];
  openssl("req", "-x509", ...key("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=authority of a test", "-days", "2");
  openssl("req", ...key("region.key"), "-out", at("region.csr"), "-subj", "/CN=localhost");
  await writeFile(at("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
  const signed = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial", "-days", "2", "-extfile", at("names")];
  openssl("x509", "-req", "-in", at("region.csr"), "-out", at("region.pem"), ...signed);
  return { authority: at("ca.pem"), args: ["--tls-cert", at("region.pem"), "--tls-key", at("region.key")] };
}

test("a link over TLS comes up where its authority is known, and says what is wrong where it is not", async (t) => {
  const tls = await certified(t);
  const secret = path.join(await temporaryDirectory(t), "secret");
  await writeFile(secret, randomBytes(32).toString("hex"));
  const listening = await startServer(t, ...tls.args, "--replica", "1", "--cluster-secret-file", secret);
  const url = `wss://localhost:${new URL(listening.http).port}`;
  const dialling = async (replica, env) => {
    const region = await prepareServer(t, "--replica", replica, "--cluster-secret-file", secret, "--peer", url);
    region.conditions = { env };
    await region.start();
    return region;
  };
  const peersOf = async (region) => (await (await fetch(`${region.http}/v1/regions`)).json()).peers;

  const trusting = await dialling("2", { SSL_CERT_FILE: tls.authority });
  await until("there is a link", async () => (await peersOf(trusting)).some(({ replica, linked }) => replica === 1 && linked));
  const editor = openEditor(t, trusting, "y-websocket", "sealed");
  await editor.synced();
  editor.text.insert(0, "nobody reads this on the way");
  await editor.saved();
  await until("the other region has all of it", async () => {
    const { region } = await (await fetch(`${trusting.http}/v1/regions`)).json();
    const [peer] = await peersOf(trusting);
    return region.streams.some(({ replica }) => replica === 2) && peer.batches_sent > 0 && peer.queue_entries === 0;
  });

  const stranger = await certified(t);
  const doubting = await dialling("3", { SSL_CERT_FILE: stranger.authority });
  await until("the cause is told", async () => (await peersOf(doubting)).some(({ problem }) => problem?.kind === "tls"));
  const health = await fetch(`${doubting.http}/healthz/peers`);
  assert.equal(health.status, 503);
  assert.match(await health.text(), /: tls: .*; .*SSL_CERT_FILE/);
});
