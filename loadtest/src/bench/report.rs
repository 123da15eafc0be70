//! What a run of benchmarks found: an aligned table for people, JSON for programs.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// The rows of one run, and the machine it ran on.
#[derive(Debug, Serialize)]
pub struct Report {
    cores: usize,
    load_at_start: String,
    load_at_end: String,
    rows: Vec<Row>,
    failures: Vec<String>,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// Whose figure.
    pub who: String,
    /// What was measured.
    pub figure: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What else is worth knowing: spread, shares of processors, sizes.
    pub note: String,
}

impl Report {
    /// An empty report of this machine.
    #[must_use]
    pub fn begin() -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (rows, failures) = (Vec::new(), Vec::new());
        Self { cores, load_at_start: load(), load_at_end: String::new(), rows, failures }
    }

    /// Adds a figure and tells it at once.
    pub fn add(&mut self, row: Row) {
        eprintln!("  {}", line(&row, [0; 4]));
        self.rows.push(row);
    }

    /// Notes that a scenario could not be measured.
    pub fn failed(&mut self, scenario: &str, error: &anyhow::Error) {
        eprintln!("  FAILED: {error:#}");
        self.failures.push(format!("{scenario}: {error:#}"));
    }

    /// Writes everything as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&mut self, path: &Path) -> Result<()> {
        self.load_at_end = load();
        let json = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Prints the table to stdout.
    pub fn print(&self) {
        println!("{} cores; load at the start {}, at the end {}", self.cores, self.load_at_start, load());
        let width = |of: fn(&Row) -> usize| self.rows.iter().map(of).max().unwrap_or(0);
        let widths = [
            width(|row| row.scenario.chars().count()),
            width(|row| row.who.chars().count()),
            width(|row| row.figure.chars().count()),
            width(|row| number(row.value).len()),
        ];
        for row in &self.rows {
            println!("{}", line(row, widths));
        }
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
    }

    /// # Errors
    /// When a scenario failed.
    pub fn verdict(&self) -> Result<()> {
        if self.failures.is_empty() { Ok(()) } else { bail!("{} scenarios failed", self.failures.len()) }
    }
}

fn line(row: &Row, [scenario, who, figure, value]: [usize; 4]) -> String {
    let text = format!(
        "{:scenario$}  {:who$}  {:figure$}  {:>value$} {}  {}",
        row.scenario,
        row.who,
        row.figure,
        number(row.value),
        row.unit,
        row.note
    );
    text.trim_end().to_owned()
}

/// Three figures that matter, and no more than the value has.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
