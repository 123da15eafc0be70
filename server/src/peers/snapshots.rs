//! Snapshots on their way from and to the log, beside a link's loop: both wait for the disk.
//!
//! Invariant: one snapshot is taken at a time, whoever it is from; its place is free again when it has been
//! imported or its link has ended.

use super::links::Peers;
use quire_protocol::link::{Input, Piece};
use quire_protocol::snapshot::{SnapshotEntry, SnapshotHead};
use quire_storage::{AppendError, Export, Log};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// The place of the snapshot that is being taken.
#[derive(Debug, Default)]
pub(super) struct ImportPlace {
    taken: Arc<AtomicBool>,
    merging: AtomicBool,
}

/// Holds the place until it is dropped.
struct Taken(Arc<AtomicBool>);

impl ImportPlace {
    fn take(&self) -> Option<Taken> {
        (!self.taken.swap(true, Ordering::AcqRel)).then(|| Taken(self.taken.clone()))
    }

    /// Whether the log takes no writes since it merges what has come.
    pub(super) fn is_merging(&self) -> bool {
        self.merging.load(Ordering::Acquire)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A snapshot that is being given, between two reads.
pub(super) type Exporting = Option<Box<dyn Export>>;

/// Reads the next piece; a snapshot is begun where there is none.
pub(super) async fn read(log: Arc<dyn Log>, exporting: Exporting, bytes_max: usize) -> (Exporting, Piece) {
    let read = tokio::task::spawn_blocking(move || {
        let mut export = match exporting.map_or_else(|| log.export(), Ok) {
            Ok(export) => export,
            Err(error) => return (None, Piece::Failed(error.to_string())),
        };
        match export.next(bytes_max) {
            Ok(Some(bytes)) => (Some(export), Piece::Bytes(bytes)),
            Ok(None) => (None, Piece::End),
            Err(error) => (None, Piece::Failed(error.to_string())),
        }
    });
    read.await.unwrap_or_else(|error| (None, Piece::Failed(error.to_string())))
}

enum Work {
    Stage(Vec<SnapshotEntry>),
    Import(SnapshotHead),
}

/// A snapshot that is being taken: a thread that stages what comes, in order.
pub(super) struct Importing {
    /// Bounded by the credit that the peer has.
    work: mpsc::UnboundedSender<Work>,
}

impl Importing {
    /// Takes the place, if it is free. What the link is to hear of goes to `tell`.
    pub(super) fn begin(peers: &Arc<Peers>, tell: mpsc::UnboundedSender<Input>) -> Option<Self> {
        let taken = peers.importing.take()?;
        let (work, mut to_do) = mpsc::unbounded_channel();
        let peers = peers.clone();
        tokio::task::spawn_blocking(move || {
            let _place = taken;
            let mut staged = peers.log.begin_import();
            while let Some(next) = to_do.blocking_recv() {
                let input = match (next, &staged) {
                    (_, Err(error)) => refused(error),
                    (Work::Stage(entries), Ok(())) => {
                        staged = peers.log.stage(entries);
                        staged.as_ref().map_or_else(refused, |()| Input::Staged)
                    }
                    (Work::Import(snapshot), Ok(())) => import(&peers, snapshot),
                };
                // Where the link has ended, so does this: `to_do` is closed as well.
                let _ended = tell.send(input);
            }
        });
        Some(Self { work })
    }

    pub(super) fn stage(&self, entries: Vec<SnapshotEntry>) {
        // The thread ends when this is dropped, and not before.
        let _taken = self.work.send(Work::Stage(entries));
    }

    pub(super) fn import(&self, snapshot: SnapshotHead) {
        let _taken = self.work.send(Work::Import(snapshot));
    }
}

/// Has the committer import what is staged, and waits for it.
fn import(peers: &Arc<Peers>, snapshot: SnapshotHead) -> Input {
    let (done, imported) = oneshot::channel();
    tracing::info!(streams = snapshot.0.len(), "importing a snapshot");
    peers.importing.merging.store(true, Ordering::Release);
    peers.appender.import(snapshot, move |result| drop(done.send(result)));
    let imported = imported.blocking_recv().unwrap_or(Err(AppendError::Closed));
    peers.importing.merging.store(false, Ordering::Release);
    match imported {
        Ok(()) => {
            metrics::counter!(crate::metrics::SNAPSHOTS_IMPORTED).increment(1);
            Input::Imported(peers.log.received())
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &AppendError) -> Input {
    match error {
        AppendError::Refused(reason) => Input::ImportRefused(reason.to_string()),
        _ => Input::StoreFailed,
    }
}
