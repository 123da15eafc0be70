//! A log in memory, with the contract of the one on disk: for scenario tests and simulations.
//!
//! It has a disk in so far as `crash` loses what a crash would lose. Never touches a file.
//!
//! Invariant: what `append` acknowledged survives `crash`.

use crate::document::{DocRow, StoredDoc, TailEntry};
use crate::error::{AppendError, CheckpointError, Failure, LoadError, ReadBatchesError, SnapshotError};
use crate::limits::{LIST_LEN_MAX, PENDING_SNAPSHOT_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use crate::log::{DocInfo, Health, Log, LogStats, NewEntry, Position, Receipt, Retention};
use crate::sequencer::{Head, PlacedBatch, Plan, plan};
use bytes::Bytes;
use quire_protocol::batch::EntryKind;
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, Seq, StreamId};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    stream: StreamId,
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

#[derive(Debug, Default)]
struct State {
    head: Head,
    docs: HashMap<DocId, Doc>,
    names: BTreeMap<String, DocId>,
    batches: BTreeMap<(StreamId, Seq), PlacedBatch>,
    pending: HashMap<DocId, (Position, Bytes)>,
    retention: Retention,
    checkpoint: Position,
    fault: Option<AppendFault>,
    failure: Option<Failure>,
    stats: LogStats,
}

#[derive(Debug, Default)]
struct Doc {
    row: DocRow,
    snapshot: Option<(Position, Bytes)>,
    tail: Vec<TailEntry>,
}

impl MemoryLog {
    /// An empty log that originates a stream.
    #[must_use]
    pub fn new(stream: StreamId) -> Self {
        Self { stream, state: Mutex::default() }
    }

    /// Loses what is not durable, and starts again: a failure is over, pending snapshots are gone.
    pub fn crash(&self) {
        let mut state = self.state();
        state.pending.clear();
        state.failure = None;
        state.fault = None;
        state.retention = Retention::default();
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
    fn adopt(&mut self, plan: Plan) {
        for placed in plan.batches {
            // The log on disk reads batches back through the same check when it opens.
            self.head.follow(&placed).expect("a plan continues the log it was made for");
            for (id, entry) in placed.entries() {
                if entry.kind == EntryKind::Canary {
                    continue;
                }
                let doc = self.docs.entry(id).or_default();
                doc.row.fold(&entry);
                doc.tail.push(entry.clone());
                if let (EntryKind::Lifecycle, Some(name)) = (entry.kind, &doc.row.name) {
                    self.names.insert(name.as_str().to_owned(), id);
                }
            }
            let batch = &placed.encoded.batch;
            self.batches.insert((batch.stream, batch.first_seq), placed);
        }
        assert_eq!(self.head, plan.head);
        self.stats.commits += 1;
    }

    fn check(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn truncate(&mut self) {
        let Retention { acknowledged, bytes_max, age_ms_max } = self.retention.clone();
        let oldest = Hlc::from_ms(self.head.hlc.ms().saturating_sub(age_ms_max));
        let checkpoint = self.checkpoint;
        self.batches.retain(|_, placed| {
            let batch = &placed.encoded.batch;
            let needed = acknowledged.as_ref().is_some_and(|held| !held.covers(batch.last_dot()));
            placed.last() > checkpoint || needed && batch.hlc_base >= oldest
        });
        let mut by_position: Vec<_> = self.batches.iter().map(|(key, placed)| (placed.first, *key)).collect();
        by_position.sort_unstable();
        let mut bytes: u64 = self.batches.values().map(|placed| placed.encoded.bytes.len() as u64).sum();
        for (_, key) in by_position {
            if bytes <= bytes_max || self.batches.get(&key).is_some_and(|placed| placed.last() > checkpoint) {
                break;
            }
            if let Some(placed) = self.batches.remove(&key) {
                bytes -= placed.encoded.bytes.len() as u64;
            }
        }
        self.stats.kept_bytes = bytes;
    }
}

impl Log for MemoryLog {
    fn append(&self, now_ms: u64, groups: &[Vec<NewEntry>]) -> Result<Vec<Receipt>, AppendError> {
        let mut state = self.state();
        state.check()?;
        let plan = plan(&state.head, self.stream, now_ms, groups)?;
        match state.fault.take() {
            None => {}
            Some(AppendFault::Lost(failure)) => {
                state.failure = Some(failure.clone());
                return Err(failure.into());
            }
            Some(AppendFault::Kept(failure)) => {
                state.adopt(plan);
                state.failure = Some(failure.clone());
                return Err(failure.into());
            }
        }
        let receipts = plan.receipts.clone();
        state.adopt(plan);
        Ok(receipts)
    }

    fn load(&self, doc: DocId) -> Result<Option<StoredDoc>, LoadError> {
        let state = self.state();
        let Some(stored) = state.docs.get(&doc) else { return Ok(None) };
        let info = stored.row.info(doc).ok_or(LoadError::Nameless(doc))?;
        let snapshot = state.pending.get(&doc).or(stored.snapshot.as_ref());
        let covered = snapshot.map_or(Position(0), |(position, _)| *position);
        let tail: Vec<_> = stored.tail.iter().filter(|entry| entry.position > covered).cloned().collect();
        let position = tail.last().map_or(covered, |entry| entry.position);
        Ok(Some(StoredDoc { info, snapshot: snapshot.map(|(_, state)| state.clone()), tail, position }))
    }

    fn put_snapshot(&self, doc: DocId, position: Position, bytes: Bytes) -> Result<(), SnapshotError> {
        let mut state = self.state();
        state.check()?;
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLong(bytes.len()));
        }
        if position > state.head.position {
            return Err(SnapshotError::Beyond { given: position, head: state.head.position });
        }
        let stored = state.docs.get(&doc).and_then(|doc| doc.snapshot.as_ref());
        let older = state.pending.get(&doc).or(stored).is_some_and(|(known, _)| *known >= position);
        if older {
            return Ok(());
        }
        let pending: usize = state.pending.values().map(|(_, bytes)| bytes.len()).sum();
        if pending + bytes.len() > PENDING_SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::Busy);
        }
        state.pending.insert(doc, (position, bytes));
        Ok(())
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

    fn frontier(&self) -> Frontier {
        self.state().head.frontier()
    }

    fn checkpoint(&self) -> Result<Position, CheckpointError> {
        let mut state = self.state();
        state.check()?;
        for (id, snapshot) in std::mem::take(&mut state.pending) {
            // A snapshot alone makes no document: it would have no name.
            let Some(doc) = state.docs.get_mut(&id) else { continue };
            doc.tail.retain(|entry| entry.position > snapshot.0);
            doc.snapshot = Some(snapshot);
        }
        state.checkpoint = state.head.position;
        state.truncate();
        state.stats.checkpoints += 1;
        Ok(state.checkpoint)
    }

    fn read_batches(
        &self,
        stream: StreamId,
        from: Seq,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadBatchesError> {
        let state = self.state();
        let next = Seq(state.head.streams.get(&stream).map_or(1, |head| head.seq.0 + 1));
        let kept = state.batches.range((stream, Seq(0))..=(stream, Seq(u64::MAX)));
        let first_kept = kept.clone().next().map_or(next, |((_, seq), _)| *seq);
        if from < first_kept {
            return Err(ReadBatchesError::Truncated { first_kept });
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        for (_, placed) in kept.filter(|(_, placed)| placed.encoded.batch.last_dot().seq >= from) {
            let len = placed.encoded.bytes.len();
            if !taken.is_empty() && bytes + len > max_bytes {
                break;
            }
            bytes += len;
            taken.push(placed.encoded.bytes.clone());
        }
        Ok(taken)
    }

    fn truncate(&self, retention: Retention) {
        self.state().retention = retention;
    }

    fn stats(&self) -> LogStats {
        let state = self.state();
        LogStats {
            position: state.head.position,
            checkpoint: state.checkpoint,
            pending_snapshot_bytes: state.pending.values().map(|(_, bytes)| bytes.len() as u64).sum(),
            documents: state.names.len() as u64,
            ..state.stats.clone()
        }
    }

    fn health(&self) -> Health {
        self.state().failure.clone().map_or(Health::Serving, Health::Failed)
    }

    fn stream(&self) -> StreamId {
        self.stream
    }
}
