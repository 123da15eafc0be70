//! How fast one socket may send. Too fast is not an offence: the reader waits, and the network slows
//! the sender down; nothing is lost.

use std::num::NonZeroU32;

use governor::clock::DefaultClock;
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

/// Holds one socket to its rate.
#[derive(Debug)]
pub(super) struct Pace {
    messages: Limiter,
    bytes: Limiter,
    bytes_max: NonZeroU32,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            messages: RateLimiter::direct(Quota::per_second(rate.messages)),
            bytes: RateLimiter::direct(Quota::per_second(rate.bytes)),
            bytes_max: rate.bytes,
        }
    }

    /// Waits until a message of this length may be taken. One longer than a second's worth waits for
    /// a whole second's worth.
    pub(super) async fn wait(&self, bytes: usize) {
        self.messages.until_ready().await;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max.get());
        if let Some(bytes) = NonZeroU32::new(bytes) {
            // It is at most the quota's burst, so the limiter can always grant it.
            let _granted = self.bytes.until_n_ready(bytes).await;
        }
    }
}
