//! The table of a comparison: each figure's median and range, and its ratio to the first server's.
//!
//! A ratio is taken within one round, in which the servers ran one after the other, so that what the machine did
//! meanwhile weighs on both.

use std::fmt::Write;

use super::result::{Comparison, Ended, PeerTold, Run};
use crate::live::outcome::Outcome;

/// One thing that is compared.
struct Figure {
    name: &'static str,
    of: fn(&Outcome) -> Option<f64>,
    show: fn(f64) -> String,
}

const FIGURES: [Figure; 10] = [
    Figure { name: "deliveries/s", of: |run| Some(run.counts.deliveries_per_second), show: whole },
    Figure { name: "delivery p50, ms", of: |run| micros(run.delivery.count, run.delivery.p50), show: millis },
    Figure { name: "delivery p99, ms", of: |run| micros(run.delivery.count, run.delivery.p99), show: millis },
    Figure { name: "ack p50, ms", of: |run| micros(run.ack.count, run.ack.p50), show: millis },
    Figure { name: "ack p99, ms", of: |run| micros(run.ack.count, run.ack.p99), show: millis },
    Figure { name: "join p50, ms", of: |run| micros(run.join.count, run.join.p50), show: millis },
    Figure { name: "server cores", of: |run| run.cores.server, show: |cores| format!("{cores:.3}") },
    Figure { name: "deliveries per core-second", of: deliveries_per_core_second, show: whole },
    Figure {
        name: "memory at the end, MiB",
        of: memory_at_the_end,
        show: |bytes| format!("{:.1}", bytes / MIB),
    },
    Figure {
        name: "generator late p99, ms",
        of: |run| micros(run.generator_late.count, run.generator_late.p99),
        show: millis,
    },
];

const MIB: f64 = (1 << 20) as f64;

fn deliveries_per_core_second(run: &Outcome) -> Option<f64> {
    let cores = run.cores.server.filter(|cores| *cores > 0.0)?;
    Some(run.counts.deliveries_per_second / cores)
}

fn memory_at_the_end(run: &Outcome) -> Option<f64> {
    run.samples.iter().rev().find_map(|sample| sample.server_bytes).map(|bytes| bytes as f64)
}

fn micros(count: u64, value: u64) -> Option<f64> {
    (count > 0).then_some(value as f64)
}

fn millis(micros: f64) -> String {
    format!("{:.2}", micros / 1e3)
}

fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The table of one scenario, with what went wrong in it.
pub(super) fn table(all: &Comparison, scenario: &str) -> String {
    let first = all.peers.first().map_or("", |peer| peer.name.as_str());
    let mut rows = passed(all, scenario);
    rows.extend(FIGURES.iter().flat_map(|figure| figure_rows(all, scenario, first, figure)));
    let head = ["", "", "median", "range", &format!("to {first}")].map(str::to_owned);
    let widths: [usize; 5] = std::array::from_fn(|at| {
        rows.iter().chain([&head]).map(|row| row[at].chars().count()).max().unwrap_or(0)
    });
    let mut out = format!("{scenario}, {} of each\n", counted(all.repeats as usize, "run"));
    for [figure, peer, median, range, ratio] in [&head].into_iter().chain(&rows) {
        let line = format!(
            "  {figure:<0$}  {peer:<1$}  {median:>2$}  {range:<3$}  {ratio}",
            widths[0], widths[1], widths[2], widths[3]
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    for peer in &all.peers {
        out.push_str(&failures(all.runs_of(&peer.name, scenario), &peer.name));
    }
    out
}

/// How many runs of each server passed.
fn passed(all: &Comparison, scenario: &str) -> Vec<[String; 5]> {
    let row = |(at, peer): (usize, &PeerTold)| {
        let runs = all.runs_of(&peer.name, scenario).count();
        let passed = all.runs_of(&peer.name, scenario).filter(|run| run.ended == Ended::Passed).count();
        let name = if at == 0 { "runs that passed" } else { "" };
        [name.to_owned(), peer.name.clone(), format!("{passed} of {runs}"), String::new(), String::new()]
    };
    all.peers.iter().enumerate().map(row).collect()
}

/// A figure's row for each server; its name stands in the first.
fn figure_rows(all: &Comparison, scenario: &str, first: &str, figure: &Figure) -> Vec<[String; 5]> {
    let base = by_repeat(all, first, scenario, figure);
    let mut rows: Vec<[String; 5]> = Vec::new();
    for peer in &all.peers {
        let values = by_repeat(all, &peer.name, scenario, figure);
        let Some(spread) = Spread::of(values.iter().flatten().copied()) else { continue };
        let ratios = values.iter().zip(&base).filter_map(|(value, base)| {
            base.filter(|base| *base > 0.0).and_then(|base| value.map(|value| value / base))
        });
        let ratio = match Spread::of(ratios) {
            Some(ratio) if peer.name != first => {
                format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.least, ratio.most)
            }
            _ => String::new(),
        };
        let name = if rows.is_empty() { figure.name } else { "" };
        let show = figure.show;
        let range = format!("{} to {}", show(spread.least), show(spread.most));
        rows.push([name.to_owned(), peer.name.clone(), show(spread.median), range, ratio]);
    }
    rows
}

/// A figure of each repeat; none where the run did not pass, for a server that lost something was not measured.
fn by_repeat(all: &Comparison, peer: &str, scenario: &str, figure: &Figure) -> Vec<Option<f64>> {
    let of = |repeat| {
        let mut runs =
            all.runs_of(peer, scenario).filter(|run| run.repeat == repeat && run.ended == Ended::Passed);
        runs.next().and_then(|run| run.outcome.as_ref()).and_then(figure.of)
    };
    (1..=all.repeats).map(of).collect()
}

fn failures<'a>(runs: impl Iterator<Item = &'a Run>, peer: &str) -> String {
    let runs: Vec<&Run> = runs.collect();
    let bad = runs.iter().filter(|run| run.ended != Ended::Passed).count();
    let mut out = String::new();
    if bad > 0 {
        let _ = writeln!(
            out,
            "  {peer}: {bad} of {} did not pass, and stand in no figure",
            counted(runs.len(), "run")
        );
    }
    for run in runs.iter().filter(|run| run.ended != Ended::Passed || !run.said.is_empty()) {
        let _ = writeln!(out, "    run {}, {}: {}", run.repeat, run.ended.name(), run.said.join("; "));
    }
    let warnings = runs.iter().filter_map(|run| Some((run.repeat, run.outcome.as_ref()?)));
    for (repeat, warning) in
        warnings.flat_map(|(repeat, run)| run.warnings.iter().map(move |warning| (repeat, warning)))
    {
        let _ = writeln!(out, "  {peer}, run {repeat}: {warning}");
    }
    out
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The middle and the ends of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// None of no values.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::result::VERSION;
    use crate::live::outcome::{Cores, Counts, Outcome, Sample, Told};

    fn outcome(per_second: f64, cores: f64) -> Outcome {
        Outcome {
            version: crate::live::outcome::VERSION,
            began_unix_seconds: 0,
            plan: Told {
                profile: "steady".to_owned(),
                dialect: "quire".to_owned(),
                urls: Vec::new(),
                documents: 1,
                typists: 2,
                watchers: 0,
                keystrokes_per_second: 1.0,
                warm_seconds: 1.0,
                measured_seconds: 1.0,
                seed: 1,
            },
            passed: true,
            failures: Vec::new(),
            warnings: vec!["the generator was late".to_owned()],
            counts: Counts { deliveries_per_second: per_second, ..Counts::default() },
            delivery: Default::default(),
            ack: Default::default(),
            join: Default::default(),
            generator_late: Default::default(),
            lag: Vec::new(),
            converged_seconds: Some(0.1),
            samples: vec![
                Sample { server_bytes: Some(3 << 20), ..Sample::default() },
                Sample { server_bytes: None, ..Sample::default() },
            ],
            cores: Cores { server: Some(cores), ..Cores::default() },
        }
    }

    fn run(peer: &str, repeat: u32, ended: Ended, outcome: Option<Outcome>) -> Run {
        let said = if ended == Ended::Passed { Vec::new() } else { vec!["why".to_owned()] };
        let (peer, scenario) = (peer.to_owned(), "steady".to_owned());
        Run { peer, scenario, repeat, ended, said, ready_seconds: None, outcome }
    }

    fn comparison(runs: Vec<Run>) -> Comparison {
        let peer = |name: &str| PeerTold {
            name: name.to_owned(),
            command: Vec::new(),
            env: Default::default(),
            dialect: "quire".to_owned(),
        };
        Comparison {
            version: VERSION,
            began_unix_seconds: 0,
            cores: 2,
            repeats: 3,
            peers: vec![peer("quire"), peer("other")],
            scenarios: Vec::new(),
            runs,
        }
    }

    fn line<'a>(table: &'a str, has: &str) -> &'a str {
        table.lines().find(|line| line.contains(has)).unwrap_or_else(|| panic!("no {has} in\n{table}"))
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut runs = Vec::new();
        for (repeat, quire, other) in [(1, 1000.0, 500.0), (2, 4000.0, 1000.0), (3, 2000.0, 2000.0)] {
            runs.push(run("quire", repeat, Ended::Passed, Some(outcome(quire, 0.5))));
            runs.push(run("other", repeat, Ended::Passed, Some(outcome(other, 0.25))));
        }
        let table = table(&comparison(runs), "steady");
        let of = line(&table, "deliveries/s");
        assert!(of.contains("2,000  1,000 to 4,000"), "{of}");
        let other = table.lines().skip_while(|line| !line.contains("deliveries/s")).nth(1).unwrap();
        assert!(other.contains("other") && other.ends_with("0.50 (0.25 to 1.00)"), "{other}");
        assert!(line(&table, "per core-second").contains("4,000"), "{table}");
        assert!(line(&table, "memory").contains("3.0 to 3.0"), "{table}");
        assert!(line(&table, "quire, run 1: the generator was late").starts_with("  quire"), "{table}");
        assert!(!table.contains("ack p50"), "nothing was acknowledged, so nothing is told of it: {table}");
    }

    #[test]
    fn a_run_that_did_not_pass_stands_in_no_figure() {
        let runs = vec![
            run("quire", 1, Ended::Passed, Some(outcome(1000.0, 0.5))),
            run("other", 1, Ended::Failed, Some(outcome(9000.0, 0.5))),
            run("quire", 2, Ended::Passed, Some(outcome(1000.0, 0.5))),
            run("other", 2, Ended::Passed, Some(outcome(500.0, 0.5))),
            run("quire", 3, Ended::Passed, Some(outcome(1000.0, 0.5))),
            run("other", 3, Ended::NotStarted, None),
        ];
        let table = table(&comparison(runs), "steady");
        assert!(!table.contains("9,000"), "{table}");
        assert!(table.contains("other: 2 of 3 runs did not pass"), "{table}");
        assert!(line(&table, "runs that passed").ends_with("3 of 3"), "{table}");
        assert!(line(&table, "run 1, FAILED").ends_with("why"), "{table}");
        assert!(line(&table, "run 3, DID NOT START").ends_with("why"), "{table}");
    }

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0].into_iter());
        assert_eq!(spread, Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
