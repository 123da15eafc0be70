//! Regions of a cluster on loopback, and what they say of themselves over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::Options;
use crate::crowd::Crowd;
use crate::editor::ANSWER_TIMEOUT;
use crate::server::Server;
use crate::writers::{Work, Writers};

/// How often a region is asked while something is waited for.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How long regions may take to be linked, or writers to join.
const LINK_TIMEOUT: Duration = Duration::from_secs(60);

/// How long anything that grows with the number of entries may take.
pub(super) const ENTRIES_TIMEOUT: Duration = Duration::from_secs(900);

/// A running region.
pub(super) struct Region {
    pub(super) server: Server,
    data: String,
}

/// What `/v1/regions` answers, as far as it is looked at.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    region: Streams,
    pub(super) peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
struct Streams {
    streams: Vec<Stream>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    replica: u16,
    applied: u64,
}

/// A peer as a region tells of it.
#[derive(Debug, Deserialize)]
pub(super) struct Peer {
    pub(super) replica: Option<u16>,
    pub(super) linked: bool,
    pub(super) rtt_ms: Option<u64>,
    #[serde(default)]
    pub(super) batches_sent: u64,
    #[serde(default)]
    pub(super) batches_received: u64,
    #[serde(default)]
    pub(super) duplicates: u64,
}

impl Status {
    /// The last entry of a region's stream that this one has applied.
    pub(super) fn applied(&self, replica: u16) -> u64 {
        let of = self.region.streams.iter().filter(|stream| stream.replica == replica);
        of.map(|stream| stream.applied).max().unwrap_or(0)
    }

    pub(super) fn peer(&self, replica: u16) -> Result<&Peer> {
        let peer = self.peers.iter().find(|peer| peer.replica == Some(replica));
        peer.with_context(|| format!("there is no peer {replica}"))
    }
}

impl Region {
    /// Starts a region of that number over `PREFIX-NUMBER`, new or existing, that dials those URLs.
    pub(super) fn start(options: &Options, prefix: &str, replica: u16, peers: &[String]) -> Result<Self> {
        let secret = options.data_dir(prefix)?.join("secret");
        // Nobody but the regions of this run listens on these addresses: any secret does.
        std::fs::write(&secret, [b'q'; 64])?;
        let data = format!("{prefix}-{replica}");
        let mut program = options.quire_program(&data)?.with_history_limits();
        let number = replica.to_string();
        let secret = secret.display().to_string();
        let region = ["--replica", &number, "--region", &data, "--cluster-secret-file", &secret];
        program.args.extend(region.map(String::from));
        program.args.extend(peers.iter().flat_map(|url| ["--peer".to_owned(), url.clone()]));
        Ok(Self { server: program.start()?, data })
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    pub(super) fn status(&self) -> Result<Status> {
        Ok(serde_json::from_str(&get(self.addr(), "/v1/regions")?)?)
    }

    /// Stops it and removes its data.
    pub(super) fn end(self, options: &Options) -> Result<()> {
        self.server.stop()?;
        options.clear(&self.data)
    }

    /// Waits until it is linked to so many peers and has measured the way to each.
    pub(super) fn await_links(&self, peers: usize) -> Result<()> {
        wait(LINK_TIMEOUT, "the links", || {
            let linked = |peer: &&Peer| peer.linked && peer.rtt_ms.is_some();
            Ok((self.status()?.peers.iter().filter(linked).count() == peers).then_some(()))
        })
    }

    /// Waits until it has applied so much of a region's stream.
    pub(super) fn await_applied(&self, replica: u16, seq: u64) -> Result<()> {
        wait(ENTRIES_TIMEOUT, "what another region wrote", || {
            Ok((self.status()?.applied(replica) >= seq).then_some(()))
        })
    }

    /// Has that work done here, and returns the bytes of all its updates.
    pub(super) fn write(&self, work: Work) -> Result<u64> {
        let mut crowd = Crowd::new()?;
        let mut writers = Writers::new(work);
        writers.join(&mut crowd, self.addr(), LINK_TIMEOUT)?;
        writers.begin(&mut crowd);
        writers.finish(&mut crowd, ENTRIES_TIMEOUT)?;
        crowd.leave();
        Ok(writers.update_bytes())
    }
}

/// The value of a metric of a region, of all its labels that start so.
pub(super) fn metric(addr: SocketAddr, series: &str) -> Result<f64> {
    let text = get(addr, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("there is no metric {series}"))?.parse()?)
}

/// Asks until there is an answer.
pub(super) fn wait<T>(
    timeout: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < until, "{what} did not come within {timeout:?}");
        std::thread::sleep(ASK_EVERY);
    }
}

/// The body of a GET, of a server that ends the connection after it.
fn get(addr: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split_whitespace().nth(1) == Some("200") => Ok(body.to_owned()),
        _ => bail!("{path} is answered by {}", answer.lines().next().unwrap_or_default()),
    }
}
