// Repeatable randomness: the seed is printed by the test that fails, and QUIRE_SEED plays it again.

export const SEED = Number(process.env.QUIRE_SEED || Math.floor(Math.random() * 2 ** 31));

/** A small generator (mulberry32): `below(n)` gives an integer in 0..n, `pick` one of a list. */
export function randomFrom(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (limit) => Math.floor(next() * limit);
  return { below, pick: (list) => list[below(list.length)], chance: (share) => next() < share };
}
