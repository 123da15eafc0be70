//! Documents that nobody has open here, and that another region has written fields of: where this region is
//! their writer they are opened, so that they write back.
//!
//! They close again by themselves once they are idle.

use super::registry::Documents;
use quire_protocol::document::Request;
use quire_protocol::fields::home;
use quire_protocol::ids::{DocId, DocName};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// So many documents wait to be opened. One that finds no room writes back when somebody opens it.
const SLEEPERS_MAX: usize = 10_000;

/// The documents that wait to be opened, and a bell for who opens them.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    docs: Mutex<BTreeSet<DocId>>,
    bell: Notify,
}

impl Sleepers {
    /// Takes note of a document in which fields were written.
    pub(super) fn note(&self, doc: DocId) {
        let mut docs = self.docs.lock().unwrap_or_else(PoisonError::into_inner);
        if docs.len() < SLEEPERS_MAX && docs.insert(doc) {
            self.bell.notify_one();
        }
    }

    fn take(&self) -> Option<DocId> {
        self.docs.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}

impl Documents {
    /// Opens documents that are to write back, until the region closes.
    pub(crate) async fn wake_sleepers(self: Arc<Self>, closing: CancellationToken) {
        while closing.run_until_cancelled(self.sleepers.bell.notified()).await.is_some() {
            while let Some(doc) = self.sleepers.take() {
                if closing.is_cancelled() {
                    return;
                }
                if let Some(name) = self.to_write_back(doc).await {
                    self.wake(&name).await;
                }
            }
        }
    }

    /// The document's name, where nobody has it open and this region is its writer.
    async fn to_write_back(self: &Arc<Self>, doc: DocId) -> Option<DocName> {
        if self.is_open(doc) {
            return None;
        }
        let live = self.live()?.borrow().clone();
        let log = self.shared.log.clone();
        let me = log.stream().replica;
        let info = tokio::task::spawn_blocking(move || log.info(doc)).await.ok()?;
        let info = info.inspect_err(|error| tracing::warn!(?doc, %error, "a document cannot be looked up"));
        let info = info.ok().flatten()?;
        (home::writer(info.home, &live) == Some(me)).then_some(info.name)
    }

    async fn wake(self: &Arc<Self>, name: &DocName) {
        // A document that cannot be opened now writes back when somebody can.
        let Ok(lease) = self.open(name) else { return };
        if let Err(error) = lease.ask(Request::Info).await {
            tracing::debug!(document = %name, %error, "the document does not write back");
        }
    }
}
