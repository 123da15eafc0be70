// A wall clock that is wrong. How fast it goes is right, and so is every other clock.
import { compiled } from "./preload.mjs";

const WRONG_CLOCK_C = `
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Adds CLOCK_AHEAD_SECONDS to the time of day. */
int clock_gettime(clockid_t clock, struct timespec *time) {
  long failed = syscall(SYS_clock_gettime, clock, time);
  const char *ahead = getenv("CLOCK_AHEAD_SECONDS");
  if (failed == 0 && clock == CLOCK_REALTIME && ahead) time->tv_sec += atol(ahead);
  return (int)failed;
}
`;

/** Conditions under which a server's clock is ahead by so many seconds, or behind. */
export async function clockAheadBy(t, seconds) {
  const [, library] = await compiled(t, WRONG_CLOCK_C);
  return { env: { LD_PRELOAD: library, CLOCK_AHEAD_SECONDS: String(seconds) } };
}
