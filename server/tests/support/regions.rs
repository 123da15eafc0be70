//! Regions of one cluster, and what one waits for between them.

use super::{Answer, Scratch, Server};
use std::time::{Duration, Instant};

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// No region needs so long for anything, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A region in a directory that has its configuration then.
pub(crate) fn region_in(scratch: Scratch, replica: u16, config: &str, words: &[&str]) -> Server {
    let secret = scratch.write("secret", "a cluster's secret for tests only, long enough");
    let config = scratch.write("quire.toml", config);
    let (number, name) = (replica.to_string(), format!("r{replica}"));
    let own =
        ["--replica", &number, "--region", &name, "--cluster-secret-file", &secret, "--config", &config];
    Server::start_in(scratch, &[&own[..], words].concat())
}

/// Reads what a region says once it has what a write brought elsewhere.
pub(crate) fn read_after(region: &Server, path: &str, written: &Answer) -> Answer {
    assert!(written.status < 300, "{written:?}");
    let token = written.header("quire-frontier").expect("a write's frontier");
    let answer = region.ask("GET", path, &[("quire-after", token)], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Whether a region has a link to another that has answered over it.
pub(crate) fn is_linked(region: &Server, replica: u64) -> bool {
    let status = region.get("/v1/regions").json();
    let peers = status["peers"].as_array().expect("a list");
    peers.iter().any(|peer| peer["replica"] == replica && peer["linked"] == true && peer["rtt_ms"].is_u64())
}

/// Waits for what comes about in tasks of the server's own, which tell nobody outside.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it does not come to that");
        std::thread::yield_now();
    }
}
