//! One region: its disk, its log, and its document in memory, which is made from the log at each start.
//!
//! Invariant: what the document shows are the log's applied entries, once each and in order.

use super::editor::{ROOT, decoded};
use super::ledger::Ledger;
use super::plant::{Plant, Planted};
use super::wire::Way;
use bytes::Bytes;
use quire_protocol::batch::{EncodedBatch, EntryKind};
use quire_protocol::document::Live;
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocName, Dot, Incarnation, ReplicaId, StreamId};
use quire_protocol::update::{Limits, Shape, Update};
use quire_storage::sim_disk::SimDisk;
use quire_storage::{Log, MemoryLog, RedbLog, RedbLogOptions, Retention};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{ReadTxn, StateVector, Text, Transact};

/// The wall clock of a region whose clock is right, when a run begins: milliseconds since 1970.
pub(super) const WALL_MS: u64 = 1_700_000_000_000;

/// What a region's log is kept on.
#[derive(Clone)]
pub(super) enum Disk {
    Redb(SimDisk),
    Memory(Arc<MemoryLog>),
}

/// An editor's update on its way to the disk.
pub(super) struct Write {
    pub(super) editor: usize,
    pub(super) session: u64,
    /// What it sent.
    pub(super) sent: Update,
    /// What of it was new and is to be written.
    pub(super) fresh: Option<Update>,
    /// Whether the editor has been told, before its time.
    pub(super) told: bool,
}

pub(super) struct Region {
    pub(super) number: usize,
    pub(super) disk: Disk,
    /// Open while the region is up.
    pub(super) log: Option<Arc<dyn Log>>,
    pub(super) first_incarnation: Incarnation,
    /// Counts its starts: what was on its way to an earlier life is nobody's.
    pub(super) life: u64,
    pub(super) clock_ms: i64,
    pub(super) open: Open,
    /// What its disk has, as far as its commits have returned.
    pub(super) durable: Frontier,
    pub(super) writes: Vec<Write>,
    pub(super) batches: Vec<(Way, u64, Arc<EncodedBatch>)>,
    pub(super) committing: bool,
    /// Its power is to go at some operation of its disk.
    pub(super) power_cut_is_near: bool,
    /// Sessions by editor.
    pub(super) sessions: BTreeMap<usize, u64>,
    /// A copy of the disk, and what it held.
    pub(super) backup: Option<([Vec<u8>; 3], Frontier)>,
    /// On a restored disk, the neighbours it has not met: it takes no writes while there are any.
    pub(super) unmet: BTreeSet<usize>,
}

impl Region {
    pub(super) fn new(number: usize, in_memory: bool, first_incarnation: Incarnation) -> Self {
        Self {
            number,
            disk: Self::fresh_disk(number, in_memory, first_incarnation),
            log: None,
            first_incarnation,
            life: 0,
            clock_ms: 0,
            open: Open::new(),
            durable: Frontier::new(),
            writes: Vec::new(),
            batches: Vec::new(),
            committing: false,
            power_cut_is_near: false,
            sessions: BTreeMap::new(),
            backup: None,
            unmet: BTreeSet::new(),
        }
    }

    pub(super) fn fresh_disk(number: usize, in_memory: bool, incarnation: Incarnation) -> Disk {
        if in_memory {
            let log = MemoryLog::new(StreamId { replica: replica(number), incarnation });
            log.truncate(everything());
            return Disk::Memory(Arc::new(log));
        }
        Disk::Redb(SimDisk::new())
    }

    /// Opens the log. Checkpoints come when the run asks for one, so that the same seed meets the same disk.
    pub(super) fn open_log(&self) -> Result<Arc<dyn Log>, String> {
        match &self.disk {
            Disk::Memory(log) => {
                log.truncate(everything());
                Ok(Arc::clone(log) as Arc<dyn Log>)
            }
            Disk::Redb(disk) => {
                let options = RedbLogOptions {
                    first_incarnation: self.first_incarnation,
                    checkpoint_every: Duration::from_secs(1 << 32),
                    checkpoint_bytes: 1 << 30,
                    memory_bytes_max: 1 << 31,
                    store_cache_bytes: 1 << 20,
                    retention: everything(),
                    ..RedbLogOptions::new(replica(self.number))
                };
                let log = RedbLog::open_backends(disk.journal(), disk.store(), &options);
                Ok(Arc::new(log.map_err(|error| error.to_string())?))
            }
        }
    }

    /// The wall clock here.
    pub(super) fn wall_ms(&self, now_ms: u64) -> u64 {
        (WALL_MS + now_ms).saturating_add_signed(self.clock_ms)
    }

    pub(super) fn takes_writes(&self) -> bool {
        self.log.is_some() && self.unmet.is_empty()
    }
}

/// Nothing is dropped for its age or length: there are no snapshots between regions.
fn everything() -> Retention {
    Retention { acknowledged: Some(Frontier::new()), bytes_max: u64::MAX, age_ms_max: u64::MAX }
}

pub(super) fn replica(number: usize) -> ReplicaId {
    ReplicaId(u16::try_from(number + 1).expect("few regions"))
}

pub(super) fn doc_name() -> DocName {
    DocName::new("notes").expect("a valid name")
}

/// An entry that is to be shown.
pub(super) struct Shown {
    pub(super) dot: Dot,
    pub(super) hlc: Hlc,
    pub(super) kind: EntryKind,
    pub(super) payload: Bytes,
}

/// The document in memory.
pub(super) struct Open {
    doc: Live,
    /// What was admitted, on disk or not.
    pub(super) admitted: Shape,
    /// What is shown.
    pub(super) shown: Shape,
    /// The entries that are shown.
    pub(super) frontier: Frontier,
    newest: Hlc,
}

impl Open {
    pub(super) fn new() -> Self {
        Self {
            doc: Live::new(1),
            admitted: Shape::new(),
            shown: Shape::new(),
            frontier: Frontier::new(),
            newest: Hlc(0),
        }
    }

    /// Shows an entry. Returns what is news to sessions.
    pub(super) fn show(
        &mut self,
        region: usize,
        entry: &Shown,
        planted: Planted,
        ledger: &mut Ledger,
    ) -> Option<Bytes> {
        let Shown { dot, hlc, kind, payload } = entry;
        let expected = self.frontier.get(dot.stream).0 + 1;
        if dot.seq.0 != expected {
            let how = if dot.seq.0 < expected { "again" } else { "before the one before it" };
            ledger.violate(format!("region {region} shows entry {dot} {how}"));
        }
        match ledger.deps(*dot).map(|deps| self.frontier.covers_all(&deps.without(dot.stream))) {
            Some(true) => {}
            Some(false) => ledger.violate(format!("region {region} shows entry {dot} before its causes")),
            None => ledger.violate(format!("region {region} shows entry {dot}, which nobody wrote")),
        }
        self.frontier.raise(*dot);
        if planted.is(Plant::ClockAsFilter) && *hlc < self.newest {
            return None;
        }
        self.newest = self.newest.max(*hlc);
        (*kind == EntryKind::Update).then(|| self.take(region, dot, payload, ledger))?;
        Some(payload.clone())
    }

    fn take(&mut self, region: usize, dot: &Dot, payload: &Bytes, ledger: &mut Ledger) {
        let update = decoded(payload.clone());
        match self.shown.admit_within(update.clone(), &Limits::STORED) {
            Ok(admission) => {
                if admission.missing {
                    ledger.violate(format!("region {region} shows entry {dot}, which rests on a hole"));
                }
                if let Some(fresh) = admission.fresh {
                    self.shown.record(&fresh);
                    self.admitted.record(&fresh);
                    let fresh = yrs::Update::decode_v1(fresh.encoded()).expect("it has been checked");
                    self.doc.transact_mut().apply_update(fresh).expect("it was admitted");
                }
            }
            Err(refusal) => ledger.violate(format!("region {region} cannot show entry {dot}: {refusal}")),
        }
        ledger.check_seen(region, &update, &self.shown);
    }

    /// What a state vector lacks of what is shown.
    pub(super) fn lacking(&self, held: &[u8]) -> Bytes {
        let held = StateVector::decode_v1(held).expect("a state vector");
        self.doc.transact().encode_state_as_update_v1(&held).into()
    }

    pub(super) fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    /// The text with its formats, in words that are the same wherever it is.
    pub(super) fn text(&self) -> String {
        let text = self.doc.get_or_insert_text(ROOT);
        let txn = self.doc.transact();
        let mut told = String::new();
        let mut last = None;
        for piece in text.diff(&txn, yrs::types::text::YChange::identity) {
            let formats: BTreeMap<String, String> = piece
                .attributes
                .iter()
                .flat_map(|all| all.iter().map(|(key, value)| (key.to_string(), format!("{value:?}"))))
                .collect();
            let formats = format!("{formats:?}");
            if last.as_ref() != Some(&formats) {
                told.push_str(&formats);
            }
            told.push_str(&piece.insert.to_string(&txn));
            last = Some(formats);
        }
        told
    }
}
