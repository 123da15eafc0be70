//! What a live run found, as it is written to a file: figures for programs, and all that the report draws.
//!
//! Times are microseconds unless a name says otherwise; moments count from the run's first intended keystroke.

use std::path::Path;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The version of the file; a reader refuses any other.
pub const VERSION: u32 = 1;

/// Everything that is known after a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// [`VERSION`].
    pub version: u32,
    /// When the run began, in seconds since 1970.
    pub began_unix_seconds: u64,
    /// What was asked for.
    pub plan: Told,
    /// Whether nothing was lost, everything converged and nothing failed.
    pub passed: bool,
    /// What went wrong, in sentences; empty when it passed.
    pub failures: Vec<String>,
    /// What makes figures doubtful though nothing failed, such as a generator that was the limit.
    pub warnings: Vec<String>,
    /// What was done and seen, of the measured time.
    pub counts: Counts,
    /// From the intended keystroke to another session's socket, between sessions that were both online.
    pub delivery: Spread,
    /// From the intended keystroke to the server's acknowledgement.
    pub ack: Spread,
    /// From the start of a connection to the document's state, first joins and later ones.
    pub join: Spread,
    /// How late the generator itself was.
    pub generator_late: Spread,
    /// From a region's typist to another region's, for each pair of regions there is; empty for one region.
    pub lag: Vec<Pair>,
    /// Seconds after the last keystroke until all documents were equal everywhere; none when they never were.
    pub converged_seconds: Option<f64>,
    /// One for each second.
    pub samples: Vec<Sample>,
    /// Processors used while it was measured, in cores.
    pub cores: Cores,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// The profile's name.
    pub profile: String,
    /// The dialect's name.
    pub dialect: String,
    /// The servers, one for each region.
    pub urls: Vec<String>,
    /// How many documents.
    pub documents: u32,
    /// How many typists in all.
    pub typists: u32,
    /// Sessions that only watch.
    pub watchers: u32,
    /// Keystrokes a second that each typist makes on average.
    pub keystrokes_per_second: f64,
    /// Seconds before anything is measured.
    pub warm_seconds: f64,
    /// Seconds that are measured.
    pub measured_seconds: f64,
    /// What the run was drawn from.
    pub seed: u64,
}

/// What was done and seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Letters typed, of all the run.
    pub typed: u64,
    /// Letters deleted, of all the run.
    pub deleted: u64,
    /// Letters received by another session than the author's while it was measured.
    pub deliveries: u64,
    /// The same, each second on average.
    pub deliveries_per_second: f64,
    /// Letters that a session has not received in the end.
    pub missing: u64,
    /// Letters received after later ones of their author.
    pub misplaced: u64,
    /// Letters received once more, which harms nobody.
    pub repeated: u64,
    /// Letters that were acknowledged and that the server does not have in the end.
    pub lost_acknowledged: u64,
    /// Documents that do not hold what was typed in them, counted for each region.
    pub diverged: u64,
    /// Joins, first and later.
    pub joins: u64,
    /// Spells that typists were offline.
    pub offline_spells: u64,
    /// Tabs closed and opened anew.
    pub tab_closes: u64,
    /// Awareness messages sent.
    pub cursor_moves: u64,
    /// Bytes sent, frames included.
    pub bytes_sent: u64,
    /// Bytes received, frames included.
    pub bytes_received: u64,
    /// Connections that the server ended or refused.
    pub refused: u64,
}

/// A distribution: its quantiles, and all of it as value and count pairs for drawing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Spread {
    /// How many values.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half are at most so large.
    pub p50: u64,
    /// 90 in 100.
    pub p90: u64,
    /// 99 in 100.
    pub p99: u64,
    /// 999 in 1,000.
    pub p999: u64,
    /// The largest.
    pub max: u64,
    /// Each recorded value, three digits exact, and how often it came, in order.
    pub values: Vec<(u64, u64)>,
}

/// How edits travelled from one region to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// The number of the typist's region, from 0.
    pub from: usize,
    /// The number of the receiver's.
    pub to: usize,
    /// From the intended keystroke to the receiver's socket.
    pub delivery: Spread,
}

/// One second of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// The second, from the first intended keystroke; those before it are below 0.
    pub second: i64,
    /// Whether it belongs to what is measured.
    pub measured: bool,
    /// Sessions that are joined at its end.
    pub sessions: u64,
    /// Letters typed in it.
    pub typed: u64,
    /// Letters received by others in it.
    pub deliveries: u64,
    /// Half of the letters received in it took at most so long.
    pub p50: u64,
    /// 99 in 100.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// Cores the watched servers used; none where no process is watched.
    pub server_cores: Option<f64>,
    /// Bytes resident in the watched servers.
    pub server_bytes: Option<u64>,
    /// Cores this generator used.
    pub generator_cores: f64,
    /// Each latency of it, and how often it came: what processes of one run tell each other, and no file holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(u64, u64)>,
}

/// Processors used, in cores.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cores {
    /// By the watched servers; none where no process is watched.
    pub server: Option<f64>,
    /// By this generator.
    pub generator: f64,
    /// By everything else on this machine.
    pub others: f64,
}

impl std::ops::AddAssign<&Self> for Counts {
    fn add_assign(&mut self, more: &Self) {
        self.typed += more.typed;
        self.deleted += more.deleted;
        self.deliveries += more.deliveries;
        self.deliveries_per_second += more.deliveries_per_second;
        self.missing += more.missing;
        self.misplaced += more.misplaced;
        self.repeated += more.repeated;
        self.lost_acknowledged += more.lost_acknowledged;
        self.diverged += more.diverged;
        self.joins += more.joins;
        self.offline_spells += more.offline_spells;
        self.tab_closes += more.tab_closes;
        self.cursor_moves += more.cursor_moves;
        self.bytes_sent += more.bytes_sent;
        self.bytes_received += more.bytes_received;
        self.refused += more.refused;
    }
}

/// Each recorded value, and how often it came.
pub(super) fn values(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect()
}

impl From<&Histogram<u64>> for Spread {
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
            values: values(histogram),
        }
    }
}

impl Outcome {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_vec(self)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When there is no such file, or it is of another version.
    pub fn read(path: &Path) -> Result<Self> {
        let json = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let outcome: Self = serde_json::from_slice(&json)
            .with_context(|| format!("{} is no outcome of a live run", path.display()))?;
        anyhow::ensure!(
            outcome.version == VERSION,
            "{} is of version {}, and this program reads version {VERSION}",
            path.display(),
            outcome.version
        );
        Ok(outcome)
    }
}
