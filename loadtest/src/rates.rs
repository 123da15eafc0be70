//! Open-loop time: when each keystroke is due whatever the server does, and which rate it can bear.
//!
//! Latency is counted from the intended moment, so a server that stalls the generator is charged for
//! every keystroke that had to wait. Nothing here reads a clock.
//!
//! Invariant of [`Search`]: `passed < failed`, and the answer lies between them.

use hdrhistogram::Histogram;

/// The longest latency told apart, in microseconds: longer ones count as this.
pub const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// A repeatable source of randomness: splitmix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number of at most `below - 1`, even enough for a load test.
    pub const fn below(&mut self, below: u64) -> u64 {
        self.next_u64() % below
    }

    /// A number above 0 and up to 1.
    pub fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

/// The moments of a Poisson process, in microseconds from its start.
#[derive(Clone, Debug)]
pub struct Arrivals {
    dice: Dice,
    mean_gap_micros: f64,
    next_micros: f64,
}

impl Arrivals {
    /// So many a second on average.
    #[must_use]
    pub fn per_second(rate: f64, seed: u64) -> Self {
        let mut arrivals = Self { dice: Dice::new(seed), mean_gap_micros: 1e6 / rate, next_micros: 0.0 };
        arrivals.pass();
        arrivals
    }

    /// When the next one is due.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "whole microseconds are meant")]
    pub const fn next_micros(&self) -> u64 {
        self.next_micros as u64
    }

    /// Goes on to the one after.
    pub fn pass(&mut self) {
        self.next_micros -= self.dice.unit().ln() * self.mean_gap_micros;
    }
}

/// Finds the highest rate that passes, by doubling and then halving the gap.
#[derive(Clone, Debug)]
pub struct Search {
    passed: Option<f64>,
    failed: Option<f64>,
    next: f64,
    precision: f64,
    trials_left: u32,
}

impl Search {
    /// Starts at a rate that should pass, and stops when `failed / passed` is at most `1 + precision`.
    #[must_use]
    pub const fn from(start: f64, precision: f64, trials_max: u32) -> Self {
        Self { passed: None, failed: None, next: start, precision, trials_left: trials_max }
    }

    /// The rate to try next, or `None` when the answer is known.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        let narrow = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => failed / passed <= 1.0 + self.precision,
            _ => false,
        };
        (self.trials_left > 0 && !narrow).then_some(self.next)
    }

    /// Tells how the rate that [`Self::next`] gave went.
    pub fn record(&mut self, passed: bool) {
        self.trials_left = self.trials_left.saturating_sub(1);
        if passed {
            self.passed = Some(self.next);
        } else {
            self.failed = Some(self.next);
        }
        self.next = match (self.passed, self.failed) {
            (Some(passed), Some(failed)) => (passed * failed).sqrt(),
            (Some(passed), None) => passed * 2.0,
            (None, Some(failed)) => failed / 4.0,
            (None, None) => self.next,
        };
    }

    /// The highest rate that passed.
    #[must_use]
    pub const fn best(&self) -> Option<f64> {
        self.passed
    }
}

/// A histogram of latencies in microseconds.
#[must_use]
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("the bounds are valid")
}

/// A quantile in milliseconds.
#[must_use]
pub fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

/// The median of some figures; of none, not a number.
#[must_use]
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_their_rate_and_vary() {
        let mut arrivals = Arrivals::per_second(1_000.0, 7);
        let mut gaps = Vec::new();
        for _ in 0..10_000 {
            let before = arrivals.next_micros();
            arrivals.pass();
            gaps.push((arrivals.next_micros() - before) as f64);
        }
        let seconds = arrivals.next_micros() as f64 / 1e6;
        assert!((9.5..10.5).contains(&seconds), "{seconds}");
        assert!((650.0..740.0).contains(&median(&gaps)), "the median of a Poisson gap is ln 2 of its mean");
    }

    #[test]
    fn a_search_closes_in_on_the_limit_from_either_side() {
        for start in [10.0, 5_000.0, 300_000.0] {
            let mut search = Search::from(start, 0.05, 40);
            while let Some(rate) = search.next() {
                search.record(rate <= 12_345.0);
            }
            let best = search.best().unwrap();
            assert!((11_700.0..=12_345.0).contains(&best), "{start}: {best}");
        }
    }

    #[test]
    fn a_search_that_nothing_passes_ends() {
        let mut search = Search::from(1_000.0, 0.05, 6);
        while search.next().is_some() {
            search.record(false);
        }
        assert_eq!(search.best(), None);
    }
}
