//! Starts a server program, learns its address, measures its process, and stops it.
//!
//! It knows a server only as a command that prints `listening on http://ADDR`, and its process only
//! through `/proc`. It kills what it started when it is dropped, so a failed run leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a server may take to listen.
pub const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a server may take to end after it is asked to.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The kernel counts processor time for `/proc` in hundredths of a second, on every Linux since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

const PREFIX: &str = "listening on http://";

/// A program that serves documents.
#[derive(Clone, Debug)]
pub struct Program {
    /// What the report calls it.
    pub name: &'static str,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Whether it stores documents and answers a step 1; a bare relay does neither.
    pub stores: bool,
}

impl Program {
    /// `quire serve` over a data directory.
    #[must_use]
    pub fn quire(path: &Path, data: &Path) -> Self {
        let data = data.display().to_string();
        let args = ["serve", "--listen", "127.0.0.1:0", "--data", &data, "--auth", "none"];
        Self { name: "quire", path: path.to_owned(), args: args.map(String::from).to_vec(), stores: true }
    }

    /// The same with room for one session that sends a whole history as fast as it is taken.
    #[must_use]
    pub fn with_history_limits(mut self) -> Self {
        let limits = ["--session-messages-per-second", "1000000", "--session-bytes-per-second", "1GiB"];
        self.args.extend(limits.map(String::from));
        self
    }

    /// One of this program's own bare relays.
    ///
    /// # Errors
    /// When this program's path is unknown.
    pub fn relay(kind: crate::relay::Kind) -> Result<Self> {
        let path = std::env::current_exe().context("this program's own path")?;
        let args = ["relay", kind.name()].map(String::from).to_vec();
        Ok(Self { name: kind.title(), path, args, stores: false })
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time.
    pub fn start(&self) -> Result<Server> {
        let started = Instant::now();
        let mut command = Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().with_context(|| format!("cannot start {}", self.path.display()))?;
        let mut server =
            Server { child, addr: SocketAddr::from(([127, 0, 0, 1], 0)), started_in: Duration::ZERO };
        let stdout = server.child.stdout.take().context("the server's stdout")?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(addr) = line.strip_prefix(PREFIX) {
                    let _ = tell.send(addr.trim().trim_end_matches('/').to_owned());
                }
            }
        });
        let addr = told.recv_timeout(START_TIMEOUT);
        let addr = addr.with_context(|| format!("{} does not print '{PREFIX}ADDR'", self.name))?;
        server.addr = addr.parse().with_context(|| format!("{} listens on '{addr}'", self.name))?;
        server.started_in = started.elapsed();
        Ok(server)
    }
}

/// A running server.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    started_in: Duration,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How long it took from the start of its process until it listened.
    #[must_use]
    pub const fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Processor time its process has used, in seconds.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process_cpu_seconds(self.child.id())
    }

    /// Memory resident in its process, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        process_resident_bytes(self.child.id())
    }

    /// Asks it to drain and waits until it has ended.
    ///
    /// # Errors
    /// When it does not end in time or ends with a failure.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        // Sending a signal needs unsafe code or one more dependency; every Linux has kill.
        Command::new("kill").args(["-TERM", &pid]).status().context("kill")?;
        let until = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                if status.success() || status.code().is_none() {
                    return Ok(());
                }
                bail!("the server ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the server did not end within {STOP_TIMEOUT:?}")
    }

    /// Ends it as a power cut would end its process.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time this process has used, in seconds.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_cpu_seconds() -> Result<f64> {
    process_cpu_seconds(std::process::id())
}

/// Processor time all of the machine has used, in seconds, idle time not counted.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn machine_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat")?;
    let times: Vec<f64> = line.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; the guest times after them are counted in user.
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = times[..] else {
        bail!("/proc/stat has too few columns");
    };
    Ok((user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND)
}

/// Memory resident in a process, in bytes.
///
/// # Errors
/// When the process is gone.
pub fn process_resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(field(&status, "VmRSS:").context("VmRSS")? << 10)
}

/// Processor time a process has used, in seconds.
///
/// # Errors
/// When the process is gone.
pub fn process_cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th after it.
    let after_name = stat.rsplit_once(')').context("a process name")?.1;
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / TICKS_PER_SECOND)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_is_measured() {
        let before = own_cpu_seconds().unwrap();
        let until = Instant::now() + Duration::from_millis(50);
        while Instant::now() < until {
            std::hint::black_box(0);
        }
        assert!(own_cpu_seconds().unwrap() >= before);
        assert!(machine_cpu_seconds().unwrap() > 0.0);
    }

    #[test]
    fn a_program_that_does_not_listen_is_named() {
        let args = vec!["nothing".to_owned()];
        let program = Program { name: "echo", path: "/bin/echo".into(), args, stores: false };
        let error = program.start().err().map(|error| error.to_string());
        assert_eq!(error, Some("echo does not print 'listening on http://ADDR'".to_owned()));
    }
}
