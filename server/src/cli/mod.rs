//! The command line: which command was meant, and how its failure is told.
//!
//! Invariant: 0 is success, 1 a failure of the command in one clear line, 2 a command or a
//! configuration that was not understood.

mod check;
mod client;
mod conflicts;
mod demo;
mod doc;
mod region;
mod schema;
mod serve;
mod status;
mod table;
mod token;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::fmt::Display;
use std::process::ExitCode;

/// What was asked could not be understood.
const NOT_UNDERSTOOD: u8 = 2;

/// A self-hosted backend for collaborative documents.
#[derive(Debug, Parser)]
#[command(name = "quire", version, arg_required_else_help = true)]
struct Quire {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one region
    Serve,
    /// Serve three regions on this machine, with distance between them, and the editor page
    Demo(demo::Demo),
    /// Verify a data directory that no server has open
    Check(check::Check),
    /// List, read, import, export, delete and restore documents of a running server
    Doc(doc::Doc),
    /// List, show and resolve conflicts of a running server
    Conflicts(conflicts::Conflicts),
    /// Tell about a running region, its links and its lag
    Status(status::Status),
    /// Say which regions belong to the cluster
    Region(region::Region),
    /// Show the schema of a configuration file, and its hash
    Schema(schema::SchemaOf),
    /// Mint a JWT
    Token(token::Token),
}

/// Runs the command that these words name; the first is the program.
#[must_use]
pub fn main(words: Vec<String>) -> ExitCode {
    // The flags of `serve` come from the table of settings and are read by it, since clap stops at
    // the first one it does not know. clap still writes their help.
    let asks_help = |words: &[String]| words.iter().any(|word| word == "--help" || word == "-h");
    if words.get(1).is_some_and(|word| word == "serve") && !asks_help(&words[2..]) {
        return serve::run(words[2..].to_vec());
    }
    let matches = Quire::command().mut_subcommand("serve", serve::with_flags).try_get_matches_from(words);
    match matches.and_then(|matches| Quire::from_arg_matches(&matches)) {
        Ok(Quire { command: Command::Serve }) => ExitCode::from(NOT_UNDERSTOOD),
        Ok(Quire { command: Command::Check(check) }) => finish(check::run(check)),
        Ok(Quire { command: Command::Demo(demo) }) => {
            match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
                Ok(runtime) => {
                    let ended = runtime.block_on(demo::run(demo));
                    // A thread that waits for the terminal would wait for ever.
                    runtime.shutdown_background();
                    finish(ended)
                }
                Err(error) => fail(format_args!("cannot start: {error}")),
            }
        }
        Ok(Quire { command: Command::Conflicts(conflicts) }) => ask(conflicts::run(conflicts)),
        Ok(Quire { command: Command::Doc(doc) }) => ask(doc::run(doc)),
        Ok(Quire { command: Command::Status(status) }) => ask(status::run(status)),
        Ok(Quire { command: Command::Region(region) }) => ask(region::run(region)),
        Ok(Quire { command: Command::Schema(schema) }) => schema::run(schema),
        Ok(Quire { command: Command::Token(token) }) => finish(token::run(&token)),
        Err(error) => {
            // Nothing can be done about a closed stdout.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(NOT_UNDERSTOOD))
        }
    }
}

/// Asks a running server.
fn ask<E: Display>(command: impl Future<Output = Result<(), E>>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => finish(runtime.block_on(command)),
        Err(error) => fail(format_args!("cannot start: {error}")),
    }
}

fn finish<E: Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn fail(error: impl Display) -> ExitCode {
    eprintln!("quire: {error}");
    ExitCode::FAILURE
}
