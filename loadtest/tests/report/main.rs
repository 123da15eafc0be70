//! The report of a live run: it is drawn from whatever an outcome can hold, and it is one safe page.
//!
//! The pages are left in the target folder's `tmp/live-report`, to be looked at.

mod made_up;

use std::path::PathBuf;

use made_up::{nothing, one_region, three_regions};
use quire_loadtest::live::outcome::{Outcome, Pair, Sample, Spread};
use quire_loadtest::live::report::{compare_html, html, summary, write};

const MARKUP: &str = "<script>alert(\"1\")</script>&amp;'";
/// The units of the widest plot.
const PLOT_WIDTH: f64 = 7_360.0;
/// How far a line's middle may stand outside of a plot: less than a pixel of a page.
const PLOT_EDGE: f64 = 8.0;

fn folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("live-report");
    std::fs::create_dir_all(&folder).expect("the folder of the tests can be written");
    folder
}

/// What must be so on every page.
fn assert_sound(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    for active in ["<script", "<img", "<iframe", "<object", "@import", "url(", "src=", "onload"] {
        assert!(!page.contains(active), "{active}");
    }
    // The one link is that of an empty icon, which keeps browsers from asking for one.
    assert_eq!(page.matches("href=").count(), page.matches("href=\"data:,\"").count());
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for plot in page.split("<svg").skip(1).map(|rest| rest.split("</svg>").next().unwrap_or_default()) {
        for value in plot.split('"').skip(1).step_by(2) {
            assert!(!value.contains("NaN") && !value.contains("inf"), "{value}");
            // The dark style has to know each colour.
            if value.starts_with('#') {
                assert!(page.contains(&format!("[stroke=\"{value}\"]{{stroke:var(--")), "{value}");
            }
            for place in value.split([',', ' ']).filter_map(|number| number.parse::<f64>().ok()) {
                assert!((-PLOT_EDGE..=PLOT_WIDTH).contains(&place), "{value}");
            }
        }
    }
}

fn report(outcome: &Outcome) -> String {
    let page = html(outcome).expect("every outcome can be drawn");
    assert_sound(&page);
    assert!(summary(outcome).lines().count() <= 25);
    page
}

#[test]
fn a_report_of_three_regions_has_every_plot_and_figure() {
    let outcome = three_regions();
    let page = report(&outcome);
    // Three plots twice, for a wide page and for a phone, and five small ones.
    assert_eq!(page.matches("<svg").count(), 3 * 2 + 5);
    for shown in
        ["Passed.", "To be read with care.", "52,844", "1 → 3", "tokyo", "%/min", "21 September 2026"]
    {
        assert!(page.contains(shown), "{shown}");
    }
    write(&outcome, &folder().join("three-regions.html")).unwrap();
    std::fs::write(folder().join("three-regions.txt"), summary(&outcome)).unwrap();
}

#[test]
fn a_report_of_one_region_leaves_out_what_is_not_known() {
    let outcome = one_region(3, 1.0);
    let page = report(&outcome);
    assert!(!page.contains("Between regions"));
    assert!(page.contains("No server process was watched"));
    assert_eq!(page.matches("<svg").count(), 2 * 2 + 3);
    write(&outcome, &folder().join("one-region.html")).unwrap();
}

#[test]
fn a_run_that_came_to_nothing_has_a_report() {
    let outcome = nothing();
    let page = report(&outcome);
    assert!(page.contains("No server answered.") && page.contains("Failed."));
    assert_eq!(page.matches("<svg").count(), 0);
    write(&outcome, &folder().join("nothing.html")).unwrap();
}

#[test]
fn odd_figures_are_drawn_within_the_plots() {
    let mut outcome = three_regions();
    let extreme = |second| Sample {
        second,
        measured: second == 0,
        sessions: u64::MAX,
        typed: u64::MAX,
        deliveries: u64::MAX,
        p50: 0,
        p99: u64::MAX,
        max: u64::MAX,
        server_cores: Some(f64::NAN),
        server_bytes: Some(u64::MAX),
        generator_cores: f64::INFINITY,
        values: Vec::new(),
    };
    outcome.delivery =
        Spread { count: 1, values: vec![(0, 0), (0, 1), (u64::MAX, u64::MAX)], ..Spread::default() };
    outcome.lag =
        (0..20).map(|to| Pair { from: usize::MAX, to, delivery: outcome.delivery.clone() }).collect();
    outcome.counts.deliveries_per_second = f64::NAN;
    outcome.converged_seconds = Some(f64::INFINITY);
    outcome.began_unix_seconds = u64::MAX;
    for samples in [vec![extreme(0)], vec![extreme(i64::MIN), extreme(0), extreme(i64::MAX)]] {
        outcome.samples = samples;
        report(&outcome);
    }
}

#[test]
fn what_comes_from_outside_is_no_markup() {
    let mut outcome = three_regions();
    outcome.passed = false;
    outcome.plan.urls = vec![MARKUP.into(), format!("{MARKUP}2")];
    outcome.plan.profile = MARKUP.into();
    outcome.plan.dialect = MARKUP.into();
    outcome.failures = vec![MARKUP.into()];
    outcome.warnings = vec![MARKUP.into()];
    let escaped = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;amp;'";
    assert!(report(&outcome).matches(escaped).count() >= 7);
    let compared = compare_html(&[(MARKUP.into(), vec![outcome, three_regions()])]).unwrap();
    assert_sound(&compared);
    assert!(compared.contains(escaped));
}

#[test]
fn a_summary_sends_a_terminal_no_control_characters_and_few_lines() {
    let mut outcome = three_regions();
    outcome.failures = (0..40).map(|at| format!("\u{1b}[2J\rwiped {at}\n\n")).collect();
    outcome.warnings = outcome.failures.clone();
    let text = summary(&outcome);
    assert!(text.lines().count() <= 25, "{text}");
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()));
    assert!(text.contains("and 37 more"));
}

#[test]
fn servers_are_compared_by_the_runs_that_passed() {
    let mut failed = one_region(9, 40.0);
    failed.passed = false;
    failed.failures = vec!["3 letters were lost.".into()];
    failed.converged_seconds = Some(77.7);
    let repeats = |slower| (1..=3).map(|seed| one_region(seed, slower)).collect::<Vec<_>>();
    let mut third = repeats(2.0);
    third.push(failed);
    let servers = [
        ("quire".to_owned(), repeats(1.0)),
        ("y-websocket".to_owned(), repeats(1.6)),
        ("other".to_owned(), third),
    ];
    let page = compare_html(&servers).unwrap();
    assert_sound(&page);
    for shown in ["3 runs passed", "3 of 4 runs passed", "3 letters were lost.", "1.00 ×"] {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(!page.contains("77.7"));
    // Nobody was watched, and nothing was acknowledged.
    assert!(!page.contains("Processors of the server") && !page.contains("Acknowledgement"));
    std::fs::write(folder().join("compare.html"), page).unwrap();
}

#[test]
fn a_comparison_of_nothing_is_a_page() {
    for servers in
        [Vec::new(), vec![("quire".to_owned(), Vec::new())], vec![("quire".to_owned(), vec![nothing()])]]
    {
        assert_sound(&compare_html(&servers).unwrap());
    }
}
