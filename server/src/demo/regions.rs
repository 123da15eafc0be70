//! The demo's regions: processes that are started, killed and started again.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// A region that is to start says that it listens sooner.
const START_MAX: Duration = Duration::from_secs(60);
/// A region that is to stop has drained sooner.
const STOP_MAX: Duration = Duration::from_secs(30);

/// One region.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    words: Vec<String>,
    child: Mutex<Option<Child>>,
}

impl Region {
    pub(super) fn new(
        name: &'static str,
        at: usize,
        address: SocketAddr,
        data: &Path,
        secret: &Path,
        peers: Vec<String>,
        origin: &str,
    ) -> Self {
        let mut words: Vec<String> = vec!["serve".into()];
        let mut set = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        set("--listen", address.to_string());
        set("--data", data.display().to_string());
        set("--region", name.to_owned());
        set("--replica", (at + 1).to_string());
        set("--cluster", "demo".to_owned());
        set("--cluster-secret-file", secret.display().to_string());
        set("--allow-origin", origin.to_owned());
        set("--log-level", "warn".to_owned());
        peers.into_iter().for_each(|peer| set("--peer", peer));
        Self { name, address, words, child: Mutex::new(None) }
    }

    /// Starts the region, unless it runs, and waits until it listens.
    ///
    /// # Errors
    /// When it does not; it has said why on stderr.
    pub(super) async fn start(&self) -> Result<(), ()> {
        let mut place = self.child.lock().await;
        if place.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return Ok(());
        }
        let program = std::env::current_exe().map_err(|_| ())?;
        let started = Command::new(program)
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = started.map_err(|_| ())?;
        let stdout = child.stdout.take().ok_or(())?;
        let mut lines = BufReader::new(stdout).lines();
        let listens = tokio::time::timeout(START_MAX, lines.next_line()).await;
        match listens {
            Ok(Ok(Some(_listening))) => {
                *place = Some(child);
                Ok(())
            }
            _ => Err(()),
        }
    }

    /// Whether the region runs.
    pub(super) async fn runs(&self) -> bool {
        let mut place = self.child.lock().await;
        place.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Pulls the plug: the region has no time for anything.
    pub(super) async fn kill(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            // One that has ended by itself is as dead.
            let _dead = child.kill().await;
        }
    }

    /// Has the region drain and end.
    pub(super) async fn stop(&self) {
        let Some(mut child) = self.child.lock().await.take() else { return };
        let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // Where it has just ended, there is nobody left to be told.
            let _told = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
            let _dead = child.kill().await;
        }
    }
}
