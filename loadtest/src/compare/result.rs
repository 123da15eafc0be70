//! What a comparison found: every run of every server, as it is written to a file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::live::outcome::Outcome;

/// The version of the file.
pub(super) const VERSION: u32 = 1;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    /// [`VERSION`].
    pub(super) version: u32,
    /// When it began, in seconds since 1970.
    pub(super) began_unix_seconds: u64,
    /// Processors of this machine that may be used.
    pub(super) cores: usize,
    /// How often each server went through each scenario.
    pub(super) repeats: u32,
    /// The servers; the others are set beside the first.
    pub(super) peers: Vec<PeerTold>,
    /// What each of them went through.
    pub(super) scenarios: Vec<ScenarioTold>,
    /// Every run, in the order in which they were made.
    pub(super) runs: Vec<Run>,
}

/// A server as it was asked for.
#[derive(Debug, Serialize)]
pub(super) struct PeerTold {
    /// Its name.
    pub(super) name: String,
    /// How it was started.
    pub(super) command: Vec<String>,
    /// What was added to its environment.
    pub(super) env: BTreeMap<String, String>,
    /// The dialect's name.
    pub(super) dialect: String,
}

/// A scenario as it was asked for.
#[derive(Debug, Serialize)]
pub(super) struct ScenarioTold {
    /// Its name.
    pub(super) name: String,
    /// The options of `live`, those of the command line among them.
    pub(super) live: Vec<String>,
}

/// One server in one scenario, once.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// The server's name.
    pub(super) peer: String,
    /// The scenario's name.
    pub(super) scenario: String,
    /// Which repeat, from 1.
    pub(super) repeat: u32,
    /// How it went.
    pub(super) ended: Ended,
    /// What there is to say about that, in sentences.
    pub(super) said: Vec<String>,
    /// Seconds from the start of the server until it was ready.
    pub(super) ready_seconds: Option<f64>,
    /// What `live` found; none when it found nothing.
    pub(super) outcome: Option<Outcome>,
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ended {
    /// Nothing was lost and nothing failed.
    Passed,
    /// It was measured to its end, and something was wrong.
    Failed,
    /// The server was not ready in time.
    NotStarted,
    /// The server ended while it was measured.
    Died,
    /// Nothing was found out.
    NoOutcome,
}

impl Ended {
    /// What a person calls it.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotStarted => "DID NOT START",
            Self::Died => "DIED",
            Self::NoOutcome => "NO OUTCOME",
        }
    }
}

impl Comparison {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec(self)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The runs of one server in one scenario, by repeat.
    pub(super) fn runs_of<'a>(&'a self, peer: &'a str, scenario: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.peer == peer && run.scenario == scenario)
    }
}
