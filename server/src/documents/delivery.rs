//! What other regions wrote, on its way from the log to the documents that are open.
//!
//! A document that is not open needs nothing: it will be read from the log. One that is being opened has an
//! inbox already, and skips what it has read.

use super::inbox::Message;
use super::order::Order;
use super::registry::Documents;
use bytes::Bytes;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{DocId, Dot};
use quire_storage::{Applied, Imported, TailEntry};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::sync::Notify;

/// Bytes of other regions' entries that may wait in inboxes; beyond it nothing more is taken from peers,
/// who then run out of credit, until documents have caught up.
pub const APPLIED_BYTES_MAX: usize = 32 << 20;

/// What an entry costs in an inbox beyond its payload, roughly.
const ENTRY_BYTES: usize = 112;

/// How much is undelivered.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: AtomicUsize,
    room: Notify,
}

/// A share of the backlog.
#[derive(Debug)]
struct Share {
    bytes: usize,
    backlog: Arc<Backlog>,
}

impl Share {
    fn of(bytes: usize, backlog: &Arc<Backlog>) -> Self {
        backlog.bytes.fetch_add(bytes, Ordering::AcqRel);
        Self { bytes, backlog: backlog.clone() }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let before = self.backlog.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if before > APPLIED_BYTES_MAX && before - self.bytes <= APPLIED_BYTES_MAX {
            self.backlog.room.notify_waiters();
        }
    }
}

/// A batch that is being shown; over when the last document has let go of it.
struct Showing {
    last: Dot,
    causes: Frontier,
    documents: Arc<Documents>,
}

impl std::fmt::Debug for Showing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Showing").field(&self.last).finish()
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.documents.in_order(|order| order.over(self.last));
    }
}

/// What a document holds until it has shown what it was told.
#[derive(Debug)]
pub struct Undelivered {
    _share: Share,
    showing: Option<Arc<Showing>>,
}

impl Undelivered {
    /// Whether it may be shown; `is_shared` says that some connection has the document beside others.
    pub(super) fn has_turn(&self, is_shared: bool) -> bool {
        self.showing.as_ref().is_none_or(|showing| {
            showing.documents.in_order(|order| order.has_turn(&showing.causes, is_shared))
        })
    }

    /// Waits until it may be shown.
    pub(super) async fn turn(&self, is_shared: bool) {
        if let Some(showing) = &self.showing {
            let causes = showing.causes.clone();
            let turn = showing.documents.in_order(|order| order.turn(causes, is_shared));
            // The order lives as long as the documents do, and forgets nobody.
            let _told = turn.await;
        }
    }
}

impl Documents {
    fn in_order<T>(&self, act: impl FnOnce(&mut Order) -> T) -> T {
        // Every change under the lock is one step.
        act(&mut self.order.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives applied batches of other regions to the documents that are open, in their order: before a document
    /// is told of an entry, the others have in their inboxes whatever comes before it. So whoever is shown an
    /// effect and then asks for its cause is answered with it; and a document shows it only when what its origin
    /// had seen is in the outboxes, so that one connection has them in that order.
    pub fn deliver(self: &Arc<Self>, batches: Vec<Applied>) {
        for Applied { first, last, deps, entries } in batches {
            let causes = self.in_order(|order| order.push(first, last.seq, &deps));
            let showing = Arc::new(Showing { last, causes, documents: self.clone() });
            self.tell(entries, Some(&showing));
        }
    }

    /// Tells the documents that are open of these entries, in this order. Those of one document in a row go
    /// together.
    fn tell(&self, entries: Vec<(DocId, TailEntry)>, showing: Option<&Arc<Showing>>) {
        let is_told = |(doc, entry): &(DocId, TailEntry)| {
            let is_open = self.is_open(*doc);
            if !is_open {
                self.sleepers.note(*doc, entry);
            }
            is_open
        };
        let mut entries = entries.into_iter().filter(is_told).peekable();
        while let Some((doc, entry)) = entries.next() {
            let mut run = vec![entry];
            while let Some((_, entry)) = entries.next_if(|(next, _)| *next == doc) {
                run.push(entry);
            }
            let bytes = run.iter().map(|entry| entry.payload.len() + ENTRY_BYTES).sum();
            let Some(inbox) = self.inbox(doc) else { continue };
            // A document that is being opened has shown nothing yet, and may take long.
            let showing = showing.filter(|_| inbox.is_served()).cloned();
            let undelivered = Undelivered { _share: Share::of(bytes, &self.backlog), showing };
            // Where it has just been closed, the log tells whoever opens it next.
            let _open = inbox.push(Message::Applied(run, undelivered));
        }
    }

    /// Gives what a snapshot has brought to the documents that are open, and then what it let through. Reads
    /// them from the log, on the thread that has just imported it: few are open where a snapshot is needed.
    pub fn deliver_imported(self: &Arc<Self>, imported: Imported) {
        let (after, last) = imported.positions;
        let (open, closed): (Vec<DocId>, _) = imported.docs.into_iter().partition(|doc| self.is_open(*doc));
        if !closed.is_empty() {
            self.sleepers.ask();
        }
        for doc in open {
            // A state stands for entries that nobody tells one by one.
            self.tell_life(doc);
            match self.shared.log.load(doc) {
                Ok(stored) => {
                    let entries = stored.map(|stored| stored.tail).unwrap_or_default().into_iter();
                    let fresh = entries.filter(|entry| entry.position > after && entry.position <= last);
                    self.tell(fresh.map(|entry| (doc, entry)).collect(), None);
                }
                // Its editors are told by whatever reads it next.
                Err(error) => tracing::error!(?doc, %error, "what a snapshot has brought cannot be read"),
            }
        }
        self.in_order(|order| order.skip_to(&imported.ends));
        self.deliver(imported.applied);
    }

    /// Tells an open document who moves, comes or goes in another region; drops it while documents do not
    /// keep up.
    pub fn tell_presence(&self, doc: DocId, payload: Bytes) {
        if self.has_room() && self.is_open(doc) {
            let share = Share::of(payload.len() + ENTRY_BYTES, &self.backlog);
            self.say(doc, Message::Elsewhere(payload, Undelivered { _share: share, showing: None }));
        }
    }

    /// Whether documents keep up with what other regions write.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.backlog.bytes.load(Ordering::Acquire) <= APPLIED_BYTES_MAX
    }

    /// Waits until documents have caught up with what other regions wrote.
    pub async fn caught_up(&self) {
        loop {
            let room = self.backlog.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }
}
