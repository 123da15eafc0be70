//! What a terminal shows after a run: the verdict, and the figures that most people look for.

use std::fmt::Write as _;

use super::figures::{Memory, NONE, bytes, count, number, of, quantile, seconds};
use super::plots::pair_name;
use crate::live::outcome::{Outcome, Pair, Spread};

/// Pairs of regions that are shown: the slowest ones.
const PAIRS_MAX: usize = 4;
/// Failures that are shown, and as many warnings: the page has them all.
const SENTENCES_MAX: usize = 3;

/// A summary for a terminal: at most 25 lines, aligned, and without a control character that came from outside.
#[must_use]
pub fn summary(outcome: &Outcome) -> String {
    let mut lines = vec![verdict(outcome)];
    sentences(&mut lines, "failure", &outcome.failures);
    sentences(&mut lines, "warning", &outcome.warnings);
    lines.push(String::new());
    waits(&mut lines, outcome);
    lines.push(String::new());
    figures(&mut lines, outcome);
    let mut text = String::new();
    for line in lines {
        let plain: String =
            line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", plain.trim_end());
    }
    text
}

fn verdict(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    format!(
        "{}: {}, {} in {}, {}, {} measured",
        if outcome.passed { "Passed" } else { "FAILED" },
        plan.profile,
        of(plan.typists.into(), "typist"),
        of(plan.documents.into(), "document"),
        of(u64::try_from(plan.urls.len()).unwrap_or(0), "region"),
        seconds(plan.measured_seconds),
    )
}

fn sentences(lines: &mut Vec<String>, kind: &str, all: &[String]) {
    lines.extend(all.iter().take(SENTENCES_MAX).map(|sentence| format!("  {kind}: {sentence}")));
    if let Some(more @ 1..) = all.len().checked_sub(SENTENCES_MAX) {
        lines.push(format!("  and {more} more, which the report names"));
    }
}

fn waits(lines: &mut Vec<String>, outcome: &Outcome) {
    let columns = |name: &str, cells: [&str; 6]| {
        let [p50, p90, p99, p999, max, count] = cells;
        format!("  {name:<16}{p50:>9}{p90:>9}{p99:>9}{p999:>9}{max:>9}{count:>15}")
    };
    let mut row = |name: &str, spread: &Spread| {
        let at = |value| quantile(spread, value);
        let [p50, p90, p99, p999, max] =
            [spread.p50, spread.p90, spread.p99, spread.p999, spread.max].map(at);
        lines.push(columns(name, [&p50, &p90, &p99, &p999, &max, &count(spread.count)]));
    };
    let mut slowest: Vec<&Pair> = outcome.lag.iter().collect();
    slowest.sort_by_key(|pair| std::cmp::Reverse(pair.delivery.p99));
    slowest.truncate(PAIRS_MAX);
    row("delivery", &outcome.delivery);
    for pair in slowest {
        row(&format!("  region {}", pair_name(pair)), &pair.delivery);
    }
    row("acknowledgement", &outcome.ack);
    row("join", &outcome.join);
    row("generator late", &outcome.generator_late);
    let first = lines.len().saturating_sub(4 + outcome.lag.len().min(PAIRS_MAX));
    lines.insert(first, columns("ms", ["p50", "p90", "p99", "p99.9", "max", "count"]));
}

fn figures(lines: &mut Vec<String>, outcome: &Outcome) {
    let (counts, cores) = (&outcome.counts, &outcome.cores);
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<16}{text}"));
    line(
        "deliveries",
        format!("{} a second, {} letters typed", number(counts.deliveries_per_second), count(counts.typed)),
    );
    line(
        "wrong",
        format!(
            "{} missing, {} misplaced, {} lost, {} diverged",
            count(counts.missing),
            count(counts.misplaced),
            count(counts.lost_acknowledged),
            of(counts.diverged, "document")
        ),
    );
    let converged =
        outcome.converged_seconds.map(|after| format!("{} after the last keystroke", seconds(after)));
    line("converged", converged.unwrap_or_else(|| "never".to_owned()));
    let server = cores.server.map_or_else(|| NONE.to_owned(), number);
    let (generator, others) = (number(cores.generator), number(cores.others));
    line("cores", format!("server {server}, generator {generator}, others {others}"));
    if let Some(memory) = Memory::of(outcome) {
        line("memory", format!("{} to {}, {}", bytes(memory.start), bytes(memory.end), memory.trend()));
    }
}
