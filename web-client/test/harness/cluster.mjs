// Real regions with wires between them, in any shape, on one machine.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { prepareServer, temporaryDirectory } from "./server.mjs";
import { until } from "./until.mjs";
import { Wire } from "./wire.mjs";

/** Who dials whom in a cluster of `count`. */
export const SHAPES = {
  mesh: (count) => pairs(count),
  star: (count) => pairs(count).filter(([, to]) => to === 0),
  ring: (count) => Array.from({ length: count }, (_, at) => [at, (at + 1) % count]),
};

function pairs(count) {
  const all = [];
  for (let from = 0; from < count; from++) for (let to = 0; to < from; to++) all.push([from, to]);
  return all;
}

export class Cluster {
  constructor(regions, wires, token) {
    this.regions = regions;
    /** Each `{ from, to, wire }`. */
    this.wires = wires;
    /** What requests say of who asks. */
    this.headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  wireBetween(a, b) {
    return this.wires.find(({ from, to }) => (from === a && to === b) || (from === b && to === a)).wire;
  }

  /** The wires that end at a region. */
  wiresOf(at) {
    return this.wires.filter(({ from, to }) => from === at || to === at).map(({ wire }) => wire);
  }

  /** How it goes between a region and the others, as it says. */
  async status(at) {
    return (await fetch(`${this.regions[at].http}/v1/regions`, { headers: this.headers })).json();
  }

  /** Waits until every wire that is not cut carries a link. */
  async linked() {
    for (const { from, to, wire } of this.wires) {
      if (wire.isCut) continue;
      for (const [at, peer] of [[from, to], [to, from]]) {
        await until(`region ${at} is linked to ${peer}`, async () => {
          const { peers } = await this.status(at);
          return peers.some(({ replica, linked, rtt_ms }) => replica === peer + 1 && linked && rtt_ms !== undefined);
        });
      }
    }
  }

  /** Waits until all regions have applied the same. */
  async settled() {
    await until("all regions have applied the same", async () => {
      const all = await Promise.all(this.regions.map((_, at) => this.status(at)));
      const applied = all.map(({ region }) => JSON.stringify(region.streams.map(({ replica, incarnation, applied }) => [replica, incarnation, applied])));
      const waiting = all.some(({ region }) => region.streams.some(({ received, applied }) => received !== applied));
      return !waiting && applied.every((one) => one === applied[0]);
    });
  }

  /** When all regions have applied the same, by this process's clock, whatever its editors keep it busy with. */
  async settledAt() {
    const workerData = this.regions.map(({ http }) => http);
    const watch = new Worker(new URL("./settled-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    const [at] = await once(watch, "message");
    return at - performance.timeOrigin;
  }
}

/**
 * Starts regions with replicas 1, 2, 3… and a wire for each pair of `links`, whose first dials. The wires of `cut` let
 * nothing through from the start. `conditions` has those of each region, in their order; `token` is for those who ask
 * how the regions are.
 */
export async function startCluster(t, count, links, { args = [], cut = [], conditions = [], token } = {}) {
  const secret = path.join(await temporaryDirectory(t), "secret");
  await writeFile(secret, randomBytes(32).toString("hex"));
  const regions = [];
  const wires = [];
  for (const [from, to] of links) {
    const wire = await new Wire(() => regions[to]?.http && new URL(regions[to].http).port).open();
    t.after(() => wire.close());
    if (cut.some(([a, b]) => a === from && b === to)) wire.cut();
    wires.push({ from, to, wire });
  }
  for (let at = 0; at < count; at++) {
    const peers = wires.filter(({ from }) => from === at).flatMap(({ wire }) => ["--peer", `ws://127.0.0.1:${wire.port}`]);
    const words = ["--replica", String(at + 1), "--region", `region-${at}`, "--cluster-secret-file", secret, ...peers, ...args];
    regions.push(await prepareServer(t, ...words));
    regions[at].conditions = conditions[at] ?? {};
  }
  await Promise.all(regions.map((region) => region.start()));
  return new Cluster(regions, wires, token);
}
