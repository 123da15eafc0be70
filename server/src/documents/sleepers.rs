//! Documents that nobody has open here and that have something to be derived from: other regions have written
//! fields of them, or they were left behind by a crash. They are opened, so that what is on record of them is up to
//! date, and so that they write back where this region is their writer.
//!
//! They close again by themselves once they are idle.

use super::registry::{Documents, RequestError};
use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::close::CloseReason;
use quire_protocol::document::{Refused, Request};
use quire_protocol::ids::{DocId, DocName};
use quire_storage::{LoadError, TailEntry};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// So many documents wait to be opened. One that finds no room is found when the log is asked which are due.
const SLEEPERS_MAX: usize = 10_000;

/// The log is asked so often which documents are due.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// So many due documents are read from the log at once.
const ASKED_AT_ONCE: usize = 100;

/// The documents that wait to be opened, and a bell for who opens them.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    docs: Mutex<BTreeSet<DocId>>,
    bell: Notify,
    /// Rings when the log is to be asked at once.
    ask: Notify,
    /// Whether everything that was due when the region started has been derived.
    derived_all: AtomicBool,
}

impl Sleepers {
    /// Takes note of an entry of another region, of a document that is not open here.
    pub(super) fn note(&self, doc: DocId, entry: &TailEntry) {
        let is_derived_from = match entry.kind {
            EntryKind::Fields | EntryKind::Graph => true,
            EntryKind::Lifecycle => LifecycleChange::turns(&entry.payload),
            _ => false,
        };
        if is_derived_from {
            let mut docs = self.docs.lock().unwrap_or_else(PoisonError::into_inner);
            if docs.len() < SLEEPERS_MAX && docs.insert(doc) {
                self.bell.notify_one();
            }
        }
    }

    /// Has the log be asked which documents are due.
    pub(super) fn ask(&self) {
        self.ask.notify_one();
    }

    fn take(&self) -> Option<DocId> {
        self.docs.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}

impl Documents {
    /// Opens documents that something is to be derived from, until the region closes.
    pub(crate) async fn wake_sleepers(self: Arc<Self>, closing: CancellationToken) {
        let mut ask = tokio::time::interval(ASK_EVERY);
        while !closing.is_cancelled() {
            tokio::select! {
                () = closing.cancelled() => return,
                () = self.sleepers.bell.notified() => {
                    while let Some(doc) = self.sleepers.take().filter(|_| !closing.is_cancelled()) {
                        // One that is open derives what there is by itself.
                        if !self.is_open(doc) {
                            self.wake(doc).await;
                        }
                    }
                }
                () = self.sleepers.ask.notified() => self.wake_due(&closing).await,
                _ = ask.tick() => self.wake_due(&closing).await,
            }
        }
    }

    /// Whether everything is on record that was committed when the region started.
    pub(crate) fn has_derived_all(&self) -> bool {
        self.sleepers.derived_all.load(Ordering::Acquire)
    }

    /// Opens every document that is due.
    async fn wake_due(self: &Arc<Self>, closing: &CancellationToken) {
        let (mut after, mut is_all) = (None, true);
        while !closing.is_cancelled() {
            let log = self.shared.log.clone();
            let due = tokio::task::spawn_blocking(move || log.due(after, ASKED_AT_ONCE)).await;
            let due = match due {
                Ok(Ok(due)) => due,
                Ok(Err(error)) => return tracing::warn!(%error, "what is due cannot be read"),
                Err(_) => return,
            };
            let Some(last) = due.last() else {
                if is_all {
                    self.sleepers.derived_all.store(true, Ordering::Release);
                }
                return;
            };
            after = Some(*last);
            for doc in due {
                is_all &= self.wake(doc).await;
            }
        }
    }

    /// Opens a document, and says whether what there was to derive is derived then.
    async fn wake(self: &Arc<Self>, doc: DocId) -> bool {
        let log = self.shared.log.clone();
        let name = tokio::task::spawn_blocking(move || -> Result<Option<DocName>, LoadError> {
            Ok(log.info(doc)?.map(|info| info.name))
        });
        let name = match name.await {
            Ok(Ok(Some(name))) => name,
            Ok(Err(error)) => {
                tracing::warn!(?doc, %error, "a document cannot be looked up");
                return false;
            }
            Ok(Ok(None)) | Err(_) => return false,
        };
        // A document that cannot be opened now is due until it can.
        let Ok(lease) = self.open(&name) else { return false };
        match lease.ask(Request::Info).await {
            // One that is deleted says so, once it is read.
            Ok(_) | Err(RequestError::Refused(Refused::Reason(CloseReason::Deleted))) => true,
            Err(error) => {
                tracing::debug!(document = %name, %error, "nothing is derived from the document");
                false
            }
        }
    }
}
