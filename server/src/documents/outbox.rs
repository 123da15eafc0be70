//! A socket's outbox: frames that wait to be written, bounded in bytes.
//!
//! Frames are shared memory: the same bytes wait in every outbox of a document. When the outbox is
//! full, fan-out is refused (the session is then lagging and is resynced when the queue has drained),
//! awareness is dropped, and the socket's reader pauses, so that answers are bounded by what was asked.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use quire_protocol::close::CloseReason;
use quire_protocol::document::Urgency;
use quire_protocol::ids::SessionId;
use tokio::sync::Notify;

/// An idle outbox keeps room for so many frames; more is given back.
const IDLE_FRAMES: usize = 16;

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    lagging: Vec<SessionId>,
    ended: Vec<(SessionId, CloseReason)>,
}

/// The queue of one socket, and a bell for its one writer.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    bell: Notify,
    bytes_max: usize,
    /// How many documents have it.
    documents: AtomicUsize,
}

/// Whether a frame found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is queued, or it was awareness and could be dropped.
    Done,
    /// It was fan-out and did not fit: its session is lagging.
    Full,
}

/// What a writer takes from an outbox.
#[derive(Debug, Default)]
pub struct Taken {
    /// Frames to write, in order.
    pub frames: VecDeque<Bytes>,
    /// Sessions that were lagging: once the frames are written, they have drained.
    pub drained: Vec<SessionId>,
    /// Sessions that the server has ended, with why.
    pub ended: Vec<(SessionId, CloseReason)>,
}

impl Outbox {
    /// An empty outbox that holds about this many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), bell: Notify::new(), bytes_max, documents: AtomicUsize::new(0) }
    }

    /// A document shows what it has to this socket from now on, or no longer.
    pub(super) fn joined(&self) {
        self.documents.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn left(&self) {
        self.documents.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether several documents have it.
    pub(super) fn is_shared(&self) -> bool {
        self.documents.load(Ordering::Relaxed) > 1
    }

    /// Queues a frame as its urgency allows.
    pub(super) fn push(&self, session: SessionId, frame: Bytes, urgency: Urgency) -> Pushed {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // A single frame may be longer than the bound: an empty outbox takes any.
        let full = queue.bytes > 0 && queue.bytes + frame.len() > self.bytes_max;
        match urgency {
            Urgency::Awareness if full => {
                metrics::counter!(crate::metrics::AWARENESS_DROPPED).increment(1);
                return Pushed::Done;
            }
            Urgency::FanOut if full => {
                queue.lagging.push(session);
                return Pushed::Full;
            }
            Urgency::Answer | Urgency::FanOut | Urgency::Awareness => {}
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        let first = queue.frames.len() == 1;
        drop(queue);
        if first {
            self.bell.notify_one();
        }
        Pushed::Done
    }

    /// Queues a frame of the socket's own, such as the verdict on a token.
    pub fn answer(&self, frame: Bytes) {
        self.push(SessionId(0), frame, Urgency::Answer);
    }

    /// Says that the server has ended a session.
    pub fn end(&self, session: SessionId, reason: CloseReason) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.ended.push((session, reason));
        drop(queue);
        self.bell.notify_one();
    }

    /// Waits until there may be something to take.
    pub async fn ready(&self) {
        self.bell.notified().await;
    }

    /// Whether the reader should pause: what is queued must go first.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).bytes >= self.bytes_max
    }

    /// Takes everything that is queued; `into` is empty and lends its memory to the queue.
    pub fn take(&self, into: &mut Taken) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.bytes = 0;
        std::mem::swap(&mut queue.frames, &mut into.frames);
        queue.frames.shrink_to(IDLE_FRAMES);
        into.drained = std::mem::take(&mut queue.lagging);
        into.ended = std::mem::take(&mut queue.ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: SessionId = SessionId(1);

    fn frame(len: usize) -> Bytes {
        vec![0; len].into()
    }

    #[test]
    fn a_full_outbox_refuses_fan_out_drops_awareness_and_takes_answers() {
        let outbox = Outbox::new(100);
        assert_eq!(outbox.push(ANN, frame(90), Urgency::FanOut), Pushed::Done);
        assert_eq!(outbox.push(ANN, frame(20), Urgency::FanOut), Pushed::Full);
        assert_eq!(outbox.push(ANN, frame(20), Urgency::Awareness), Pushed::Done);
        assert!(!outbox.is_full());
        assert_eq!(outbox.push(ANN, frame(20), Urgency::Answer), Pushed::Done);
        assert!(outbox.is_full());
        let mut taken = Taken::default();
        outbox.take(&mut taken);
        assert_eq!((taken.frames.len(), taken.drained), (2, vec![ANN]));
        assert!(!outbox.is_full());
    }

    #[test]
    fn an_empty_outbox_takes_a_frame_of_any_length() {
        let outbox = Outbox::new(100);
        assert_eq!(outbox.push(ANN, frame(1_000), Urgency::FanOut), Pushed::Done);
    }
}
