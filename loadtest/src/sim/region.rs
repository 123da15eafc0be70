//! One region: its disk, its log, and what it holds in memory while it is up.

use super::documents::Documents;
use super::restored::Parting;
use super::snapshots::Importing;
use super::wire::Way;
use quire_protocol::batch::EncodedBatch;
use quire_protocol::fields::FieldsEntry;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{DocId, Incarnation, ReplicaId, StreamId};
use quire_protocol::update::Update;
use quire_storage::sim_disk::SimDisk;
use quire_storage::{Acks, Export, Log, MemoryLog, RedbLog, RedbLogOptions, Retention};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The wall clock of a region whose clock is right, when a run begins: milliseconds since 1970.
pub(super) const WALL_MS: u64 = 1_700_000_000_000;

/// What a region's log is kept on.
#[derive(Clone)]
pub(super) enum Disk {
    Redb(SimDisk),
    Memory(Arc<MemoryLog>),
}

/// An update on its way to the disk.
pub(super) struct Write {
    pub(super) doc: DocId,
    /// The editor that it comes from, and its session; none when nobody has to be told.
    pub(super) from: Option<(usize, u64)>,
    /// What it sent.
    pub(super) sent: Update,
    /// What of it was new and is to be written.
    pub(super) fresh: Option<Update>,
    /// What is said about that where it writes fields.
    pub(super) noted: Option<FieldsEntry>,
    /// Whether the editor has been told, before its time.
    pub(super) told: bool,
}

/// Whether a region belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has yet to join.
    Coming,
    Member,
    /// It is about to be removed, and takes no editors.
    Leaving,
    Removed,
}

pub(super) struct Region {
    pub(super) number: usize,
    pub(super) standing: Standing,
    /// It has been told to stop: it takes no editors and makes no links.
    pub(super) stopping: bool,
    pub(super) disk: Disk,
    /// Open while the region is up.
    pub(super) log: Option<Arc<dyn Log>>,
    pub(super) first_incarnation: Incarnation,
    /// What its log keeps for peers.
    pub(super) keeps: Keeps,
    /// What each peer that counts is known to have.
    pub(super) acks: Acks,
    /// Counts its starts: what was on its way to an earlier life is nobody's.
    pub(super) life: u64,
    pub(super) clock_ms: i64,
    /// Its documents in memory.
    pub(super) shows: Documents,
    /// What its disk has, as far as its commits have returned.
    pub(super) durable: Frontier,
    pub(super) writes: Vec<Write>,
    pub(super) batches: Vec<(Way, u64, Arc<EncodedBatch>)>,
    /// What peers have said of its stream, which its disk is to part with.
    pub(super) partings: Vec<Parting>,
    pub(super) committing: bool,
    /// Snapshots that it gives, by neighbour, and the one that it takes.
    pub(super) exporting: BTreeMap<usize, Box<dyn Export>>,
    pub(super) importing: Option<Importing>,
    /// Its power is to go at some operation of its disk.
    pub(super) power_cut_is_near: bool,
    /// Sessions by editor.
    pub(super) sessions: BTreeMap<usize, u64>,
    /// A copy of the disk, and what it held.
    pub(super) backup: Option<([Vec<u8>; 3], Frontier)>,
    /// On a restored disk that takes no writes before its region has met its neighbours, those it has not met.
    pub(super) unmet: BTreeSet<usize>,
}

impl Region {
    pub(super) fn new(number: usize, in_memory: bool, first_incarnation: Incarnation, keeps: Keeps) -> Self {
        Self {
            number,
            standing: Standing::Member,
            stopping: false,
            disk: Self::disk_of(number, in_memory, first_incarnation),
            log: None,
            first_incarnation,
            keeps,
            acks: Acks::default(),
            life: 0,
            clock_ms: 0,
            shows: Documents::new(),
            durable: Frontier::new(),
            writes: Vec::new(),
            batches: Vec::new(),
            partings: Vec::new(),
            committing: false,
            exporting: BTreeMap::new(),
            importing: None,
            power_cut_is_near: false,
            sessions: BTreeMap::new(),
            backup: None,
            unmet: BTreeSet::new(),
        }
    }

    pub(super) fn fresh_disk(&self) -> Disk {
        let in_memory = matches!(self.disk, Disk::Memory(_));
        Self::disk_of(self.number, in_memory, self.first_incarnation)
    }

    fn disk_of(number: usize, in_memory: bool, incarnation: Incarnation) -> Disk {
        if in_memory {
            let stream = StreamId { replica: replica(number), incarnation };
            return Disk::Memory(Arc::new(MemoryLog::new(stream)));
        }
        Disk::Redb(SimDisk::new())
    }

    /// Opens the log. Checkpoints come when the run asks for one, so that the same seed meets the same disk.
    pub(super) fn open_log(&self) -> Result<Arc<dyn Log>, String> {
        match &self.disk {
            Disk::Memory(log) => {
                log.truncate(self.keeps.caps.clone());
                Ok(Arc::clone(log) as Arc<dyn Log>)
            }
            Disk::Redb(disk) => {
                let options = RedbLogOptions {
                    first_incarnation: self.first_incarnation,
                    checkpoint_every: Duration::from_secs(1 << 32),
                    checkpoint_bytes: 1 << 30,
                    memory_bytes_max: 1 << 31,
                    store_cache_bytes: 1 << 20,
                    retention: self.keeps.caps.clone(),
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
        let takes_editors = self.standing == Standing::Member && !self.stopping;
        takes_editors && self.log.is_some() && self.unmet.is_empty()
    }
}

/// What a region's log keeps for peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keeps {
    pub(super) caps: Retention,
    /// Whether it lets go of what all peers that count have, some time later.
    pub(super) counts_acks: bool,
}

impl Keeps {
    /// What is beyond so many bytes is dropped, whether peers have it or not.
    pub(super) fn at_most(bytes_max: u64) -> Self {
        let caps = Retention {
            acknowledged: Some(Frontier::new()),
            acknowledged_age_ms: 0,
            bytes_max,
            age_ms_max: u64::MAX,
        };
        Self { caps, counts_acks: false }
    }

    /// What all peers have is dropped after so many milliseconds, too.
    pub(super) fn until_acknowledged(mut self, acknowledged_age_ms: u64) -> Self {
        self.caps.acknowledged_age_ms = acknowledged_age_ms;
        Self { counts_acks: true, ..self }
    }

    /// Whether nothing is dropped that some peer that counts may lack.
    pub(super) const fn all_that_is_lacked(&self) -> bool {
        self.caps.bytes_max == u64::MAX
    }

    /// Whether nothing is dropped.
    pub(super) const fn everything(&self) -> bool {
        self.all_that_is_lacked() && !self.counts_acks
    }
}

pub(super) fn replica(number: usize) -> ReplicaId {
    ReplicaId(u16::try_from(number + 1).expect("few regions"))
}
