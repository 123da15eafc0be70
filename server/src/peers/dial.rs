//! Dialling one URL for as long as the region runs.
//!
//! After a failure it waits longer and longer, up to a second, and never as long as another: a region that comes
//! back is found soon, and not by all at once.

use super::handshake::{self, Refused};
use super::links::Peers;
use super::status::{Dialling, Failure};
use super::wire;
use crate::net::dial;
use axum::http::Uri;
use quire_protocol::ids::ReplicaId;
use quire_protocol::link::{ByeReason, Side};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// A peer that is there answers sooner.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The first wait after a failure, and the longest: after a cut, what people see of each other is late by no
/// more than that and the way, and a few regions that dial every other second cost nothing.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// A region that does not answer may be about to: it is told of after so many attempts.
const PATIENCE: u64 = 4;
/// While the peer has dialled this region itself, it is looked after so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The path of every region's links.
pub(super) const PATH: &str = "/peer/v1";

/// Dials a URL until the region stops.
pub(super) async fn run(peers: Arc<Peers>, url: String) {
    let mut wait = WAIT_MIN;
    loop {
        let dialled = tokio::select! {
            dialled = attempt(&peers, &url) => dialled,
            () = peers.closing.cancelled() => return,
        };
        let pause = match dialled {
            Ok(()) => {
                wait = WAIT_MIN;
                jittered(WAIT_MIN)
            }
            Err(Attempt::Kept) => {
                wait = WAIT_MIN;
                peers.note_dialling(&url, Dialling::went_well);
                LOOK_EVERY
            }
            Err(Attempt::Failed(failure)) => {
                tell(&peers, &url, failure);
                let pause = jittered(wait);
                wait = (wait * 2).min(WAIT_MAX);
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // A link that has ended by then has done what it was kept for.
            () = peers.leaving.cancelled() => return,
        }
    }
}

/// Why dialling led to no link.
enum Attempt {
    /// The peer has a link with this region already.
    Kept,
    Failed(Failure),
}

/// Dials once and serves the link; returns when that has ended.
async fn attempt(peers: &Arc<Peers>, url: &str) -> Result<(), Attempt> {
    let linked = |replica: &ReplicaId| peers.hears.borrow().contains(replica);
    let mut known = None;
    peers.note_dialling(url, |dialling| known = dialling.replica);
    if known.as_ref().is_some_and(linked) {
        return Err(Attempt::Kept);
    }
    let failed = |label, text: String| Attempt::Failed(Failure { label, text });
    let unreached = |error: &std::io::Error| {
        let label = label_of(error);
        let what = if label == "resolve" { "its name does not resolve" } else { "it cannot be reached" };
        failed(label, format!("{what}: {error}"))
    };
    let secret = peers.secret.as_ref().ok_or(Attempt::Kept)?;
    let uri: Uri = url.parse().map_err(|_| failed("resolve", "it is no URL".to_owned()))?;
    let tls = uri.scheme_str() == Some("wss");
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let connected = tokio::time::timeout(CONNECT_MAX, dial(host, port, tls)).await;
    let stream = connected
        .map_err(|_| failed("connect", "it does not answer".to_owned()))?
        .map_err(|error| unreached(&error))?;
    let asked = tokio::time::timeout(CONNECT_MAX, wire::ask(&format!("{url}{PATH}"), stream)).await;
    let mut socket = asked
        .map_err(|_| failed("http", format!("it does not answer at {PATH}")))?
        .map_err(|error| failed("http", format!("its {PATH} is no link: {error}")))?;
    let refused = |refused: Refused| match refused {
        Refused::There(bye) if bye.reason == ByeReason::Replaced => Attempt::Kept,
        refused => failed(refused.label(), refused.to_string()),
    };
    let identity = peers.identity();
    let hello = handshake::dialled(&mut socket, &identity, secret).await.map_err(refused)?;
    peers.note_dialling(url, |dialling| dialling.replica = Some(hello.stream.replica));
    handshake::agree(&mut socket, &identity, &hello, Side::Dialler).await.map_err(refused)?;
    match peers.serve(socket, &hello, Side::Dialler).await {
        Ok(bye) if passes(bye.reason) => Ok(()),
        Ok(bye) => Err(failed(bye.reason.name(), bye.detail)),
        Err(bye) if bye.reason == ByeReason::Replaced => Err(Attempt::Kept),
        Err(bye) => Err(failed(bye.reason.name(), bye.detail)),
    }
}

/// Whether nothing is wrong when a link ends for this reason: the next one is soon there.
const fn passes(reason: ByeReason) -> bool {
    matches!(reason, ByeReason::Replaced | ByeReason::Stopping | ByeReason::Silent | ByeReason::Renewed)
}

/// Takes note of a failure, and logs it when it is another one than before.
fn tell(peers: &Peers, url: &str, failure: Failure) {
    metrics::counter!(crate::metrics::PEERS_REFUSED, "reason" => failure.label).increment(1);
    peers.note_dialling(url, |dialling| {
        let news = dialling.failure.as_ref().is_none_or(|known| known.label != failure.label);
        dialling.attempts = if news { 1 } else { dialling.attempts + 1 };
        let absent = matches!(failure.label, "connect" | "http" | "broken");
        if dialling.attempts == if absent { PATIENCE } else { 1 } {
            tracing::warn!(url, reason = failure.label, "no link: {}", failure.text);
        }
        dialling.failure = Some(failure);
    });
}

fn label_of(error: &std::io::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("lookup") || text.contains("resolve") {
        return "resolve";
    }
    if error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) { "tls" } else { "connect" }
}

/// Between half of a time and all of it.
fn jittered(time: Duration) -> Duration {
    // The standard library seeds each hasher at random, which is all the chance that is asked.
    let draw = RandomState::new().build_hasher().finish() % 1024;
    time / 2 + time * u32::try_from(draw).unwrap_or_default() / 2048
}
