//! What was written, acknowledged and seen in a run, by which everything that happens is judged.
//!
//! It stands outside the cluster and forgets nothing but what a lost disk may take: entries that no
//! other region had when their own region's disk went.

use super::documents::{Deletes, Documents, Open, are_within, deletes, noted};
use super::editor::decoded;
use super::said::{FieldsWritten, Said};
use super::truth::Truth;
use bytes::Bytes;
use quire_protocol::batch::{Batch, ChainHash, EncodedBatch, EntryKind, LifecycleChange, NO_DOC, Stamp};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{DocId, Dot, Seq, StreamId};
use quire_protocol::snapshot::SnapshotHead;
use quire_protocol::update::{ClientId, Clocks, Shape, StateVector, Update};
use quire_storage::{Log, ReadBatchesError};
use std::collections::{BTreeMap, BTreeSet};

/// A batch as its region committed it.
#[derive(Clone)]
struct Written {
    last: Seq,
    deps: Frontier,
    hash: ChainHash,
    updates: Vec<(Dot, DocId, Update)>,
    fields: Vec<FieldsWritten>,
    /// What deletes or restores documents.
    turns: Vec<(Stamp, DocId, LifecycleChange)>,
    /// Entries that belong to no document.
    silent: Vec<Seq>,
}

/// An update whose author was told that it is saved.
pub(super) struct Acknowledged {
    pub(super) region: usize,
    pub(super) doc: DocId,
    pub(super) update: Update,
    /// The entry it became; none where all of it was known.
    pub(super) dot: Option<Dot>,
    /// It went with its region's disk, and nobody else had it.
    pub(super) gone: bool,
    /// It went with its region's disk, whoever else had it.
    pub(super) elsewhere: bool,
}

/// What an editor knew when it typed.
struct Edit {
    clocks: Clocks,
    known: StateVector,
    deleted: Deletes,
}

/// A stream as a region has it whose disk was set back to a copy, while others have more of it.
struct Apart {
    region: usize,
    stream: StreamId,
    batches: BTreeMap<Seq, Written>,
}

#[derive(Default)]
pub(super) struct Ledger {
    streams: BTreeMap<StreamId, BTreeMap<Seq, Written>>,
    apart: Option<Apart>,
    /// The stream that a restored region has parted with. Documents may hold entries of it under names that
    /// others now have: what was written again.
    parted: Option<StreamId>,
    /// Regions that have begun to merge a snapshot: it tells of a document's life before its edits.
    imported: BTreeSet<usize>,
    pub(super) acknowledged: Vec<Acknowledged>,
    edits: BTreeMap<ClientId, Vec<Edit>>,
    /// What everybody knew who wrote fields.
    truths: BTreeMap<DocId, Truth>,
    /// What was found wrong first.
    pub(super) violation: Option<String>,
}

impl Ledger {
    pub(super) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Takes note of the batches of its own that a region has committed since it was last looked at.
    /// Returns how many entries they hold.
    pub(super) fn written(&mut self, region: usize, log: &dyn Log) -> u64 {
        let stream = log.stream();
        let known = self.last(region, stream);
        match log.read_batches(stream, Seq(known.0 + 1), usize::MAX) {
            Ok(batches) => batches.into_iter().map(|bytes| self.write(region, bytes)).sum(),
            Err(error) => {
                self.violate(format!("stream {stream} cannot be read back: {error}"));
                0
            }
        }
    }

    /// The batches of a stream, as a region has them.
    fn batches(&self, region: usize, stream: StreamId) -> Option<&BTreeMap<Seq, Written>> {
        let apart = self.apart.as_ref().filter(|apart| apart.region == region && apart.stream == stream);
        apart.map(|apart| &apart.batches).or_else(|| self.streams.get(&stream))
    }

    fn last(&self, region: usize, stream: StreamId) -> Seq {
        let last = self.batches(region, stream).and_then(|batches| batches.last_key_value());
        last.map_or(Seq(0), |(_, written)| written.last)
    }

    /// All batches up to a frontier, as a region has them.
    fn held<'a>(&'a self, region: usize, held: &'a Frontier) -> impl Iterator<Item = &'a Written> {
        self.streams.keys().flat_map(move |&stream| {
            let (batches, last) = (self.batches(region, stream), held.get(stream));
            batches.into_iter().flat_map(BTreeMap::values).take_while(move |written| written.last <= last)
        })
    }

    /// A region's disk was set back to a copy. Where others have more of its stream than that holds, it has a
    /// history of its own until it parts with it.
    pub(super) fn set_back(&mut self, region: usize, Dot { stream, seq }: Dot) {
        if self.last(region, stream) > seq {
            let batches = self.streams.get(&stream).into_iter().flatten();
            let batches = batches.take_while(|(_, written)| written.last <= seq);
            let batches = batches.map(|(first, written)| (*first, written.clone())).collect();
            self.apart = Some(Apart { region, stream, batches });
        }
    }

    /// Whether a region has a history of its own of a stream to which it no longer writes.
    pub(super) fn is_to_part(&self, region: usize, own: StreamId) -> bool {
        self.apart.as_ref().is_some_and(|apart| apart.region == region && apart.stream != own)
    }

    /// A region has parted with its own history of a stream.
    pub(super) fn part(&mut self, region: usize) {
        match self.apart.take() {
            Some(apart) => self.parted = Some(apart.stream),
            None => self.violate(format!("region {region} renews its stream, of which nobody has more")),
        }
    }

    /// Whether documents may hold entries under names that stand for others by now.
    pub(super) fn has_parted(&self) -> bool {
        self.parted.is_some()
    }

    /// A region begins to merge a snapshot.
    pub(super) fn imports(&mut self, region: usize) {
        self.imported.insert(region);
    }

    /// Whether entries of a snapshot may be among what a region's log tells.
    pub(super) fn has_imported(&self, region: usize) -> bool {
        self.imported.contains(&region)
    }

    /// Whether a document may hold this entry of what is applied up to here.
    pub(super) fn may_hold(&self, applied: &Frontier, dot: Dot) -> bool {
        dot.seq == Seq(0) || applied.covers(dot) || self.parted == Some(dot.stream)
    }

    fn write(&mut self, region: usize, bytes: Bytes) -> u64 {
        let encoded = match EncodedBatch::decode(bytes) {
            Ok(encoded) => encoded,
            Err(error) => {
                self.violate(format!("a batch cannot be read back: {error}"));
                return 0;
            }
        };
        let (hash, last, batch) = (encoded.hash(), encoded.batch.last_dot(), encoded.batch);
        let expected = self.last(region, batch.stream).0 + 1;
        if batch.first_seq.0 != expected {
            let (stream, first) = (batch.stream, batch.first_seq.0);
            self.violate(format!("stream {stream} has a second history: {first} after {expected}"));
        }
        let (stream, first, count) = (batch.stream, batch.first_seq, batch.entries.len() as u64);
        let updates = updates(&batch);
        let silent = (first.0..).zip(&batch.entries).filter(|(_, entry)| entry.doc == NO_DOC);
        let silent = silent.map(|(seq, _)| Seq(seq)).collect();
        let (turns, fields) = (turns(&batch), fields(&batch));
        let written = Written { last: last.seq, deps: batch.deps, hash, updates, fields, turns, silent };
        match self.apart.as_mut().filter(|apart| apart.region == region && apart.stream == stream) {
            Some(apart) => apart.batches.insert(first, written),
            None => self.streams.entry(stream).or_default().insert(first, written),
        };
        count
    }

    /// Whether an entry belongs to no document.
    pub(super) fn is_silent(&self, region: usize, dot: Dot) -> bool {
        let batches = self.batches(region, dot.stream);
        let written = batches.and_then(|batches| batches.range(..=dot.seq).next_back());
        written.is_some_and(|(_, written)| written.silent.contains(&dot.seq))
    }

    /// How many of these entries belong to no document.
    pub(super) fn count_silent(&self, region: usize, held: &Frontier) -> u64 {
        self.held(region, held).map(|written| written.silent.len() as u64).sum()
    }

    /// What the batch of an entry depends on.
    pub(super) fn deps(&self, region: usize, dot: Dot) -> Option<&Frontier> {
        let (_, written) = self.batches(region, dot.stream)?.range(..=dot.seq).next_back()?;
        (dot.seq <= written.last).then_some(&written.deps)
    }

    /// Whether a document is deleted, and whether any edit is one that none of the deletions had seen: by what was
    /// written, one entry beside the other.
    pub(super) fn life(&self, doc: DocId) -> (bool, bool) {
        let written = || self.streams.values().flat_map(BTreeMap::values);
        let turns = || written().flat_map(|written| &written.turns).filter(|(_, of, _)| *of == doc);
        let restored =
            turns().filter(|(.., it)| *it == LifecycleChange::Restore).map(|(stamp, ..)| *stamp).max();
        let standing = turns().filter_map(|(stamp, _, it)| match it {
            LifecycleChange::Delete { frontier } if Some(*stamp) > restored => Some((stamp.1, frontier)),
            _ => None,
        });
        let deletions: Vec<(Dot, &Frontier)> = standing.collect();
        let mut edits = written().flat_map(|written| &written.updates).filter(|(_, of, _)| *of == doc);
        let is_unseen = |dot: Dot| {
            let saw = |(by, seen): &(Dot, &Frontier)| {
                seen.covers(dot) || by.stream == dot.stream && by.seq > dot.seq
            };
            !deletions.iter().any(saw)
        };
        (!deletions.is_empty(), !deletions.is_empty() && edits.any(|(dot, ..)| is_unseen(*dot)))
    }

    /// Checks that documents hold every update that their region says is applied, and nothing beyond.
    pub(super) fn check_holds(&mut self, region: usize, shows: &Documents) {
        let updates: Vec<_> =
            self.held(region, &shows.frontier).flat_map(|written| &written.updates).collect();
        let lacks = updates.iter().find(|(_, doc, update)| !shows.get(*doc).holds(update));
        let mut ends: BTreeMap<DocId, BTreeMap<ClientId, u32>> = BTreeMap::new();
        for (_, doc, update) in &updates {
            for (client, clocks) in update.clients() {
                let end = ends.entry(*doc).or_default().entry(client).or_default();
                *end = clocks.end.max(*end);
            }
        }
        let has_more = shows.iter().any(|(doc, open)| {
            let ends = ends.remove(&doc).unwrap_or_default();
            !open.shown.is_covered_by(&ends.into_iter().collect())
        });
        if let Some((dot, ..)) = lacks {
            self.violate(format!("region {region} does not show entry {dot}, which it has applied"));
        }
        if has_more {
            self.violate(format!("region {region} shows more than it has applied"));
        }
    }

    /// Checks that a snapshot that was merged is a cut which nothing is shown before its causes by, that its
    /// streams end as they were written, and that documents hold all that it stands for.
    pub(super) fn check_snapshot(&mut self, region: usize, snapshot: &SnapshotHead, shows: &Documents) {
        for (&stream, (seq, hash)) in snapshot.0.iter().filter(|(_, (seq, _))| *seq > Seq(0)) {
            let batches = self.streams.get(&stream);
            let written = batches.and_then(|batches| batches.range(..=*seq).next_back());
            match written.filter(|(_, written)| written.last == *seq && written.hash == *hash) {
                Some((_, written)) if self.has_causes(snapshot, &written.deps.without(stream)) => {}
                Some(_) => self.violate(format!("region {region} is given a snapshot without causes")),
                None => self.violate(format!(
                    "region {region} is given a snapshot with stream {stream} up to seq {}, where it was \
                     not written to end",
                    seq.0
                )),
            }
        }
        self.check_holds(region, shows);
    }

    /// Whether a snapshot holds what something depends on. Of a stream that was parted with, whoever gives it may
    /// have only what was written again under other names: whether that is there is checked by what it holds.
    fn has_causes(&self, snapshot: &SnapshotHead, deps: &Frontier) -> bool {
        let deps = self.parted.map_or_else(|| deps.clone(), |parted| deps.without(parted));
        snapshot.frontier().covers_all(&deps)
    }

    /// Checks that a log holds every stream as it was written, from where it begins in the log on. A log that
    /// keeps all begins at the beginning.
    pub(super) fn compare(&mut self, region: usize, log: &dyn Log, keeps_all: bool) {
        let mut wrong = Vec::new();
        for (stream, batches) in self.streams.iter().filter(|(_, batches)| !batches.is_empty()) {
            let mut first = Seq(1);
            let read = match log.read_batches(*stream, first, usize::MAX) {
                Err(ReadBatchesError::Truncated { first_kept }) if !keeps_all => {
                    first = first_kept;
                    log.read_batches(*stream, first, usize::MAX)
                }
                read => read,
            };
            let read = read.unwrap_or_default().into_iter().map(EncodedBatch::decode);
            let hashes: Vec<_> = read.filter_map(|read| read.ok().map(|encoded| encoded.hash())).collect();
            if !hashes.iter().eq(batches.range(first..).map(|(_, written)| &written.hash)) {
                wrong.push(format!("region {region} does not hold stream {stream} as it was written"));
            }
        }
        wrong.into_iter().for_each(|what| self.violate(what));
    }

    /// The streams of a replica and the last entry of each that was ever written.
    pub(super) fn streams_of(&self, replica: u16) -> Vec<StreamId> {
        self.streams.keys().copied().filter(|stream| stream.replica.0 == replica).collect()
    }

    /// Forgets what went with a disk: the entries of a stream after the last that somebody still has.
    pub(super) fn forget(&mut self, stream: StreamId, last: Seq) {
        if let Some(batches) = self.streams.get_mut(&stream) {
            batches.retain(|_, written| written.last <= last);
        }
    }

    /// What everybody knew who wrote the fields of a document.
    pub(super) fn truth(&mut self, doc: DocId) -> &mut Truth {
        self.truths.entry(doc).or_default()
    }

    /// What a region's entries up to a frontier say of a document's fields, and what is on its way there.
    pub(super) fn said<'a>(
        &'a self,
        region: usize,
        doc: DocId,
        held: &'a Frontier,
        coming: &'a [FieldsWritten],
    ) -> Option<Said<'a>> {
        let truth = self.truths.get(&doc)?;
        let written = self.held(region, held).flat_map(|written| &written.fields);
        Some(Said::of(truth, written.chain(coming).filter(|entry| entry.doc == doc)))
    }

    /// Takes note of what an editor knew when it made an update.
    pub(super) fn edited(&mut self, update: &Update, known: &Shape) {
        for (client, clocks) in update.clients() {
            let deleted = known.deletes().collect();
            let edit = Edit { clocks, known: known.state_vector(), deleted };
            self.edits.entry(client).or_default().push(edit);
        }
    }

    /// Checks that whoever shows an update shows all that its editors had seen.
    pub(super) fn check_seen(&mut self, region: usize, update: &Update, open: &Open) {
        let mut deleted: Option<Deletes> = None;
        for (client, clocks) in update.clients() {
            let edits = self.edits.get(&client).map_or(&[][..], Vec::as_slice);
            let from = edits.partition_point(|edit| edit.clocks.end <= clocks.start);
            for edit in edits[from..].iter().take_while(|edit| edit.clocks.start < clocks.end) {
                let deleted = deleted.get_or_insert_with(|| deletes(open.doc()));
                let hidden = edit.deleted.iter().any(|(of, ranges)| !are_within(ranges, deleted.get(of)));
                if hidden || !open.shown.covers(&edit.known) {
                    let at = edit.clocks.start;
                    self.violate(format!(
                        "region {region} shows {client}:{at} and not yet what its editor had seen"
                    ));
                    return;
                }
            }
        }
    }
}

/// What a batch writes of fields.
fn fields(batch: &Batch) -> Vec<FieldsWritten> {
    let named = (batch.first_seq.0..).zip(&batch.entries);
    let fields = named.filter(|(_, entry)| entry.kind == EntryKind::Fields).map(|(seq, entry)| {
        let stamp = (entry.hlc, Dot { stream: batch.stream, seq: Seq(seq) });
        let said = noted(&entry.payload);
        FieldsWritten { stamp, doc: entry.doc, marks: said.marks, update: decoded(said.update) }
    });
    fields.collect()
}

/// What a batch deletes and restores.
fn turns(batch: &Batch) -> Vec<(Stamp, DocId, LifecycleChange)> {
    let named = (batch.first_seq.0..).zip(&batch.entries);
    let lifecycle = named.filter(|(_, entry)| entry.kind == EntryKind::Lifecycle);
    let turns = lifecycle.filter_map(|(seq, entry)| {
        let stamp = (entry.hlc, Dot { stream: batch.stream, seq: Seq(seq) });
        Some((stamp, entry.doc, LifecycleChange::decode(&entry.payload).ok()?))
    });
    turns.collect()
}

/// The updates of a batch, with their names and documents.
fn updates(batch: &Batch) -> Vec<(Dot, DocId, Update)> {
    let named = (batch.first_seq.0..).zip(&batch.entries);
    let updates = named.filter_map(|(seq, entry)| {
        let update = match entry.kind {
            EntryKind::Update => entry.payload.clone(),
            EntryKind::Fields => noted(&entry.payload).update,
            _ => return None,
        };
        Some((Dot { stream: batch.stream, seq: Seq(seq) }, entry.doc, decoded(update)))
    });
    updates.collect()
}
