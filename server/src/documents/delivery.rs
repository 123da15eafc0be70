//! What other regions wrote, on its way from the log to the documents that are open.
//!
//! A document that is not open needs nothing: it will be read from the log. One that is being opened has an
//! inbox already, and skips what it has read.

use super::inbox::Message;
use super::registry::Documents;
use bytes::Bytes;
use quire_protocol::ids::DocId;
use quire_storage::{Imported, TailEntry};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// A share of the backlog, until the actor has shown what it stands for.
#[derive(Debug)]
pub struct Undelivered {
    bytes: usize,
    backlog: Arc<Backlog>,
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        let before = self.backlog.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if before > APPLIED_BYTES_MAX && before - self.bytes <= APPLIED_BYTES_MAX {
            self.backlog.room.notify_waiters();
        }
    }
}

impl Documents {
    /// Gives applied entries of other regions to the documents that are open, in their order: before a document
    /// is told of an entry, the others have in their inboxes whatever comes before it. So whoever is shown an
    /// effect and then asks for its cause is answered with it. Entries of one document in a row go together.
    pub fn deliver(&self, entries: Vec<(DocId, TailEntry)>) {
        let mut entries = entries.into_iter().filter(|(doc, _)| self.is_open(*doc)).peekable();
        while let Some((doc, entry)) = entries.next() {
            let mut run = vec![entry];
            while let Some((_, entry)) = entries.next_if(|(next, _)| *next == doc) {
                run.push(entry);
            }
            let bytes = run.iter().map(|entry| entry.payload.len() + ENTRY_BYTES).sum();
            let backlog = self.backlog.clone();
            backlog.bytes.fetch_add(bytes, Ordering::AcqRel);
            self.say(doc, Message::Applied(run, Undelivered { bytes, backlog }));
        }
    }

    /// Gives what a snapshot has brought to the documents that are open, and then what it let through. Reads
    /// them from the log, on the thread that has just imported it: few are open where a snapshot is needed.
    pub fn deliver_imported(&self, imported: Imported) {
        let (after, last) = imported.positions;
        for doc in imported.docs.into_iter().filter(|doc| self.is_open(*doc)) {
            match self.shared.log.load(doc) {
                Ok(stored) => {
                    let entries = stored.map(|stored| stored.tail).unwrap_or_default().into_iter();
                    let fresh = entries.filter(|entry| entry.position > after && entry.position <= last);
                    self.deliver(fresh.map(|entry| (doc, entry)).collect());
                }
                // Its editors are told by whatever reads it next.
                Err(error) => tracing::error!(?doc, %error, "what a snapshot has brought cannot be read"),
            }
        }
        self.deliver(imported.applied);
    }

    /// Tells an open document who moves, comes or goes in another region; drops it while documents do not
    /// keep up.
    pub fn tell_presence(&self, doc: DocId, payload: Bytes) {
        if self.has_room() && self.is_open(doc) {
            let bytes = payload.len() + ENTRY_BYTES;
            let backlog = self.backlog.clone();
            backlog.bytes.fetch_add(bytes, Ordering::AcqRel);
            self.say(doc, Message::Elsewhere(payload, Undelivered { bytes, backlog }));
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
