//! Parting with a stream of which others hold another history: what this replica wrote after the point where
//! the two part is written again under a new name, and the old stream ends there.
//!
//! Made by the checkpointer, as the second half of a checkpoint, in its transaction: the journal then holds
//! nothing that the store does not, and a record that is replayed from it is told to be this replica's own by
//! its stream. A crash leaves all of it or nothing.
//!
//! Invariant: what of the old stream is dropped is part of the new one, or said only when it was written.

use super::fault::Fault;
use super::kept::{self, Kept, LOG};
use super::meta;
use super::rows::encode_incarnation;
use super::store::{Changes, DocTables};
use crate::document::TailEntry;
use crate::head::{AppliedBatch, Head, Ordinal};
use crate::log::Renewal;
use crate::sequencer::write_again;
use quire_protocol::batch::{EncodedBatch, NO_DOC};
use quire_protocol::ids::{DocId, Dot, Seq, StreamId};
use redb::{ReadableTable, Table, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet};

/// So many bytes of the old stream are in memory at once, and one batch.
const PIECE_BYTES_MAX: usize = 1024 * 1024;

/// A stream that is to be ended after an entry, and the one that begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) old: StreamId,
    pub(super) last: Seq,
    pub(super) stream: StreamId,
}

/// What it did to the store.
pub(super) struct Parted {
    pub(super) head: Head,
    pub(super) renewal: Renewal,
    pub(super) kept_bytes: u64,
}

/// Ends the old stream, after an epoch has been written and its batches are kept.
pub(super) fn part(
    txn: &WriteTransaction,
    head: &Head,
    request: Request,
    kept_bytes: u64,
) -> Result<Parted, Fault> {
    let Request { old, last, stream } = request;
    meta::write(txn, meta::INCARNATION_KEY, &encode_incarnation(stream.incarnation))?;
    let mut parted = Parted { head: head.clone(), renewal: Renewal { stream, moved: 0 }, kept_bytes };
    let mut log = txn.open_table(LOG)?;
    let Some(first) = first_after(&log, old, last)? else { return Ok(parted) };
    let end = Dot { stream: old, seq: Seq(first.batch.first_seq.0 - 1) };
    parted.renewal.moved = head.gate.received().get(old).0 - end.seq.0;
    parted.head.set_back(end, first.batch.prev_hash);
    let mut docs = DocTables::open(txn)?;
    loop {
        let piece = take_piece(&mut log, old, end.seq)?;
        if piece.is_empty() {
            break;
        }
        parted.kept_bytes = parted.kept_bytes.saturating_sub(bytes_of(&piece));
        let touched: BTreeSet<DocId> =
            piece.iter().flat_map(|encoded| &encoded.batch.entries).map(|entry| entry.doc).collect();
        touched.into_iter().try_for_each(|doc| docs.part(doc, end))?;
        let mut ordinal = Ordinal(parted.head.ordinal.0 + 1);
        let applied = write_again(&mut parted.head, stream, end, &piece);
        for AppliedBatch { encoded, .. } in &applied {
            kept::insert(&mut log, ordinal, encoded)?;
            ordinal.0 += encoded.batch.entries.len() as u64;
            parted.kept_bytes += encoded.bytes.len() as u64;
        }
        show(&mut docs, &applied)?;
    }
    Ok(parted)
}

/// The first kept batch of a stream that holds an entry after `last`.
fn first_after(
    log: &Table<'_, (u32, u64), &'static [u8]>,
    stream: StreamId,
    last: Seq,
) -> Result<Option<EncodedBatch>, Fault> {
    let raw = stream.to_u32();
    // One that begins before may end after it.
    let holder = log.range((raw, 0)..=(raw, last.0))?.next_back().transpose()?;
    let from = holder.map_or(0, |(key, _)| key.value().1);
    for row in log.range((raw, from)..=(raw, u64::MAX))? {
        let encoded = kept::read(row?.1.value())?.encoded;
        if encoded.batch.last_dot().seq > last {
            return Ok(Some(encoded));
        }
    }
    Ok(None)
}

/// Takes the next batches of a stream after an entry out of the log.
fn take_piece(
    log: &mut Table<'_, (u32, u64), &'static [u8]>,
    stream: StreamId,
    last: Seq,
) -> Result<Vec<EncodedBatch>, Fault> {
    let raw = stream.to_u32();
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for row in log.range((raw, last.0 + 1)..=(raw, u64::MAX))? {
        let Kept { encoded, .. } = kept::read(row?.1.value())?;
        bytes += encoded.bytes.len();
        piece.push(encoded);
        if bytes >= PIECE_BYTES_MAX {
            break;
        }
    }
    for encoded in &piece {
        log.remove((raw, encoded.batch.first_seq.0))?;
    }
    Ok(piece)
}

fn bytes_of(piece: &[EncodedBatch]) -> u64 {
    piece.iter().map(|encoded| encoded.bytes.len() as u64).sum()
}

/// Writes entries to their documents.
fn show(docs: &mut DocTables<'_>, applied: &[AppliedBatch]) -> Result<(), Fault> {
    let mut by_doc: BTreeMap<DocId, Vec<TailEntry>> = BTreeMap::new();
    // What concerns the cluster belongs to no document.
    for (doc, entry) in applied.iter().flat_map(AppliedBatch::entries).filter(|(doc, _)| *doc != NO_DOC) {
        by_doc.entry(doc).or_default().push(entry);
    }
    for (doc, entries) in by_doc {
        docs.write(doc, Changes { entries: &entries, ..Changes::default() })?;
    }
    Ok(())
}
