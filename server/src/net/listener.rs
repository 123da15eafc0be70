//! Accepts sockets and speaks HTTP/1.1 on each of them.
//!
//! A plain socket goes straight to HTTP; TLS is one branch before it. The loop never waits for a
//! client: handshakes and requests run in a task of their own, each with a deadline.
//!
//! Invariant: every connection task is tracked, so that a stop can wait for it.

use super::places::{Place, Places};
use super::socket::{Socket, Stream};
use crate::config::Limits;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

/// A client that has not finished its handshake by then is not a client.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long a client may take for a request's head, and leave a connection without a request.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Room for a request's head: a token in the path and one in a header, and the rest.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// More headers than any client sends.
const HEADERS_MAX: usize = 100;
/// After a failed accept: most often no file descriptor is left, and the next try would fail, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come in, and how they end.
pub(crate) struct Door {
    /// The bound socket.
    pub(crate) listener: TcpListener,
    /// How connections are encrypted, if they are.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Once cancelled, no connection is accepted, and idle ones are closed.
    pub(crate) closing: CancellationToken,
    /// Once cancelled, whatever is left is cut.
    pub(crate) cut: CancellationToken,
    /// The connections' tasks.
    pub(crate) tasks: TaskTracker,
}

/// Serves connections until the door closes.
pub(crate) async fn serve(door: Door, app: Router, limits: &Limits) {
    let places = Places::new(limits.connections, limits.address_connections);
    let door = Arc::new(door);
    loop {
        let accepted = tokio::select! {
            biased;
            () = door.closing.cancelled() => return,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(peer.ip()) {
                Some(place) => {
                    door.tasks.spawn(connection(door.clone(), app.clone(), stream, peer, place));
                }
                None => metrics::counter!(crate::metrics::CONNECTIONS_REFUSED).increment(1),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(door: Arc<Door>, app: Router, stream: TcpStream, peer: SocketAddr, place: Place) {
    // Small frames must not wait for each other: without this, the slowest percent takes 38 ms
    // instead of 4. A socket that refuses it is broken and shows so at the first read.
    let _ = stream.set_nodelay(true);
    let stream = match &door.tls {
        None => Stream::Plain(stream),
        Some(tls) => match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
            Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
        },
    };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        app.clone().call(request)
    });
    let io = TokioIo::new(Socket { stream, _place: place });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let mut serving = std::pin::pin!(http.serve_connection(io, service).with_upgrades());
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = door.closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                served = serving => served,
                () = door.cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
