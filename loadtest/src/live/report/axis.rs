//! Axes: where a value stands along one, and which values are named.
//!
//! Invariant: a place is finite and within the axis, whatever the value.

use super::figures::number;

/// How values are placed along one side of a plot.
#[derive(Clone, Debug)]
pub(super) enum Axis {
    /// From 0 to at least the largest value, evenly.
    Linear { max: f64, label: fn(f64) -> String },
    /// A factor of ten takes the same room everywhere. Both ends are above 0.
    Log { low: f64, high: f64 },
    /// Seconds of a run.
    Seconds { first: f64, last: f64 },
    /// Percentiles, from 0 to all but one in 10^`top`; each further nine takes the same room.
    Percentile { top: f64 },
}

/// A named place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// Where it stands, as [`Axis::place`] says it.
    pub(super) place: f64,
    /// What is written there.
    pub(super) label: String,
}

/// The smallest value that a logarithmic axis shows.
const LOG_LOW: f64 = 0.001;
/// The largest one.
const LOG_HIGH: f64 = 1e9;
/// The nines that an axis of percentiles can show; a run has fewer values than that.
const NINES_MAX: u8 = 9;
/// The steps between named seconds, which divide minutes and hours.
const STEPS: [f64; 17] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0,
    21600.0, 43200.0,
];

impl Axis {
    /// An even axis from 0 for such values, whose end is a round number.
    pub(super) fn linear(values: impl Iterator<Item = f64>, label: fn(f64) -> String) -> Self {
        let max = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        if max <= 0.0 {
            return Self::Linear { max: 1.0, label };
        }
        let step = round_up(max / 4.0);
        Self::Linear { max: (max / step).ceil() * step, label }
    }

    /// A logarithmic axis for such values, whose ends are round numbers; 0 stands at its lower end.
    pub(super) fn log(values: impl Iterator<Item = f64>) -> Self {
        let kept = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) =
            kept.fold((LOG_HIGH, LOG_LOW), |(low, high), value| (value.min(low), value.max(high)));
        let low = round_down(low.clamp(LOG_LOW, LOG_HIGH / 10.0));
        let high = round_up(high.clamp(low * 10.0, LOG_HIGH));
        Self::Log { low, high }
    }

    /// An axis that has room for all of so many values, whose last one ends half a value before all.
    pub(super) fn percentiles(many: u64) -> Self {
        Self::Percentile { top: (many.max(1) as f64 * 2.0).log10().clamp(2.0, f64::from(NINES_MAX)) }
    }

    /// The ends of the axis, the lower first.
    pub(super) fn ends(&self) -> (f64, f64) {
        match *self {
            Self::Linear { max, .. } => (0.0, max),
            Self::Log { low, high } => (low.log10(), high.log10()),
            Self::Seconds { first, last } => (first, last.max(first + 1.0)),
            Self::Percentile { top } => (0.0, top),
        }
    }

    /// Where a value stands; percentiles are said as a share from 0 to 1.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = self.ends();
        let place = match self {
            Self::Linear { .. } | Self::Seconds { .. } => value,
            Self::Log { .. } => value.max(LOG_LOW).log10(),
            Self::Percentile { .. } => -(1.0 - value).max(0.0).log10(),
        };
        if place.is_nan() { low } else { place.clamp(low, high) }
    }

    /// The places to name where there is room for so many labels.
    pub(super) fn ticks(&self, room: usize) -> Vec<Tick> {
        match *self {
            Self::Linear { max, label } => linear_ticks(max, label, room),
            Self::Log { low, high } => log_ticks(low, high, room),
            Self::Seconds { first, last } => second_ticks(first, last.max(first + 1.0), room),
            Self::Percentile { top } => percentile_ticks(top, room),
        }
    }
}

/// Counts from 0 by one step, as far as an end and no further than so many.
fn steps(first: f64, step: f64, last: f64, most: u16) -> impl Iterator<Item = f64> {
    (0..=most)
        .map(move |at| first + f64::from(at) * step)
        .take_while(move |value| *value <= last + step * 1e-6)
}

fn linear_ticks(max: f64, label: fn(f64) -> String, room: usize) -> Vec<Tick> {
    let most = u16::try_from(room.clamp(2, 50)).unwrap_or(2);
    let step = round_up(max / f64::from(most) * 0.999);
    steps(0.0, step, max, most).map(|value| Tick { place: value, label: label(value) }).collect()
}

fn log_ticks(low: f64, high: f64, room: usize) -> Vec<Tick> {
    let mut values: Vec<f64> =
        rounds().filter(|value| *value >= low * 0.999 && *value <= high * 1.001).collect();
    if values.len() > room {
        values.retain(|value| (value.log10() - value.log10().round()).abs() < 1e-6);
    }
    values.into_iter().map(|value| Tick { place: value.log10(), label: short(value) }).collect()
}

fn second_ticks(first: f64, last: f64, room: usize) -> Vec<Tick> {
    let most = u16::try_from(room.clamp(2, 50)).unwrap_or(2);
    let step = STEPS.into_iter().find(|step| (last - first) / step <= f64::from(most));
    let step = step.unwrap_or_else(|| round_up((last - first) / f64::from(most)));
    steps((first / step).ceil() * step, step, last, most)
        .map(|second| Tick { place: second, label: duration(second, step) })
        .collect()
}

fn duration(second: f64, step: f64) -> String {
    let (value, unit) = match step {
        3600.0.. => (second / 3600.0, "h"),
        60.0.. => (second / 60.0, "min"),
        _ => (second, "s"),
    };
    if value == 0.0 { "0".to_owned() } else { format!("{value} {unit}").replace('-', "−") }
}

fn percentile_ticks(top: f64, room: usize) -> Vec<Tick> {
    let nine = |nines: u8| {
        let label = match nines {
            0 => "0".to_owned(),
            1 => "90".to_owned(),
            2 => "99".to_owned(),
            _ => format!("99.{}", "9".repeat(usize::from(nines) - 2)),
        };
        Tick { place: f64::from(nines), label }
    };
    let room = f64::from(u16::try_from(room).unwrap_or(u16::MAX));
    // Where labels would touch each other, every second one is left out.
    let step = if top > room * 1.4 { 2 } else { 1 };
    let mut ticks: Vec<_> =
        (0..=NINES_MAX).step_by(step).map(nine).filter(|tick| tick.place <= top + 1e-9).collect();
    // The middle stands close to the lower end: it is named only where it does not touch it.
    if room >= top * 2.1 {
        ticks.insert(1, Tick { place: 2f64.log10(), label: "50".to_owned() });
    }
    ticks
}

/// 0.001, 0.002, 0.005, 0.01 and so on.
fn rounds() -> impl DoubleEndedIterator<Item = f64> {
    (-3..=9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
}

/// The next 1, 2 or 5 with zeros that is not below a value above 0.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= value * 0.999_999);
    digit.unwrap_or(10.0) * power
}

/// The next one that is not above it.
fn round_down(value: f64) -> f64 {
    rounds().rev().find(|round| *round <= value * 1.000_001).unwrap_or(LOG_LOW)
}

/// A round number without needless zeros.
pub(super) fn short(value: f64) -> String {
    if value.abs() >= 1000.0 || !value.is_finite() {
        return number(value);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, room: usize) -> Vec<String> {
        axis.ticks(room).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ends_are_round() {
        assert_eq!(Axis::linear([3.0, 970.0].into_iter(), short).ends(), (0.0, 1000.0));
        assert_eq!(labels(&Axis::linear([1.3].into_iter(), short), 4), ["0", "0.5", "1", "1.5"]);
        assert_eq!(labels(&Axis::log([3.0, 70.0].into_iter()), 9), ["2", "5", "10", "20", "50", "100"]);
        assert_eq!(
            labels(&Axis::log([0.3, 70_000.0].into_iter()), 9),
            ["1", "10", "100", "1,000", "10,000", "100,000"]
        );
    }

    #[test]
    fn seconds_are_named_in_the_unit_of_their_step() {
        let named = |first, last| labels(&Axis::Seconds { first, last }, 6);
        assert_eq!(named(-10.0, 30.0), ["−10 s", "0", "10 s", "20 s", "30 s"]);
        assert_eq!(named(0.0, 600.0), ["0", "2 min", "4 min", "6 min", "8 min", "10 min"]);
        assert_eq!(named(0.0, 0.0), ["0", "1 s"]);
    }

    #[test]
    fn each_further_nine_takes_the_same_room() {
        let axis = Axis::percentiles(20_000);
        assert_eq!(labels(&axis, 12), ["0", "50", "90", "99", "99.9", "99.99"]);
        assert_eq!(labels(&axis, 4), ["0", "90", "99", "99.9", "99.99"]);
        assert_eq!(labels(&Axis::percentiles(2_000_000), 4), ["0", "99", "99.99", "99.9999"]);
        assert!((axis.place(0.999) - 3.0).abs() < 1e-9);
        assert_eq!(axis.place(1.0), axis.ends().1);
    }

    #[test]
    fn every_value_has_a_place() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e300, f64::MIN_POSITIVE];
        let axes = |values: &[f64]| {
            [
                Axis::linear(values.iter().copied(), short),
                Axis::log(values.iter().copied()),
                Axis::Seconds { first: -3.0, last: -3.0 },
                Axis::percentiles(0),
                Axis::percentiles(u64::MAX),
            ]
        };
        for axis in axes(&odd).into_iter().chain(axes(&[])).chain(axes(&[0.0])) {
            let (low, high) = axis.ends();
            assert!(low < high && low.is_finite() && high.is_finite(), "{axis:?}");
            for value in odd {
                assert!((low..=high).contains(&axis.place(value)), "{axis:?} at {value}");
            }
            assert!(axis.ticks(6).iter().all(|tick| tick.place.is_finite()));
            assert!(axis.ticks(6).len() <= 14, "{axis:?}");
        }
    }
}
