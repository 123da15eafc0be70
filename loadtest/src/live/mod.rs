//! Typists at live servers: any Yjs server by its URL, or several regions of one.
//!
//! ```text
//! person (what is done, and when) ─► line (the update) ─► participant ─► dialect ─► crowd ─► server
//! server ─► crowd ─► dialect ─► run ─► received, participant ─► tally ─► outcome ─► report
//! ```

mod acting;
mod audit;
mod dialect;
mod document;
mod ending;
mod hearing;
mod line;
pub mod outcome;
mod participant;
mod parts;
mod person;
mod profile;
mod received;
pub mod report;
mod run;
mod tally;
mod target;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

pub use dialect::Dialect;
use outcome::Sample;
pub use parts::Part;
pub use profile::Profile;
use run::Plan;
use target::Target;

use crate::trace::{self, Trace};

/// Files that this program has open beside its sessions: its own, and those who compare documents in the end.
const FILES_BESIDE: u64 = 64 + audit::AT_ONCE as u64;

/// Edits of a trace beyond those that a run has time for: it ends with one that types something.
const EDITS_AFTER: usize = 200;

/// Whom to type at, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// A server, such as ws://127.0.0.1:8080/ws/{doc}; several are regions of one
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<String>,
    /// What the servers speak
    #[arg(long, value_enum, default_value = "quire")]
    pub dialect: Dialect,
    /// The pattern of use
    #[arg(long, value_enum, default_value = "steady")]
    pub profile: Profile,
    /// The recorded trace that the profile `trace` replays: gzipped JSON; without it a made-up one
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Documents; the profile's own number without it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub documents: Option<u32>,
    /// Typists in all documents together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub typists: Option<u32>,
    /// Sessions that only watch, in all documents together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub watchers: Option<u32>,
    /// Keystrokes a second of each typist, on average
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Times a minute that each typist loses the network for a few seconds, and goes on writing
    #[arg(long, value_name = "N")]
    pub offline_per_minute: Option<f64>,
    /// Times a minute that each typist closes the tab and comes back
    #[arg(long, value_name = "N")]
    pub closes_per_minute: Option<f64>,
    /// All connections end at once, each so many seconds
    #[arg(long, value_name = "S")]
    pub herd_every: Option<f64>,
    /// Seconds before anything is measured
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub warm: f64,
    /// Seconds that are measured
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    pub seconds: f64,
    /// Seconds after the last keystroke after which what has not arrived counts as lost
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    pub drain: f64,
    /// What the run is drawn from; each seed has documents of its own
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// A token that opens all documents
    #[arg(long, value_name = "TOKEN", env = "QUIRE_TOKEN", default_value = "", hide_env_values = true)]
    pub token: String,
    /// The process of a server, whose processor and memory are to be watched; once for each
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
    /// Processes to spread the documents over, so that the generator has more than one core
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=parts::PARTS_MAX.into()))]
    pub processes: u32,
    /// This process is a part of a run that another started
    #[arg(long, hide = true)]
    pub part: Option<Part>,
    /// Also write what was found to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write a report for people to this file, as one page of HTML
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Say nothing while it goes on
    #[arg(long)]
    pub quiet: bool,
}

/// Runs it, tells of it as it goes on, and writes what was found.
///
/// # Errors
/// When it could not begin, or did not pass.
pub fn run(options: &Options) -> Result<()> {
    let plan = options.plan()?;
    if options.part.is_some() {
        return parts::run_part(&plan);
    }
    let told = |sample: &Sample, missing: u64| {
        if !options.quiet {
            tell(sample, missing);
        }
    };
    let outcome = match options.processes.min(plan.shape.documents) {
        1 => run::run(&plan, || Ok(()), told)?,
        parts => parts::run_all(parts, plan.seed, told)?,
    };
    if let Some(path) = &options.json {
        outcome.write(path)?;
    }
    if let Some(path) = &options.html {
        report::write(&outcome, path)?;
    }
    print!("{}", report::summary(&outcome));
    if outcome.passed { Ok(()) } else { bail!("{}", outcome.failures.join("; ")) }
}

impl Options {
    fn plan(&self) -> Result<Plan> {
        let mut shape = self.profile.shape();
        shape.documents = self.documents.unwrap_or(shape.documents);
        shape.typists = self.typists.unwrap_or(shape.typists);
        shape.watchers = self.watchers.unwrap_or(shape.watchers);
        shape.keystrokes_per_second = self.rate.unwrap_or(shape.keystrokes_per_second);
        let manner = &mut shape.manner;
        manner.offline_per_minute = self.offline_per_minute.unwrap_or(manner.offline_per_minute);
        manner.closes_per_minute = self.closes_per_minute.unwrap_or(manner.closes_per_minute);
        let is_trace = self.profile == Profile::Trace;
        if is_trace {
            shape.typists = shape.documents;
        }
        let part = self.part.unwrap_or(Part::WHOLE);
        let sessions = u64::from(shape.typists) + u64::from(shape.watchers);
        ensure!(sessions > 0, "there is nobody: give --typists or --watchers");
        ensure!(sessions >= shape.documents.into(), "there are more documents than sessions, {sessions}");
        let of_one = shape.typists.div_ceil(shape.documents) as usize;
        ensure!(of_one <= document::WRITERS_MAX, "at most {} typists in a document", document::WRITERS_MAX);
        for (name, value) in [
            ("--rate", shape.keystrokes_per_second),
            ("--seconds", self.seconds),
            ("--warm", self.warm + 1.0),
            ("--drain", self.drain),
            ("--herd-every", self.herd_every.unwrap_or(1.0)),
            ("--offline-per-minute", shape.manner.offline_per_minute + 1.0),
            ("--closes-per-minute", shape.manner.closes_per_minute + 1.0),
        ] {
            ensure!(value > 0.0 && value <= 1e6, "{name} is to be above 0 and at most 1,000,000");
        }
        shape.herd_every = self.herd_every.map(Duration::from_secs_f64).or(shape.herd_every);
        target::check_token(&self.token)?;
        let targets =
            self.urls.iter().map(|url| Target::read(url, self.dialect)).collect::<Result<Vec<_>>>()?;
        targets.iter().try_for_each(Target::reach)?;
        room_for(sessions)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the factors are bounded"
        )]
        let edits = (shape.keystrokes_per_second * (self.warm + self.seconds)).ceil() as usize + EDITS_AFTER;
        let trace = if is_trace { trace_updates(self.trace.as_deref(), edits)? } else { Vec::new() };
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        Ok(Plan {
            profile: self.profile,
            shape,
            dialect: self.dialect,
            targets,
            token: self.token.clone(),
            warm: Duration::from_secs_f64(self.warm),
            measured: Duration::from_secs_f64(self.seconds),
            drain: Duration::from_secs_f64(self.drain),
            seed: self.seed.unwrap_or_else(now),
            // Each server is watched by one part.
            pids: if part.number == 0 { self.pids.clone() } else { Vec::new() },
            part,
            trace,
        })
    }
}

/// The updates of as many edits as a run has time for.
fn trace_updates(path: Option<&Path>, edits: usize) -> Result<Vec<Vec<u8>>> {
    let trace = match path {
        Some(path) => Trace::read(path)?,
        None => Trace::made_up(edits.min(trace::MADE_UP_EDITS), 1),
    };
    Ok(trace::type_some(&trace, edits)?.updates)
}

/// Raises the limit of open files to what a run needs.
fn room_for(sessions: u64) -> Result<()> {
    let needed = sessions + FILES_BESIDE;
    let allowed = rlimit::increase_nofile_limit(needed).context("the limit of open files")?;
    ensure!(
        allowed >= needed,
        "{sessions} sessions need {needed} open files and the system allows {allowed}: raise it (ulimit -Hn), or run \
         with fewer"
    );
    Ok(())
}

fn tell(sample: &Sample, missing: u64) {
    let of = |micros: u64| micros as f64 / 1e3;
    eprintln!(
        "{:>5} s {}  {:>6} sessions  {:>8} typed/s  {:>9} deliveries/s  p50 {:>8.1} ms  p99 {:>8.1} ms  on the way {missing}",
        sample.second + 1,
        if sample.measured { " " } else { "~" },
        sample.sessions,
        sample.typed,
        sample.deliveries,
        of(sample.p50),
        of(sample.p99),
    );
}
