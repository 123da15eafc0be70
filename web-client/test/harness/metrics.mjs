// What a server says of itself in Prometheus's format.

/** The value of a metric without labels; not a number where there is none of that name. */
export async function metricOf(server, name) {
  const lines = (await (await fetch(`${server.http}/metrics`)).text()).split("\n");
  return Number(lines.find((line) => line.startsWith(`${name} `))?.split(" ").pop());
}
