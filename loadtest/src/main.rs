//! `quire-loadtest`: parses its arguments and runs what they name.

use clap::{Parser, Subcommand};
use quire_loadtest::{bench, relay, sim};

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
    /// Serve a bare relay, the baseline that neither parses nor stores
    Relay {
        /// The socket layer it stands on
        kind: relay::Kind,
    },
    /// Simulate several regions in virtual time, with faults, and judge them
    Sim(sim::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Bench(options) => bench::run(&options),
        Command::Relay { kind } => relay::run(kind),
        Command::Sim(options) => sim::run(&options),
    }
}
