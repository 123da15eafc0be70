//! References to documents that are deleted: this region repairs those of the documents that it is the writer of.
//!
//! Every region finds them, and one repairs each. Where two do, cut off from each other, they write the same.
//!
//! Invariant: a reference is repaired by an edit on the version that was read, or by a deletion that has seen all that
//! is here: whoever writes at the same time is not overruled.

use super::registry::{Documents, RequestError};
use crate::conflicts::Referrer;
use quire_protocol::document::{Answer, Refused, Request};
use quire_protocol::fields::reference::{Repair, without};
use quire_protocol::fields::{Edit, Shown, home};
use quire_protocol::ids::DocId;
use quire_storage::LoadError;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// So many documents are repaired at once: enough to share commits, few enough to leave the region to its editors.
const REPAIRED_AT_ONCE: usize = 8;

/// All deleted documents that others refer to are looked at so often: what could not be done before may be possible.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Who clears a field that named a deleted document.
const AUTHOR: &str = "quire";

/// Why a reference was not repaired.
#[derive(Debug, thiserror::Error)]
enum NotRepaired {
    #[error("{0}")]
    Open(#[from] super::registry::OpenError),
    #[error("{0}")]
    Request(#[from] RequestError),
}

impl Documents {
    /// Repairs references to deleted documents, until the region closes.
    pub(crate) async fn repair_references(self: Arc<Self>, closing: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut live = self.live();
        let book = self.book().clone();
        loop {
            let all = tokio::select! {
                () = closing.cancelled() => return,
                () = book.is_dangling() => false,
                // This region may be the writer of other documents then.
                () = super::actor::changed(live.as_mut()) => true,
                _ = look.tick() => true,
            };
            while let Some((target, is_new)) = book.next_dangling().filter(|_| !closing.is_cancelled()) {
                self.repair(target, is_new).await;
            }
            if all {
                self.repair_all(&closing).await;
            }
        }
    }

    async fn repair_all(self: &Arc<Self>, closing: &CancellationToken) {
        let mut after = None;
        while !closing.is_cancelled() {
            let book = self.book().clone();
            let Some(targets) = read(move || book.dangling(after)).await else { return };
            let Some(last) = targets.last() else { return };
            after = Some(*last);
            for target in targets {
                self.repair(target, false).await;
            }
        }
    }

    /// Repairs the references to one document that are this region's to repair.
    async fn repair(self: &Arc<Self>, target: DocId, is_new: bool) {
        let mut after = None;
        loop {
            let (documents, me) = (self.clone(), self.log().stream().replica);
            let found = read(move || {
                let live = documents.live().map(|live| live.borrow().clone()).unwrap_or_default();
                let is_mine = |named| home::writer(named, &live) == Some(me);
                documents.book().to_repair(target, after.as_deref(), is_new, &is_mine)
            });
            let Some(found) = found.await else { return };
            let mut repairing = JoinSet::new();
            for (referrer, repair) in found.repairs {
                if repairing.len() == REPAIRED_AT_ONCE {
                    repairing.join_next().await;
                }
                repairing.spawn(self.clone().repair_one(referrer, repair));
            }
            while repairing.join_next().await.is_some() {}
            after = found.next;
            if after.is_none() {
                return;
            }
        }
    }

    async fn repair_one(self: Arc<Self>, referrer: Referrer, repair: Repair) {
        let Referrer { document, path, target, .. } = &referrer;
        let done = match repair {
            Repair::Leave => return,
            Repair::Clear => self.clear(&referrer).await,
            Repair::Delete => self.delete(&referrer).await,
        };
        match done {
            Ok(true) => tracing::info!(%document, %path, %target, ?repair, "reference repaired"),
            Ok(false) => {}
            // It is tried again when all are looked at.
            Err(error) => tracing::debug!(%document, %path, %target, %error, "reference not repaired"),
        }
    }

    /// Takes the name of a deleted document out of a field. One in conflict is left to whoever resolves it.
    async fn clear(self: &Arc<Self>, referrer: &Referrer) -> Result<bool, NotRepaired> {
        let lease = self.open(&referrer.document)?;
        let path = referrer.path.clone();
        let Answer::Fields(views) = lease.ask(Request::Fields(Some(vec![path.clone()]))).await? else {
            return Ok(false);
        };
        let Some(view) = views.into_iter().next().filter(|view| view.state.conflict.is_none()) else {
            return Ok(false);
        };
        let Shown::Value(Some(shown)) = &view.state.shown else { return Ok(false) };
        let Some(value) = without(shown, &referrer.target) else { return Ok(false) };
        let edit = Edit { path, value: Some(value), on: Some(view.state.version()) };
        let request = Request::EditFields { edits: vec![edit], is_exact: true, author: Some(AUTHOR.into()) };
        match lease.ask(request).await {
            Ok(_) => Ok(true),
            // Whoever has just written it knows better.
            Err(RequestError::Refused(Refused::FieldChanged(_))) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(self: &Arc<Self>, referrer: &Referrer) -> Result<bool, NotRepaired> {
        let lease = self.open(&referrer.document)?;
        // Taken before it is asked: what comes meanwhile is concurrent.
        let seen = self.log().applied();
        let answer = lease.ask(Request::Delete { seen }).await?;
        Ok(answer == Answer::Saved { changed: true })
    }
}

/// Reads the log on a thread for that; says so where it cannot be read.
async fn read<T: Send + 'static>(ask: impl FnOnce() -> Result<T, LoadError> + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::warn!(%error, "references to deleted documents cannot be read");
            None
        }
        Err(_) => None,
    }
}
