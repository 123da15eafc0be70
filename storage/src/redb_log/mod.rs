//! The log on disk: a small hot journal, appended to, and a large cold store, a redb file.
//!
//! `append` makes entries durable in the journal, with one write and one sync; the checkpointer's
//! thread moves them into the store, with its own. In between they are also in memory (`recent`). A
//! crash between the two is harmless: what the store already holds is skipped by its ordinal.
//!
//! Invariant: what the store holds of what was received is no more than what the journal does, and the
//! journal holds every batch in between.

mod checkpointer;
mod derived;
mod export;
mod fault;
mod file;
mod import;
mod journal;
mod kept;
mod meta;
mod open;
mod overlay;
mod part;
mod recent;
mod rows;
mod store;
mod verify;

pub use open::OpenError;
pub use verify::{Report, verify};

use crate::acks::Acks;
use crate::derived::{DerivedKey, KeyRange};
use crate::document::{Snapshot, StoredDoc};
use crate::error::{AppendError, CheckpointError, DerivedError, LoadError, ReadBatchesError, SnapshotError};
use crate::head::AppliedBatch;
use crate::limits::{
    LIST_LEN_MAX, PENDING_DERIVED_BYTES_MAX, PENDING_SNAPSHOT_BYTES_MAX, SNAPSHOT_BYTES_MAX,
};
use crate::log::{
    Committed, DocInfo, Export, Health, Imported, Log, LogStats, NewEntry, Position, Renewal, Retention,
};
use crate::members::Members;
use crate::sequencer::{plan, renewed};
use bytes::Bytes;
use checkpointer::{Checkpoint, Shared};
use fault::Fault;
use journal::Journal;
use quire_protocol::batch::EncodedBatch;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{DocId, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::snapshot::{SnapshotEntry, SnapshotHead};
use recent::Recent;
use rows::StoredRow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;
use store::{Cut, Store};

/// How a log on disk is kept.
#[derive(Clone, Debug)]
pub struct RedbLogOptions {
    /// Whose log it is. A directory belongs to one replica.
    pub replica: ReplicaId,
    /// The cluster it belongs to; 0 for a region on its own.
    pub cluster: u128,
    /// The incarnation that a new directory begins with. Drawn at random, it is most likely none that a
    /// lost disk of this replica had: what is written before a peer is met has names of its own.
    pub first_incarnation: Incarnation,
    /// A checkpoint begins when so many bytes are in memory, or in the journal.
    pub checkpoint_bytes: usize,
    /// A checkpoint begins when an entry has been in memory only for so long.
    pub checkpoint_every: Duration,
    /// Appends wait for the checkpointer while so many bytes are in memory.
    pub memory_bytes_max: usize,
    /// Pages of the store that redb keeps in memory.
    pub store_cache_bytes: usize,
    /// What to keep for peers from the start.
    pub retention: Retention,
}

impl RedbLogOptions {
    /// What suits a server: a journal of at most some tens of MiB, and as much in memory.
    #[must_use]
    pub fn new(replica: ReplicaId) -> Self {
        Self {
            replica,
            cluster: 0,
            first_incarnation: Incarnation(1),
            checkpoint_bytes: 32 * 1024 * 1024,
            checkpoint_every: Duration::from_secs(10),
            memory_bytes_max: 128 * 1024 * 1024,
            store_cache_bytes: 128 * 1024 * 1024,
            retention: Retention::default(),
        }
    }
}

/// A log on disk.
#[derive(Debug)]
pub struct RedbLog {
    /// The stream of what is appended, as a number. Changed by the writer.
    stream: AtomicU32,
    /// Held for the length of an append: there is one writer.
    writer: Mutex<Journal>,
    shared: Arc<Shared>,
    /// Entries of a snapshot staged since the import began.
    staged: AtomicU64,
    memory_bytes_max: usize,
    checkpointer: Option<JoinHandle<()>>,
    /// Keeps other processes out of the directory; none over storage that is no directory. The last
    /// field, so that it goes after the files have been closed.
    lock: Option<File>,
}

/// What reading a document needs of one moment: what is in memory, and the store behind it.
struct Glimpse {
    cut: Cut,
    row: StoredRow,
    tail: Vec<crate::document::TailEntry>,
}

/// Reads a batch that is in memory.
fn decoded(bytes: Bytes) -> Result<Arc<EncodedBatch>, Fault> {
    let encoded = EncodedBatch::decode(bytes);
    Ok(Arc::new(encoded.map_err(|error| Fault::corrupt(format!("a batch in memory is damaged: {error}")))?))
}

impl RedbLog {
    fn start(
        stream: StreamId,
        journal: Journal,
        store: Store,
        recent: Recent,
        checkpoint: Checkpoint,
        sizes: (u64, u64),
        options: &RedbLogOptions,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(store, recent, checkpoint, sizes, options));
        let thread = Arc::clone(&shared);
        let checkpointer =
            std::thread::Builder::new().name("checkpointer".to_owned()).spawn(move || thread.run())?;
        Ok(Self {
            stream: AtomicU32::new(stream.to_u32()),
            writer: Mutex::new(journal),
            shared,
            staged: AtomicU64::new(0),
            memory_bytes_max: options.memory_bytes_max,
            checkpointer: Some(checkpointer),
            lock: None,
        })
    }

    fn writer(&self) -> Result<MutexGuard<'_, Journal>, AppendError> {
        match self.writer.try_lock() {
            Ok(journal) => Ok(journal),
            // A panic in an append latches a failure or changes nothing: the journal is whole.
            Err(TryLockError::Poisoned(journal)) => Ok(journal.into_inner()),
            Err(TryLockError::WouldBlock) => Err(AppendError::SecondWriter),
        }
    }

    /// A batch that waits, by its first entry.
    fn waiting(&self, first: Dot) -> Result<Arc<EncodedBatch>, Fault> {
        let cut = {
            let state = self.shared.state();
            if let Some(bytes) = state.recent.batch(first) {
                return decoded(bytes);
            }
            self.shared.store.cut()?
        };
        Ok(Arc::new(cut.waiting(first)?))
    }

    /// What entries in memory and the store say of a document; none when it has no entry.
    fn glimpse(&self, doc: DocId) -> Result<Option<Glimpse>, Fault> {
        // The store's moment is taken under the lock: an entry leaves memory under it, after the
        // store has it, so that no entry is missed. One that both have is told by its position.
        let (mut tail, cut) = {
            let state = self.shared.state();
            (state.recent.tail(doc), self.shared.store.cut()?)
        };
        let stored = cut.row(doc)?;
        if stored.is_none() && tail.is_empty() {
            return Ok(None);
        }
        let mut row = stored.unwrap_or_default();
        let stored_to = row.position;
        tail.retain(|entry| entry.position > stored_to);
        for entry in &tail {
            row.doc.fold(entry);
        }
        Ok(Some(Glimpse { cut, row, tail }))
    }

    fn read_doc(&self, doc: DocId) -> Result<Option<StoredDoc>, LoadError> {
        // Taken first: should a checkpoint write it meanwhile, it is merely no newer than the store's.
        let pending = self.shared.state().recent.snapshot(doc).cloned();
        let Some(Glimpse { cut, row, tail }) = self.glimpse(doc)? else { return Ok(None) };
        let info = row.doc.info(doc).ok_or(LoadError::Nameless(doc))?;
        let covered = pending.as_ref().map_or(Position(0), |snapshot| snapshot.position);
        let (stored, mut entries) = cut.content(doc, &row, covered)?;
        let snapshot = stored.or(pending);
        let covered = snapshot.as_ref().map_or(Position(0), |snapshot| snapshot.position);
        entries.extend(tail.into_iter().filter(|entry| entry.position > covered));
        let position = entries.last().map_or(covered, |entry| entry.position);
        let (snapshot, fields) = snapshot.map(|snapshot| (snapshot.state, snapshot.fields)).unzip();
        let fields = fields.flatten();
        let is_due = self.is_due(doc, &cut)?;
        Ok(Some(StoredDoc { info, snapshot, fields, is_due, tail: entries, position }))
    }
}

impl Log for RedbLog {
    fn commit(
        &self,
        now_ms: u64,
        groups: &[Vec<NewEntry>],
        batches: &[Arc<EncodedBatch>],
    ) -> Result<Committed, AppendError> {
        let mut journal = self.writer()?;
        let (head, checkpoint) = self.shared.wait_for_room(self.memory_bytes_max)?;
        let stream = self.stream();
        let mut waiting = |first| self.waiting(first).map_err(|fault| self.shared.fail(fault.into()));
        let plan = plan(&head, stream, now_ms, groups, batches, &mut waiting)?;
        if !journal::fits(&plan.batches) {
            return Err(AppendError::Invalid("they are too many for one commit"));
        }
        match journal.commit(plan.first, &plan.batches, checkpoint) {
            Ok(bytes) => self.shared.adopt(&plan, bytes),
            Err(fault) => return Err(self.shared.fail(fault.into()).into()),
        }
        let others = plan.applied.iter().filter(|applied| applied.encoded.batch.stream != stream);
        let applied = others.map(AppliedBatch::shown).collect();
        Ok(Committed { receipts: plan.receipts, arrivals: plan.arrivals, applied })
    }

    fn load(&self, doc: DocId) -> Result<Option<StoredDoc>, LoadError> {
        self.read_doc(doc)
    }

    fn put_snapshot(
        &self,
        doc: DocId,
        position: Position,
        state: Bytes,
        fields: Option<Bytes>,
    ) -> Result<(), SnapshotError> {
        self.shared.check()?;
        let snapshot = Snapshot { position, state, fields };
        if snapshot.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLong(snapshot.len()));
        }
        let mut shared = self.shared.state();
        let head = shared.recent.head().position;
        if position > head {
            return Err(SnapshotError::Beyond { given: position, head });
        }
        if shared.recent.snapshot_bytes() + snapshot.len() > PENDING_SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::Busy);
        }
        shared.recent.put_snapshot(doc, snapshot);
        drop(shared);
        self.shared.nudge();
        Ok(())
    }

    fn put_derived(
        &self,
        doc: DocId,
        position: Position,
        changes: Vec<(DerivedKey, Option<Bytes>)>,
    ) -> Result<(), DerivedError> {
        self.shared.check()?;
        let bytes = crate::derived::check(&changes)?;
        let mut shared = self.shared.state();
        let head = shared.recent.head().position;
        if position > head {
            return Err(DerivedError::Beyond { given: position, head });
        }
        let waiting = shared.recent.derived_bytes();
        if waiting > 0 && waiting + bytes > PENDING_DERIVED_BYTES_MAX {
            return Err(DerivedError::Busy);
        }
        shared.recent.put_derived(doc, position, changes);
        drop(shared);
        self.shared.nudge();
        Ok(())
    }

    fn derived(
        &self,
        space: u8,
        range: KeyRange<'_>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, LoadError> {
        Ok(self.read_derived(space, range, limit.min(LIST_LEN_MAX))?)
    }

    fn due(&self, after: Option<DocId>, limit: usize) -> Result<Vec<DocId>, LoadError> {
        Ok(self.read_due(after, limit.min(LIST_LEN_MAX))?)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<DocInfo>, LoadError> {
        let limit = limit.min(LIST_LEN_MAX);
        let lower = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let (mut names, cut): (BTreeMap<_, _>, Cut) = {
            let state = self.shared.state();
            (state.recent.names(lower, prefix, limit), self.shared.store.cut()?)
        };
        names.extend(cut.names(lower, prefix, limit)?);
        drop(cut);
        let mut infos = Vec::new();
        for doc in names.into_values().take(limit) {
            infos.extend(self.info(doc)?);
        }
        Ok(infos)
    }

    fn info(&self, doc: DocId) -> Result<Option<DocInfo>, LoadError> {
        Ok(self.glimpse(doc)?.and_then(|glimpse| glimpse.row.doc.info(doc)))
    }

    fn received(&self) -> Frontier {
        self.shared.state().recent.head().gate.received().clone()
    }

    fn applied(&self) -> Frontier {
        self.shared.state().recent.head().gate.applied().clone()
    }

    fn members(&self) -> Members {
        self.shared.state().recent.head().members.clone()
    }

    fn numbers_below(&self, replica: ReplicaId) -> u64 {
        self.shared.state().recent.head().numbers.below(replica)
    }

    fn checkpoint(&self) -> Result<Position, CheckpointError> {
        Ok(self.shared.checkpoint()?)
    }

    fn read_batches(
        &self,
        stream: StreamId,
        from: Seq,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadBatchesError> {
        if let Some(batches) = self.read_recent(Dot { stream, seq: from }, max_bytes) {
            return Ok(batches);
        }
        let (first_recent, recent, next, cut) = {
            let state = self.shared.state();
            let next = Seq(state.recent.head().end_of(stream).0.0 + 1);
            let first_recent = state.recent.first_batch(stream);
            let recent = state.recent.batches(stream, from, max_bytes);
            (first_recent, recent, next, self.shared.store.cut().map_err(LoadError::from)?)
        };
        let (first_kept, kept) = cut.kept(stream, from, max_bytes).map_err(LoadError::from)?;
        let first_kept = first_kept.or(first_recent).unwrap_or(next);
        if from < first_kept {
            return Err(ReadBatchesError::Truncated { first_kept });
        }
        // What the checkpoint has just kept may still be in memory too; where `max_bytes` cut short what was
        // kept, what is in memory does not follow.
        let end = kept.last().map_or(Seq(from.0 - 1), |encoded| encoded.batch.last_dot().seq);
        let follows = first_recent.is_some_and(|first| first.0 <= end.0 + 1);
        let recent = recent.into_iter().filter(|(last, _)| follows && *last > end).map(|(_, bytes)| bytes);
        let mut bytes = 0;
        let all = kept.into_iter().map(|encoded| encoded.bytes).chain(recent).enumerate();
        let within = all.take_while(|(i, batch)| {
            bytes += batch.len();
            *i == 0 || bytes <= max_bytes
        });
        Ok(within.map(|(_, batch)| batch).collect())
    }

    fn read_recent(&self, from: Dot, max_bytes: usize) -> Option<Vec<Bytes>> {
        let state = self.shared.state();
        let (last, _) = state.recent.head().end_of(from.stream);
        // What was received lately lies in memory.
        let here = state.recent.first_batch(from.stream).is_some_and(|first| first <= from.seq);
        let batches = state.recent.batches(from.stream, from.seq, max_bytes);
        (from.seq > last || here).then(|| batches.into_iter().map(|(_, bytes)| bytes).collect())
    }

    fn export(&self) -> Result<Box<dyn Export>, LoadError> {
        self.begin_export()
    }

    fn begin_import(&self) -> Result<(), AppendError> {
        self.shared.check()?;
        self.staged.store(0, Ordering::Relaxed);
        let forgotten = self.shared.store.forget_staged();
        Ok(forgotten.map_err(|fault| self.shared.fail(fault.into()))?)
    }

    fn stage(&self, entries: Vec<SnapshotEntry>) -> Result<(), AppendError> {
        self.shared.check()?;
        let first = self.staged.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let staged = self.shared.store.stage(first, entries);
        Ok(staged.map_err(|fault| self.shared.fail(fault.into()))?)
    }

    fn import(&self, snapshot: &SnapshotHead) -> Result<Imported, AppendError> {
        let _journal = self.writer()?;
        self.shared.import(import::Request { own: self.stream(), snapshot: snapshot.clone() })
    }

    fn truncate(&self, retention: Retention) {
        self.shared.state().retention = retention;
    }

    fn acks(&self) -> Acks {
        self.shared.state().acks.clone()
    }

    fn remember(&self, acks: Acks) {
        let mut state = self.shared.state();
        (state.acks, state.acks_changed) = (acks, true);
    }

    fn stats(&self) -> LogStats {
        self.shared.stats()
    }

    fn health(&self) -> Health {
        self.shared.check().err().map_or(Health::Serving, Health::Failed)
    }

    fn stream(&self) -> StreamId {
        StreamId::from_u32(self.stream.load(Ordering::Relaxed))
    }

    fn part_stream(&self, last: Seq, known: Incarnation) -> Result<Renewal, AppendError> {
        let _journal = self.writer()?;
        let old = self.stream();
        let stream = renewed(old, known)?;
        let renewal = self.shared.part(part::Request { old, last, stream })?;
        self.stream.store(stream.to_u32(), Ordering::Relaxed);
        Ok(renewal)
    }
}

impl Drop for RedbLog {
    /// Writes a last checkpoint, so that the next start has nothing to replay, and closes the files.
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.checkpointer.take() {
            // The thread catches what redb may panic with, and latches it.
            let _ = thread.join();
        }
        if self.shared.is_settled() {
            let journal = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
            // What a failure leaves behind, the next start skips.
            let _ = journal.empty();
        }
    }
}
