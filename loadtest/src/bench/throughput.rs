//! The most deliveries a second that a server makes with a p99 under 100 ms and nothing lost.
//!
//! The rate is open-loop and searched: doubled until a trial fails, then closed in on. A rate counts
//! only if a trial passed at it. Bare relays run the same search in the same run.

use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::report::{Report, Row};
use crate::rates::{self, Search, median};
use crate::relay::Kind;
use crate::rooms::{self, Outcome, Plan};
use crate::server::{Program, Server};

/// The highest p99 of a trial that passes.
const P99_MS_MAX: f64 = 100.0;

/// The search ends when the rate that fails is this much above the one that passes.
const PRECISION: f64 = 0.07;

/// More trials than any search needs that starts within a factor of 1,000.
const TRIALS_MAX: u32 = 24;

/// A failed trial near the limit is tried once more: other work on the machine may have failed it.
const TRIES_PER_RATE: u32 = 2;

/// What a delivery costs is measured at this many times the rate that the search starts from.
const COST_RATE_FACTOR: f64 = 2.0;

/// Keeps the documents of one kind of trial apart from those of the other.
const COST_SEEDS: u32 = 1 << 20;

const WARM: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);

/// One document, 50 typists.
///
/// # Errors
/// When a server cannot be started or measured.
pub fn one_room(options: &Options, report: &mut Report) -> Result<()> {
    compare(options, report, "1 document × 50", Plan { documents: 1, typists: 50, ..plan(500.0) })
}

/// 50 documents, 4 typists each.
///
/// # Errors
/// When a server cannot be started or measured.
pub fn many_rooms(options: &Options, report: &mut Report) -> Result<()> {
    compare(options, report, "50 documents × 4", Plan { documents: 50, typists: 4, ..plan(2_000.0) })
}

const fn plan(rate: f64) -> Plan {
    Plan { documents: 1, typists: 1, rate, warm: WARM, measured: MEASURED, seed: 0 }
}

fn compare(options: &Options, report: &mut Report, scenario: &'static str, plan: Plan) -> Result<()> {
    let mut programs = vec![Program::relay(Kind::Axum)?, Program::relay(Kind::Tungstenite)?];
    if !options.relays_only {
        options.clear("rooms")?;
        programs.insert(0, options.quire_program("rooms")?);
    }
    let mut bests = Vec::new();
    for program in &programs {
        let server = program.start()?;
        report.add(cost(&server, program, scenario, plan, options.repeats)?);
        let best = search(&server, program, plan)?;
        let value = best.as_ref().map_or(0.0, |outcome| outcome.deliveries_per_second);
        bests.push(value);
        let note = best.as_ref().map_or_else(|| "no rate passes".to_owned(), note);
        report.add(Row {
            scenario,
            who: program.name.to_owned(),
            figure: "deliveries",
            value,
            unit: "/s",
            note,
        });
    }
    if let [quire, axum, tungstenite] = bests[..] {
        for (who, relay) in
            [("quire : bare axum relay", axum), ("quire : bare tungstenite relay", tungstenite)]
        {
            let row = Row {
                scenario,
                who: who.into(),
                figure: "ratio",
                value: quire / relay,
                unit: "",
                note: String::new(),
            };
            report.add(row);
        }
    }
    options.clear("rooms")
}

/// What a delivery costs the server at a rate that every server bears: unlike a limit, it can be
/// measured on a machine that does other things as well.
fn cost(server: &Server, program: &Program, scenario: &'static str, plan: Plan, repeats: u32) -> Result<Row> {
    let rate = plan.rate * COST_RATE_FACTOR;
    let mut micros = Vec::new();
    for repeat in 0..repeats {
        let outcome = rooms::run(server, program.stores, Plan { rate, seed: COST_SEEDS + repeat, ..plan })?;
        micros.push(outcome.server_cores * 1e6 / outcome.deliveries_per_second);
    }
    let note = format!("{} at {rate:.0} keystrokes/s", super::spread(&micros));
    let (who, figure) = (program.name.to_owned(), "server CPU per delivery");
    Ok(Row { scenario, who, figure, value: median(&micros), unit: "µs", note })
}

/// The best trial that passed.
fn search(server: &Server, program: &Program, plan: Plan) -> Result<Option<Outcome>> {
    let mut search = Search::from(plan.rate, PRECISION, TRIALS_MAX);
    let mut best: Option<Outcome> = None;
    let mut seed = 0;
    while let Some(rate) = search.next() {
        let mut passed = false;
        for _ in 0..TRIES_PER_RATE {
            seed += 1;
            let outcome = rooms::run(server, program.stores, Plan { rate, seed, ..plan })?;
            passed = outcome.passes(P99_MS_MAX);
            let failure = outcome.failure.as_deref().unwrap_or_default();
            let (missing, misplaced) = (outcome.missing, outcome.misplaced);
            eprintln!(
                "    {} {rate:.0} keystrokes/s: {:.0} deliveries/s, {}, missing {missing}, misplaced {misplaced} {failure}",
                program.name,
                outcome.deliveries_per_second,
                note(&outcome)
            );
            let hopeless = rates::quantile_ms(&outcome.latency, 0.99) > 5.0 * P99_MS_MAX;
            if passed
                && best.as_ref().is_none_or(|best| best.deliveries_per_second < outcome.deliveries_per_second)
            {
                best = Some(outcome);
            }
            if passed || hopeless {
                break;
            }
        }
        search.record(passed);
    }
    Ok(best)
}

fn note(outcome: &Outcome) -> String {
    format!(
        "p50 {:.1} p99 {:.1} ms, generator late p99 {:.1} ms; cores: server {:.2}, generator {:.2}, others {:.2}",
        rates::quantile_ms(&outcome.latency, 0.5),
        rates::quantile_ms(&outcome.latency, 0.99),
        rates::quantile_ms(&outcome.generator_late, 0.99),
        outcome.server_cores,
        outcome.generator_cores,
        outcome.other_cores,
    )
}
