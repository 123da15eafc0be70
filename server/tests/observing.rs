//! The alerts and the dashboard of docs/operating can be read, and name only metrics that a region has.

use std::collections::BTreeSet;
use std::path::Path;

/// The parts of a histogram, which its name in the source does not have.
const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every word of a text that begins like a metric.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("quire_")).collect()
}

/// Asserts that a region has every metric of these expressions.
fn assert_known(expressions: &[&str]) {
    let source = file("src/metrics.rs");
    let known = metrics_in(&source);
    for expression in expressions {
        let named = metrics_in(expression);
        assert!(!named.is_empty(), "{expression} names no metric");
        for name in named {
            let whole = PARTS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(known.contains(name) || known.contains(whole), "{name} is no metric of a region");
        }
    }
}

#[test]
fn every_alert_asks_for_metrics_there_are_and_names_a_page_that_helps() {
    let alerts: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&file("../docs/operating/alerts.yml")).expect("YAML");
    let groups = alerts["groups"].as_sequence().expect("groups");
    let rules: Vec<_> =
        groups.iter().flat_map(|group| group["rules"].as_sequence().expect("rules")).collect();
    let text = |rule: &'_ serde_yaml_ng::Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
    let mut names = BTreeSet::new();
    for rule in &rules {
        let name = text(rule, "alert");
        assert_known(&[&text(rule, "expr")]);
        assert!(!text(&rule["annotations"], "summary").is_empty(), "{name} says what is wrong");
        let remedy = text(&rule["annotations"], "remedy");
        let page =
            remedy.split(|c: char| c.is_whitespace() || c == ',').find(|word| word.starts_with("docs/"));
        let page = page.unwrap_or_else(|| panic!("{name} names a page")).trim_end_matches(['.', ':', ';']);
        assert!(!file(&format!("../{page}")).is_empty());
        names.insert(name);
    }
    assert_eq!(names.len(), rules.len(), "each alert has a name of its own");
    assert_eq!(rules.len(), 12);
}

#[test]
fn every_panel_of_the_dashboard_asks_for_metrics_there_are() {
    let board: serde_json::Value =
        serde_json::from_str(&file("../docs/operating/grafana.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    for panel in panels {
        let targets = panel["targets"].as_array().expect("targets");
        let expressions: Vec<_> = targets.iter().filter_map(|target| target["expr"].as_str()).collect();
        assert_eq!(expressions.len(), targets.len(), "{}", panel["title"]);
        assert!(!expressions.is_empty(), "{}", panel["title"]);
        assert_known(&expressions);
    }
    assert_eq!(panels.len(), 16);
}
