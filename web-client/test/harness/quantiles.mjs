// What delays are reported by, in milliseconds to a tenth.

/** The median, the 99th of 100, and the greatest. */
export function quantiles(delays) {
  const sorted = [...delays].sort((a, b) => a - b);
  const at = (share) => Math.round(10 * sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]) / 10;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
