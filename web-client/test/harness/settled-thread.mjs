// Tells when all regions have applied the same, in a thread of its own: whoever waits for it may be busy then.
import { parentPort, workerData } from "node:worker_threads";
import { Cluster } from "./cluster.mjs";

await new Cluster(workerData.map((http) => ({ http })), []).settled();
parentPort.postMessage(performance.timeOrigin + performance.now());
