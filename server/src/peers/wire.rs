//! A WebSocket between regions, over whatever connection there is.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use quire_protocol::link::limits::{FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::net::Stream;

/// A peer's WebSocket.
pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Frames are gathered up to so many bytes before they are written.
const WRITE_BUFFER_BYTES: usize = 128 << 10;
const READ_BUFFER_BYTES: usize = 64 << 10;

fn config(frame_bytes_max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(frame_bytes_max))
        .max_frame_size(Some(frame_bytes_max))
}

/// A socket that takes only what is said before there is trust.
pub(super) async fn wary(stream: Box<dyn Stream>) -> Socket {
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config(HANDSHAKE_BYTES_MAX))).await
}

/// The same socket for a peer that is trusted, which has said nothing beyond its proof.
pub(super) async fn trusting(socket: Socket) -> Socket {
    WebSocketStream::from_raw_socket(socket.into_inner(), Role::Server, Some(config(FRAME_BYTES_MAX))).await
}

/// Asks for the socket at a URL of a peer.
pub(super) async fn ask(url: &str, stream: Box<dyn Stream>) -> Result<Socket, Error> {
    let (socket, _response) =
        tokio_tungstenite::client_async_with_config(url, stream, Some(config(FRAME_BYTES_MAX))).await?;
    Ok(socket)
}

/// The next binary frame; none when the connection is over.
pub(super) async fn next(
    socket: &mut (impl futures_util::Stream<Item = Result<Message, Error>> + Unpin),
) -> Option<Result<Bytes, Error>> {
    loop {
        match socket.next().await? {
            Ok(Message::Binary(frame)) => return Some(Ok(frame)),
            // What is not binary is told by the decoder, as a frame that cannot be read.
            Ok(Message::Text(text)) => return Some(Ok(text.into())),
            Ok(Message::Close(_)) => return None,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Sends one frame.
pub(super) async fn send(socket: &mut Socket, frame: Bytes) -> Result<(), Error> {
    socket.send(Message::Binary(frame)).await
}
