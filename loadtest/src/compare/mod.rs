//! Servers side by side: each is started in turn and typed at alike, A B C A B C, over fresh directories.
//!
//! A server is known only by the command, the URL and the dialect that a file gives for it. What types is `live`, as
//! a program of its own for each run, so that no run meets what another left in memory.

mod peers;
mod result;
mod runner;
mod table;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::live::outcome::Outcome;
use crate::live::report::compare_html;
use crate::server::{START_TIMEOUT, STOP_TIMEOUT};
use peers::{File, Peer, Scenario};
use result::{Comparison, Ended, PeerTold, Run, ScenarioTold, VERSION};
use runner::{Found, Runner};

/// What to set side by side.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The file that names the servers, such as loadtest/peers/peers.toml; the first is the one under test
    #[arg(long, value_name = "FILE")]
    pub peers: PathBuf,
    /// How often each server goes through each scenario
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Only these servers and scenarios
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Vec<String>,
    /// Where data directories are made; the disk that is written to
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub dir: PathBuf,
    /// Seconds that one run may take at most
    #[arg(long, value_name = "S", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub run_limit: u64,
    /// Also draw what was found as a page; with several scenarios one for each, its name in the file's
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also write all that was found to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The program that has `live`; this one without it
    #[arg(long, value_name = "FILE", hide = true)]
    pub live_program: Option<PathBuf>,
    /// Options of `live`, behind --; they go over a scenario's own
    #[arg(last = true, value_name = "LIVE OPTIONS")]
    pub live: Vec<String>,
}

/// Runs it, tells of each run as it ends, and writes what was found.
///
/// # Errors
/// When the file is wrong, a run could not be made, or a run of the first server did not pass.
pub fn run(options: &Options) -> Result<()> {
    words::check_live(&options.live).map_err(anyhow::Error::msg)?;
    let mut file = File::read(&options.peers)?;
    choose(&mut file, &options.only)?;
    let program = match &options.live_program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("this program's own path")?,
    };
    let own = std::env::current_exe().context("this program's own path")?;
    let interrupted = watch_interrupts()?;
    let runner = Runner {
        program: &program,
        bin: own.parent().unwrap_or(Path::new("/")),
        dir: &options.dir,
        start_limit: START_TIMEOUT,
        stop_limit: STOP_TIMEOUT,
        run_limit: Duration::from_secs(options.run_limit),
        interrupted: &interrupted,
    };
    let mut all = begin(&file, options);
    announce(&all);
    let ended = run_all(&runner, &file, &mut all);
    // What was found before an interruption is worth keeping.
    if let Some(path) = &options.json {
        all.write(path)?;
    }
    for scenario in &all.scenarios {
        println!("\n{}", table::table(&all, &scenario.name).trim_end());
        if let Some(path) = &options.html {
            write_page(&all, &scenario.name, &page_path(path, &scenario.name, all.scenarios.len()))?;
        }
    }
    ended?;
    let first = &all.peers[0].name;
    let bad = all.runs.iter().filter(|run| run.peer == *first && run.ended != Ended::Passed).count();
    ensure!(bad == 0, "{bad} of the runs of {first} did not pass");
    Ok(())
}

fn run_all(runner: &Runner<'_>, file: &File, all: &mut Comparison) -> Result<()> {
    let seed = all.began_unix_seconds;
    for (scenario, at) in file.scenarios.iter().zip(0..) {
        for repeat in 1..=all.repeats {
            // All servers of a round get the same people; another round gets others.
            let mut live = all.scenarios[at].live.clone();
            if !words::has(&live, "--seed") {
                live.extend(["--seed".to_owned(), (seed + u64::from(repeat)).to_string()]);
            }
            for peer in &file.peers {
                let found = runner.run(peer, &live);
                let found = found.with_context(|| format!("{} in {}", peer.name, scenario.name))?;
                all.runs.push(told(all, peer, scenario, repeat, found));
            }
        }
    }
    Ok(())
}

/// Keeps the servers and scenarios that are named; where none of a kind is, all of them.
fn choose(file: &mut File, only: &[String]) -> Result<()> {
    let is_peer = |name: &String| file.peers.iter().any(|peer| peer.name == *name);
    let is_scenario = |name: &String| file.scenarios.iter().any(|scenario| scenario.name == *name);
    if let Some(strange) = only.iter().find(|name| !is_peer(name) && !is_scenario(name)) {
        let peers = file.peers.iter().map(|peer| peer.name.as_str());
        let all: Vec<&str> =
            peers.chain(file.scenarios.iter().map(|scenario| scenario.name.as_str())).collect();
        bail!("there is no server and no scenario '{strange}'; there are {}", all.join(", "));
    }
    let (any_peer, any_scenario) = (only.iter().any(is_peer), only.iter().any(is_scenario));
    file.peers.retain(|peer| !any_peer || only.contains(&peer.name));
    file.scenarios.retain(|scenario| !any_scenario || only.contains(&scenario.name));
    Ok(())
}

fn begin(file: &File, options: &Options) -> Comparison {
    let dialect = |peer: &Peer| peer.dialect.to_possible_value().map(|value| value.get_name().to_owned());
    Comparison {
        version: VERSION,
        began_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        repeats: options.repeats,
        peers: file
            .peers
            .iter()
            .map(|peer| PeerTold {
                name: peer.name.clone(),
                command: peer.command.clone(),
                env: peer.env.clone(),
                dialect: dialect(peer).unwrap_or_default(),
            })
            .collect(),
        scenarios: file
            .scenarios
            .iter()
            .map(|scenario| ScenarioTold {
                name: scenario.name.clone(),
                live: words::overridden(&scenario.live, &options.live),
            })
            .collect(),
        runs: Vec::new(),
    }
}

/// Draws what one scenario found, of runs that were measured to their end.
fn write_page(all: &Comparison, scenario: &str, path: &Path) -> Result<()> {
    let is_measured = |run: &&Run| matches!(run.ended, Ended::Passed | Ended::Failed);
    let of = |peer: &PeerTold| {
        let runs = all.runs_of(&peer.name, scenario).filter(is_measured);
        (peer.name.clone(), runs.filter_map(|run| run.outcome.clone()).collect())
    };
    let runs: Vec<(String, Vec<Outcome>)> = all.peers.iter().map(of).collect();
    std::fs::write(path, compare_html(&runs)?).with_context(|| format!("cannot write {}", path.display()))
}

/// The file that was asked for; with several scenarios one for each beside it.
fn page_path(asked: &Path, scenario: &str, scenarios: usize) -> PathBuf {
    let stem = asked.file_stem().unwrap_or_default().to_string_lossy();
    let extension = asked.extension().map_or_else(String::new, |ext| format!(".{}", ext.to_string_lossy()));
    if scenarios == 1 {
        asked.to_owned()
    } else {
        asked.with_file_name(format!("{stem}-{scenario}{extension}"))
    }
}

/// The file's names are at most so long that they stand below each other.
fn width<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(String::len).max().unwrap_or(0)
}

fn announce(all: &Comparison) {
    let runs = all.peers.len() * all.scenarios.len() * all.repeats as usize;
    let names: Vec<&str> = all.peers.iter().map(|peer| peer.name.as_str()).collect();
    eprintln!("{runs} runs: {}, in turn", names.join(", "));
}

fn told(all: &Comparison, peer: &Peer, scenario: &Scenario, repeat: u32, found: Found) -> Run {
    let Found { ended, said, ready, outcome } = found;
    let figures = outcome.as_ref().map_or_else(String::new, |run| {
        let (per_second, p99) = (run.counts.deliveries_per_second, run.delivery.p99 as f64 / 1e3);
        format!("{per_second:>9.0} deliveries/s  p99 {p99:>8.1} ms")
    });
    let line = format!(
        "{:<scenarios$}  {repeat:>3}/{}  {:<peers$}  {:<13}  {figures}  {}",
        scenario.name,
        all.repeats,
        peer.name,
        ended.name(),
        said.join("; "),
        scenarios = width(all.scenarios.iter().map(|scenario| &scenario.name)),
        peers = width(all.peers.iter().map(|peer| &peer.name)),
    );
    eprintln!("{}", line.trim_end());
    Run {
        peer: peer.name.clone(),
        scenario: scenario.name.clone(),
        repeat,
        ended,
        said,
        ready_seconds: ready.map(|ready| ready.as_secs_f64()),
        outcome,
    }
}

/// Tells when somebody asks this program to end. The servers are in groups of their own, which a terminal's
/// Ctrl-C does not reach, so they are to be ended by hand.
fn watch_interrupts() -> Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("a runtime")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        tell.store(true, Ordering::Relaxed);
    });
    Ok(told)
}
