//! The page of one run: the verdict, the figures, the plots, and what was asked for.

use anyhow::Result;
use maud::{Markup, PreEscaped, html};

use super::chart::{Chart, HALF, NARROW, Size, THIRD, WIDE};
use super::figures::{self, Memory, NONE, bytes, count, number, of, quantile, seconds};
use super::ink;
use super::plots::{self, Moments};
use super::style::page;
use crate::live::outcome::{Outcome, Spread};

/// The report of a run as one page of HTML, with its style and its plots inside it.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn html(outcome: &Outcome) -> Result<String> {
    let moments = Moments::of(&outcome.samples);
    let body = html! {
        (head(outcome))
        (verdict(outcome))
        (tiles(outcome))
        h2 { "Latency" }
        (waits(outcome))
        (latency(outcome, &moments)?)
        (between_regions(outcome)?)
        h2 { "Throughput" }
        (throughput(&moments)?)
        h2 { "Processors and memory" }
        (resources(outcome, &moments)?)
        h2 { "What was counted" }
        (counted(outcome))
        h2 { "What was asked for" }
        (told(outcome))
        footer {
            "Latency is counted from the moment a key was to be pressed, not from when the generator came to it. "
            "A quantile such as p99 says what 99 in 100 did not exceed."
        }
    };
    Ok(page(&format!("Live run: {}", outcome.plan.profile), &body))
}

/// A plot with its title, drawn for a wide page and for a phone, or what to say where it would be empty.
pub(super) fn plot(title: &str, detail: &str, chart: &Chart) -> Result<Markup> {
    figure(title, detail, chart, &[("wide", WIDE), ("narrow", NARROW)])
}

/// A plot that stands beside others.
fn small(title: &str, detail: &str, chart: &Chart, size: Size) -> Result<Markup> {
    figure(title, detail, chart, &[("small", size)])
}

fn figure(title: &str, detail: &str, chart: &Chart, sizes: &[(&str, Size)]) -> Result<Markup> {
    let mut drawn = Vec::new();
    for (class, size) in sizes.iter().filter(|_| !chart.is_empty()) {
        drawn.push((class, chart.svg(*size)?));
    }
    let several = chart.lines.len() > 1;
    Ok(html! {
        figure {
            figcaption { b { (title) } " " span.soft { (detail) } }
            @if drawn.is_empty() { p.soft { "There is nothing to draw." } }
            @for (class, svg) in &drawn {
                div class=(class) role="img" aria-label=(format!("{title} {detail}")) { (PreEscaped(svg)) }
            }
            @if several && !drawn.is_empty() {
                ul.keys {
                    @for (line, ink) in chart.lines.iter().zip(ink::LINES) {
                        @if !line.pieces.is_empty() { li { i class=(ink.name()) {} (line.name) } }
                    }
                }
            }
        }
    })
}

fn head(outcome: &Outcome) -> Markup {
    let plan = &outcome.plan;
    let regions = u64::try_from(plan.urls.len()).unwrap_or(0);
    html! {
        header {
            h1 { "Live run" }
            p {
                "Profile " (plan.profile) ", dialect " (plan.dialect) ", " (of(regions, "region")) ", "
                (of(plan.typists.into(), "typist")) " in " (of(plan.documents.into(), "document"))
            }
            p { (figures::moment(outcome.began_unix_seconds)) ", " (seconds(plan.measured_seconds)) " measured" }
        }
    }
}

fn verdict(outcome: &Outcome) -> Markup {
    html! {
        section.verdict.failed[!outcome.passed] {
            @if outcome.passed {
                strong { "Passed." } " Nothing was lost, and every document became equal everywhere."
            } @else {
                strong { "Failed." } " Its figures do not count."
            }
            (sentences(&outcome.failures))
        }
        @if !outcome.warnings.is_empty() {
            section.verdict.warnings {
                strong { "To be read with care." }
                (sentences(&outcome.warnings))
            }
        }
    }
}

fn sentences(all: &[String]) -> Markup {
    html! {
        @if !all.is_empty() { ul { @for sentence in all { li { (sentence) } } } }
    }
}

fn tiles(outcome: &Outcome) -> Markup {
    let delivery = &outcome.delivery;
    let tile = |name: &str, value: &str, unit: &str| {
        html! { div { dt { (name) } dd { (value) " " @if value != NONE { small { (unit) } } } } }
    };
    html! {
        dl.tiles {
            (tile("Deliveries", &number(outcome.counts.deliveries_per_second), "a second"))
            (tile("Delivery, p50", &quantile(delivery, delivery.p50), "ms"))
            (tile("Delivery, p99", &quantile(delivery, delivery.p99), "ms"))
            @match outcome.cores.server {
                Some(cores) => { (tile("Server", &number(cores), "cores")) }
                None => { (tile("Typed", &count(outcome.counts.typed), "letters")) }
            }
        }
    }
}

/// A row of a table of distributions.
fn spread_row(name: &Markup, spread: &Spread) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            @for value in [spread.p50, spread.p90, spread.p99, spread.p999, spread.max] {
                td { (quantile(spread, value)) }
            }
            td.count { (count(spread.count)) }
        }
    }
}

fn spread_table(rows: &Markup) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "ms" }
                @for name in ["p50", "p90", "p99", "p99.9", "max"] { th scope="col" { (name) } }
                th.count scope="col" { "count" }
            } }
            tbody { (rows) }
        } }
    }
}

fn waits(outcome: &Outcome) -> Markup {
    let rows = [
        ("Delivery", &outcome.delivery),
        ("Acknowledgement", &outcome.ack),
        ("Join", &outcome.join),
        ("Generator late", &outcome.generator_late),
    ];
    spread_table(&html! { @for (name, spread) in rows { (spread_row(&html! { (name) }, spread)) } })
}

fn latency(outcome: &Outcome, moments: &Moments) -> Result<Markup> {
    let every = match moments.seconds {
        1 => "each second, in ms".to_owned(),
        several => format!("in ms, the worst of each {several} seconds"),
    };
    let shade =
        if outcome.samples.iter().all(|sample| sample.measured) { "" } else { "; grey is not measured" };
    Ok(html! {
        (plot("Delivery over time", &format!("{every}{shade}"), &moments.latency())?)
        (plot("Distribution", "in ms, by percentile; each further nine takes the same room", &plots::waits(outcome))?)
    })
}

fn between_regions(outcome: &Outcome) -> Result<Markup> {
    if outcome.lag.is_empty() {
        return Ok(html! {});
    }
    let chart = plots::lags(outcome);
    let detail = match outcome.lag.len() > chart.lines.len() {
        true => format!("in ms, by percentile; the {} slowest pairs", chart.lines.len()),
        false => "in ms, by percentile".to_owned(),
    };
    Ok(html! {
        h2 { "Between regions" }
        (servers(&outcome.plan.urls))
        (spread_table(&html! {
            @for pair in &outcome.lag { (spread_row(&html! { (plots::pair_name(pair)) }, &pair.delivery)) }
        }))
        (plot("Distribution between regions", &detail, &chart)?)
    })
}

fn throughput(moments: &Moments) -> Result<Markup> {
    Ok(html! {
        div.row {
            (small("Deliveries", "a second", &moments.deliveries(), THIRD)?)
            (small("Letters typed", "a second", &moments.typed(), THIRD)?)
            (small("Sessions", "joined", &moments.sessions(), THIRD)?)
        }
    })
}

fn resources(outcome: &Outcome, moments: &Moments) -> Result<Markup> {
    let cores = &outcome.cores;
    let watched =
        outcome.samples.iter().any(|sample| sample.server_bytes.is_some() || sample.server_cores.is_some());
    let memory = Memory::of(outcome);
    Ok(html! {
        div.columns {
            table { caption { "Cores in use" } tbody {
                (row("Servers", &cores.server.map_or_else(|| NONE.to_owned(), number)))
                (row("This generator", &number(cores.generator)))
                (row("Everything else on this machine", &number(cores.others)))
            } }
            @if let Some(memory) = memory {
                table { caption { "Memory of the servers" } tbody {
                    (row("At the start of the measured time", &bytes(memory.start)))
                    (row("At its end", &bytes(memory.end)))
                    (row("Trend", &memory.trend()))
                } }
            }
        }
        @if watched {
            div.row.two {
                (small("Processors", "in cores", &moments.cores(), HALF)?)
                (small("Memory of the servers", "in MiB", &moments.memory(), HALF)?)
            }
        } @else {
            p.soft {
                "No server process was watched, so that its processors and memory are not known. "
                "The option --pid watches one on the machine of the generator."
            }
        }
    })
}

fn row(name: &str, value: &str) -> Markup {
    html! { tr { th scope="row" { (name) } td { (value) } } }
}

/// A row of what must be 0.
fn fault(name: &str, value: u64) -> Markup {
    html! { tr { th scope="row" { (name) } td.bad[value > 0] { (count(value)) } } }
}

fn counted(outcome: &Outcome) -> Markup {
    let counts = &outcome.counts;
    html! {
        div.columns {
            table { caption { "Whether everything arrived" } tbody {
                (fault("Letters missing in the end", counts.missing))
                (fault("Letters out of order", counts.misplaced))
                (fault("Letters acknowledged and lost", counts.lost_acknowledged))
                (fault("Documents that diverged", counts.diverged))
                (converged(outcome.converged_seconds))
                (row("Connections ended or refused by the server", &count(counts.refused)))
            } }
            table { caption { "What was done" } tbody {
                (row("Letters typed", &count(counts.typed)))
                (row("Letters deleted", &count(counts.deleted)))
                (row("Letters received by others", &count(counts.deliveries)))
                (row("Letters received once more", &count(counts.repeated)))
                (row("Cursor moves", &count(counts.cursor_moves)))
                (row("Joins", &count(counts.joins)))
                (row("Spells offline", &count(counts.offline_spells)))
                (row("Tabs closed", &count(counts.tab_closes)))
                (row("Sent", &bytes(counts.bytes_sent)))
                (row("Received", &bytes(counts.bytes_received)))
            } }
        }
    }
}

fn told(outcome: &Outcome) -> Markup {
    let plan = &outcome.plan;
    html! {
        div.columns {
            table.told { tbody {
                (row("Profile", &plan.profile))
                (row("Dialect", &plan.dialect))
                tr { th scope="row" { "Servers" } td { (servers(&plan.urls)) } }
                (row("Seed", &plan.seed.to_string()))
            } }
            table.told { tbody {
                (row("Documents", &count(plan.documents.into())))
                (row("Typists", &count(plan.typists.into())))
                (row("Watchers", &count(plan.watchers.into())))
                (row("Keystrokes of a typist", &format!("{} a second", number(plan.keystrokes_per_second))))
                (row("Before measuring", &seconds(plan.warm_seconds)))
                (row("Measured", &seconds(plan.measured_seconds)))
            } }
        }
    }
}

fn converged(after: Option<f64>) -> Markup {
    html! { tr {
        th scope="row" { "Equal everywhere after the last keystroke" }
        td.bad[after.is_none()] { (after.map_or_else(|| "never".to_owned(), seconds)) }
    } }
}

/// The servers, numbered where there are several.
fn servers(urls: &[String]) -> Markup {
    html! {
        ul.urls {
            @for (at, url) in urls.iter().enumerate() {
                li { @if urls.len() > 1 { span.soft { (at + 1) " " } } (url) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_stands_out_and_its_absence_does_not() {
        assert!(fault("lost", 1).into_string().contains("class=\"bad\""));
        assert!(!fault("lost", 0).into_string().contains("bad"));
    }
}
