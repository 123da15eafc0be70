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

    /// The millisecond as people and other programs read it, in UTC: `2026-08-01T09:30:00.000Z` (RFC 3339; years
    /// after 9999 have five digits).
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let (days, ms) = (self.ms() / DAY_MS, self.ms() % DAY_MS);
        let (year, month, day) = date_of(days);
        let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
        let (second, ms) = (ms / 1000 % 60, ms % 1000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }

    /// The stamp's number within its millisecond.
    #[must_use]
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

/// Year, month and day of a day after 1970-01-01, in the Gregorian calendar.
///
/// Howard Hinnant's `civil_from_days`: years begin in March, so that a leap day is the last of its year.
const fn date_of(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
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
    fn a_stamp_has_a_date() {
        for (ms, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_798_761_599_001, "2026-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (MS_MAX, "10889-08-02T05:31:50.655Z"),
        ] {
            assert_eq!(Hlc::from_ms(ms).to_rfc3339(), date);
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
