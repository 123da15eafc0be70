//! The end of the log: what has been received and applied, and what the next batch builds on.
//!
//! A batch is received when it is durable here, and applied when the causal gate lets it: then its
//! entries get their positions, and documents show them. What waits in between waits in the log.
//!
//! Invariant: what is applied, and in what order, is a function of the batches received and their order:
//! whoever replays them stands where the log stood.

use crate::document::TailEntry;
use crate::error::Failure;
use crate::log::{Applied, Position};
use crate::members::Members;
use crate::numbers::Numbers;
use quire_protocol::batch::{ChainHash, EncodedBatch, EntryKind};
use quire_protocol::gate::{Arrival, Gate, Step};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, Dot, ReplicaId, Seq, StreamId};
use quire_protocol::snapshot::{SnapshotEntry, SnapshotHead};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts the entries that this replica has received, its own among them, in the order it did: 1, 2, 3…;
/// 0 is before the first. Says what of the journal the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ordinal(pub(crate) u64);

/// A batch whose entries have their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppliedBatch {
    /// The first entry's.
    pub(crate) first: Position,
    pub(crate) encoded: Arc<EncodedBatch>,
}

impl AppliedBatch {
    /// What documents show of it.
    pub(crate) fn shown(&self) -> Applied {
        let batch = &self.encoded.batch;
        let first = Dot { stream: batch.stream, seq: batch.first_seq };
        Applied { first, last: batch.last_dot(), deps: batch.deps.clone(), entries: self.entries().collect() }
    }

    /// The entries with their places, each beside its document.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (DocId, TailEntry)> + '_ {
        let batch = &self.encoded.batch;
        batch.entries.iter().zip(0_u64..).map(move |(entry, i)| {
            let tail = TailEntry {
                position: Position(self.first.0 + i),
                dot: Dot { stream: batch.stream, seq: Seq(batch.first_seq.0 + i) },
                hlc: entry.hlc,
                kind: entry.kind,
                payload: entry.payload.clone(),
            };
            (entry.doc, tail)
        })
    }
}

/// The end of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of the last entry received.
    pub(crate) ordinal: Ordinal,
    /// Of the last entry applied.
    pub(crate) position: Position,
    /// The greatest stamp of this replica's own entries.
    pub(crate) own: Hlc,
    /// The greatest stamp of others'.
    pub(crate) seen: Hlc,
    /// Of each stream's last batch received.
    pub(crate) hashes: BTreeMap<StreamId, ChainHash>,
    pub(crate) gate: Gate,
    pub(crate) members: Members,
    pub(crate) numbers: Numbers,
}

/// Finds a batch that waits by its first entry.
pub(crate) trait Find {
    /// # Errors
    /// When it cannot be read, which no log survives: it was acknowledged.
    fn find(&mut self, first: Dot) -> Result<Arc<EncodedBatch>, Failure>;
}

impl<F: FnMut(Dot) -> Result<Arc<EncodedBatch>, Failure>> Find for F {
    fn find(&mut self, first: Dot) -> Result<Arc<EncodedBatch>, Failure> {
        self(first)
    }
}

impl Head {
    /// A stream's last entry received, and the hash of its batch.
    pub(crate) fn end_of(&self, stream: StreamId) -> (Seq, ChainHash) {
        (self.gate.received().get(stream), self.hashes.get(&stream).copied().unwrap_or_default())
    }

    /// How many entries have been received and not applied.
    pub(crate) fn waiting(&self) -> u64 {
        let applied = self.gate.applied();
        self.gate.received().iter().map(|dot| dot.seq.0 - applied.get(dot.stream).0).sum()
    }

    /// Takes a batch of others, when it continues its stream as it is known here. One that does not is
    /// told and changes nothing.
    pub(crate) fn receive(&mut self, me: ReplicaId, encoded: &EncodedBatch) -> Arrival {
        let batch = &encoded.batch;
        let (last, hash) = self.end_of(batch.stream);
        let continues = batch.first_seq.0 == last.0.saturating_add(1);
        let repeats = last > Seq(0) && batch.last_dot().seq == last;
        if continues && batch.prev_hash != hash || repeats && encoded.hash() != hash {
            return Arrival::Astray;
        }
        let arrival = self.gate.receive(batch);
        if arrival == Arrival::Next {
            self.note(me, encoded, encoded.hash());
        }
        arrival
    }

    /// Takes a batch of this replica's own, which continues its stream: its causes are whatever has been
    /// applied, so that it never waits.
    pub(crate) fn commit(
        &mut self,
        encoded: &Arc<EncodedBatch>,
        hash: ChainHash,
        applied: &mut Vec<AppliedBatch>,
    ) {
        self.gate.commit(encoded.batch.last_dot());
        self.note(encoded.batch.stream.replica, encoded, hash);
        self.apply(Arc::clone(encoded), applied);
    }

    fn note(&mut self, me: ReplicaId, encoded: &EncodedBatch, hash: ChainHash) {
        let batch = &encoded.batch;
        self.hashes.insert(batch.stream, hash);
        self.ordinal.0 += batch.entries.len() as u64;
        let stamp = batch.entries.last().map_or(batch.hlc_base, |entry| entry.hlc);
        let greatest = if batch.stream.replica == me { &mut self.own } else { &mut self.seen };
        *greatest = stamp.max(*greatest);
    }

    /// What a snapshot of this moment holds: all that is applied.
    ///
    /// # Errors
    /// When a batch that waits cannot be found.
    pub(crate) fn snapshot(&self, waiting: &mut impl Find) -> Result<SnapshotHead, Failure> {
        let mut ends = BTreeMap::new();
        for dot in self.gate.applied().iter() {
            let (last, hash) = self.end_of(dot.stream);
            // Where something waits, its first batch names the hash of the last one that is applied.
            let hash = if last == dot.seq {
                hash
            } else {
                waiting.find(Dot { seq: Seq(dot.seq.0 + 1), ..dot })?.batch.prev_hash
            };
            ends.insert(dot.stream, (dot.seq, hash));
        }
        Ok(SnapshotHead(ends))
    }

    /// Takes note that all of a snapshot is applied, and of the greatest stamp in it. Returns the streams
    /// that now begin where the snapshot ends: what was received of them before is behind a gap.
    ///
    /// # Errors
    /// A sentence that says how the snapshot contradicts what is known here.
    pub(crate) fn skip_to(
        &mut self,
        own: StreamId,
        snapshot: &SnapshotHead,
        stamp: Hlc,
    ) -> Result<Vec<StreamId>, String> {
        let mut moved = Vec::new();
        for (&stream, &(seq, hash)) in &snapshot.0 {
            let (last, known) = self.end_of(stream);
            if seq == last && seq > Seq(0) && hash != known {
                return Err(format!(
                    "stream {stream} differs up to seq {}: two histories have one name",
                    seq.0
                ));
            }
            if seq > last && stream == own {
                return Err(format!(
                    "a snapshot holds entries of stream {stream} that this replica has not written"
                ));
            }
            if seq > last {
                self.hashes.insert(stream, hash);
                moved.push(stream);
            }
        }
        self.gate.skip_to(&snapshot.frontier());
        self.seen = self.seen.max(stamp);
        Ok(moved)
    }

    /// Gives the entry of a snapshot the next position.
    pub(crate) fn place(&mut self, entry: SnapshotEntry) -> TailEntry {
        self.position.0 += 1;
        let SnapshotEntry { dot, hlc, kind, payload, .. } = entry;
        let entry = TailEntry { position: self.position, dot, hlc, kind, payload };
        self.members.fold(&entry);
        self.numbers.fold(&entry);
        entry
    }

    /// Takes note that a stream of this replica's own ends with an entry whose batch has this hash: what it
    /// wrote there after that goes by other names.
    pub(crate) fn set_back(&mut self, last: Dot, hash: ChainHash) {
        self.gate.set_back(last);
        if last.seq > Seq(0) {
            self.hashes.insert(last.stream, hash);
        } else {
            self.hashes.remove(&last.stream);
        }
    }

    /// Applies whatever waits and can be.
    ///
    /// # Errors
    /// When a batch that waits cannot be found.
    pub(crate) fn drain(
        &mut self,
        waiting: &mut impl Find,
        applied: &mut Vec<AppliedBatch>,
    ) -> Result<(), Failure> {
        while let Some(step) = self.gate.next_step() {
            match step {
                Step::LookAt(first) => self.gate.look_at(&waiting.find(first)?.batch),
                Step::Apply(first) => {
                    let encoded = waiting.find(first)?;
                    self.gate.apply(first.stream).expect("a batch whose turn the gate has told");
                    self.apply(encoded, applied);
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, encoded: Arc<EncodedBatch>, applied: &mut Vec<AppliedBatch>) {
        let first = Position(self.position.0 + 1);
        self.position.0 += encoded.batch.entries.len() as u64;
        let batch = AppliedBatch { first, encoded };
        let concerns_all = |kind| matches!(kind, EntryKind::Member | EntryKind::Lease);
        if batch.encoded.batch.entries.iter().any(|entry| concerns_all(entry.kind)) {
            for (_, entry) in batch.entries() {
                self.members.fold(&entry);
                self.numbers.fold(&entry);
            }
        }
        applied.push(batch);
    }

    /// Checks that a batch that was read back, whose first entry has this ordinal, comes next.
    ///
    /// # Errors
    /// A sentence that says how the batch does not continue what came before it.
    pub(crate) fn check(&self, first: Ordinal, encoded: &EncodedBatch) -> Result<(), String> {
        let batch = &encoded.batch;
        let place = format!("the batch of stream {} at seq {}", batch.stream, batch.first_seq.0);
        let (last, hash) = self.end_of(batch.stream);
        if first.0 != self.ordinal.0 + 1 {
            return Err(format!("{place} is entry {} after entry {}", first.0, self.ordinal.0));
        }
        if batch.first_seq.0 != last.0 + 1 {
            return Err(format!("{place} follows seq {}: entries are missing or doubled", last.0));
        }
        if batch.prev_hash != hash {
            return Err(format!(
                "{place} does not follow from the batch before it: the hash chain is broken"
            ));
        }
        Ok(())
    }
}
