//! What entries say about their document without looking into updates: name, lifecycle, sizes.
//!
//! Invariant: `DocRow::fold` gives the same lifecycle, home and stamps for the same set of entries in
//! any order: changes are ordered by stamp, ties by dot.

use crate::log::{DocInfo, Position};
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange, Stamp};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, DocName, Dot, ReplicaId, Seq, StreamId};
use quire_protocol::snapshot::SnapshotEntry;

/// Whether a document is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// It is not.
    #[default]
    Live,
    /// It is. Its content is kept.
    Deleted {
        /// What the deleting region had seen of it.
        frontier: Frontier,
    },
}

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDoc {
    /// What is known of it without its content.
    pub info: DocInfo,
    /// The stamp of what last deleted or restored it.
    pub turned: Option<Stamp>,
    /// A state that holds every update up to some position.
    pub snapshot: Option<Bytes>,
    /// Every entry after it, in the order they were committed, of all kinds.
    pub tail: Vec<TailEntry>,
    /// The position of its last entry, or of the snapshot where that is all there is.
    pub position: Position,
}

/// An entry of a document, with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailEntry {
    /// Its place among all that this replica committed.
    pub position: Position,
    /// Its name in the cluster.
    pub dot: Dot,
    /// When its region accepted it.
    pub hlc: Hlc,
    /// What it does.
    pub kind: EntryKind,
    /// What it does it with.
    pub payload: Bytes,
}

/// What entries say about their document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DocRow {
    pub(crate) name: Option<DocName>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) lifecycle_stamp: Option<Stamp>,
    pub(crate) home: Option<ReplicaId>,
    pub(crate) home_stamp: Option<Stamp>,
    /// Zero until the first entry.
    pub(crate) created: Hlc,
    pub(crate) changed: Hlc,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl DocRow {
    /// Takes note of an entry.
    pub(crate) fn fold(&mut self, entry: &TailEntry) {
        self.created = if self.entries == 0 { entry.hlc } else { self.created.min(entry.hlc) };
        self.changed = self.changed.max(entry.hlc);
        self.entries += 1;
        self.bytes += entry.payload.len() as u64;
        if entry.kind == EntryKind::Lifecycle {
            self.fold_lifecycle(entry);
        }
    }

    fn fold_lifecycle(&mut self, entry: &TailEntry) {
        let stamp = Some((entry.hlc, entry.dot));
        // What cannot be read was written by a newer release: own entries are checked before they
        // are appended. It is kept in the log and says nothing here.
        let Ok(change) = LifecycleChange::decode(&entry.payload) else { return };
        match change {
            // A name is a function of the document's id, so all creations agree.
            LifecycleChange::Create { name } => self.name = Some(name),
            LifecycleChange::Delete { frontier } if stamp > self.lifecycle_stamp => {
                self.lifecycle = Lifecycle::Deleted { frontier };
                self.lifecycle_stamp = stamp;
            }
            LifecycleChange::Restore if stamp > self.lifecycle_stamp => {
                self.lifecycle = Lifecycle::Live;
                self.lifecycle_stamp = stamp;
            }
            LifecycleChange::Home { replica } if stamp > self.home_stamp => {
                self.home = Some(replica);
                self.home_stamp = stamp;
            }
            _ => {}
        }
    }

    /// The entries by which a snapshot tells of the document: who merges them knows what this row says, then
    /// the state, then what came after it. `by` is the replica's stream, which names what stands for many.
    pub(crate) fn told(
        &self,
        doc: DocId,
        by: StreamId,
        state: Option<Bytes>,
        tail: impl IntoIterator<Item = TailEntry>,
    ) -> Vec<SnapshotEntry> {
        let nameless = Dot { stream: by, seq: Seq(0) };
        let lifecycle = |(hlc, dot): Stamp, change: LifecycleChange| {
            let (kind, payload) = (EntryKind::Lifecycle, change.encode());
            SnapshotEntry { doc, dot, hlc, kind, payload }
        };
        let create = |name: &DocName| {
            lifecycle((self.created, nameless), LifecycleChange::Create { name: name.clone() })
        };
        let turned = self.lifecycle_stamp.map(|stamp| match &self.lifecycle {
            Lifecycle::Live => lifecycle(stamp, LifecycleChange::Restore),
            Lifecycle::Deleted { frontier } => {
                lifecycle(stamp, LifecycleChange::Delete { frontier: frontier.clone() })
            }
        });
        let home = self.home_stamp.zip(self.home);
        let home = home.map(|(stamp, replica)| lifecycle(stamp, LifecycleChange::Home { replica }));
        let (kind, hlc) = (EntryKind::Update, self.changed);
        let state = state.map(|payload| SnapshotEntry { doc, dot: nameless, hlc, kind, payload });
        let registers = self.name.as_ref().map(create).into_iter().chain(turned).chain(home);
        let rest = tail.into_iter().filter(|entry| entry.kind != EntryKind::Lifecycle).map(|entry| {
            let TailEntry { dot, hlc, kind, payload, .. } = entry;
            SnapshotEntry { doc, dot, hlc, kind, payload }
        });
        registers.chain(state).chain(rest).collect()
    }

    /// The row as others see it; none while no entry has named the document.
    pub(crate) fn info(&self, doc: DocId) -> Option<DocInfo> {
        Some(DocInfo {
            doc,
            name: self.name.clone()?,
            lifecycle: self.lifecycle.clone(),
            home: self.home,
            created: self.created,
            changed: self.changed,
            entries: self.entries,
            bytes: self.bytes,
        })
    }
}
