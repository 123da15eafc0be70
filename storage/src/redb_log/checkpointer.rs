//! The thread that moves entries from memory and journal into the store, so that its fsyncs hold up
//! no ack, and the state it shares with the log.
//!
//! Invariant: once a failure is latched, nothing more is written to any file.

use super::RedbLogOptions;
use super::fault::{Fault, caught};
use super::recent::{Epoch, Recent};
use super::rows::{encode_acks, encode_head};
use super::store::{Changes, DocTables, Store};
use super::{derived, import, kept, meta, part};
use crate::acks::Acks;
use crate::error::{AppendError, Failure};
use crate::head::{Head, Ordinal};
use crate::limits::{JOURNAL_BYTES_MAX, PENDING_SNAPSHOT_BYTES_MAX};
use crate::log::{Imported, LogStats, Position, Renewal, Retention};
use crate::sequencer::Plan;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::DocId;
use redb::WriteTransaction;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// By how much the checkpointer's thread stands back for the others.
const CHECKPOINTER_NICENESS: i32 = 10;

/// How far the store holds the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checkpoint {
    pub(super) ordinal: Ordinal,
    pub(super) position: Position,
}

impl Checkpoint {
    pub(super) const fn of(head: &Head) -> Self {
        Self { ordinal: head.ordinal, position: head.position }
    }
}

/// What the log and its checkpointer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    state: Mutex<State>,
    /// Wakes the checkpointer: there is something to do, or the end has come.
    work: Condvar,
    /// Wakes whoever waits for a checkpoint.
    done: Condvar,
    failure: OnceLock<Failure>,
    checkpoint_bytes: usize,
    checkpoint_every: Duration,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) recent: Recent,
    pub(super) retention: Retention,
    /// What peers are known to have, and whether the store is to be told.
    pub(super) acks: Acks,
    pub(super) acks_changed: bool,
    checkpoint: Checkpoint,
    stats: LogStats,
    /// Checkpoints asked for, and how many of these requests have been met.
    requested: u64,
    met: u64,
    /// A snapshot that the next checkpoint is to import, and what came of it.
    import: Option<import::Request>,
    imported: Option<Result<Imported, AppendError>>,
    /// A stream that the next checkpoint is to end, and what came of it.
    part: Option<part::Request>,
    parted: Option<Renewal>,
    closing: bool,
    /// When the oldest entry of the active epoch came.
    active_since: Option<Instant>,
}

impl Shared {
    pub(super) fn new(
        store: Store,
        recent: Recent,
        checkpoint: Checkpoint,
        (documents, kept_bytes): (u64, u64),
        options: &RedbLogOptions,
    ) -> Self {
        let stats = LogStats { documents, kept_bytes, ..LogStats::default() };
        let active_since = (!recent.active().is_empty()).then(Instant::now);
        let state = State {
            recent,
            retention: options.retention.clone(),
            acks: Acks::default(),
            acks_changed: false,
            checkpoint,
            stats,
            requested: 0,
            met: 0,
            import: None,
            imported: None,
            part: None,
            parted: None,
            closing: false,
            active_since,
        };
        Self {
            store,
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
            failure: OnceLock::new(),
            checkpoint_bytes: options.checkpoint_bytes,
            checkpoint_every: options.checkpoint_every,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // What is changed under the lock is changed by single steps that do not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        self.failure.get().cloned().map_or(Ok(()), Err)
    }

    /// Latches a failure, wakes everyone who waits, and returns the failure that came first.
    pub(super) fn fail(&self, failure: Failure) -> Failure {
        // Under the lock, so that nobody goes to sleep between looking and being woken.
        let state = self.state();
        let first = self.failure.get_or_init(|| failure).clone();
        drop(state);
        self.work.notify_all();
        self.done.notify_all();
        first
    }

    /// Waits while memory or the journal is full, then returns the log's end and how far the store holds it.
    pub(super) fn wait_for_room(&self, bytes_max: usize) -> Result<(Head, Ordinal), Failure> {
        let is_full = |state: &State| {
            state.recent.bytes() >= bytes_max || state.recent.journal_bytes() >= JOURNAL_BYTES_MAX
        };
        let mut state = self.state();
        self.check()?;
        if is_full(&state) {
            state.stats.stalls += 1;
            self.work.notify_one();
        }
        while is_full(&state) {
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            self.check()?;
        }
        Ok((state.recent.head().clone(), state.checkpoint.ordinal))
    }

    /// Takes what has become durable, in so many bytes of the journal.
    pub(super) fn adopt(&self, plan: &Plan, journal_bytes: u64) {
        let mut state = self.state();
        state.recent.adopt(plan.first, &plan.batches, &plan.applied, plan.head.clone(), journal_bytes);
        state.stats.commits += 1;
        // The checkpointer sleeps without an end while the active epoch is empty.
        let first = state.active_since.is_none();
        state.active_since.get_or_insert_with(Instant::now);
        let full = self.is_large(state.recent.active());
        if full {
            // It is due: a checkpoint that is being written had better be done.
            self.store.set_late(true);
        }
        drop(state);
        if first || full {
            self.work.notify_one();
        }
    }

    /// Tells the checkpointer that a snapshot or derived rows wait, unless it knows how long it may sleep.
    pub(super) fn nudge(&self) {
        let mut state = self.state();
        let first = state.active_since.is_none();
        state.active_since.get_or_insert_with(Instant::now);
        if self.is_large(state.recent.active()) {
            self.store.set_late(true);
        }
        let due = self.rest(&state) == Some(Duration::ZERO);
        drop(state);
        if first || due {
            self.work.notify_one();
        }
    }

    /// Has a checkpoint made and waits for it.
    pub(super) fn checkpoint(&self) -> Result<Position, Failure> {
        let mut state = self.state();
        state.requested += 1;
        let request = state.requested;
        self.work.notify_one();
        while state.met < request {
            self.check()?;
            if state.closing {
                break;
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state.checkpoint.position)
    }

    /// Has a snapshot imported and waits for it. Whoever calls keeps commits away meanwhile.
    pub(super) fn import(&self, request: import::Request) -> Result<Imported, AppendError> {
        let mut state = self.state();
        state.import = Some(request);
        self.work.notify_one();
        loop {
            self.check()?;
            if let Some(imported) = state.imported.take() {
                return imported;
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has a stream ended and the next begun, and waits for it. Whoever calls keeps commits away meanwhile.
    pub(super) fn part(&self, request: part::Request) -> Result<Renewal, Failure> {
        let mut state = self.state();
        state.part = Some(request);
        self.work.notify_one();
        loop {
            self.check()?;
            if let Some(renewal) = state.parted.take() {
                return Ok(renewal);
            }
            state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the store holds all of the log, for good: the checkpointer has ended, and well.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.state();
        self.failure.get().is_none() && state.checkpoint.ordinal == state.recent.head().ordinal
    }

    pub(super) fn close(&self) {
        self.state().closing = true;
        self.work.notify_all();
        self.done.notify_all();
    }

    pub(super) fn stats(&self) -> LogStats {
        let state = self.state();
        LogStats {
            position: state.recent.head().position,
            waiting: state.recent.head().waiting(),
            checkpoint: state.checkpoint.position,
            memory_bytes: state.recent.bytes() as u64,
            pending_snapshot_bytes: state.recent.snapshot_bytes() as u64,
            ..state.stats.clone()
        }
    }

    /// The thread: one checkpoint after the other until the log is closed or has failed.
    pub(super) fn run(&self) {
        // Where there are fewer cores than work, acks come first. A system that refuses has its own reasons.
        let _niceness = rustix::process::nice(CHECKPOINTER_NICENESS);
        while let Some(due) = self.next_epoch() {
            let started = Instant::now();
            self.store.set_late(false);
            let written = caught("store.redb", || write(&self.store, &due));
            let written = match written {
                Ok(written) => written,
                Err(fault) => {
                    self.fail(fault.into());
                    return;
                }
            };
            let mut state = self.state();
            state.recent.release();
            let head = written.head.as_ref().unwrap_or(&due.epoch.head);
            state.checkpoint = Checkpoint::of(head);
            if let Some(head) = written.head {
                state.recent.moved_to(head);
            }
            state.stats.checkpoints += 1;
            state.stats.last_checkpoint = started.elapsed();
            (state.stats.documents, state.stats.kept_bytes) = (written.documents, written.kept_bytes);
            state.met = due.request;
            if due.import.is_some() {
                state.imported = written.imported;
            }
            if due.part.is_some() {
                state.parted = written.parted;
            }
            drop(state);
            self.done.notify_all();
        }
    }

    /// Waits until a checkpoint is due and seals what it writes; none at the end.
    fn next_epoch(&self) -> Option<Due> {
        let mut state = self.state();
        loop {
            if self.failure.get().is_some() {
                return None;
            }
            let empty = state.recent.active().is_empty();
            let asked = state.requested > state.met || state.import.is_some() || state.part.is_some();
            if state.closing && empty {
                return None;
            }
            let rest = self.rest(&state);
            if asked || state.closing || rest == Some(Duration::ZERO) {
                state.active_since = None;
                return Some(Due {
                    epoch: state.recent.seal(),
                    retention: state.retention.clone(),
                    acks: std::mem::take(&mut state.acks_changed).then(|| state.acks.clone()),
                    request: state.requested,
                    kept_bytes: state.stats.kept_bytes,
                    import: state.import.take(),
                    part: state.part.take(),
                });
            }
            state = match rest {
                Some(rest) => {
                    self.work.wait_timeout(state, rest).map_or_else(|error| error.into_inner().0, |it| it.0)
                }
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Whether an epoch has enough in memory, or in the journal, to be written.
    const fn is_large(&self, epoch: &Epoch) -> bool {
        epoch.memory_bytes() >= self.checkpoint_bytes || epoch.journal_bytes >= self.checkpoint_bytes as u64
    }

    /// How long until a checkpoint is due by itself; none while there is nothing to write.
    fn rest(&self, state: &State) -> Option<Duration> {
        let since = state.active_since?;
        let active = state.recent.active();
        // Snapshots make the epoch due at half their bound, so that givers seldom find it full.
        if self.is_large(active) || active.snapshot_bytes >= PENDING_SNAPSHOT_BYTES_MAX / 2 {
            return Some(Duration::ZERO);
        }
        Some(self.checkpoint_every.saturating_sub(since.elapsed()))
    }
}

/// A checkpoint that is due.
struct Due {
    epoch: Arc<Epoch>,
    retention: Retention,
    /// What peers are known to have, where that has changed.
    acks: Option<Acks>,
    /// The last request that it meets.
    request: u64,
    /// Bytes kept for peers before it.
    kept_bytes: u64,
    /// A snapshot that is to become part of the documents after the epoch.
    import: Option<import::Request>,
    /// A stream that is to be ended after both.
    part: Option<part::Request>,
}

/// What a checkpoint has made of the store.
#[derive(Default)]
struct Written {
    documents: u64,
    kept_bytes: u64,
    /// The log's end, where it is not that of the epoch.
    head: Option<Head>,
    imported: Option<Result<Imported, AppendError>>,
    parted: Option<Renewal>,
}

/// Writes what is due in one transaction; without the import where that is refused.
fn write(store: &Store, due: &Due) -> Result<Written, Fault> {
    let refused = match write_with(store, due, due.import.as_ref())? {
        Ok(written) => return Ok(written),
        Err(refused) => refused,
    };
    let written = write_with(store, due, None)?.unwrap_or_default();
    Ok(Written { imported: Some(Err(refused)), ..written })
}

/// Writes an epoch, then a snapshot, then ends a stream. A refused snapshot leaves the store as it was.
fn write_with(
    store: &Store,
    due: &Due,
    import: Option<&import::Request>,
) -> Result<Result<Written, AppendError>, Fault> {
    let Due { epoch, retention, .. } = due;
    let txn = store.begin_write()?;
    write_docs(&txn, epoch)?;
    // What is to be written again must not be let go of just before that, nor what peers acknowledged under its
    // name be taken for it.
    let acknowledged = retention.acknowledged.as_ref().map(|_| Frontier::new());
    let (bytes_max, age_ms_max) = (u64::MAX, u64::MAX);
    let whole = Retention { acknowledged, bytes_max, age_ms_max, ..retention.clone() };
    let retention = if due.part.is_some() { &whole } else { retention };
    let kept_bytes = kept::keep(&txn, epoch, retention, due.kept_bytes)?;
    let mut written = Written { kept_bytes, ..Written::default() };
    if let Some(request) = import {
        let merged = match import::merge(&txn, epoch, request, kept_bytes)? {
            Ok(merged) => merged,
            Err(refused) => return Ok(Err(refused)),
        };
        written.kept_bytes = merged.kept_bytes;
        (written.head, written.imported) = (Some(merged.head), Some(Ok(merged.imported)));
    }
    if let Some(request) = due.part {
        let head = written.head.as_ref().unwrap_or(&epoch.head);
        let parted = part::part(&txn, head, request, written.kept_bytes)?;
        written.kept_bytes = parted.kept_bytes;
        (written.head, written.parted) = (Some(parted.head), Some(parted.renewal));
    }
    if written.kept_bytes != kept_bytes {
        meta::write(&txn, meta::KEPT_BYTES_KEY, &written.kept_bytes.to_le_bytes())?;
    }
    written.documents = DocTables::open(&txn)?.documents()?;
    if let Some(acks) = &due.acks {
        meta::write(&txn, meta::ACKS_KEY, &encode_acks(acks))?;
    }
    meta::write(&txn, meta::HEAD_KEY, &encode_head(written.head.as_ref().unwrap_or(&epoch.head)))?;
    txn.commit()?;
    Ok(Ok(written))
}

/// Writes what an epoch has of each document, and what was derived of them.
fn write_docs(txn: &WriteTransaction, epoch: &Epoch) -> Result<(), Fault> {
    let mut tables = DocTables::open(txn)?;
    let docs = epoch.docs.keys().chain(epoch.snapshots.keys()).copied();
    let mut docs: Vec<DocId> = docs.chain(epoch.puts.docs()).collect();
    // In key order, so that rows which share a page are written while it is at hand.
    docs.sort_unstable();
    docs.dedup();
    let mut older = BTreeSet::new();
    for doc in docs {
        let changes = Changes {
            entries: epoch.docs.get(&doc).map_or(&[][..], Vec::as_slice),
            snapshot: epoch.snapshots.get(&doc),
            derived_to: epoch.puts.derived_to(doc),
        };
        if !tables.write(doc, changes)? {
            older.insert(doc);
        }
    }
    drop(tables);
    derived::write(txn, &epoch.puts, &older)
}
