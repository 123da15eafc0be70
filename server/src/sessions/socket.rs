//! One WebSocket: frames in, queued frames out, pings, and an orderly close.
//!
//! Reading pauses while the outbox is full or the sender is over its rate; writing never does. A socket
//! that takes nothing for [`STALL_MAX`], or answers no ping, is given up.

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
/// One that takes something may take longer for what is long, as long as it is no slower than this.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
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

/// A frame whose sender is over its rate.
struct Held {
    frame: Bytes,
    until: Pin<Box<Sleep>>,
}

/// One WebSocket.
pub(super) struct Socket {
    ws: WebSocket,
    pace: Pace,
    held: Option<Held>,
    ping: Pin<Box<Sleep>>,
    heard: bool,
    frame_bytes_max: usize,
}

impl Socket {
    pub(super) fn new(ws: WebSocket, options: &Options) -> Self {
        let ping = Box::pin(tokio::time::sleep(PING_EVERY));
        let pace = Pace::new(options.rate);
        Self { ws, pace, held: None, ping, heard: true, frame_bytes_max: options.frame_bytes_max }
    }

    /// Waits for a frame or for the outbox. Giving it up loses nothing.
    ///
    /// A frame whose sender is over its rate is held here until its time has come; meanwhile nothing more
    /// is read, and what is queued is written as ever.
    pub(super) async fn next(&mut self, outbox: &Outbox) -> Event {
        loop {
            tokio::select! {
                received = self.ws.next(), if self.held.is_none() && !outbox.is_full() => {
                    self.heard = true;
                    match received {
                        Some(Ok(Message::Binary(frame))) if frame.len() > self.frame_bytes_max => {
                            return Event::Refused(CloseReason::FrameTooLarge);
                        }
                        Some(Ok(Message::Binary(frame))) => {
                            self.pace.note(frame.len());
                            if let Some(frame) = self.take_or_hold(frame) {
                                return Event::Frame(frame);
                            }
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Text(_))) => return Event::Refused(CloseReason::NotBinary),
                        Some(Ok(Message::Close(_))) | None => return Event::Gone,
                        Some(Err(error)) => return refusal(&error),
                    }
                }
                () = released(&mut self.held), if self.held.is_some() => {
                    let held = self.held.take().map(|held| held.frame);
                    if let Some(frame) = held.and_then(|frame| self.take_or_hold(frame)) {
                        return Event::Frame(frame);
                    }
                }
                () = outbox.ready() => return Event::Outbox,
                () = self.ping.as_mut() => {
                    // One that is not read from cannot be heard.
                    let silent = !std::mem::take(&mut self.heard) && self.held.is_none() && !outbox.is_full();
                    if silent || self.ping().await.is_err() {
                        return Event::Gone;
                    }
                }
            }
        }
    }

    /// Gives the frame back when its sender is within its rate, and holds it otherwise.
    fn take_or_hold(&mut self, frame: Bytes) -> Option<Bytes> {
        let Some(delay) = self.pace.delay() else { return Some(frame) };
        self.held = Some(Held { frame, until: Box::pin(tokio::time::sleep(delay)) });
        None
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        self.ping.as_mut().reset(Instant::now() + PING_EVERY);
        let sent = tokio::time::timeout(STALL_MAX, self.ws.send(Message::Ping(Bytes::new()))).await;
        sent.map_err(|_| Gone)?.map_err(|_| Gone)
    }

    /// Writes frames, all of them in as few system calls as the socket takes.
    pub(super) async fn write(&mut self, frames: &mut VecDeque<Bytes>) -> Result<(), Gone> {
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        let time = STALL_MAX + Duration::from_secs(bytes as u64 / SLOWEST_BYTES_PER_SECOND);
        let all = async {
            for frame in frames.drain(..) {
                self.ws.feed(Message::Binary(frame)).await?;
            }
            self.ws.flush().await
        };
        tokio::time::timeout(time, all).await.map_err(|_| Gone)?.map_err(|_| Gone)
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

/// Waits until a held frame's time has come.
async fn released(held: &mut Option<Held>) {
    if let Some(held) = held {
        held.until.as_mut().await;
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
