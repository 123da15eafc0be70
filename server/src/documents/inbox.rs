//! A document's inbox: what sessions, requests and the log have to say to its actor.
//!
//! It takes everything at once, so that a burst of messages costs one wake-up. It has no bound of its
//! own: whatever brings bytes from outside holds a permit of the server's ingest budget
//! ([`super::Options::ingest_bytes_max`]), the log answers each append once, and peers are not read from
//! while too much of theirs is undelivered ([`super::APPLIED_BYTES_MAX`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use quire_protocol::document::{Answer, Opened, Refused, Request};
use quire_protocol::ids::SessionId;
use quire_protocol::life::Life;
use quire_protocol::ysync;
use quire_storage::{Receipt, TailEntry};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::delivery::Undelivered;
use super::outbox::Outbox;
use bytes::Bytes;

/// One thing to say to a document's actor.
#[derive(Debug)]
pub enum Message {
    /// A session opens the document; its frames go to this outbox.
    Open(Opened, Arc<Outbox>),
    /// A session's token was renewed.
    Renew(Opened),
    /// A session's connection is gone.
    Close(SessionId),
    /// A session says something; the permit is its share of the ingest budget.
    Said(SessionId, ysync::Message, OwnedSemaphorePermit),
    /// A lagging session's socket has taken all that was queued.
    Drained(SessionId),
    /// A request, and where its answer goes.
    Request(Box<Request>, oneshot::Sender<Result<Answer, Refused>>, OwnedSemaphorePermit),
    /// The log has so many of the document's writes on disk.
    Committed {
        /// How many.
        writes: usize,
        /// What the log made of them.
        receipt: Receipt,
        /// When the commit returned.
        at: Instant,
    },
    /// The log shows these entries of other regions, in this order.
    Applied(Vec<TailEntry>, Undelivered),
    /// What the log says of the document's deletions and edits, where entries do not tell.
    Life(Box<Life>),
    /// The document may have another home.
    Rehome,
    /// Somebody in another region moves, comes or goes: an awareness update that can be read.
    Elsewhere(Bytes, Undelivered),
    /// The log refused an append.
    AppendFailed,
}

/// The document has been unloaded; whoever still needs it opens it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the document has just been closed")]
pub struct Closed;

#[derive(Debug, Default)]
struct Queue {
    messages: Vec<Message>,
    closed: bool,
}

/// The queue, and a bell for its one reader.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    bell: Notify,
    served: AtomicBool,
}

impl Inbox {
    /// Its document has been read: whatever is queued is heard from now on.
    pub(super) fn serve(&self) {
        self.served.store(true, Ordering::Release);
    }

    /// Whether its document has been read.
    pub(super) fn is_served(&self) -> bool {
        self.served.load(Ordering::Acquire)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When the document has been unloaded; the message is dropped, and with it any reply channel.
    pub(super) fn push(&self, message: Message) -> Result<(), Closed> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            return Err(Closed);
        }
        queue.messages.push(message);
        let first = queue.messages.len() == 1;
        drop(queue);
        if first {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Waits until there may be something to take.
    pub(super) async fn ready(&self) {
        self.bell.notified().await;
    }

    /// Takes everything; `into` is empty and lends its memory to the queue.
    pub(super) fn take(&self, into: &mut Vec<Message>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut queue.messages, into);
    }

    /// Takes no more messages and returns those that still wait.
    pub(super) fn close(&self) -> Vec<Message> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        std::mem::take(&mut queue.messages)
    }
}
