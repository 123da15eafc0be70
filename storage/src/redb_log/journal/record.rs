//! A commit as the journal holds it: whole blocks that begin with a checksummed header.
//!
//! Pure. A record is whole or it is none; nothing of a torn one is read.

use super::super::fault::Fault;
use super::super::rows::Identity;
use super::segment::BLOCK_BYTES;
use crate::head::Ordinal;
use bytes::{Buf, Bytes};
use quire_protocol::batch::EncodedBatch;
use std::sync::Arc;

/// What a record begins with.
const MARK: &[u8; 4] = b"qCmt";

/// Mark, checksum, length of the body, how many batches it holds, the first entry's ordinal.
pub(super) const HEADER_BYTES: usize = 4 + 4 + 4 + 4 + 8;

/// Where the bytes begin that the checksum covers.
const CHECKED_FROM: usize = 8;

/// A commit that was read.
#[derive(Clone, Debug)]
pub(in super::super) struct Record {
    /// The ordinal of its first entry.
    pub(in super::super) first: Ordinal,
    pub(in super::super) batches: Vec<Arc<EncodedBatch>>,
    /// Which file holds it, from where, and in how many bytes.
    pub(super) file: &'static str,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Record {
    /// The ordinal of the last entry.
    pub(super) fn last(&self) -> Ordinal {
        last(self.first, &self.batches)
    }

    /// The bytes that it takes in its file.
    pub(in super::super) const fn len(&self) -> u64 {
        self.len
    }
}

/// What the checksums of a directory's records begin with: its number, which was drawn at random and
/// is told to nobody. A block of a client's bytes in the middle of a torn record is no record.
pub(super) fn key(identity: &Identity) -> u32 {
    crc32c::crc32c(&identity.directory.to_le_bytes())
}

fn checksum(key: u32, checked: &[u8]) -> u32 {
    crc32c::crc32c_append(key, checked)
}

/// The ordinal of the last entry of some batches, whose first entry has this one.
pub(super) fn last(first: Ordinal, batches: &[Arc<EncodedBatch>]) -> Ordinal {
    let entries: u64 = batches.iter().map(|encoded| encoded.batch.entries.len() as u64).sum();
    Ordinal(first.0 + entries - 1)
}

/// How many bytes batches take in one record, before it is filled up to whole blocks.
pub(super) fn encoded_len(batches: &[Arc<EncodedBatch>]) -> usize {
    HEADER_BYTES + batches.iter().map(|encoded| 4 + encoded.bytes.len()).sum::<usize>()
}

/// Writes batches as one record. They have been found to fit.
pub(super) fn encode(out: &mut Vec<u8>, first: Ordinal, batches: &[Arc<EncodedBatch>], key: u32) {
    let fits = |len: usize| u32::try_from(len).expect("a commit within its limit").to_le_bytes();
    let len = encoded_len(batches);
    out.clear();
    out.reserve(len.next_multiple_of(BLOCK_BYTES));
    out.extend_from_slice(MARK);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&fits(len - HEADER_BYTES));
    out.extend_from_slice(&fits(batches.len()));
    out.extend_from_slice(&first.0.to_le_bytes());
    for encoded in batches {
        out.extend_from_slice(&fits(encoded.bytes.len()));
        out.extend_from_slice(&encoded.bytes);
    }
    let checksum = checksum(key, &out[CHECKED_FROM..]);
    out[4..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
    out.resize(len.next_multiple_of(BLOCK_BYTES), 0);
}

/// How long the record is that a block seems to begin; none when it begins none.
pub(super) fn len_of(block: &[u8]) -> Option<usize> {
    let body: [u8; 4] = block.get(8..12)?.try_into().ok()?;
    (block.get(..4)? == MARK).then_some(HEADER_BYTES + u32::from_le_bytes(body) as usize)
}

/// The first entry's ordinal of a whole record; none when its bytes are not those that were written.
pub(super) fn checked(record: &[u8], key: u32) -> Option<Ordinal> {
    let written: [u8; 4] = record.get(4..CHECKED_FROM)?.try_into().ok()?;
    let first: [u8; 8] = record.get(16..HEADER_BYTES)?.try_into().ok()?;
    let whole = checksum(key, &record[CHECKED_FROM..]) == u32::from_le_bytes(written);
    whole.then_some(Ordinal(u64::from_le_bytes(first)))
}

/// Reads the batches of a record whose checksum was right.
///
/// # Errors
/// When it holds what no release has written.
pub(super) fn batches(record: Bytes) -> Result<Vec<Arc<EncodedBatch>>, Fault> {
    let mut rest = record;
    let unreadable = || Fault::corrupt("a commit ends in the middle of a batch");
    if rest.len() < HEADER_BYTES {
        return Err(unreadable());
    }
    rest.advance(12);
    let count = rest.get_u32_le();
    rest.advance(8);
    let mut batches = Vec::new();
    for _ in 0..count {
        let len = rest.try_get_u32_le().map_err(|_| unreadable())? as usize;
        if rest.len() < len {
            return Err(unreadable());
        }
        let encoded = EncodedBatch::decode(rest.split_to(len))
            .map_err(|error| Fault::corrupt(format!("a batch in a commit is damaged: {error}")))?;
        batches.push(Arc::new(encoded));
    }
    if batches.is_empty() || !rest.is_empty() {
        return Err(Fault::corrupt("a commit does not hold the batches that it counts"));
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Head;
    use crate::log::NewEntry;
    use crate::sequencer::plan;
    use proptest::prelude::*;
    use quire_protocol::batch::EntryKind;
    use quire_protocol::ids::{DocId, Dot, StreamId};

    const KEY: u32 = 7;

    fn batches_of(payloads: &[usize]) -> Vec<Arc<EncodedBatch>> {
        let entry =
            |len: &usize| NewEntry { doc: DocId(1), kind: EntryKind::Update, payload: vec![9; *len].into() };
        let group = payloads.iter().map(entry).collect();
        let mut nothing_waits = |_: Dot| unreachable!("nothing is received");
        let plan = plan(&Head::default(), StreamId::from_u32(1), 1, &[group], &[], &mut nothing_waits);
        plan.expect("entries within limits").batches
    }

    fn encoded(batches: &[Arc<EncodedBatch>]) -> Vec<u8> {
        let mut record = vec![1; 99];
        encode(&mut record, Ordinal(1), batches, KEY);
        record
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_a_damaged_byte_makes_it_no_record(
            payloads in proptest::collection::vec(0..40_000_usize, 1..6),
            at: prop::sample::Index,
            flip in 1..=255_u8,
        ) {
            let batches = batches_of(&payloads);
            let mut record = encoded(&batches);
            prop_assert!(record.len().is_multiple_of(BLOCK_BYTES));
            let len = len_of(&record[..BLOCK_BYTES]).expect("a record's length");
            prop_assert_eq!(len, encoded_len(&batches));
            prop_assert_eq!(checked(&record[..len], KEY), Some(Ordinal(1)));
            prop_assert_eq!(super::batches(Bytes::copy_from_slice(&record[..len])), Ok(batches));

            record[at.index(len)] ^= flip;
            let found = len_of(&record).filter(|len| *len <= record.len());
            prop_assert!(found.is_none_or(|len| checked(&record[..len], KEY).is_none()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (len_of(&bytes), checked(&bytes, KEY), super::batches(bytes.into()));
        }
    }

    #[test]
    fn what_another_directory_wrote_is_no_record_here() {
        // As a client might have it stored within one of its own updates, at a block's beginning.
        let record = encoded(&batches_of(&[10, 20]));
        let len = len_of(&record).expect("a record's length");
        assert!(checked(&record[..len], KEY).is_some());
        assert!(checked(&record[..len], KEY + 1).is_none());
    }
}
