//! The `quire` binary: parses, wires, runs, exits.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Under glibc's, the server takes half as many updates: `docs/performance.md`, "The allocator".
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    quire_server::cli::main(words.collect())
}
