//! The benchmarks: each starts servers of its own, measures, and adds rows to a report.
//!
//! A figure is a median of repeats in one run, and what it is compared with is measured in the same run.

pub mod ack;
pub mod catch_up;
pub mod commit;
pub mod conflict;
pub mod fields;
pub mod idle;
pub mod lag;
pub mod large;
pub mod overhead;
pub mod regions;
pub mod report;
pub mod startup;
pub mod throughput;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::server::Program;
use report::Report;

/// What to run, against what.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The quire program; without it one is looked for beside this program
    #[arg(long, env = "QUIRE_BIN", value_name = "FILE")]
    pub quire: Option<PathBuf>,
    /// Where data directories are made; the disk that is measured
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub dir: PathBuf,
    /// Only these scenarios
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Vec<Scenario>,
    /// Only the bare relays
    #[arg(long)]
    pub relays_only: bool,
    /// Repeats of what is repeated
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Keystrokes that go from one region to another, where their number matters
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=50_000_000))]
    pub entries: u32,
    /// Seconds that the lag between two regions is measured for
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=3_600))]
    pub lag_seconds: u32,
    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A benchmark by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One document, 50 typists
    OneRoom,
    /// 50 documents, 4 typists each
    ManyRooms,
    /// How long a lone writer waits for the acknowledgement
    LoneWriter,
    /// 2,000 writers waiting for theirs
    WaitingWriters,
    /// Memory of 10,000 idle connections
    IdleCrowd,
    /// Joining and typing in a document of 260,000 edits
    LargeDocument,
    /// Start-up over 100,000 documents
    ManyDocuments,
    /// Start-up after kill -9 at a gibibyte
    AfterKill,
    /// Three regions: what a link adds to the updates it carries
    Overhead,
    /// Two regions: how fast one that was away comes back
    CatchUp,
    /// Two regions 50 ms apart: when an edit of one is seen at the other
    Lag,
    /// What following fields costs a server that takes updates
    Fields,
    /// Three regions 40 ms apart: when all show the same after a conflict
    Conflict,
}

const ALL: [Scenario; 13] = [
    Scenario::OneRoom,
    Scenario::ManyRooms,
    Scenario::LoneWriter,
    Scenario::WaitingWriters,
    Scenario::IdleCrowd,
    Scenario::LargeDocument,
    Scenario::ManyDocuments,
    Scenario::AfterKill,
    Scenario::Overhead,
    Scenario::CatchUp,
    Scenario::Lag,
    Scenario::Fields,
    Scenario::Conflict,
];

impl Options {
    /// The server under test over a new data directory, or an existing one of that name.
    ///
    /// # Errors
    /// When the program is not found or the directory cannot be made.
    pub fn quire_program(&self, data: &str) -> Result<Program> {
        Ok(Program::quire(&self.quire_path()?, &self.data_dir(data)?))
    }

    /// A directory of that name under [`Self::dir`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn data_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// Removes a data directory.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn clear(&self, name: &str) -> Result<()> {
        let dir = self.dir.join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        Ok(())
    }

    fn quire_path(&self) -> Result<PathBuf> {
        let beside = std::env::current_exe()?.with_file_name("quire");
        match &self.quire {
            Some(path) => Ok(path.clone()),
            None if beside.exists() => Ok(beside),
            None => bail!("there is no quire beside this program; name one with --quire or QUIRE_BIN"),
        }
    }
}

/// Runs the chosen scenarios and prints the report; a scenario that fails is told and the rest go on.
///
/// # Errors
/// When a scenario failed or the report cannot be written.
pub fn run(options: &Options) -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
    let mut report = Report::begin();
    let chosen = if options.only.is_empty() { &ALL[..] } else { &options.only };
    for &scenario in chosen {
        eprintln!("— {scenario:?}");
        let outcome = match scenario {
            Scenario::OneRoom => throughput::one_room(options, &mut report),
            Scenario::ManyRooms => throughput::many_rooms(options, &mut report),
            Scenario::LoneWriter => ack::lone_writer(options, &mut report),
            Scenario::WaitingWriters => commit::waiting_writers(options, &mut report),
            Scenario::IdleCrowd => idle::idle_crowd(options, &mut report),
            Scenario::LargeDocument => large::large_document(options, &mut report),
            Scenario::ManyDocuments => startup::many_documents(options, &mut report),
            Scenario::AfterKill => startup::after_kill(options, &mut report),
            Scenario::Overhead => overhead::overhead(options, &mut report),
            Scenario::CatchUp => catch_up::catch_up(options, &mut report),
            Scenario::Lag => lag::lag(options, &mut report),
            Scenario::Fields => fields::ingest(options, &mut report),
            Scenario::Conflict => conflict::conflict(options, &mut report),
        };
        if let Err(error) = outcome {
            report.failed(&format!("{scenario:?}"), &error);
        }
        if let Some(path) = &options.json {
            report.write_json(path)?;
        }
    }
    report.print();
    report.verdict()
}

/// The least and the most of some figures, in words.
fn spread(figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} to {} over {}", report::number(least), report::number(most), figures.len())
}
