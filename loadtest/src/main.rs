//! `quire-loadtest`: parses its arguments and runs what they name.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quire_loadtest::{bench, compare, live, relay, sim};
use tikv_jemallocator::Jemalloc;

/// The server's own, so that it and the bare relays are measured on the same.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Simulated typists for Quire and other Yjs servers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure regions on this machine and print a table
    Bench(bench::Options),
    /// Start servers in turn, type at each alike, and set what was found side by side
    Compare(compare::Options),
    /// Type at servers by their URLs, and check that nothing is lost
    Live(live::Options),
    /// Serve a bare relay, the baseline that neither parses nor stores
    Relay {
        /// The socket layer it stands on
        kind: relay::Kind,
    },
    /// Simulate several regions in virtual time, with faults, and judge them
    Sim(sim::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Bench(options) => bench::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Live(options) => live::run(&options),
        Command::Relay { kind } => relay::run(kind),
        Command::Sim(options) => sim::run(&options),
    }
}
