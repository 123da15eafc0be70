//! What was appended since the last checkpoint, in memory: each document's entries, the batches,
//! new names, and the snapshots that wait.
//!
//! Two epochs: the active one takes what is appended, the sealed one is being written by the
//! checkpointer. Readers look at both, then at the store; an entry that the checkpoint has just
//! written is seen twice, and told apart by its position.
//!
//! Invariant: an entry leaves memory only after the store holds it.

use crate::document::TailEntry;
use crate::log::Position;
use crate::sequencer::{Head, PlacedBatch};
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::ids::{DocId, Seq, StreamId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What an entry costs in memory beyond its batch's bytes, roughly: its place, stamp, kind and
/// handle, and its share of a growing list.
const ENTRY_MEMORY_BYTES: usize = 112;

/// What was appended between two checkpoints.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    pub(super) docs: HashMap<DocId, Vec<TailEntry>>,
    pub(super) names: BTreeMap<String, DocId>,
    pub(super) batches: BTreeMap<(StreamId, Seq), PlacedBatch>,
    pub(super) snapshots: HashMap<DocId, (Position, Bytes)>,
    pub(super) snapshot_bytes: usize,
    /// Bytes as they count against the memory bound, without snapshots.
    pub(super) bytes: usize,
    /// Bytes that its commits take in the journal.
    pub(super) journal_bytes: u64,
    /// The log's end when the epoch was sealed.
    pub(super) head: Head,
}

impl Epoch {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.snapshots.is_empty()
    }

    fn take(&mut self, placed: PlacedBatch) {
        self.bytes += placed.encoded.bytes.len() + placed.encoded.batch.entries.len() * ENTRY_MEMORY_BYTES;
        for (doc, entry) in placed.entries() {
            // A canary measures its stream's way between regions and belongs to no document.
            if entry.kind == EntryKind::Canary {
                continue;
            }
            if entry.kind == EntryKind::Lifecycle
                && let Ok(LifecycleChange::Create { name }) = LifecycleChange::decode(&entry.payload)
            {
                self.names.insert(name.as_str().to_owned(), doc);
            }
            self.docs.entry(doc).or_default().push(entry);
        }
        let batch = &placed.encoded.batch;
        self.batches.insert((batch.stream, batch.first_seq), placed);
    }
}

/// Both epochs, and the log's end.
#[derive(Debug, Default)]
pub(super) struct Recent {
    active: Epoch,
    sealed: Option<Arc<Epoch>>,
    head: Head,
}

impl Recent {
    /// A log at its end with nothing in memory.
    pub(super) fn at(head: Head) -> Self {
        Self { head, ..Self::default() }
    }

    pub(super) const fn head(&self) -> &Head {
        &self.head
    }

    /// Takes durable batches, up to the log's new end, and what they take in the journal.
    pub(super) fn adopt(&mut self, batches: Vec<PlacedBatch>, head: Head, journal_bytes: u64) {
        for placed in batches {
            self.active.take(placed);
        }
        self.active.journal_bytes += journal_bytes;
        self.head = head;
    }

    /// Bytes that commits take in the journal until the store holds them.
    pub(super) fn journal_bytes(&self) -> u64 {
        self.active.journal_bytes + self.sealed.as_ref().map_or(0, |sealed| sealed.journal_bytes)
    }

    /// Bytes in memory, as they count against the bound.
    pub(super) fn bytes(&self) -> usize {
        self.active.bytes + self.sealed.as_ref().map_or(0, |sealed| sealed.bytes)
    }

    /// Bytes that the next checkpoint would write.
    pub(super) fn active(&self) -> &Epoch {
        &self.active
    }

    pub(super) fn snapshot_bytes(&self) -> usize {
        self.active.snapshot_bytes + self.sealed.as_ref().map_or(0, |sealed| sealed.snapshot_bytes)
    }

    /// Ends the active epoch and gives it to the checkpointer.
    ///
    /// # Panics
    /// When the one before has not been released: there is one checkpointer.
    pub(super) fn seal(&mut self) -> Arc<Epoch> {
        assert!(self.sealed.is_none(), "one checkpoint at a time");
        let mut epoch = std::mem::take(&mut self.active);
        epoch.head = self.head.clone();
        let sealed = Arc::new(epoch);
        self.sealed = Some(Arc::clone(&sealed));
        sealed
    }

    /// Forgets the sealed epoch: the store holds it.
    pub(super) fn release(&mut self) {
        self.sealed = None;
    }

    fn epochs(&self) -> impl DoubleEndedIterator<Item = &Epoch> {
        self.sealed.as_deref().into_iter().chain(std::iter::once(&self.active))
    }

    /// A document's entries in memory, in order.
    pub(super) fn tail(&self, doc: DocId) -> Vec<TailEntry> {
        self.epochs().filter_map(|epoch| epoch.docs.get(&doc)).flatten().cloned().collect()
    }

    /// The newest of a document's snapshots that are not in the store.
    pub(super) fn snapshot(&self, doc: DocId) -> Option<(Position, Bytes)> {
        self.epochs().filter_map(|epoch| epoch.snapshots.get(&doc)).max_by_key(|(at, _)| *at).cloned()
    }

    /// Takes a snapshot, unless a newer one waits already.
    pub(super) fn put_snapshot(&mut self, doc: DocId, position: Position, state: Bytes) {
        if self.snapshot(doc).is_some_and(|(known, _)| known >= position) {
            return;
        }
        self.active.snapshot_bytes += state.len();
        if let Some((_, replaced)) = self.active.snapshots.insert(doc, (position, state)) {
            self.active.snapshot_bytes -= replaced.len();
        }
    }

    /// New names from `lower` on that begin with `prefix`, in order, at most `limit` of each epoch.
    pub(super) fn names(
        &self,
        lower: std::ops::Bound<&str>,
        prefix: &str,
        limit: usize,
    ) -> BTreeMap<String, DocId> {
        let range = (lower, std::ops::Bound::Unbounded);
        self.epochs()
            .flat_map(|epoch| {
                let names =
                    epoch.names.range::<str, _>(range).take_while(|(name, _)| name.starts_with(prefix));
                names.take(limit).map(|(name, doc)| (name.clone(), *doc))
            })
            .collect()
    }

    /// A stream's batches in memory, in order.
    pub(super) fn batches(&self, stream: StreamId) -> Vec<PlacedBatch> {
        let range = (stream, Seq(0))..=(stream, Seq(u64::MAX));
        self.epochs()
            .flat_map(|epoch| epoch.batches.range(range.clone()).map(|(_, placed)| placed.clone()))
            .collect()
    }
}
