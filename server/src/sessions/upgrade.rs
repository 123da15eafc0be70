//! From an HTTP request to a session: the two paths that editors connect to.
//!
//! A refusal that a retry cannot cure is given as a WebSocket close with its reason, not as an HTTP
//! status: a browser hides the status of a failed handshake from the page.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde::Deserialize;

use super::{Place, Sessions};

/// Bytes a socket reads at once. Small, since each idle connection holds its own: 4 KiB made an idle
/// connection cost 12.7 KiB.
const READ_BUFFER_BYTES: usize = 2 << 10;
/// Frames are gathered up to this many bytes before they are written.
const WRITE_BUFFER_BYTES: usize = 32 << 10;
/// A frame over the limit is still read up to so many times the limit, and then refused: a connection
/// that is closed with bytes unread is reset, and the client never hears why.
const READ_ANYWAY: usize = 4;

#[derive(Debug, Deserialize)]
struct Token {
    token: Option<String>,
}

/// The paths editors connect to: `/ws/{document}` and `/hocuspocus`.
///
/// The service must be given each connection's address as [`ConnectInfo`].
pub fn router(sessions: Arc<Sessions>) -> Router {
    Router::new()
        .route("/ws/{*document}", any(y_websocket))
        .route("/hocuspocus", any(hocuspocus))
        .route("/hocuspocus/{*anything}", any(hocuspocus))
        .with_state(sessions)
}

async fn y_websocket(
    State(sessions): State<Arc<Sessions>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Path(document): Path<String>,
    Query(Token { token }): Query<Token>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let tasks = sessions.tasks().clone();
    accept(&sessions.clone(), address, &headers, upgrade, move |ws, place| {
        tasks.track_future(sessions.serve_y_websocket(ws, document, token, place))
    })
}

async fn hocuspocus(
    State(sessions): State<Arc<Sessions>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let tasks = sessions.tasks().clone();
    accept(&sessions.clone(), address, &headers, upgrade, move |ws, place| {
        tasks.track_future(sessions.serve_hocuspocus(ws, place))
    })
}

fn accept<F, S>(
    sessions: &Arc<Sessions>,
    address: SocketAddr,
    headers: &HeaderMap,
    upgrade: WebSocketUpgrade,
    serve: S,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
    S: FnOnce(WebSocket, Place) -> F + Send + 'static,
{
    let place = match sessions.place(address.ip()) {
        Ok(place) => place,
        Err(refused) => {
            metrics::counter!(crate::metrics::SESSIONS_REFUSED).increment(1);
            let retry = [(header::RETRY_AFTER, "5")];
            return (StatusCode::SERVICE_UNAVAILABLE, retry, refused.to_string()).into_response();
        }
    };
    let frame_bytes_max = sessions.options.frame_bytes_max;
    upgrade
        .protocols(offered_protocol(headers))
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_frame_size(frame_bytes_max * READ_ANYWAY)
        .max_message_size(frame_bytes_max * READ_ANYWAY)
        .on_upgrade(move |ws| serve(ws, place))
}

/// A client that offers subprotocols gives the connection up unless one is chosen: the first will do.
fn offered_protocol(headers: &HeaderMap) -> Option<String> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    offered.split(',').next().map(|first| first.trim().to_owned())
}
