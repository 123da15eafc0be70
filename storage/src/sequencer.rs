//! Gives entries their place: seqs, positions, stamps, and the batches they are written in.
//!
//! Pure. A plan changes nothing until it is adopted, so a refused append leaves no gap.
//!
//! Invariant: the adopted batches of each stream are contiguous and chained.

use crate::document::TailEntry;
use crate::error::AppendError;
use crate::log::{NewEntry, Position, Receipt};
use bytes::Bytes;
use quire_protocol::batch::{
    BatchBuilder, BatchFull, ChainHash, ENTRY_PAYLOAD_BYTES_MAX, EncodedBatch, Entry, EntryKind,
    LifecycleChange,
};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::{Hlc, HlcClock};
use quire_protocol::ids::{DocId, Dot, Seq, StreamId};
use std::collections::BTreeMap;

/// The end of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamHead {
    pub(crate) seq: Seq,
    pub(crate) hash: ChainHash,
}

/// The end of the log: what its next batch builds on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) position: Position,
    pub(crate) hlc: Hlc,
    pub(crate) streams: BTreeMap<StreamId, StreamHead>,
}

impl Head {
    pub(crate) fn frontier(&self) -> Frontier {
        self.streams.iter().map(|(&stream, head)| Dot { stream, seq: head.seq }).collect()
    }

    /// Takes note of a batch that was read back.
    ///
    /// # Errors
    /// A sentence that says how the batch does not continue what came before it.
    pub(crate) fn follow(&mut self, placed: &PlacedBatch) -> Result<(), String> {
        let batch = &placed.encoded.batch;
        let head = self.streams.entry(batch.stream).or_default();
        let place = format!("the batch of stream {} at seq {}", batch.stream, batch.first_seq.0);
        if batch.first_seq.0 != head.seq.0 + 1 {
            return Err(format!("{place} follows seq {}: entries are missing or doubled", head.seq.0));
        }
        if batch.prev_hash != head.hash {
            return Err(format!(
                "{place} does not follow from the batch before it: the hash chain is broken"
            ));
        }
        if placed.first.0 != self.position.0 + 1 {
            return Err(format!("{place} is at position {} after {}", placed.first.0, self.position.0));
        }
        head.seq = batch.last_dot().seq;
        head.hash = placed.encoded.hash();
        self.position = placed.last();
        self.hlc = batch.entries.last().map_or(self.hlc, |entry| self.hlc.max(entry.hlc));
        Ok(())
    }
}

/// A batch and the position of its first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacedBatch {
    pub(crate) first: Position,
    pub(crate) encoded: EncodedBatch,
}

impl PlacedBatch {
    /// Reads back what was written of a batch.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub(crate) fn decode(first: Position, bytes: Bytes) -> Result<Self, String> {
        let encoded = EncodedBatch::decode(bytes)
            .map_err(|error| format!("the batch at position {} is damaged: {error}", first.0))?;
        Ok(Self { first, encoded })
    }

    /// The position of the last entry.
    pub(crate) fn last(&self) -> Position {
        Position(self.first.0 + self.encoded.batch.entries.len() as u64 - 1)
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

/// What an append will be once it is durable.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) batches: Vec<PlacedBatch>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) head: Head,
}

/// Plans the next batches of one stream after `head`.
///
/// # Errors
/// `Invalid` when an entry breaks a rule.
pub(crate) fn plan(
    head: &Head,
    stream: StreamId,
    now_ms: u64,
    groups: &[Vec<NewEntry>],
) -> Result<Plan, AppendError> {
    for group in groups {
        check_group(group)?;
    }
    let mut clock = HlcClock::starting_after(head.hlc);
    let mut filler = Filler::new(head, stream);
    let mut receipts = Vec::with_capacity(groups.len());
    for group in groups {
        for new in group {
            let hlc = clock.tick(now_ms);
            filler.push(Entry { doc: new.doc, kind: new.kind, hlc, payload: new.payload.clone() });
        }
        let last = Dot { stream, seq: filler.seq };
        receipts.push(Receipt { last, hlc: clock.last(), position: filler.position });
    }
    let (batches, stream_head) = filler.finish();
    let mut head = head.clone();
    head.position = receipts.last().map_or(head.position, |receipt| receipt.position);
    head.hlc = clock.last();
    head.streams.insert(stream, stream_head);
    Ok(Plan { batches, receipts, head })
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
    builder: Option<(Position, BatchBuilder)>,
    full: Vec<PlacedBatch>,
    /// Of the last entry pushed.
    seq: Seq,
    position: Position,
    hash: ChainHash,
}

impl Filler {
    fn new(head: &Head, stream: StreamId) -> Self {
        let own = head.streams.get(&stream).copied().unwrap_or_default();
        let deps = head.frontier().without(stream);
        let (seq, hash) = (own.seq, own.hash);
        Self { stream, deps, builder: None, full: Vec::new(), seq, position: head.position, hash }
    }

    fn push(&mut self, entry: Entry) {
        self.seq.0 += 1;
        self.position.0 += 1;
        let rejected = match &mut self.builder {
            Some((_, builder)) => match builder.push(entry) {
                Ok(()) => return,
                Err(BatchFull(entry)) => entry,
            },
            None => entry,
        };
        self.seal();
        let mut builder =
            BatchBuilder::new(self.stream, self.seq, rejected.hlc, self.deps.clone(), self.hash);
        builder.push(rejected).expect("a batch without entries takes any entry");
        self.builder = Some((self.position, builder));
    }

    fn seal(&mut self) {
        if let Some((first, builder)) = self.builder.take() {
            let encoded = builder.finish();
            self.hash = encoded.hash();
            self.full.push(PlacedBatch { first, encoded });
        }
    }

    fn finish(mut self) -> (Vec<PlacedBatch>, StreamHead) {
        self.seal();
        (self.full, StreamHead { seq: self.seq, hash: self.hash })
    }
}
