//! What a live run found, for people: a page that needs nothing but itself, and a summary for a terminal.
//!
//! Pure: everything is made from an [`Outcome`], so that a report can be drawn again from its file. A page
//! asks nobody for anything: its style and its plots are inside it, and it has no script.
//!
//! Invariant: what comes from outside, such as URLs and failures, reaches a page as text and never as markup.

mod axis;
mod chart;
mod compare;
mod figures;
mod ink;
mod page;
mod plots;
mod style;
mod summary;

use std::path::Path;

use anyhow::{Context, Result};

use super::outcome::Outcome;

pub use compare::compare_html;
pub use page::html;
pub use summary::summary;

/// Writes the page of [`html`] to a file.
///
/// # Errors
/// When the page cannot be drawn or the file cannot be written.
pub fn write(outcome: &Outcome, path: &Path) -> Result<()> {
    std::fs::write(path, html(outcome)?).with_context(|| format!("cannot write {}", path.display()))
}
