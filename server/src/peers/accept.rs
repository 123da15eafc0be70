//! `/peer/v1`: another region has dialled this one.

use super::handshake::{self, Refused};
use super::links::Peers;
use super::status::Failure;
use super::wire;
use crate::net::Stream;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use quire_protocol::ids::ReplicaId;
use quire_protocol::link::Side;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Connections that have not proved who they are; more are turned away. A cluster has a few regions.
const UNPROVED_MAX: usize = 64;

static UNPROVED: AtomicUsize = AtomicUsize::new(0);

/// Why a request is no beginning of a link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoLink {
    /// This region has no cluster.
    #[error("this region has no cluster: start it with a cluster-secret-file")]
    Alone,
    /// The request is no WebSocket handshake.
    #[error("a link begins as a WebSocket")]
    NoWebSocket,
    /// Too many others have not proved who they are.
    #[error("too many connections have not proved who they are")]
    Full,
}

/// Answers the request, and serves the link that it becomes.
///
/// # Errors
/// When it cannot become one.
pub(crate) fn accept(
    peers: &Arc<Peers>,
    mut request: Request<Body>,
    address: SocketAddr,
) -> Result<Response<Body>, NoLink> {
    if !peers.is_clustered() {
        return Err(NoLink::Alone);
    }
    let headers = request.headers();
    let is = |name: header::HeaderName, value: &str| {
        let found = headers.get(name).and_then(|found| found.to_str().ok()).unwrap_or_default();
        found.split(',').any(|part| part.trim().eq_ignore_ascii_case(value))
    };
    let websocket = is(header::CONNECTION, "upgrade")
        && is(header::UPGRADE, "websocket")
        && is(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| websocket).ok_or(NoLink::NoWebSocket)?;
    let key = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| NoLink::NoWebSocket)?;
    let unproved = Unproved::one().ok_or(NoLink::Full)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let served = peers.clone();
    peers.tasks.spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            serve(&served, Box::new(TokioIo::new(upgraded)), address, unproved).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    Ok(response)
}

/// One of those who have not proved who they are.
struct Unproved;

impl Unproved {
    fn one() -> Option<Self> {
        let before = UNPROVED.fetch_add(1, Ordering::AcqRel);
        // Dropped at once where it is one too many.
        let one = Self;
        (before < UNPROVED_MAX).then_some(one)
    }
}

impl Drop for Unproved {
    fn drop(&mut self) {
        UNPROVED.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn serve(peers: &Arc<Peers>, stream: Box<dyn Stream>, address: SocketAddr, unproved: Unproved) {
    let Some(secret) = &peers.secret else { return };
    let mut socket = wire::wary(stream).await;
    let identity = peers.identity();
    let listened = tokio::select! {
        listened = handshake::listened(&mut socket, &identity, secret) => listened,
        () = peers.closing.cancelled() => return,
    };
    drop(unproved);
    let (hello, proof) = match listened {
        Ok(known) => known,
        Err(refused) => return tell(peers, &refused, address),
    };
    // Before this side's proof, so that a removed region never takes this for a link.
    if let Err(bye) = peers.check_member(hello.stream.replica) {
        return tell(peers, &handshake::refuse(&mut socket, bye).await, address);
    }
    let mut socket = wire::trusting(socket).await;
    if let Err(refused) = handshake::welcome(&mut socket, proof).await {
        return tell(peers, &refused, address);
    }
    let agreed = tokio::select! {
        agreed = handshake::agree(&mut socket, &identity, &hello, Side::Listener) => agreed,
        () = peers.closing.cancelled() => return,
    };
    if let Err(refused) = agreed {
        return tell_of_peer(peers, &refused, hello.stream.replica);
    }
    if let Err(bye) = peers.serve(socket, &hello, Side::Listener).await {
        tracing::debug!(peer = hello.stream.replica.0, detail = bye.detail, "connection not kept");
    }
}

/// Takes note of a peer that has proved who it is and has no link all the same, and logs it the first time.
fn tell_of_peer(peers: &Peers, refused: &Refused, peer: ReplicaId) {
    let reason = refused.label();
    metrics::counter!(crate::metrics::PEERS_REFUSED, "reason" => reason).increment(1);
    let failure = Failure { label: reason, text: refused.to_string() };
    if peers.unfit.note(Instant::now(), peer, failure) {
        tracing::warn!(peer = peer.0, reason, "a peer was refused: {refused}");
    }
}

/// Takes note of one who was turned away, and logs it the first time: a region that is not let in dials again
/// every few seconds.
fn tell(peers: &Peers, refused: &Refused, address: SocketAddr) {
    let reason = refused.label();
    metrics::counter!(crate::metrics::PEERS_REFUSED, "reason" => reason).increment(1);
    if peers.turned_away.note(Instant::now(), address.ip(), reason, refused.to_string()) {
        tracing::warn!(%address, reason, "a peer was refused: {refused}");
    }
}
