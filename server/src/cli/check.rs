//! `quire check DIR`: verifies a data directory that no server has open, and says what is wrong.
//!
//! Changes nothing in it.

use super::table;
use clap::Args;
use quire_storage::{OpenError, Report};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Why a directory does not pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{} is damaged; keep a copy of it, and restore it from a backup", .0.display())]
    Damaged(PathBuf),
}

pub(super) fn run(check: Check) -> Result<(), CheckError> {
    let report = quire_storage::verify(&check.directory)?;
    // Whoever reads the exit code alone may have closed stdout.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), told(&report).as_bytes());
    if report.is_whole() { Ok(()) } else { Err(CheckError::Damaged(check.directory)) }
}

fn told(report: &Report) -> String {
    let figures = [
        ("documents", report.documents),
        ("tails and snapshots", report.rows),
        ("batches", report.batches),
        ("entries", report.entries),
    ];
    let derived =
        report.derived.iter().map(|(space, rows)| (format!("derived rows in space {space}"), *rows));
    let figures = figures.map(|(name, figure)| (name.to_owned(), figure)).into_iter().chain(derived);
    let figures = figures.chain([("documents due".to_owned(), report.due)]);
    let rows: Vec<_> = figures.map(|(name, figure)| vec![name, figure.to_string()]).collect();
    let mut text = table::aligned(&rows);
    text.push('\n');
    if report.is_whole() {
        text.push_str("Nothing is wrong.\n");
        return text;
    }
    for problem in &report.problems {
        text.push_str(&format!("- {problem}\n"));
    }
    if report.further_problems > 0 {
        text.push_str(&format!("- and {} more\n", report.further_problems));
    }
    text
}
