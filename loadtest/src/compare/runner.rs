//! One run: a server over a fresh directory, `live` at it, and both ended.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::peers::{Peer, Ready};
use super::result::Ended;
use super::words::Meant;
use crate::group::{Group, Stopped};
use crate::live::outcome::Outcome;

/// How often it is looked whether something is ready or has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long a server on this machine may take to answer one request to see whether it is ready.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What is read of an answer; its first line says enough.
const ANSWER_BYTES_MAX: usize = 64;

/// How much of a log's end is told: enough for a trace of calls, not for a run's worth of lines.
const LOG_BYTES_TOLD: usize = 2_000;
const LOG_LINES_TOLD: usize = 6;

/// The exit status with which clap refuses a command line.
const REFUSED: i32 = 2;

/// What all runs have in common.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    /// The program that has `live`.
    pub(super) program: &'a Path,
    /// Where this program is, and others beside it.
    pub(super) bin: &'a Path,
    /// Where directories for data are made.
    pub(super) dir: &'a Path,
    /// How long a server may take to be ready.
    pub(super) start_limit: Duration,
    /// How long a server may take to end after it is asked to.
    pub(super) stop_limit: Duration,
    /// How long one run of `live` may take.
    pub(super) run_limit: Duration,
    /// Whether somebody asked this program to end.
    pub(super) interrupted: &'a AtomicBool,
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) ended: Ended,
    pub(super) said: Vec<String>,
    pub(super) ready: Option<Duration>,
    pub(super) outcome: Option<Outcome>,
}

impl Found {
    fn nothing(ended: Ended, said: String) -> Self {
        Self { ended, said: vec![said], ready: None, outcome: None }
    }
}

/// The directory of one run, removed with all in it when it is dropped.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn new(under: &Path, name: &str) -> Result<Self> {
        let path = under.join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(under).with_context(|| format!("cannot make {}", under.display()))?;
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let place = Self(std::path::absolute(path)?);
        fs::create_dir(place.data()).with_context(|| format!("cannot make {}", place.data().display()))?;
        Ok(place)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that was started.
struct Started {
    group: Group,
    port: u16,
    log: PathBuf,
}

impl Runner<'_> {
    /// Starts a server, lets `live` type at it, and ends it.
    ///
    /// # Errors
    /// When the run could not be made, whatever the server: no directory, no `live`, options that it refuses, or
    /// somebody who asked this program to end.
    pub(super) fn run(&self, peer: &Peer, live: &[String]) -> Result<Found> {
        let place = Place::new(self.dir, &peer.name)?;
        let began = Instant::now();
        let mut server = match self.start(peer, &place)? {
            Ok(server) => server,
            Err(said) => return Ok(Found::nothing(Ended::NotStarted, said)),
        };
        if let Err(said) = self.wait_until_ready(peer, &mut server, began)? {
            self.stop(server)?;
            return Ok(Found::nothing(Ended::NotStarted, said));
        }
        let ready = began.elapsed();
        let mut found = self.type_at(peer, live, &mut server, &place)?;
        found.ready = Some(ready);
        let log = server.log.clone();
        match self.stop(server)? {
            Stopped::Asked(_) => {}
            Stopped::Killed => {
                let limit = self.stop_limit.as_secs();
                found.said.push(format!(
                    "the server did not end within {limit} s of being asked to, and was killed"
                ));
            }
            Stopped::Before(status) if found.ended != Ended::Died => {
                found.ended = Ended::Died;
                found.said.push(format!("the server ended by itself, {status}{}", log_end(&log)));
            }
            Stopped::Before(_) => {}
        }
        Ok(found)
    }

    fn start(&self, peer: &Peer, place: &Place) -> Result<Result<Started, String>> {
        // Closed again at once: whoever takes the port between here and the server's start makes its start fail.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
        let port = free.local_addr().context("a free port")?.port();
        drop(free);
        let data = place.data();
        let meant = Meant { port, data: &data, bin: self.bin };
        let (program, arguments) = peer.command.split_first().context("a command")?;
        let program = program_path(&meant.fill(program), &peer.directory);
        let log = place.file("server.log");
        let out = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let mut command = Command::new(&program);
        command
            .args(arguments.iter().map(|argument| meant.fill(argument)))
            .envs(peer.env.iter().map(|(name, value)| (name, meant.fill(value))))
            .current_dir(&peer.directory)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        match Group::spawn(&mut command) {
            Ok(group) => Ok(Ok(Started { group, port, log })),
            Err(error) => Ok(Err(format!("'{}' cannot be started: {error}", program.display()))),
        }
    }

    fn wait_until_ready(
        &self,
        peer: &Peer,
        server: &mut Started,
        began: Instant,
    ) -> Result<Result<(), String>> {
        loop {
            self.still_wanted()?;
            if let Some(status) = server.group.try_end()? {
                return Ok(Err(format!("it ended, {status}{}", log_end(&server.log))));
            }
            if is_ready(&peer.ready, server) {
                return Ok(Ok(()));
            }
            if began.elapsed() > self.start_limit {
                let limit = self.start_limit.as_secs();
                return Ok(Err(format!("it is not ready after {limit} s{}", log_end(&server.log))));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn type_at(&self, peer: &Peer, live: &[String], server: &mut Started, place: &Place) -> Result<Found> {
        let (json, log) = (place.file("outcome.json"), place.file("live.log"));
        let out = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let dialect = peer.dialect.to_possible_value().context("a dialect's name")?;
        let mut command = Command::new(self.program);
        command.arg("live").args(live).arg("--quiet");
        command.args(["--dialect", dialect.get_name(), "--pid", &server.group.id().to_string(), "--json"]);
        command.arg(&json).arg(peer.url.replace("{port}", &server.port.to_string()));
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let typists = Group::spawn(&mut command);
        let mut typists = typists.with_context(|| format!("cannot start {}", self.program.display()))?;
        let began = Instant::now();
        let status = loop {
            self.still_wanted()?;
            if let Some(status) = typists.try_end()? {
                break status;
            }
            let seconds = began.elapsed().as_secs();
            if let Some(status) = server.group.try_end()? {
                let said = format!("the server ended after {seconds} s, {status}{}", log_end(&server.log));
                return Ok(Found::nothing(Ended::Died, said));
            }
            if began.elapsed() > self.run_limit {
                return Ok(Found::nothing(Ended::NoOutcome, format!("live did not end within {seconds} s")));
            }
            std::thread::sleep(LOOK);
        };
        judge(&json, status, &log)
    }

    fn stop(&self, server: Started) -> Result<Stopped> {
        server.group.stop(self.stop_limit).context("a server's end")
    }

    fn still_wanted(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted; the servers that were started are ended");
        }
        Ok(())
    }
}

fn judge(json: &Path, status: ExitStatus, log: &Path) -> Result<Found> {
    if !json.exists() {
        let end = log_end(log);
        if status.code() == Some(REFUSED) {
            bail!("live refuses its options{end}");
        }
        return Ok(Found::nothing(Ended::NoOutcome, format!("live ended, {status}, and found nothing{end}")));
    }
    let outcome = Outcome::read(json)?;
    let (ended, said) = match outcome.passed {
        true => (Ended::Passed, Vec::new()),
        false => (Ended::Failed, outcome.failures.clone()),
    };
    Ok(Found { ended, said, ready: None, outcome: Some(outcome) })
}

/// A path counts from the server's directory; a bare name is looked for where programs are.
fn program_path(program: &str, directory: &Path) -> PathBuf {
    if program.contains('/') { directory.join(program) } else { PathBuf::from(program) }
}

fn is_ready(ready: &Ready, server: &Started) -> bool {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
    match ready {
        Ready::Tcp => TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT).is_ok(),
        Ready::Http(path) => answers(addr, path).unwrap_or(false),
        Ready::Line(line) => fs::read(&server.log)
            .is_ok_and(|log| log.windows(line.len()).any(|window| window == line.as_bytes())),
    }
}

fn answers(addr: SocketAddr, path: &str) -> std::io::Result<bool> {
    let mut socket = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    let len = socket.read(&mut answer)?;
    let line = String::from_utf8_lossy(&answer[..len]).into_owned();
    Ok(line.split(' ').nth(1).is_some_and(|status| status.starts_with('2')))
}

/// The last lines of a log, to stand behind a sentence.
fn log_end(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_BYTES_TOLD)..]).into_owned();
    let lines: Vec<&str> = end.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES_TOLD)..];
    if last.is_empty() { String::new() } else { format!("; its last lines: {}", last.join(" / ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    /// Answers one request with this status, and says what was asked.
    fn one_answer(status: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut line = String::new();
            let mut request = BufReader::new(&socket);
            request.read_line(&mut line).unwrap();
            // What is left unread when a socket is closed resets the connection.
            request.lines().map(Result::unwrap).find(String::is_empty).unwrap();
            write!(socket, "HTTP/1.1 {status} Whatever\r\n\r\n").unwrap();
            line
        });
        (addr, asked)
    }

    #[test]
    fn a_server_is_ready_when_its_path_answers_well() {
        let (addr, asked) = one_answer("204");
        assert!(answers(addr, "/ready").unwrap());
        assert_eq!(asked.join().unwrap(), "GET /ready HTTP/1.1\r\n");
        let (addr, asked) = one_answer("503");
        assert!(!answers(addr, "/ready").unwrap());
        asked.join().unwrap();
    }

    #[test]
    fn a_path_counts_from_the_servers_directory_and_a_name_does_not() {
        let at = |program| program_path(program, Path::new("/peers"));
        assert_eq!(at("bin/server"), Path::new("/peers/bin/server"));
        assert_eq!(at("/bin/server"), Path::new("/bin/server"));
        assert_eq!(at("node"), Path::new("node"));
    }

    #[test]
    fn only_the_end_of_a_log_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(log_end(&log), "");
        let lines: Vec<String> = (0..1_000).map(|line| format!("line {line}\n\n")).collect();
        fs::write(&log, lines.concat()).unwrap();
        let end = log_end(&log);
        assert!(end.starts_with("; its last lines: line 994 / ") && end.ends_with("line 999"), "{end}");
    }
}
