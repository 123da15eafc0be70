//! Figures as they are read: with the digits that matter, and the trend of a server's memory.

use crate::live::outcome::{Outcome, Sample, Spread};

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";
/// Bytes of a mebibyte.
pub(super) const MEBIBYTE: f64 = 1_048_576.0;

/// A whole number with commas between its thousands.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that matter, or all the whole ones.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    match value.abs() {
        100.0.. if value < 0.0 => format!("−{}", whole(-value)),
        99.95.. => whole(value),
        9.995.. => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

/// # Panics
/// Never: a value that no `u64` holds becomes the nearest that it does.
#[expect(clippy::cast_possible_truncation, reason = "such a cast saturates")]
fn whole(value: f64) -> String {
    count(value.round() as u64)
}

/// Microseconds as milliseconds.
pub(super) fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

/// A quantile in milliseconds, if anything was counted.
pub(super) fn quantile(spread: &Spread, microseconds: u64) -> String {
    if spread.count == 0 { NONE.to_owned() } else { number(milliseconds(microseconds)) }
}

/// Bytes in the unit that suits them.
pub(super) fn bytes(value: u64) -> String {
    let value = value as f64;
    match value / MEBIBYTE {
        mebibytes @ 1024.0.. => format!("{} GiB", number(mebibytes / 1024.0)),
        mebibytes @ 1.0.. => format!("{} MiB", number(mebibytes)),
        _ if value >= 1024.0 => format!("{} KiB", number(value / 1024.0)),
        _ => format!("{value} B"),
    }
}

/// A count with the noun that it counts, which takes an s for all but one.
pub(super) fn of(value: u64, noun: &str) -> String {
    if value == 1 { format!("1 {noun}") } else { format!("{} {noun}s", count(value)) }
}

/// A duration in seconds.
pub(super) fn seconds(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        format!("{value:.0} s")
    } else {
        format!("{} s", number(value))
    }
}

/// The day and the minute in UTC.
pub(super) fn moment(unix_seconds: u64) -> String {
    let moment =
        i64::try_from(unix_seconds).ok().and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok());
    moment.map_or_else(
        || NONE.to_owned(),
        |at| format!("{} {} {}, {:02}:{:02} UTC", at.day(), at.month(), at.year(), at.hour(), at.minute()),
    )
}

/// How a server's memory went while it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory {
    /// Resident bytes in the first measured second.
    pub(super) start: u64,
    /// Resident bytes in the last one.
    pub(super) end: u64,
    /// The line of least squares through the measured seconds, in percent of their mean each minute; none for
    /// a run of one second.
    pub(super) percent_per_minute: Option<f64>,
}

impl Memory {
    /// None where no process was watched.
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        let watched = |sample: &Sample| {
            sample.server_bytes.filter(|_| sample.measured).map(|bytes| (sample.second, bytes))
        };
        let points: Vec<_> = outcome.samples.iter().filter_map(watched).collect();
        let (start, end) = (points.first()?.1, points.last()?.1);
        Some(Self { start, end, percent_per_minute: slope(&points) })
    }

    /// The trend with its sign.
    pub(super) fn trend(&self) -> String {
        self.percent_per_minute
            .map_or_else(|| NONE.to_owned(), |slope| format!("{slope:+.2} %/min").replace('-', "−"))
    }
}

fn slope(points: &[(i64, u64)]) -> Option<f64> {
    let many = points.len() as f64;
    let minute = |second: i64| second as f64 / 60.0;
    let mean_minute = points.iter().map(|(second, _)| minute(*second)).sum::<f64>() / many;
    let mean_bytes = points.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / many;
    let (mut along, mut both) = (0.0, 0.0);
    for (second, bytes) in points {
        let aside = minute(*second) - mean_minute;
        along += aside * aside;
        both += aside * (*bytes as f64 - mean_bytes);
    }
    (along > 0.0 && mean_bytes > 0.0).then(|| 100.0 * both / along / mean_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        let shown = [0.0, 0.456, 9.999, 12.34, 99.99, 1234.5, -2000.0, f64::NAN, f64::INFINITY].map(number);
        assert_eq!(shown, ["0", "0.46", "10.0", "12.3", "100", "1,235", "−2,000", "–", "–"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 512, 3 << 10, 3 << 20, 5 << 30].map(bytes),
            ["0 B", "512 B", "3.00 KiB", "3.00 MiB", "5.00 GiB"]
        );
    }

    #[test]
    fn moments_that_no_calendar_has_are_left_out() {
        assert_eq!(moment(1_700_000_000), "14 November 2023, 22:13 UTC");
        assert_eq!([moment(u64::MAX), moment(1 << 60)], [NONE, NONE]);
    }

    #[test]
    fn a_trend_is_that_of_its_mean() {
        let steady: Vec<_> = (0..=120).map(|second| (second, 100 << 20)).collect();
        assert_eq!(slope(&steady), Some(0.0));
        // From 90 to 110 in two minutes: 10 a minute, of 100.
        let growing: Vec<_> =
            (0..=120).map(|second: i64| (second, 5400 + 10 * second.unsigned_abs())).collect();
        assert!((slope(&growing).unwrap() - 10.0).abs() < 1e-9);
        assert_eq!([slope(&[]), slope(&[(4, 7)]), slope(&[(4, 0), (5, 0)])], [None, None, None]);
    }
}
