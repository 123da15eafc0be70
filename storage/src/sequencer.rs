//! Gives entries their place: seqs, stamps, and the batches they are written in; and batches of other
//! replicas theirs.
//!
//! Pure. A plan changes nothing until it is adopted, so a refused commit leaves no gap.
//!
//! Invariant: the adopted batches of each stream are contiguous and chained. A commit's own batches come
//! first, so that the entries of a group have positions without a gap.

use crate::error::{AppendError, Failure};
use crate::head::{AppliedBatch, Find, Head, Ordinal};
use crate::log::{NewEntry, Receipt};
use bytes::Bytes;
use quire_protocol::batch::{
    BatchBuilder, BatchFull, ChainHash, ENTRY_PAYLOAD_BYTES_MAX, EncodedBatch, Entry, EntryKind,
    LifecycleChange,
};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::hlc::HlcClock;
use quire_protocol::ids::{Dot, Incarnation, Seq, StreamId};
use std::sync::Arc;

/// What a commit will be once it is durable.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The ordinal of the first entry.
    pub(crate) first: Ordinal,
    /// What is to be written, in order.
    pub(crate) batches: Vec<Arc<EncodedBatch>>,
    /// What each group became.
    pub(crate) receipts: Vec<Receipt>,
    /// What each batch of others was.
    pub(crate) arrivals: Vec<Arrival>,
    /// What documents then show, in order.
    pub(crate) applied: Vec<AppliedBatch>,
    pub(crate) head: Head,
}

/// Plans the next batches of this replica's stream after `head`, and of others' what continues theirs.
///
/// # Errors
/// `Invalid` when an entry breaks a rule; `Failed` when a batch that has waited cannot be found.
pub(crate) fn plan(
    head: &Head,
    stream: StreamId,
    now_ms: u64,
    groups: &[Vec<NewEntry>],
    others: &[Arc<EncodedBatch>],
    waiting: &mut impl Find,
) -> Result<Plan, AppendError> {
    for group in groups {
        check_group(group)?;
    }
    let mut clock = HlcClock::starting_after(head.own);
    clock.observe(head.seen, now_ms);
    let mut filler = Filler::new(head, stream);
    let mut receipts = Vec::with_capacity(groups.len());
    let mut position = head.position;
    for group in groups {
        for new in group {
            let hlc = clock.tick(now_ms);
            filler.push(Entry { doc: new.doc, kind: new.kind, hlc, payload: new.payload.clone() });
        }
        position.0 += group.len() as u64;
        let last = Dot { stream, seq: filler.seq };
        receipts.push(Receipt { last, hlc: clock.last(), position });
    }
    let first = Ordinal(head.ordinal.0 + 1);
    let mut next = Next { head: head.clone(), batches: Vec::new(), applied: Vec::new(), waiting };
    for (encoded, hash) in filler.finish() {
        next.commit(Arc::new(encoded), hash);
    }
    next.drain()?;
    let mut arrivals = Vec::with_capacity(others.len());
    for encoded in others {
        arrivals.push(next.receive(stream, encoded)?);
    }
    let Next { head, batches, applied, .. } = next;
    Ok(Plan { first, batches, receipts, arrivals, applied, head })
}

/// Follows batches that were read back, in the order they were planned in. Returns what of them, and of
/// what waited before them, is applied.
///
/// # Errors
/// When they do not continue what came before them, or one that has waited cannot be found.
pub(crate) fn replay(
    head: &mut Head,
    stream: StreamId,
    first: Ordinal,
    batches: &[Arc<EncodedBatch>],
    waiting: &mut impl Find,
) -> Result<Vec<AppliedBatch>, ReplayError> {
    let mut next = Next { head: std::mem::take(head), batches: Vec::new(), applied: Vec::new(), waiting };
    let mut first = first;
    for encoded in batches {
        next.head.check(first, encoded).map_err(ReplayError::Broken)?;
        first.0 += encoded.batch.entries.len() as u64;
        if encoded.batch.stream == stream {
            next.commit(Arc::clone(encoded), encoded.hash());
        } else {
            next.drain()?;
            next.receive(stream, encoded)?;
        }
    }
    next.drain()?;
    *head = next.head;
    Ok(next.applied)
}

/// Why batches that were read back are not the log's.
#[derive(Debug)]
pub(crate) enum ReplayError {
    /// They do not follow: a sentence says how.
    Broken(String),
    /// A batch that waits could not be read.
    Failed(Failure),
}

impl From<Failure> for ReplayError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A commit in the making.
struct Next<'a, F> {
    head: Head,
    batches: Vec<Arc<EncodedBatch>>,
    applied: Vec<AppliedBatch>,
    waiting: &'a mut F,
}

impl<F: Find> Next<'_, F> {
    fn commit(&mut self, encoded: Arc<EncodedBatch>, hash: ChainHash) {
        self.head.commit(&encoded, hash, &mut self.applied);
        self.batches.push(encoded);
    }

    fn receive(&mut self, own: StreamId, encoded: &Arc<EncodedBatch>) -> Result<Arrival, Failure> {
        // What this replica originates it alone gives a place.
        if encoded.batch.stream == own && !self.head.gate.received().covers(encoded.batch.last_dot()) {
            return Ok(Arrival::Astray);
        }
        let arrival = self.head.receive(own.replica, encoded);
        if arrival == Arrival::Next {
            self.batches.push(Arc::clone(encoded));
            self.drain()?;
        }
        Ok(arrival)
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let Self { head, batches, applied, waiting } = self;
        let mut find = |first: Dot| {
            // What has just come is looked for from the end: most often it is the last.
            let is_first = |encoded: &&Arc<EncodedBatch>| {
                (encoded.batch.stream, encoded.batch.first_seq) == (first.stream, first.seq)
            };
            match batches.iter().rev().find(is_first) {
                Some(encoded) => Ok(Arc::clone(encoded)),
                None => waiting.find(first),
            }
        };
        head.drain(&mut find, applied)
    }
}

/// The stream after `stream`, above every incarnation that is known.
///
/// # Errors
/// `Invalid` when all incarnations have been used.
pub(crate) fn renewed(stream: StreamId, known: Incarnation) -> Result<StreamId, AppendError> {
    let last = stream.incarnation.max(known);
    match last.0.checked_add(1) {
        Some(next) => Ok(StreamId { incarnation: Incarnation(next), ..stream }),
        None => {
            Err(AppendError::Invalid("a replica has had all 65,535 incarnations: give it another number"))
        }
    }
}

/// Has what batches hold of an ended stream after its end happen again as entries of this replica's stream, with
/// the stamps that it had. Returns what is applied by that. What only says when it was written is left out.
///
/// Updates and changes of a document's life may be applied twice: the documents hold them already, and do not
/// change.
pub(crate) fn write_again(
    head: &mut Head,
    stream: StreamId,
    end: Dot,
    old: &[EncodedBatch],
) -> Vec<AppliedBatch> {
    let mut filler = Filler::new(head, stream);
    let entries = old.iter().flat_map(|encoded| &encoded.batch.entries);
    for entry in entries.filter(|entry| entry.kind != EntryKind::Canary) {
        let payload = payload_again(entry, end);
        filler.push(Entry { payload, ..entry.clone() });
    }
    let mut applied = Vec::new();
    for (encoded, hash) in filler.finish() {
        head.commit(&Arc::new(encoded), hash, &mut applied);
    }
    applied
}

/// A deletion that names what it had seen of the ended stream means entries after the end that are no longer
/// there: what others wrote in their place it had not seen.
fn payload_again(entry: &Entry, end: Dot) -> Bytes {
    match LifecycleChange::decode(&entry.payload) {
        Ok(LifecycleChange::Delete { frontier }) if entry.kind == EntryKind::Lifecycle => {
            let mut seen = frontier.without(end.stream);
            seen.raise(Dot { seq: frontier.get(end.stream).min(end.seq), ..end });
            LifecycleChange::Delete { frontier: seen }.encode()
        }
        _ => entry.payload.clone(),
    }
}

/// Checks what a caller asks to append.
///
/// # Errors
/// `Invalid` when an entry could not be read back as what it is.
pub(crate) fn check_group(group: &[NewEntry]) -> Result<(), AppendError> {
    if group.is_empty() {
        return Err(AppendError::Invalid("a group has an entry"));
    }
    for entry in group {
        if entry.payload.len() > ENTRY_PAYLOAD_BYTES_MAX {
            return Err(AppendError::Invalid("a payload is too long"));
        }
        if entry.kind == EntryKind::Lifecycle {
            match LifecycleChange::decode(&entry.payload) {
                Ok(LifecycleChange::Create { name }) if name.id() != entry.doc => {
                    return Err(AppendError::Invalid("a document's id is not that of its name"));
                }
                Ok(_) => {}
                Err(_) => return Err(AppendError::Invalid("a lifecycle change cannot be read")),
            }
        }
    }
    Ok(())
}

/// Fills batches one after the other.
struct Filler {
    stream: StreamId,
    deps: Frontier,
    builder: Option<BatchBuilder>,
    full: Vec<(EncodedBatch, ChainHash)>,
    /// Of the last entry pushed.
    seq: Seq,
    hash: ChainHash,
}

impl Filler {
    fn new(head: &Head, stream: StreamId) -> Self {
        let (seq, hash) = head.end_of(stream);
        let deps = head.gate.applied().without(stream);
        Self { stream, deps, builder: None, full: Vec::new(), seq, hash }
    }

    fn push(&mut self, entry: Entry) {
        self.seq.0 += 1;
        let rejected = match &mut self.builder {
            Some(builder) => match builder.push(entry) {
                Ok(()) => return,
                Err(BatchFull(entry)) => entry,
            },
            None => entry,
        };
        self.seal();
        let mut builder =
            BatchBuilder::new(self.stream, self.seq, rejected.hlc, self.deps.clone(), self.hash);
        builder.push(rejected).expect("a batch without entries takes any entry");
        self.builder = Some(builder);
    }

    fn seal(&mut self) {
        if let Some(builder) = self.builder.take() {
            let encoded = builder.finish();
            self.hash = encoded.hash();
            self.full.push((encoded, self.hash));
        }
    }

    fn finish(mut self) -> Vec<(EncodedBatch, ChainHash)> {
        self.seal();
        self.full
    }
}
