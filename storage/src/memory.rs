//! A log in memory, with the contract of the one on disk: for scenario tests and simulations.
//!
//! It has a disk in so far as `crash` loses what a crash would lose. Never touches a file.
//!
//! Invariant: what `append` acknowledged survives `crash`.

use crate::acks::Acks;
use crate::derived::{DerivedKey, KeyRange, Puts, check, gather, is_derived_from};
use crate::document::{DocRow, Snapshot, StoredDoc, TailEntry};
use crate::error::{
    AppendError, CheckpointError, DerivedError, Failure, LoadError, ReadBatchesError, SnapshotError,
};
use crate::head::{AppliedBatch, Head, Ordinal};
use crate::limits::{
    LIST_LEN_MAX, PENDING_DERIVED_BYTES_MAX, PENDING_SNAPSHOT_BYTES_MAX, SNAPSHOT_BYTES_MAX,
};
use crate::log::{
    Committed, DocInfo, Export, Health, Imported, Log, LogStats, NewEntry, Position, Renewal, Retention,
};
use crate::members::Members;
use crate::sequencer::{Plan, plan, renewed, write_again};
use bytes::Bytes;
use quire_protocol::batch::{EncodedBatch, EntryKind, NO_DOC};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::snapshot::{Record, SnapshotEntry, SnapshotHead};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    state: Mutex<State>,
}

/// How the next append goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// The disk refuses; nothing of the append is found after the restart.
    Lost(Failure),
    /// The disk refuses, yet the append is found after the restart.
    Kept(Failure),
}

#[derive(Debug)]
struct State {
    stream: StreamId,
    head: Head,
    docs: HashMap<DocId, Doc>,
    names: BTreeMap<String, DocId>,
    /// Each with its last entry's ordinal.
    batches: BTreeMap<(StreamId, Seq), (Ordinal, Arc<EncodedBatch>)>,
    pending: HashMap<DocId, Snapshot>,
    derived: Puts,
    pending_derived: Puts,
    /// Of each document that is due in the store, the last entry to derive from.
    marks: BTreeMap<DocId, Position>,
    staged: Vec<SnapshotEntry>,
    retention: Retention,
    /// What peers have, as it was said last, and as a crash leaves it.
    acks: Acks,
    acks_stored: Acks,
    checkpoint: (Ordinal, Position),
    fault: Option<AppendFault>,
    failure: Option<Failure>,
    stats: LogStats,
}

#[derive(Debug, Default)]
struct Doc {
    row: DocRow,
    snapshot: Option<Snapshot>,
    tail: Vec<TailEntry>,
}

/// A snapshot in memory.
struct Exported(Bytes);

impl Export for Exported {
    fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LoadError> {
        let len = self.0.len().min(bytes_max);
        Ok((len > 0).then(|| self.0.split_to(len)))
    }
}

impl MemoryLog {
    /// An empty log that originates a stream.
    #[must_use]
    pub fn new(stream: StreamId) -> Self {
        let state = State {
            stream,
            head: Head::default(),
            docs: HashMap::new(),
            names: BTreeMap::new(),
            batches: BTreeMap::new(),
            pending: HashMap::new(),
            derived: Puts::default(),
            pending_derived: Puts::default(),
            marks: BTreeMap::new(),
            staged: Vec::new(),
            retention: Retention::default(),
            acks: Acks::default(),
            acks_stored: Acks::default(),
            checkpoint: (Ordinal(0), Position(0)),
            fault: None,
            failure: None,
            stats: LogStats::default(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Loses what is not durable, and starts again: a failure is over, pending snapshots and derived rows are gone.
    pub fn crash(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.pending_derived = Puts::default();
        state.staged.clear();
        state.failure = None;
        state.fault = None;
        state.retention = Retention::default();
        state.acks = state.acks_stored.clone();
        state.stats = LogStats::default();
    }

    /// Makes the next append fail, and with it all that follow until a crash.
    pub fn fail_next_append(&self, fault: AppendFault) {
        self.state().fault = Some(fault);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is changed by whole appends after everything that can panic: a poisoned lock
        // guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn plan(
        &self,
        now_ms: u64,
        groups: &[Vec<NewEntry>],
        batches: &[Arc<EncodedBatch>],
    ) -> Result<Plan, AppendError> {
        let mut waiting = |first: Dot| {
            let (_, encoded) = &self.batches[&(first.stream, first.seq)];
            Ok(Arc::clone(encoded))
        };
        plan(&self.head, self.stream, now_ms, groups, batches, &mut waiting)
    }

    fn show(&mut self, id: DocId, entry: &TailEntry) {
        // What concerns the cluster belongs to no document.
        if id == NO_DOC {
            return;
        }
        let doc = self.docs.entry(id).or_default();
        doc.row.fold(entry);
        // An edit may bring a deleted document back.
        if is_derived_from(entry) || doc.row.life.deletion().is_some() && entry.kind.carries_update() {
            self.marks.insert(id, entry.position);
        }
        doc.tail.push(entry.clone());
        if let (EntryKind::Lifecycle, Some(name)) = (entry.kind, &doc.row.name) {
            self.names.insert(name.as_str().to_owned(), id);
        }
    }

    fn adopt(&mut self, plan: Plan) -> Committed {
        let mut committed =
            Committed { receipts: plan.receipts, arrivals: plan.arrivals, applied: Vec::new() };
        let mut last = Ordinal(plan.first.0 - 1);
        for encoded in plan.batches {
            last.0 += encoded.batch.entries.len() as u64;
            self.batches.insert((encoded.batch.stream, encoded.batch.first_seq), (last, encoded));
        }
        assert_eq!(last, plan.head.ordinal);
        for applied in plan.applied {
            for (id, entry) in applied.entries() {
                self.show(id, &entry);
            }
            if applied.encoded.batch.stream != self.stream {
                committed.applied.push(applied.shown());
            }
        }
        self.head = plan.head;
        self.stats.commits += 1;
        committed
    }

    fn import(&mut self, snapshot: &SnapshotHead) -> Result<Imported, AppendError> {
        let stamp = self.staged.iter().map(|entry| entry.hlc).max().unwrap_or_default();
        let mut head = self.head.clone();
        let moved = head.skip_to(self.stream, snapshot, stamp);
        let moved = moved.map_err(|reason| AppendError::Refused(reason.into()))?;
        let mut imported = Imported::default();
        let mut staged = std::mem::take(&mut self.staged);
        staged.sort_by_key(|entry| entry.doc);
        for entry in staged {
            let doc = entry.doc;
            let entry = head.place(entry);
            self.show(doc, &entry);
            if doc != NO_DOC && imported.docs.last() != Some(&doc) {
                imported.docs.push(doc);
            }
        }
        imported.positions = (self.head.position, head.position);
        imported.ends = snapshot.frontier();
        self.batches.retain(|(stream, _), _| !moved.contains(stream));
        let mut applied = Vec::new();
        head.drain(
            &mut |first: Dot| Ok(Arc::clone(&self.batches[&(first.stream, first.seq)].1)),
            &mut applied,
        )?;
        for (doc, entry) in applied.iter().flat_map(AppliedBatch::entries) {
            self.show(doc, &entry);
        }
        imported.applied = applied.iter().map(AppliedBatch::shown).collect();
        self.head = head;
        Ok(imported)
    }

    fn part(&mut self, last: Seq, stream: StreamId) -> Renewal {
        let old = std::mem::replace(&mut self.stream, stream);
        let of_old = self.batches.range((old, Seq(0))..=(old, Seq(u64::MAX)));
        let parted = of_old.filter(|(_, (_, encoded))| encoded.batch.last_dot().seq > last);
        let parted: Vec<_> = parted.map(|(key, (_, encoded))| (*key, encoded.as_ref().clone())).collect();
        let Some((_, first)) = parted.first() else { return Renewal { stream, moved: 0 } };
        let end = Dot { stream: old, seq: Seq(first.batch.first_seq.0 - 1) };
        let moved = self.head.gate.received().get(old).0 - end.seq.0;
        self.head.set_back(end, first.batch.prev_hash);
        let mut ordinal = self.head.ordinal;
        let (keys, parted): (Vec<_>, Vec<_>) = parted.into_iter().unzip();
        keys.iter().for_each(|key| drop(self.batches.remove(key)));
        for entry in parted.iter().flat_map(|encoded| &encoded.batch.entries) {
            if let Some(doc) = self.docs.get_mut(&entry.doc) {
                doc.row.life.part(end);
            }
        }
        for applied in write_again(&mut self.head, stream, end, &parted) {
            applied.entries().for_each(|(id, entry)| self.show(id, &entry));
            let batch = &applied.encoded.batch;
            ordinal.0 += batch.entries.len() as u64;
            self.batches.insert((stream, batch.first_seq), (ordinal, applied.encoded));
        }
        Renewal { stream, moved }
    }

    fn store_derived(&mut self) {
        let later = std::mem::take(&mut self.pending_derived);
        let docs: Vec<DocId> = later.docs().collect();
        self.derived.store(later, |doc| self.docs.contains_key(&doc));
        for doc in docs {
            if self.marks.get(&doc).is_some_and(|mark| self.derived.derived_to(doc) >= Some(*mark)) {
                self.marks.remove(&doc);
            }
        }
    }

    fn check(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn truncate(&mut self) {
        let Retention { acknowledged, acknowledged_age_ms, bytes_max, age_ms_max } = self.retention.clone();
        let oldest = Hlc::from_ms(self.head.own.ms().saturating_sub(age_ms_max));
        let recent = self.head.own.ms().saturating_sub(acknowledged_age_ms);
        let (checkpoint, _) = self.checkpoint;
        let (applied, received) = (self.head.gate.applied().clone(), self.head.gate.received().clone());
        let has_peers = acknowledged.is_some();
        let pinned = |(last, encoded): &(Ordinal, Arc<EncodedBatch>)| {
            let end = encoded.batch.last_dot();
            let is_last = has_peers && end.seq == received.get(end.stream);
            *last > checkpoint || !applied.covers(end) || is_last
        };
        self.batches.retain(|_, kept| {
            let batch = &kept.1.batch;
            let needed = acknowledged
                .as_ref()
                .is_some_and(|held| !held.covers(batch.last_dot()) || batch.hlc_base.ms() > recent);
            pinned(kept) || needed && batch.hlc_base >= oldest
        });
        let mut by_age: Vec<_> = self.batches.iter().map(|(key, (last, _))| (*last, *key)).collect();
        by_age.sort_unstable();
        let mut bytes: u64 = self.batches.values().map(|(_, encoded)| encoded.bytes.len() as u64).sum();
        for (_, key) in by_age {
            if bytes <= bytes_max {
                break;
            }
            let Some(kept) = self.batches.get(&key).filter(|kept| !pinned(kept)) else { continue };
            bytes -= kept.1.bytes.len() as u64;
            self.batches.remove(&key);
        }
        self.stats.kept_bytes = bytes;
        self.acks_stored = self.acks.clone();
    }
}

impl Log for MemoryLog {
    fn commit(
        &self,
        now_ms: u64,
        groups: &[Vec<NewEntry>],
        batches: &[Arc<EncodedBatch>],
    ) -> Result<Committed, AppendError> {
        let mut state = self.state();
        state.check()?;
        let plan = state.plan(now_ms, groups, batches)?;
        match state.fault.take() {
            None => Ok(state.adopt(plan)),
            Some(AppendFault::Lost(failure)) => {
                state.failure = Some(failure.clone());
                Err(failure.into())
            }
            Some(AppendFault::Kept(failure)) => {
                state.adopt(plan);
                state.failure = Some(failure.clone());
                Err(failure.into())
            }
        }
    }

    fn load(&self, doc: DocId) -> Result<Option<StoredDoc>, LoadError> {
        let state = self.state();
        let Some(stored) = state.docs.get(&doc) else { return Ok(None) };
        let info = stored.row.info(doc).ok_or(LoadError::Nameless(doc))?;
        let snapshot = state.pending.get(&doc).or(stored.snapshot.as_ref());
        let covered = snapshot.map_or(Position(0), |snapshot| snapshot.position);
        let tail: Vec<_> = stored.tail.iter().filter(|entry| entry.position > covered).cloned().collect();
        let position = tail.last().map_or(covered, |entry| entry.position);
        let fields = snapshot.and_then(|snapshot| snapshot.fields.clone());
        let snapshot = snapshot.map(|snapshot| snapshot.state.clone());
        let is_due =
            state.marks.get(&doc).is_some_and(|mark| state.pending_derived.derived_to(doc) < Some(*mark));
        Ok(Some(StoredDoc { info, snapshot, fields, is_due, tail, position }))
    }

    fn put_snapshot(
        &self,
        doc: DocId,
        position: Position,
        bytes: Bytes,
        fields: Option<Bytes>,
    ) -> Result<(), SnapshotError> {
        let mut state = self.state();
        state.check()?;
        let snapshot = Snapshot { position, state: bytes, fields };
        if snapshot.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLong(snapshot.len()));
        }
        if position > state.head.position {
            return Err(SnapshotError::Beyond { given: position, head: state.head.position });
        }
        let stored = state.docs.get(&doc).and_then(|doc| doc.snapshot.as_ref());
        let older = state.pending.get(&doc).or(stored).is_some_and(|known| known.position >= position);
        if older {
            return Ok(());
        }
        let pending: usize = state.pending.values().map(Snapshot::len).sum();
        if pending + snapshot.len() > PENDING_SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::Busy);
        }
        state.pending.insert(doc, snapshot);
        Ok(())
    }

    fn put_derived(
        &self,
        doc: DocId,
        position: Position,
        changes: Vec<(DerivedKey, Option<Bytes>)>,
    ) -> Result<(), DerivedError> {
        let mut state = self.state();
        state.check()?;
        let bytes = check(&changes)?;
        if position > state.head.position {
            return Err(DerivedError::Beyond { given: position, head: state.head.position });
        }
        let waiting = state.pending_derived.bytes();
        if waiting > 0 && waiting + bytes > PENDING_DERIVED_BYTES_MAX {
            return Err(DerivedError::Busy);
        }
        if state.pending_derived.derived_to(doc) <= Some(position) {
            state.pending_derived.put(doc, position, changes);
        }
        Ok(())
    }

    fn derived(
        &self,
        space: u8,
        range: KeyRange<'_>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, LoadError> {
        let state = self.state();
        gather(range, limit.min(LIST_LEN_MAX), |range, rows_max| {
            let put = state.pending_derived.piece(space, range, rows_max);
            Ok(state.derived.piece(space, range, rows_max).under(put))
        })
    }

    fn due(&self, after: Option<DocId>, limit: usize) -> Result<Vec<DocId>, LoadError> {
        let state = self.state();
        let marks = state.marks.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let due = marks.filter(|(doc, mark)| state.pending_derived.derived_to(**doc) < Some(**mark));
        Ok(due.map(|(doc, _)| *doc).take(limit.min(LIST_LEN_MAX)).collect())
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<DocInfo>, LoadError> {
        let state = self.state();
        let lower = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let names = state.names.range::<str, _>((lower, Bound::Unbounded));
        Ok(names
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter_map(|(_, doc)| state.docs.get(doc).and_then(|stored| stored.row.info(*doc)))
            .take(limit.min(LIST_LEN_MAX))
            .collect())
    }

    fn info(&self, doc: DocId) -> Result<Option<DocInfo>, LoadError> {
        Ok(self.state().docs.get(&doc).and_then(|stored| stored.row.info(doc)))
    }

    fn received(&self) -> Frontier {
        self.state().head.gate.received().clone()
    }

    fn applied(&self) -> Frontier {
        self.state().head.gate.applied().clone()
    }

    fn members(&self) -> Members {
        self.state().head.members.clone()
    }

    fn numbers_below(&self, replica: ReplicaId) -> u64 {
        self.state().head.numbers.below(replica)
    }

    fn checkpoint(&self) -> Result<Position, CheckpointError> {
        let mut state = self.state();
        state.check()?;
        for (id, snapshot) in std::mem::take(&mut state.pending) {
            // A snapshot alone makes no document: it would have no name.
            let Some(doc) = state.docs.get_mut(&id) else { continue };
            doc.tail.retain(|entry| entry.position > snapshot.position);
            doc.snapshot = Some(snapshot);
        }
        state.store_derived();
        state.checkpoint = (state.head.ordinal, state.head.position);
        state.truncate();
        state.stats.checkpoints += 1;
        Ok(state.checkpoint.1)
    }

    fn read_batches(
        &self,
        stream: StreamId,
        from: Seq,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadBatchesError> {
        let state = self.state();
        let next = Seq(state.head.end_of(stream).0.0 + 1);
        let kept = state.batches.range((stream, Seq(0))..=(stream, Seq(u64::MAX)));
        let first_kept = kept.clone().next().map_or(next, |((_, seq), _)| *seq);
        if from < first_kept {
            return Err(ReadBatchesError::Truncated { first_kept });
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        for (_, (_, encoded)) in kept.filter(|(_, (_, encoded))| encoded.batch.last_dot().seq >= from) {
            let len = encoded.bytes.len();
            if !taken.is_empty() && bytes + len > max_bytes {
                break;
            }
            bytes += len;
            taken.push(encoded.bytes.clone());
        }
        Ok(taken)
    }

    fn read_recent(&self, from: Dot, max_bytes: usize) -> Option<Vec<Bytes>> {
        self.read_batches(from.stream, from.seq, max_bytes).ok()
    }

    fn export(&self) -> Result<Box<dyn Export>, LoadError> {
        let state = self.state();
        let mut waiting = |first: Dot| Ok(Arc::clone(&state.batches[&(first.stream, first.seq)].1));
        let head = state.head.snapshot(&mut waiting).map_err(|failure| LoadError::Corrupt(failure.text))?;
        let mut bytes = Vec::new();
        Record::Head(head).encode(&mut bytes);
        let all = state.head.members.told().chain(state.head.numbers.told());
        all.for_each(|entry| Record::Entry(entry).encode(&mut bytes));
        let docs: BTreeMap<_, _> = state.docs.iter().collect();
        for (id, doc) in docs {
            let covered = doc.snapshot.as_ref().map_or(Position(0), |snapshot| snapshot.position);
            let tail = doc.tail.iter().filter(|entry| entry.position > covered).cloned();
            let told = doc.row.told(*id, state.stream, doc.snapshot.clone(), tail);
            told.into_iter().for_each(|entry| Record::Entry(entry).encode(&mut bytes));
        }
        Ok(Box::new(Exported(bytes.into())))
    }

    fn begin_import(&self) -> Result<(), AppendError> {
        let mut state = self.state();
        state.check()?;
        state.staged.clear();
        Ok(())
    }

    fn stage(&self, entries: Vec<SnapshotEntry>) -> Result<(), AppendError> {
        let mut state = self.state();
        state.check()?;
        state.staged.extend(entries);
        Ok(())
    }

    fn import(&self, snapshot: &SnapshotHead) -> Result<Imported, AppendError> {
        let mut state = self.state();
        state.check()?;
        state.import(snapshot)
    }

    fn truncate(&self, retention: Retention) {
        self.state().retention = retention;
    }

    fn acks(&self) -> Acks {
        self.state().acks.clone()
    }

    fn remember(&self, acks: Acks) {
        self.state().acks = acks;
    }

    fn stats(&self) -> LogStats {
        let state = self.state();
        LogStats {
            position: state.head.position,
            waiting: state.head.waiting(),
            checkpoint: state.checkpoint.1,
            pending_snapshot_bytes: state.pending.values().map(|snapshot| snapshot.len() as u64).sum(),
            documents: state.names.len() as u64,
            ..state.stats.clone()
        }
    }

    fn health(&self) -> Health {
        self.state().failure.clone().map_or(Health::Serving, Health::Failed)
    }

    fn stream(&self) -> StreamId {
        self.state().stream
    }

    fn part_stream(&self, last: Seq, known: Incarnation) -> Result<Renewal, AppendError> {
        let mut state = self.state();
        state.check()?;
        let stream = renewed(state.stream, known)?;
        Ok(state.part(last, stream))
    }
}
