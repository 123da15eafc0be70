//! What the tests of the log share: the two logs behind one handle, and short words for entries.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use bytes::Bytes;
use quire_protocol::batch::{EncodedBatch, EntryKind, LifecycleChange};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{DocId, DocName, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_storage::sim_disk::{SimDisk, Unsynced};
use quire_storage::{Log, MemoryLog, NewEntry, Receipt, RedbLog, RedbLogOptions, Retention, StoredDoc};
use std::sync::Arc;
use std::time::Duration;

/// Runs each story against both logs.
#[allow(unused_macros, reason = "each test binary uses a part of this file")]
macro_rules! contract {
    ($($(#[$doc:meta])* fn $story:ident($subject:ident: &mut impl Subject) $body:block)*) => {$(
        $(#[$doc])*
        mod $story {
            use super::*;

            fn story($subject: &mut impl Subject) $body

            #[test]
            fn in_memory() {
                story(&mut <MemoryLog as support::Subject>::fresh());
            }

            #[test]
            fn on_disk() {
                story(&mut <support::OnDisk as support::Subject>::fresh());
            }
        }
    )*};
}

pub(crate) const STREAM: StreamId = StreamId { replica: ReplicaId(1), incarnation: Incarnation(1) };
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// Checkpoints come when a test asks for one, so that a simulated disk sees the same operations.
pub(crate) fn options() -> RedbLogOptions {
    RedbLogOptions {
        checkpoint_every: Duration::from_secs(1 << 32),
        store_cache_bytes: 4 << 20,
        ..RedbLogOptions::new(ReplicaId(1))
    }
}

/// A log that can lose power.
pub(crate) trait Subject {
    fn fresh() -> Self;
    fn log(&self) -> &dyn Log;
    fn crash(&mut self);
}

impl Subject for MemoryLog {
    fn fresh() -> Self {
        Self::new(STREAM)
    }

    fn log(&self) -> &dyn Log {
        self
    }

    fn crash(&mut self) {
        MemoryLog::crash(self);
    }
}

pub(crate) struct OnDisk {
    pub(crate) disk: SimDisk,
    pub(crate) log: Option<RedbLog>,
    pub(crate) crashes: u64,
}

impl OnDisk {
    pub(crate) fn open(disk: &SimDisk) -> RedbLog {
        RedbLog::open_backends(disk.journal(), disk.store(), &options()).expect("the log opens")
    }
}

impl Subject for OnDisk {
    fn fresh() -> Self {
        let disk = SimDisk::new();
        let log = Some(Self::open(&disk));
        Self { disk, log, crashes: 0 }
    }

    fn log(&self) -> &dyn Log {
        self.log.as_ref().expect("open between crashes")
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.disk.crash(Unsynced::Torn { seed: self.crashes });
        self.log = None;
        self.log = Some(Self::open(&self.disk));
    }
}

pub(crate) fn name(text: &str) -> DocName {
    DocName::new(text).expect("a valid name")
}

pub(crate) fn id(text: &str) -> DocId {
    name(text).id()
}

pub(crate) fn lifecycle(doc: &str, change: &LifecycleChange) -> NewEntry {
    NewEntry { doc: id(doc), kind: EntryKind::Lifecycle, payload: change.encode() }
}

pub(crate) fn create(doc: &str) -> NewEntry {
    lifecycle(doc, &LifecycleChange::Create { name: name(doc) })
}

pub(crate) fn update(doc: &str, payload: &str) -> NewEntry {
    NewEntry { doc: id(doc), kind: EntryKind::Update, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

/// An update that writes fields.
pub(crate) fn fields(doc: &str, payload: &str) -> NewEntry {
    NewEntry { kind: EntryKind::Fields, ..update(doc, payload) }
}

/// The graph of a document's fields that belongs to a state.
pub(crate) fn graph(state: &str) -> Bytes {
    Bytes::from(format!("graph of {state}"))
}

/// Appends one group.
pub(crate) fn put(log: &dyn Log, group: Vec<NewEntry>) -> Receipt {
    log.append(NOW_MS, &[group]).expect("durable")[0]
}

pub(crate) fn load(log: &dyn Log, doc: &str) -> StoredDoc {
    log.load(id(doc)).expect("readable").expect("stored")
}

/// The payloads of a document's updates after its snapshot.
pub(crate) fn updates(doc: &StoredDoc) -> Vec<String> {
    let updates = doc.tail.iter().filter(|entry| entry.kind.carries_update());
    updates.map(|entry| String::from_utf8_lossy(&entry.payload).into_owned()).collect()
}

pub(crate) const fn stream(replica: u16) -> StreamId {
    StreamId { replica: ReplicaId(replica), incarnation: Incarnation(1) }
}

pub(crate) const fn dot(replica: u16, seq: u64) -> Dot {
    Dot { stream: stream(replica), seq: Seq(seq) }
}

/// Another region, whose log is in memory.
pub(crate) fn elsewhere(replica: u16) -> MemoryLog {
    let log = MemoryLog::new(stream(replica));
    log.truncate(Retention {
        acknowledged: Some(Frontier::new()),
        acknowledged_age_ms: 0,
        bytes_max: u64::MAX,
        age_ms_max: 1 << 40,
    });
    log
}

/// A stream's batches from an entry on.
pub(crate) fn batches(log: &dyn Log, replica: u16, from: u64) -> Vec<Arc<EncodedBatch>> {
    let read = log.read_batches(stream(replica), Seq(from), usize::MAX).expect("all are kept");
    read.into_iter().map(|bytes| Arc::new(EncodedBatch::decode(bytes).expect("a batch"))).collect()
}
