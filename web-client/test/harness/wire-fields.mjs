// What a wire and its thread have in common: numbers in shared memory, so that a cut holds from the moment it is made.

export const FIELDS = { delayMs: 0, jitterMs: 1, deafThere: 2, deafBack: 3, isCut: 4, bytes: 5 };
