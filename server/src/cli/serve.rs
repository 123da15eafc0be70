//! `quire serve`: one region from its configuration to its exit code.
//!
//! Invariant: stdout gets one line, when the region is ready, and nothing else.

use super::{NOT_UNDERSTOOD, fail};
use crate::config::{self, Config, SETTINGS, Setting, Sources};
use clap::{Arg, ArgAction, Command};
use std::io::Write as _;
use std::process::ExitCode;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};

/// Connections that may wait for the accept loop, as while a region starts.
const BACKLOG: u32 = 4096;

/// Adds the flags of the settings, for the help text alone.
pub(super) fn with_flags(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("File with settings, quire.toml in the working directory if it is there [env: QUIRE_CONFIG]");
    command
        .long_about(
            "Serve one region.\n\nEvery flag is also a variable and a key of quire.toml. \
             A flag goes over a variable, a variable over the file.",
        )
        .arg(config)
        .args(SETTINGS.iter().map(flag))
}

fn flag(setting: &'static Setting) -> Arg {
    let default = setting.default().filter(|_| !setting.field.is_switch());
    let default = default.map_or_else(String::new, |default| format!(" [default: {default}]"));
    let help = format!("{}{default} [env: {}]", setting.help, setting.variable());
    let arg = Arg::new(setting.name).long(setting.name).help(help);
    if setting.field.is_switch() {
        arg.action(ArgAction::SetTrue)
    } else {
        arg.value_name(setting.field.value_name()).action(ArgAction::Append)
    }
}

/// Serves until a signal, and says how it went.
pub(super) fn run(words: Vec<String>) -> ExitCode {
    let mut config = match config::load(&Sources::of_process(words)) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("quire: {problems}\n\nNothing was started. `quire serve --help` lists all settings.");
            return ExitCode::from(NOT_UNDERSTOOD);
        }
    };
    crate::logs::start(config.settings.log_format, config.settings.log_level);
    let room = raise_open_files();
    let limits = &mut config.settings.limits;
    let short = room < limits.connections;
    // A connection beyond the limit is refused; one without a file could not even be refused.
    limits.connections = limits.connections.min(room);
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve(config, short)),
        Err(error) => fail(format_args!("cannot start threads: {error}")),
    }
}

async fn serve(config: Config, short_of_files: bool) -> ExitCode {
    let (address, connections) = (config.settings.listen, config.settings.limits.connections);
    // The port comes first: taking it changes nothing, opening the log may.
    let listener = match bind(address) {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            return fail(format_args!("cannot listen on {address}: another program uses this port"));
        }
        Err(error) => return fail(format_args!("cannot listen on {address}: {error}")),
    };
    // Asked for before the region is ready: a signal that comes in between must not kill it.
    let stop = match stop_signal() {
        Ok(stop) => stop,
        Err(error) => return fail(format_args!("cannot wait for signals: {error}")),
    };
    let region = match crate::start(config, listener).await {
        Ok(region) => region,
        Err(error) => return fail(error),
    };
    let mut stdout = std::io::stdout().lock();
    // Whoever started the server may have closed stdout; that is no reason to stop serving.
    let _ = writeln!(stdout, "listening on {}", region.url()).and_then(|()| stdout.flush());
    drop(stdout);
    if short_of_files {
        tracing::info!(connections, "the system's limit of open files leaves room for fewer connections");
    }
    match region.until(stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn bind(address: std::net::SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Ends with the first SIGTERM or SIGINT.
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Files that are open besides sockets: the log's, and the process's own.
const FILES_BESIDE_SOCKETS: u64 = 64;

/// Raises the limit of open files, since each editor is a socket and the usual soft limit of 1,024 is
/// meant for programs that use `select`; returns how many sockets that leaves room for.
fn raise_open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(FILES_BESIDE_SOCKETS)).unwrap_or(usize::MAX).max(1)
}
