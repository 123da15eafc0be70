//! What is counted and timed while a run goes on.

use hdrhistogram::Histogram;

use super::outcome::{Counts, Sample};
use crate::rates;

/// Counts and times of one run.
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) delivery: Histogram<u64>,
    pub(super) ack: Histogram<u64>,
    pub(super) join: Histogram<u64>,
    pub(super) late: Histogram<u64>,
    /// By the region of the typist and that of the receiver.
    pub(super) lag: Vec<Vec<Histogram<u64>>>,
    pub(super) samples: Vec<Sample>,
    second: Histogram<u64>,
    typed: u64,
    deliveries: u64,
    /// Whether another process puts this together with more.
    is_part: bool,
    /// Whether what comes now counts.
    pub(super) is_measured: bool,
    /// Letters that were due before this moment are not timed.
    pub(super) measured_from: u64,
}

impl Tally {
    pub(super) fn new(regions: usize, is_part: bool) -> Self {
        let pairs = if regions > 1 { regions } else { 0 };
        Self {
            counts: Counts::default(),
            delivery: rates::latencies(),
            ack: rates::latencies(),
            join: rates::latencies(),
            late: rates::latencies(),
            lag: (0..pairs).map(|_| (0..regions).map(|_| rates::latencies()).collect()).collect(),
            samples: Vec::new(),
            second: rates::latencies(),
            typed: 0,
            deliveries: 0,
            is_part,
            is_measured: false,
            measured_from: u64::MAX,
        }
    }

    pub(super) fn typed(&mut self, letters: u32) {
        self.counts.typed += u64::from(letters);
        self.typed += u64::from(letters);
    }

    pub(super) fn delivered(&mut self, letters: u32) {
        self.deliveries += u64::from(letters);
        if self.is_measured {
            self.counts.deliveries += u64::from(letters);
        }
    }

    /// A letter came from one region to another that was due at a moment.
    pub(super) fn delivery(&mut self, (from, to): (usize, usize), due: u64, now: u64) {
        let took = now.saturating_sub(due).max(1);
        self.second.saturating_record(took);
        if due < self.measured_from {
            return;
        }
        self.delivery.saturating_record(took);
        if let Some(lag) = self.lag.get_mut(from).and_then(|to_each| to_each.get_mut(to)) {
            lag.saturating_record(took);
        }
    }

    pub(super) fn acked(&mut self, due: u64, now: u64) {
        if due >= self.measured_from {
            self.ack.saturating_record(now.saturating_sub(due).max(1));
        }
    }

    /// A second is over: what came in it. Who watches processes adds what they used.
    pub(super) fn sample(&mut self, second: i64, sessions: u64, measured: bool) -> &mut Sample {
        let at = |quantile| self.second.value_at_quantile(quantile);
        let sample = Sample {
            second,
            measured,
            sessions,
            typed: std::mem::take(&mut self.typed),
            deliveries: std::mem::take(&mut self.deliveries),
            p50: at(0.5),
            p99: at(0.99),
            max: self.second.max(),
            values: if self.is_part { super::outcome::values(&self.second) } else { Vec::new() },
            ..Sample::default()
        };
        self.second.reset();
        self.samples.push(sample);
        self.samples.last_mut().expect("one was pushed")
    }
}
