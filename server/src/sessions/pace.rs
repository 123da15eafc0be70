//! How fast one socket may send. Too fast is not an offence: the reader waits, and the network slows
//! the sender down; nothing is lost.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// A rate: so much a second, and as much at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Messages a second.
    pub messages: NonZeroU32,
    /// Bytes a second.
    pub bytes: NonZeroU32,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            messages: NonZeroU32::new(2_000).expect("not zero"),
            bytes: NonZeroU32::new(16 << 20).expect("not zero"),
        }
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock>;

/// The limiters are asked once for so many messages, since asking reads the clock.
const MESSAGES_AT_ONCE: u32 = 16;
/// Or once for so many bytes.
const BYTES_AT_ONCE: u32 = 64 << 10;

/// Holds one socket to its rate.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    messages: Limiter,
    bytes: Limiter,
    taken_messages: u32,
    taken_bytes: u32,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            messages: RateLimiter::direct(Quota::per_second(rate.messages)),
            bytes: RateLimiter::direct(Quota::per_second(rate.bytes)),
            taken_messages: 0,
            taken_bytes: 0,
        }
    }

    /// Notes a message of this length. One longer than a second's worth counts as a second's worth.
    pub(super) fn note(&mut self, bytes: usize) {
        self.taken_messages += 1;
        self.taken_bytes = self.taken_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// How long what was noted must wait; none when it may be taken now.
    pub(super) fn delay(&mut self) -> Option<Duration> {
        ask(&self.messages, &mut self.taken_messages, MESSAGES_AT_ONCE, self.rate.messages)
            .or_else(|| ask(&self.bytes, &mut self.taken_bytes, BYTES_AT_ONCE, self.rate.bytes))
    }
}

fn ask(limiter: &Limiter, taken: &mut u32, at_once: u32, burst: NonZeroU32) -> Option<Duration> {
    if *taken < at_once.min(burst.get()) {
        return None;
    }
    let asked = NonZeroU32::new((*taken).min(burst.get()))?;
    let refused = match limiter.check_n(asked) {
        Ok(Err(refused)) => refused,
        // It is at most the quota's burst, so the limiter can always grant it in time.
        Ok(Ok(())) | Err(_) => {
            *taken = 0;
            return None;
        }
    };
    Some(refused.wait_time_from(DefaultClock::default().now()))
}
