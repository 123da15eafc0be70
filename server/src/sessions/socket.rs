//! One WebSocket: frames in, queued frames out, pings, and an orderly close.
//!
//! Reading pauses while the outbox is full, and a socket that takes nothing for [`STALL_MAX`], or
//! answers no ping, is given up.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use quire_protocol::close::CloseReason;
use tokio::time::{Instant, Sleep};

use super::Options;
use super::pace::Pace;
use crate::documents::Outbox;

/// A ping goes out so often; one interval without any frame after it, and the socket is given up.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A reader that takes nothing for this long is given up.
const STALL_MAX: Duration = Duration::from_secs(120);
/// A closing socket gets this long for its last frames.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a socket has for its session.
#[derive(Debug)]
pub(super) enum Event {
    /// A binary frame.
    Frame(Bytes),
    /// The outbox may have something.
    Outbox,
    /// The client did what no client may do.
    Refused(CloseReason),
    /// The connection is gone.
    Gone,
}

/// The connection broke, or was given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone;

/// One WebSocket.
pub(super) struct Socket {
    ws: WebSocket,
    pace: Pace,
    ping: Pin<Box<Sleep>>,
    heard: bool,
    frame_bytes_max: usize,
}

impl Socket {
    pub(super) fn new(ws: WebSocket, options: &Options) -> Self {
        let ping = Box::pin(tokio::time::sleep(PING_EVERY));
        let pace = Pace::new(options.rate);
        Self { ws, pace, ping, heard: true, frame_bytes_max: options.frame_bytes_max }
    }

    /// Holds the sender of a frame of so many bytes to its rate. Apart from [`Socket::next`], which may
    /// be given up while it waits and so must never hold a frame.
    pub(super) async fn keep_pace(&mut self, bytes: usize) {
        self.pace.wait(bytes).await;
    }

    /// Waits for a frame or for the outbox. Giving it up loses nothing.
    pub(super) async fn next(&mut self, outbox: &Outbox) -> Event {
        loop {
            tokio::select! {
                received = self.ws.next(), if !outbox.is_full() => {
                    self.heard = true;
                    match received {
                        Some(Ok(Message::Binary(frame))) if frame.len() > self.frame_bytes_max => {
                            return Event::Refused(CloseReason::FrameTooLarge);
                        }
                        Some(Ok(Message::Binary(frame))) => return Event::Frame(frame),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Text(_))) => return Event::Refused(CloseReason::NotBinary),
                        Some(Ok(Message::Close(_))) | None => return Event::Gone,
                        Some(Err(error)) => return refusal(&error),
                    }
                }
                () = outbox.ready() => return Event::Outbox,
                () = self.ping.as_mut() => {
                    let silent = !std::mem::take(&mut self.heard) && !outbox.is_full();
                    if silent || self.ping().await.is_err() {
                        return Event::Gone;
                    }
                }
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        self.ping.as_mut().reset(Instant::now() + PING_EVERY);
        let sent = tokio::time::timeout(STALL_MAX, self.ws.send(Message::Ping(Bytes::new()))).await;
        sent.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Writes frames, all of them in as few system calls as the socket takes.
    pub(super) async fn write(&mut self, frames: &mut VecDeque<Bytes>) -> Result<(), Gone> {
        let all = async {
            for frame in frames.drain(..) {
                self.ws.feed(Message::Binary(frame)).await?;
            }
            self.ws.flush().await
        };
        tokio::time::timeout(STALL_MAX, all).await.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Says why the socket is closed, and closes it.
    pub(super) async fn close(mut self, reason: &CloseReason) {
        let frame = CloseFrame { code: reason.code(), reason: reason.text().into() };
        let goodbye = async {
            self.ws.send(Message::Close(Some(frame))).await.ok()?;
            // The client answers with a close frame of its own; until then, what it sends is moot.
            while let Some(Ok(message)) = self.ws.next().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
            Some(())
        };
        // Whether the client heard it or not, the socket goes.
        let _heard = tokio::time::timeout(CLOSE_MAX, goodbye).await;
    }
}

fn refusal(error: &axum::Error) -> Event {
    use std::error::Error;
    let cause =
        error.source().and_then(|cause| cause.downcast_ref::<tokio_tungstenite::tungstenite::Error>());
    match cause {
        Some(tokio_tungstenite::tungstenite::Error::Capacity(_)) => {
            Event::Refused(CloseReason::FrameTooLarge)
        }
        _ => Event::Gone,
    }
}
