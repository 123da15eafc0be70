//! What was appended since the last checkpoint, in memory: each document's entries, the batches,
//! new names, and the snapshots that wait.
//!
//! Two epochs: the active one takes what is appended, the sealed one is being written by the
//! checkpointer. Readers look at both, then at the store; an entry that the checkpoint has just
//! written is seen twice, and told apart by its position.
//!
//! Invariant: an entry leaves memory only after the store holds it.

use crate::derived::{DerivedKey, KeyRange, Piece, Puts, ROW_MEMORY_BYTES, is_derived_from};
use crate::document::{Snapshot, TailEntry};
use crate::head::{AppliedBatch, Head, Ordinal};
use crate::log::Position;
use bytes::Bytes;
use quire_protocol::batch::{EncodedBatch, EntryKind, LifecycleChange, NO_DOC};
use quire_protocol::ids::{DocId, Dot, Seq, StreamId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// What an entry costs in memory beyond its batch's bytes, roughly: its place, stamp, kind and
/// handle, and its share of a growing list.
const ENTRY_MEMORY_BYTES: usize = 112;

/// A batch as it was received.
#[derive(Clone, Debug)]
pub(super) struct Received {
    /// The first entry's.
    pub(super) ordinal: Ordinal,
    pub(super) last: Seq,
    pub(super) bytes: Bytes,
}

/// What was appended between two checkpoints.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    pub(super) docs: HashMap<DocId, Vec<TailEntry>>,
    pub(super) names: BTreeMap<String, DocId>,
    /// What was received, applied or not.
    pub(super) batches: BTreeMap<(StreamId, Seq), Received>,
    pub(super) snapshots: HashMap<DocId, Snapshot>,
    pub(super) snapshot_bytes: usize,
    pub(super) puts: Puts,
    /// Of each document, the last entry that rows may be derived from.
    pub(super) marks: BTreeMap<DocId, Position>,
    /// Bytes as they count against the memory bound, without snapshots and derived rows.
    bytes: usize,
    /// Bytes that its commits take in the journal.
    pub(super) journal_bytes: u64,
    /// The log's end when the epoch was sealed.
    pub(super) head: Head,
}

impl Epoch {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.snapshots.is_empty() && self.puts.is_empty()
    }

    /// Bytes as they count against the memory bound, without snapshots.
    pub(super) const fn memory_bytes(&self) -> usize {
        self.bytes + self.puts.bytes()
    }

    fn receive(&mut self, ordinal: Ordinal, encoded: &EncodedBatch) {
        let batch = &encoded.batch;
        let (last, bytes) = (batch.last_dot().seq, encoded.bytes.clone());
        self.bytes += bytes.len();
        self.batches.insert((batch.stream, batch.first_seq), Received { ordinal, last, bytes });
    }

    fn apply(&mut self, applied: &AppliedBatch) {
        self.bytes += applied.encoded.batch.entries.len() * ENTRY_MEMORY_BYTES;
        // What concerns the cluster belongs to no document.
        for (doc, entry) in applied.entries().filter(|(doc, _)| *doc != NO_DOC) {
            if entry.kind == EntryKind::Lifecycle
                && let Ok(LifecycleChange::Create { name }) = LifecycleChange::decode(&entry.payload)
            {
                self.names.insert(name.as_str().to_owned(), doc);
            }
            if is_derived_from(&entry) && self.marks.insert(doc, entry.position).is_none() {
                self.bytes += ROW_MEMORY_BYTES;
            }
            self.docs.entry(doc).or_default().push(entry);
        }
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

    /// Takes durable batches, `first` being the ordinal of their first entry, and what is now applied of
    /// them and of what waited, up to the log's new end; and what they take in the journal.
    pub(super) fn adopt(
        &mut self,
        first: Ordinal,
        batches: &[Arc<EncodedBatch>],
        applied: &[AppliedBatch],
        head: Head,
        journal_bytes: u64,
    ) {
        let mut ordinal = first;
        for encoded in batches {
            self.active.receive(ordinal, encoded);
            ordinal.0 += encoded.batch.entries.len() as u64;
        }
        for batch in applied {
            self.active.apply(batch);
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
        self.active.memory_bytes() + self.sealed.as_ref().map_or(0, |sealed| sealed.memory_bytes())
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

    /// Takes the log's new end, after something that came by no commit and that the store holds.
    pub(super) fn moved_to(&mut self, head: Head) {
        self.head = head;
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
    pub(super) fn snapshot(&self, doc: DocId) -> Option<&Snapshot> {
        let waiting = self.epochs().filter_map(|epoch| epoch.snapshots.get(&doc));
        waiting.max_by_key(|snapshot| snapshot.position)
    }

    /// Takes a snapshot, unless a newer one waits already.
    pub(super) fn put_snapshot(&mut self, doc: DocId, snapshot: Snapshot) {
        if self.snapshot(doc).is_some_and(|known| known.position >= snapshot.position) {
            return;
        }
        self.active.snapshot_bytes += snapshot.len();
        if let Some(replaced) = self.active.snapshots.insert(doc, snapshot) {
            self.active.snapshot_bytes -= replaced.len();
        }
    }

    /// Bytes of derived rows that are not in the store.
    pub(super) fn derived_bytes(&self) -> usize {
        self.epochs().map(|epoch| epoch.puts.bytes()).sum()
    }

    /// Takes what was derived of a document up to a position, unless it was derived further already.
    pub(super) fn put_derived(
        &mut self,
        doc: DocId,
        position: Position,
        changes: Vec<(DerivedKey, Option<Bytes>)>,
    ) {
        if self.mark(doc).1 <= position {
            self.active.puts.put(doc, position, changes);
        }
    }

    /// The first derived rows in memory of a range, which is not empty.
    pub(super) fn derived(&self, space: u8, range: KeyRange<'_>, rows_max: usize) -> Piece {
        let pieces = self.epochs().map(|epoch| epoch.puts.piece(space, range, rows_max));
        pieces.fold(Piece::default(), Piece::under)
    }

    /// The last entry in memory that rows may be derived from, and up to where rows in memory were; 0 where there
    /// are none.
    pub(super) fn mark(&self, doc: DocId) -> (Position, Position) {
        let last =
            |of: &dyn Fn(&Epoch) -> Option<Position>| self.epochs().filter_map(of).max().unwrap_or_default();
        (last(&|epoch| epoch.marks.get(&doc).copied()), last(&|epoch| epoch.puts.derived_to(doc)))
    }

    /// The first documents after one that have entries in memory to derive from, at most `limit` of each epoch.
    pub(super) fn marked(&self, after: Option<DocId>, limit: usize) -> BTreeSet<DocId> {
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.epochs().flat_map(|epoch| epoch.marks.range(range).take(limit)).map(|(doc, _)| *doc).collect()
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

    /// Where a stream's batches in memory begin; none when there is none.
    pub(super) fn first_batch(&self, stream: StreamId) -> Option<Seq> {
        let range = (stream, Seq(0))..=(stream, Seq(u64::MAX));
        self.epochs().find_map(|epoch| epoch.batches.range(range.clone()).next()).map(|((_, seq), _)| *seq)
    }

    /// A stream's batches in memory from the one that holds `from` on, in order, until `max_bytes` are
    /// passed.
    pub(super) fn batches(&self, stream: StreamId, from: Seq, max_bytes: usize) -> Vec<(Seq, Bytes)> {
        let mut taken: Vec<(Seq, Bytes)> = Vec::new();
        let mut bytes = 0;
        for epoch in self.epochs() {
            let holder = epoch.batches.range((stream, Seq(0))..=(stream, from)).next_back();
            let start = holder.map_or(from, |((_, seq), _)| *seq);
            let held = epoch.batches.range((stream, start)..=(stream, Seq(u64::MAX)));
            for (_, received) in held.filter(|(_, received)| received.last >= from) {
                bytes += received.bytes.len();
                if bytes > max_bytes && !taken.is_empty() {
                    return taken;
                }
                taken.push((received.last, received.bytes.clone()));
            }
        }
        taken
    }

    /// The batch that begins with an entry.
    pub(super) fn batch(&self, first: Dot) -> Option<Bytes> {
        let key = (first.stream, first.seq);
        self.epochs().find_map(|epoch| epoch.batches.get(&key)).map(|received| received.bytes.clone())
    }
}
