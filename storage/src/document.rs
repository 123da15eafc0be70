//! What entries say about their document without looking into updates: name, life, home, sizes.
//!
//! Invariant: `DocRow::fold` gives the same life, home and stamps for the same set of entries in any order:
//! changes are ordered by stamp, ties by dot.

use crate::log::{DocInfo, Position};
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange, Stamp};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, DocName, Dot, ReplicaId, Seq, StreamId};
use quire_protocol::life::Life;
use quire_protocol::snapshot::SnapshotEntry;

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDoc {
    /// What is known of it without its content.
    pub info: DocInfo,
    /// A state that holds every update up to some position.
    pub snapshot: Option<Bytes>,
    /// What was known of its fields where that was taken; none where it had none.
    pub fields: Option<Bytes>,
    /// Whether it has entries that rows may be derived from, beyond what was last put.
    pub is_due: bool,
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

/// What stands for a document's entries up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    /// A Yjs state.
    pub(crate) state: Bytes,
    /// What that does not tell of the document's fields: a stored graph of them; none where it has none.
    pub(crate) fields: Option<Bytes>,
}

impl Snapshot {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.state.len() + self.fields.as_ref().map_or(0, Bytes::len)
    }
}

/// What entries say about their document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DocRow {
    pub(crate) name: Option<DocName>,
    pub(crate) life: Life,
    pub(crate) home: Option<ReplicaId>,
    pub(crate) home_stamp: Option<Stamp>,
    /// The least stamp of a creation.
    pub(crate) created: Option<Stamp>,
    pub(crate) changed: Hlc,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl DocRow {
    /// Takes note of an entry.
    pub(crate) fn fold(&mut self, entry: &TailEntry) {
        self.changed = self.changed.max(entry.hlc);
        self.entries += 1;
        self.bytes += entry.payload.len() as u64;
        if entry.kind.carries_update() {
            self.life.edited((entry.hlc, entry.dot));
        }
        if entry.kind == EntryKind::Lifecycle {
            self.fold_lifecycle(entry);
        }
    }

    fn fold_lifecycle(&mut self, entry: &TailEntry) {
        let stamp = (entry.hlc, entry.dot);
        // What cannot be read was written by a newer release: own entries are checked before they
        // are appended. It is kept in the log and says nothing here.
        let Ok(change) = LifecycleChange::decode(&entry.payload) else { return };
        match change {
            LifecycleChange::Create { name } => {
                // A name is a function of the document's id, so all creations agree.
                self.name = Some(name);
                self.created = Some(self.created.map_or(stamp, |created| created.min(stamp)));
            }
            LifecycleChange::Delete { frontier } => self.life.deleted(stamp, frontier),
            LifecycleChange::Restore => self.life.restored(stamp),
            LifecycleChange::Edited => self.life.edited(stamp),
            LifecycleChange::Home { replica } if Some(stamp) > self.home_stamp => {
                self.home = Some(replica);
                self.home_stamp = Some(stamp);
            }
            LifecycleChange::Home { .. } | LifecycleChange::Unknown { .. } => {}
        }
    }

    /// The entries by which a snapshot tells of the document: who merges them knows what this row says, then
    /// the graph of its fields and the state, then what came after them. `by` is the replica's stream, which names
    /// what stands for many.
    pub(crate) fn told(
        &self,
        doc: DocId,
        by: StreamId,
        snapshot: Option<Snapshot>,
        tail: impl IntoIterator<Item = TailEntry>,
    ) -> Vec<SnapshotEntry> {
        let lifecycle = |(hlc, dot): Stamp, change: LifecycleChange| {
            let (kind, payload) = (EntryKind::Lifecycle, change.encode());
            SnapshotEntry { doc, dot, hlc, kind, payload }
        };
        let tail: Vec<TailEntry> =
            tail.into_iter().filter(|entry| entry.kind != EntryKind::Lifecycle).collect();
        let create = self.created.zip(self.name.clone());
        let create = create.map(|(stamp, name)| lifecycle(stamp, LifecycleChange::Create { name }));
        let home = self.home_stamp.zip(self.home);
        let home = home.map(|(stamp, replica)| lifecycle(stamp, LifecycleChange::Home { replica }));
        // What the state has taken in has no entry any more that names it.
        let nameless = |(_, dot): &Stamp| !tail.iter().any(|entry| entry.dot == *dot);
        let edited = self.life.edits().filter(nameless);
        let edited = edited.map(|stamp| lifecycle(stamp, LifecycleChange::Edited));
        let restored = self.life.restoration().map(|stamp| lifecycle(stamp, LifecycleChange::Restore));
        let deleted = self.life.deletions().map(|deletion| {
            lifecycle(deletion.stamp, LifecycleChange::Delete { frontier: deletion.seen.clone() })
        });
        let mut told: Vec<_> =
            create.into_iter().chain(home).chain(edited).chain(restored).chain(deleted).collect();
        let dot = Dot { stream: by, seq: Seq(0) };
        let many = |kind, payload| SnapshotEntry { doc, dot, hlc: self.changed, kind, payload };
        // The graph comes first, so that nobody stands at a position where the state is known without it.
        if let Some(Snapshot { state, fields, .. }) = snapshot {
            told.extend(fields.map(|fields| many(EntryKind::Graph, fields)));
            told.push(many(EntryKind::Update, state));
        }
        told.extend(tail.into_iter().map(|entry| {
            let TailEntry { dot, hlc, kind, payload, .. } = entry;
            SnapshotEntry { doc, dot, hlc, kind, payload }
        }));
        told
    }

    /// The replica that owns the document: the one that was named last, else the one that made it first.
    fn home(&self) -> Option<ReplicaId> {
        let maker = self.created.filter(|(_, dot)| dot.seq > Seq(0)).map(|(_, dot)| dot.stream.replica);
        self.home.or(maker)
    }

    /// The row as others see it; none while no entry has named the document.
    pub(crate) fn info(&self, doc: DocId) -> Option<DocInfo> {
        Some(DocInfo {
            doc,
            name: self.name.clone()?,
            life: self.life.clone(),
            home: self.home(),
            created: self.created.map_or(Hlc(0), |(hlc, _)| hlc),
            changed: self.changed,
            entries: self.entries,
            bytes: self.bytes,
        })
    }
}
