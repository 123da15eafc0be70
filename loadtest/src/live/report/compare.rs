//! Several servers beside each other: each figure of all of them, and their latency on top of each other.
//!
//! A figure counts only for a run that lost nothing, so that failed runs are named and left out.

use std::collections::BTreeMap;

use anyhow::Result;
use maud::{Markup, html};

use super::figures::{Memory, NONE, milliseconds, number, of};
use super::page::plot;
use super::plots::distributions;
use super::style::page;
use super::{figures, ink};
use crate::live::outcome::{Outcome, Spread};

/// One thing that is compared.
struct Figure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Outcome) -> Option<f64>,
}

const FIGURES: [Figure; 13] = [
    Figure { name: "Deliveries", unit: "a second", of: |run| Some(run.counts.deliveries_per_second) },
    Figure { name: "Delivery, p50", unit: "ms", of: |run| at(&run.delivery, run.delivery.p50) },
    Figure { name: "Delivery, p99", unit: "ms", of: |run| at(&run.delivery, run.delivery.p99) },
    Figure { name: "Delivery, p99.9", unit: "ms", of: |run| at(&run.delivery, run.delivery.p999) },
    Figure { name: "Acknowledgement, p50", unit: "ms", of: |run| at(&run.ack, run.ack.p50) },
    Figure { name: "Acknowledgement, p99", unit: "ms", of: |run| at(&run.ack, run.ack.p99) },
    Figure { name: "Join, p50", unit: "ms", of: |run| at(&run.join, run.join.p50) },
    Figure { name: "Join, p99", unit: "ms", of: |run| at(&run.join, run.join.p99) },
    Figure { name: "Equal everywhere after the last keystroke", unit: "s", of: |run| run.converged_seconds },
    Figure { name: "Processors of the server", unit: "cores", of: |run| run.cores.server },
    Figure { name: "Memory at the end", unit: "MiB", of: memory_end },
    Figure { name: "Trend of the memory", unit: "%/min", of: |run| Memory::of(run)?.percent_per_minute },
    Figure {
        name: "Generator late, p99",
        unit: "ms",
        of: |run| at(&run.generator_late, run.generator_late.p99),
    },
];

/// A page that compares servers, each with its name and its repeated runs; ratios are to the first one.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn compare_html(runs: &[(String, Vec<Outcome>)]) -> Result<String> {
    let passed: Vec<(&str, Vec<&Outcome>)> = runs
        .iter()
        .map(|(name, runs)| (name.as_str(), runs.iter().filter(|run| run.passed).collect()))
        .collect();
    let tables: Vec<Markup> = FIGURES.iter().filter_map(|figure| table(figure, &passed)).collect();
    let pooled = |of: fn(&Outcome) -> &Spread| -> Vec<(String, Spread)> {
        passed.iter().map(|(name, runs)| ((*name).to_owned(), pool(runs.iter().map(|run| of(run))))).collect()
    };
    let waits = [
        ("Delivery", pooled(|run| &run.delivery)),
        ("Acknowledgement", pooled(|run| &run.ack)),
        ("Join", pooled(|run| &run.join)),
    ];
    let mut plots = Vec::new();
    for (name, spreads) in
        waits.iter().filter(|(_, spreads)| spreads.iter().any(|(_, spread)| spread.count > 0))
    {
        let chart = distributions(spreads.iter().map(|(server, spread)| (server.clone(), spread)));
        plots.push(plot(name, "in ms, by percentile, all runs of a server together", &chart)?);
    }
    let body = html! {
        header {
            h1 { "Servers compared" }
            p { (asked(runs)) }
        }
        (verdicts(runs))
        @if !plots.is_empty() { h2 { "Latency" } @for plot in &plots { (plot) } }
        @if !tables.is_empty() { h2 { "Figures" } div.columns { @for table in &tables { (table) } } }
        footer {
            "Of each figure the median of the runs that passed, and the smallest and the largest of them. "
            "A ratio is to the median of the first server."
        }
    };
    Ok(page("Servers compared", &body))
}

/// What all runs were asked, in the words of the first one.
fn asked(runs: &[(String, Vec<Outcome>)]) -> String {
    let Some(run) = runs.iter().find_map(|(_, runs)| runs.first()) else {
        return "There were no runs.".to_owned();
    };
    let plan = &run.plan;
    let same = runs.iter().flat_map(|(_, runs)| runs).all(|other| {
        let other = &other.plan;
        (&other.profile, other.documents, other.typists, other.watchers)
            == (&plan.profile, plan.documents, plan.typists, plan.watchers)
            && other.measured_seconds.total_cmp(&plan.measured_seconds).is_eq()
    });
    let asked = format!(
        "Profile {}, {} in {}, {} measured in each run, {}",
        plan.profile,
        of(plan.typists.into(), "typist"),
        of(plan.documents.into(), "document"),
        figures::seconds(plan.measured_seconds),
        figures::moment(run.began_unix_seconds)
    );
    if same {
        asked
    } else {
        "The runs were not asked the same, so that their figures do not compare.".to_owned()
    }
}

fn verdicts(runs: &[(String, Vec<Outcome>)]) -> Markup {
    let all = |runs: &[Outcome]| !runs.is_empty() && runs.iter().all(|run| run.passed);
    let failed = !runs.iter().all(|(_, runs)| all(runs));
    html! {
        section.verdict.failed[failed] {
            ul {
                @for (name, runs) in runs {
                    li {
                        b { (name) } ": " (how_many_passed(runs))
                        @for sentence in runs.iter().flat_map(|run| &run.failures) { br; span.soft { (sentence) } }
                    }
                }
            }
        }
        @let warned = runs.iter().flat_map(|(name, runs)| runs.iter().map(move |run| (name, run)));
        @let warnings: Vec<_> = warned.flat_map(|(name, run)| run.warnings.iter().map(move |text| (name, text))).collect();
        @if !warnings.is_empty() {
            section.verdict.warnings {
                strong { "To be read with care." }
                ul { @for (name, text) in warnings { li { b { (name) } ": " (text) } } }
            }
        }
    }
}

fn how_many_passed(runs: &[Outcome]) -> String {
    let good = runs.iter().filter(|run| run.passed).count();
    match runs.len() {
        0 => "no runs".to_owned(),
        all if all == good => of(u64::try_from(all).unwrap_or(u64::MAX), "run") + " passed",
        all => format!("{good} of {all} runs passed; the figures leave the others out"),
    }
}

/// None where no server has such a figure.
fn table(figure: &Figure, servers: &[(&str, Vec<&Outcome>)]) -> Option<Markup> {
    let values: Vec<Vec<f64>> = servers.iter().map(|(_, runs)| sorted(runs, figure.of)).collect();
    if values.iter().all(Vec::is_empty) {
        return None;
    }
    let first = values.first().and_then(|values| median(values));
    Some(html! {
        table {
            caption { (figure.name) " " small.soft { (figure.unit) } }
            thead { tr { th scope="col" {} th scope="col" { "median" } th scope="col" { "from – to" } th scope="col" { "ratio" } } }
            tbody {
                @for (at, ((name, _), values)) in servers.iter().zip(&values).enumerate() {
                    tr {
                        th scope="row" {
                            @if let Some(ink) = ink::LINES.get(at) { span class={ "key-of " (ink.name()) } {} }
                            (name)
                        }
                        td { (median(values).map_or_else(|| NONE.to_owned(), number)) }
                        td.soft { (span(values)) }
                        td { (ratio(median(values), first)) }
                    }
                }
            }
        }
    })
}

fn sorted(runs: &[&Outcome], of: fn(&Outcome) -> Option<f64>) -> Vec<f64> {
    let mut values: Vec<f64> =
        runs.iter().filter_map(|run| of(run)).filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle one, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

fn span(sorted: &[f64]) -> String {
    match sorted {
        [] => NONE.to_owned(),
        [only] => number(*only),
        [first, .., last] => format!("{} – {}", number(*first), number(*last)),
    }
}

fn ratio(value: Option<f64>, first: Option<f64>) -> String {
    let ratio = value
        .zip(first)
        .map(|(value, first)| value / first)
        .filter(|ratio| ratio.is_finite() && *ratio >= 0.0);
    ratio.map_or_else(|| NONE.to_owned(), |ratio| format!("{} ×", number(ratio)))
}

fn at(spread: &Spread, microseconds: u64) -> Option<f64> {
    (spread.count > 0).then(|| milliseconds(microseconds))
}

fn memory_end(run: &Outcome) -> Option<f64> {
    Memory::of(run).map(|memory| memory.end as f64 / figures::MEBIBYTE)
}

/// All values of several distributions as those of one, whose quantiles are not asked for.
fn pool<'a>(spreads: impl Iterator<Item = &'a Spread>) -> Spread {
    let mut values = BTreeMap::new();
    for (value, count) in spreads.flat_map(|spread| &spread.values) {
        let sum: &mut u64 = values.entry(*value).or_default();
        *sum = sum.saturating_add(*count);
    }
    let count = values.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
    Spread { count, values: values.into_iter().collect(), ..Spread::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_of_nothing_are_nothing() {
        assert_eq!(
            [median(&[]), median(&[1.0]), median(&[1.0, 3.0]), median(&[1.0, 2.0, 9.0])],
            [None, Some(1.0), Some(2.0), Some(2.0)]
        );
        let ratios = [(Some(3.0), Some(2.0)), (Some(3.0), Some(0.0)), (None, Some(1.0)), (Some(1.0), None)];
        assert_eq!(ratios.map(|(value, first)| ratio(value, first)), ["1.50 ×", NONE, NONE, NONE]);
    }

    #[test]
    fn pooling_adds_what_came_as_often() {
        let spread = |values: &[(u64, u64)]| Spread { values: values.to_vec(), ..Spread::default() };
        let pooled = pool([spread(&[(1, 2), (5, u64::MAX)]), spread(&[(1, 3), (5, 9)])].iter());
        assert_eq!((pooled.count, pooled.values), (u64::MAX, vec![(1, 5), (5, u64::MAX)]));
    }
}
