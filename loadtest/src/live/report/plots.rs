//! Which plots there are of a run, and what is in them.

use super::axis::{Axis, short};
use super::chart::{Chart, Line};
use super::figures::{MEBIBYTE, milliseconds};
use super::ink;
use crate::live::outcome::{Outcome, Pair, Sample, Spread};

/// How many moments a line over time has: more than a page's pixels would only hide each other.
const MOMENTS_MAX: usize = 300;

/// A run's seconds, some of them together where there are many.
pub(super) struct Moments {
    moments: Vec<Moment>,
    /// Seconds that each stands for.
    pub(super) seconds: usize,
    shaded: Vec<(f64, f64)>,
    first: f64,
    last: f64,
}

/// Some seconds of a run: of quantiles the worst, of everything else the mean.
struct Moment {
    /// Their middle.
    second: f64,
    p50: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    sessions: f64,
    typed: f64,
    deliveries: f64,
    server_cores: Option<f64>,
    server_mebibytes: Option<f64>,
    generator_cores: f64,
}

impl Moments {
    /// The seconds of a run.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let seconds = samples.len().div_ceil(MOMENTS_MAX).max(1);
        Self {
            moments: samples.chunks(seconds).map(Moment::of).collect(),
            seconds,
            shaded: unmeasured(samples),
            first: samples.first().map_or(0.0, start),
            last: samples.last().map_or(1.0, |sample| start(sample) + 1.0),
        }
    }

    fn line(&self, name: &str, of: impl Fn(&Moment) -> Option<f64>) -> Line {
        Line::new(name, self.moments.iter().map(|moment| (moment.second, of(moment))))
    }

    fn chart(&self, y: Axis, lines: Vec<Line>) -> Chart {
        let x = Axis::Seconds { first: self.first, last: self.last };
        Chart { x, y, shaded: self.shaded.clone(), lines }
    }

    fn linear(&self, lines: Vec<Line>, label: fn(f64) -> String) -> Chart {
        let y = Axis::linear(lines.iter().flat_map(Line::values), label);
        self.chart(y, lines)
    }

    /// Delivery latency in milliseconds.
    pub(super) fn latency(&self) -> Chart {
        let lines = vec![
            self.line("p50", |moment| moment.p50),
            self.line("p99", |moment| moment.p99),
            self.line("max", |moment| moment.max),
        ];
        let y = Axis::log(lines.iter().flat_map(Line::values));
        self.chart(y, lines)
    }

    /// Letters received by others, each second.
    pub(super) fn deliveries(&self) -> Chart {
        self.linear(vec![self.line("deliveries", |moment| Some(moment.deliveries))], thousands)
    }

    /// Letters typed, each second.
    pub(super) fn typed(&self) -> Chart {
        self.linear(vec![self.line("letters typed", |moment| Some(moment.typed))], thousands)
    }

    /// Sessions joined.
    pub(super) fn sessions(&self) -> Chart {
        self.linear(vec![self.line("sessions", |moment| Some(moment.sessions))], thousands)
    }

    /// Cores in use.
    pub(super) fn cores(&self) -> Chart {
        let server = self.line("server", |moment| moment.server_cores);
        let generator = self.line("generator", |moment| Some(moment.generator_cores));
        self.linear(vec![server, generator], short)
    }

    /// Memory of the server in mebibytes.
    pub(super) fn memory(&self) -> Chart {
        self.linear(vec![self.line("server", |moment| moment.server_mebibytes)], short)
    }
}

impl Moment {
    fn of(samples: &[Sample]) -> Self {
        let typed = |of: fn(&Sample) -> Option<f64>| mean(samples.iter().filter_map(of));
        let heard: Vec<&Sample> = samples.iter().filter(|sample| sample.deliveries > 0).collect();
        let worst = |of: fn(&Sample) -> u64| heard.iter().map(|sample| of(sample)).max().map(milliseconds);
        let middle = mean(samples.iter().map(start)).unwrap_or(0.0) + 0.5;
        Self {
            second: middle,
            p50: worst(|sample| sample.p50),
            p99: worst(|sample| sample.p99),
            max: worst(|sample| sample.max),
            sessions: typed(|sample| Some(float(sample.sessions))).unwrap_or(0.0),
            typed: typed(|sample| Some(float(sample.typed))).unwrap_or(0.0),
            deliveries: typed(|sample| Some(float(sample.deliveries))).unwrap_or(0.0),
            server_cores: typed(|sample| sample.server_cores),
            server_mebibytes: typed(|sample| sample.server_bytes.map(|bytes| float(bytes) / MEBIBYTE)),
            generator_cores: typed(|sample| Some(sample.generator_cores)).unwrap_or(0.0),
        }
    }
}

/// The distributions of what one run waited for.
pub(super) fn waits(outcome: &Outcome) -> Chart {
    let spreads =
        [("delivery", &outcome.delivery), ("acknowledgement", &outcome.ack), ("join", &outcome.join)];
    distributions(
        spreads
            .into_iter()
            .filter(|(_, spread)| spread.count > 0)
            .map(|(name, spread)| (name.to_owned(), spread)),
    )
}

/// The distributions of the slowest pairs of regions, as many as can be told apart.
pub(super) fn lags(outcome: &Outcome) -> Chart {
    let mut slowest: Vec<&Pair> = outcome.lag.iter().filter(|pair| pair.delivery.count > 0).collect();
    slowest.sort_by_key(|pair| std::cmp::Reverse(pair.delivery.p99));
    slowest.truncate(ink::LINES_MAX);
    slowest.sort_by_key(|pair| (pair.from, pair.to));
    distributions(slowest.into_iter().map(|pair| (pair_name(pair), &pair.delivery)))
}

/// Both regions as people count them, from 1.
pub(super) fn pair_name(pair: &Pair) -> String {
    format!("{} → {}", pair.from.saturating_add(1), pair.to.saturating_add(1))
}

/// Distributions on top of each other, in milliseconds by percentile.
pub(super) fn distributions<'a>(spreads: impl Iterator<Item = (String, &'a Spread)>) -> Chart {
    let mut most = 0;
    let mut lines = Vec::new();
    for (name, spread) in spreads.take(ink::LINES_MAX) {
        most = most.max(total(spread));
        lines.push(Line::new(name, quantiles(spread).into_iter().map(|(share, value)| (share, Some(value)))));
    }
    let y = Axis::log(lines.iter().flat_map(Line::values));
    Chart { x: Axis::percentiles(most), y, shaded: Vec::new(), lines }
}

/// The steps of a distribution. The largest of so many values ends half a value before the hundredth percentile,
/// which itself is infinitely far away.
fn quantiles(spread: &Spread) -> Vec<(f64, f64)> {
    let total = total(spread);
    let end = 1.0 - 0.5 / float(total.max(1));
    let (mut below, mut steps) = (0_u64, Vec::with_capacity(spread.values.len() * 2));
    for (value, count) in spread.values.iter().filter(|(_, count)| *count > 0) {
        let value = milliseconds(*value);
        steps.push(((float(below) / float(total)).min(end), value));
        below = below.saturating_add(*count);
        steps.push(((float(below) / float(total)).min(end), value));
    }
    steps
}

/// The count of what is drawn: a spread's own count can be of a file that somebody changed.
fn total(spread: &Spread) -> u64 {
    spread.values.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// The spells that do not belong to what is measured.
fn unmeasured(samples: &[Sample]) -> Vec<(f64, f64)> {
    let spells = samples.chunk_by(|one, next| one.measured == next.measured);
    let ends = |spell: &[Sample]| Some((start(spell.first()?), start(spell.last()?) + 1.0));
    spells.filter(|spell| spell.first().is_some_and(|sample| !sample.measured)).filter_map(ends).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, many) = values.fold((0.0, 0.0), |(sum, many), value| (sum + value, many + 1.0));
    (many > 0.0).then(|| sum / many)
}

/// Large numbers as labels: 20k.
fn thousands(value: f64) -> String {
    match value {
        1e6.. => format!("{}M", short(value / 1e6)),
        1000.0.. => format!("{}k", short(value / 1000.0)),
        _ => short(value),
    }
}

fn start(sample: &Sample) -> f64 {
    sample.second as f64
}

fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_drawn_by_its_steps() {
        let spread = Spread { values: vec![(1000, 90), (5000, 9), (9000, 1)], ..Spread::default() };
        let end = 0.995;
        let steps = [(0.0, 1.0), (0.9, 1.0), (0.9, 5.0), (0.99, 5.0), (0.99, 9.0), (end, 9.0)];
        assert_eq!(quantiles(&spread), steps);
        assert!(quantiles(&Spread::default()).is_empty());
    }

    #[test]
    fn long_runs_are_drawn_by_their_worst_seconds() {
        let second = |second: i64| Sample {
            second,
            measured: second >= 100,
            deliveries: u64::from(second != 7),
            p99: if second == 500 { 90_000 } else { 2_000 },
            ..Sample::default()
        };
        let samples: Vec<_> = (-50..1000).map(second).collect();
        let moments = Moments::of(&samples);
        assert!(moments.seconds > 1 && moments.moments.len() <= MOMENTS_MAX);
        assert_eq!(moments.shaded, [(-50.0, 100.0)]);
        assert!(moments.latency().lines[1].values().any(|value| value == 90.0));
    }

    #[test]
    fn seconds_in_which_nothing_arrived_are_gaps() {
        let second = |second: i64| Sample { second, deliveries: u64::from(second != 2), ..Sample::default() };
        let chart = Moments::of(&(0..5).map(second).collect::<Vec<_>>()).latency();
        assert_eq!(chart.lines[0].pieces.len(), 2);
    }
}
