//! Hybrid logical clocks: stamps that follow wall time and never go back.
//!
//! Pure: the wall clock's reading is an argument. A stamp orders last-writer-wins and what people
//! are shown; it never decides what is kept, what converges or what caused what.
//!
//! Invariant: every stamp a clock gives is greater than all it gave or observed before.

use std::fmt;

/// Bits of a stamp that count stamps within one millisecond.
const COUNTER_BITS: u32 = 16;

/// How far a stamp from elsewhere may draw a clock ahead of its own wall clock, in milliseconds. More than
/// clocks that are kept by NTP ever differ; less than what people would notice in a time they are shown.
/// A replica whose clock is further ahead than this wins ties for as long as it is.
pub const SKEW_MS_MAX: u64 = 60_000;

/// The last millisecond that a stamp can hold, in the year 10889.
const MS_MAX: u64 = (1 << 48) - 1;

/// A stamp: 48 bits of milliseconds since 1970, then 16 bits that count within the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first stamp of a millisecond.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(if ms > MS_MAX { MS_MAX } else { ms } << COUNTER_BITS)
    }

    /// The millisecond that the stamp lies in.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The stamp's number within its millisecond.
    #[must_use]
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// Gives stamps that rise even when the wall clock stands still or goes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A clock that has given and observed nothing above `last`.
    #[must_use]
    pub const fn starting_after(last: Hlc) -> Self {
        Self { last }
    }

    /// The greatest stamp given or observed.
    #[must_use]
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// Gives the next stamp: the wall clock's where that is ahead, else the successor of the last.
    ///
    /// A millisecond with more than 65,536 stamps borrows from the next one.
    pub fn tick(&mut self, now_ms: u64) -> Hlc {
        // Saturating: at the end of time stamps repeat, and ties fall to the entry's dot.
        self.last = Hlc::from_ms(now_ms).max(Hlc(self.last.0.saturating_add(1)));
        self.last
    }

    /// Takes note of a stamp from elsewhere, so that what is stamped here next comes after it; as far as
    /// [`SKEW_MS_MAX`] ahead of the wall clock, so that one broken clock does not draw all others with it.
    pub fn observe(&mut self, stamp: Hlc, now_ms: u64) {
        self.last = self.last.max(stamp.min(Hlc::from_ms(now_ms.saturating_add(SKEW_MS_MAX))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stamps_rise_whatever_the_wall_clock_does(walls: Vec<u64>, seen: Vec<u32>) {
            let mut clock = HlcClock::default();
            let mut last = Hlc::default();
            for (i, wall) in walls.iter().enumerate() {
                if let Some(stamp) = seen.get(i) {
                    clock.observe(Hlc(u64::from(*stamp) << 20), *wall % MS_MAX);
                }
                let stamp = clock.tick(*wall % MS_MAX);
                prop_assert!(stamp > last);
                last = stamp;
            }
        }
    }

    #[test]
    fn a_stamp_shows_the_wall_clock_when_that_is_ahead() {
        let mut clock = HlcClock::default();
        assert_eq!(clock.tick(5), Hlc::from_ms(5));
        assert_eq!((clock.tick(5).ms(), clock.last().counter()), (5, 1));
        assert_eq!((clock.tick(3).ms(), clock.last().counter()), (5, 2));
        clock.observe(Hlc::from_ms(9), 6);
        assert_eq!((clock.tick(6).ms(), clock.last().counter()), (9, 1));
        assert_eq!(clock.tick(10), Hlc::from_ms(10));
    }

    #[test]
    fn a_broken_clock_elsewhere_draws_a_clock_so_far_and_no_further() {
        let mut clock = HlcClock::default();
        clock.observe(Hlc(u64::MAX), 5);
        assert_eq!((clock.tick(5).ms(), clock.last().counter()), (5 + SKEW_MS_MAX, 1));
    }
}
