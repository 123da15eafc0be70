//! A region's documents as one run of bytes, for a peer that lacks what the log no longer has.
//!
//! First what the snapshot holds: per stream the last entry, and the hash of its batch, from which the
//! stream goes on. Then each document as entries that make it: its creation, what last deleted or restored
//! it, its home, the graph of its fields, a state, and what came after that. All of them may be known to
//! whoever takes it: merging is what entries do, so a snapshot replaces nothing.
//!
//! Written and read in pieces of any length; the reader takes bytes from outside.

use crate::batch::{ChainHash, EntryKind, NO_DOC};
use crate::frontier::{FRONTIER_STREAMS_MAX, Frontier, canonical_u64};
use crate::hlc::Hlc;
use crate::ids::{DocId, Dot, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_u64};
use bytes::{Buf as _, Bytes, BytesMut};
use std::collections::BTreeMap;

/// The longest record: a state of the greatest length that is stored, and what is said about it. Whoever
/// takes a snapshot holds one record in memory.
pub const RECORD_BYTES_MAX: usize = 256 * 1024 * 1024 + 4096;

const HEAD: u8 = 1;
const ENTRY: u8 = 2;

/// Per stream, the last entry that a snapshot holds and the hash of the batch that ends with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotHead(pub BTreeMap<StreamId, (Seq, ChainHash)>);

impl SnapshotHead {
    /// What the snapshot holds.
    #[must_use]
    pub fn frontier(&self) -> Frontier {
        self.0.iter().map(|(&stream, &(seq, _))| Dot { stream, seq }).collect()
    }
}

/// An entry of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The document.
    pub doc: DocId,
    /// The entry's name; seq 0 where it stands for many, as a state does.
    pub dot: Dot,
    /// Its stamp, or the greatest of those that it stands for.
    pub hlc: Hlc,
    /// What it does.
    pub kind: EntryKind,
    /// What it does it with.
    pub payload: Bytes,
}

/// A piece of a snapshot that means something by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// What the snapshot holds: the first record, and no other.
    Head(SnapshotHead),
    /// An entry that makes a document.
    Entry(SnapshotEntry),
}

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFormatError {
    /// A record is longer than [`RECORD_BYTES_MAX`].
    #[error("a record of a snapshot has at most {RECORD_BYTES_MAX} bytes; this one has {0}")]
    TooLong(u64),
    /// A record cannot be read.
    #[error("cannot read a record of a snapshot: {0}")]
    Read(#[from] ReadError),
    /// A record of a kind that this version does not have.
    #[error("a record of a snapshot has the unknown kind {0}")]
    Unknown(u8),
    /// It does not begin with its head, or has a second one.
    #[error("a snapshot begins with its head, and has one")]
    Head,
    /// Its head names too many streams, or does not name them in order.
    #[error("the head of a snapshot names its streams in order, at most {FRONTIER_STREAMS_MAX}")]
    Streams,
    /// An entry that belongs to no document, and is not about the cluster.
    #[error("an entry of a snapshot belongs to a document, unless it is about a region")]
    NoDoc,
    /// It ends within a record.
    #[error("a snapshot ends with a whole record")]
    Cut,
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let payload: &[u8] = match self {
            Self::Head(SnapshotHead(ends)) => {
                body.push(HEAD);
                put_var_u64(&mut body, ends.len() as u64);
                for (stream, (seq, hash)) in ends {
                    put_var_u64(&mut body, u64::from(stream.to_u32()));
                    put_var_u64(&mut body, seq.0);
                    body.extend_from_slice(&hash.0);
                }
                &[]
            }
            Self::Entry(entry) => {
                body.push(ENTRY);
                body.extend_from_slice(&entry.doc.0.to_be_bytes());
                put_var_u64(&mut body, u64::from(entry.dot.stream.to_u32()));
                put_var_u64(&mut body, entry.dot.seq.0);
                put_var_u64(&mut body, entry.hlc.0);
                body.push(entry.kind.code());
                &entry.payload
            }
        };
        put_var_u64(out, (body.len() + payload.len()) as u64);
        out.extend_from_slice(&body);
        out.extend_from_slice(payload);
    }

    fn decode(bytes: Bytes) -> Result<Self, SnapshotFormatError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            HEAD => {
                let mut ends = BTreeMap::new();
                let count = canonical_u64(&mut reader)?;
                if count > FRONTIER_STREAMS_MAX as u64 {
                    return Err(SnapshotFormatError::Streams);
                }
                for _ in 0..count {
                    let stream = read_stream(&mut reader)?;
                    let seq = Seq(canonical_u64(&mut reader)?);
                    if ends.last_key_value().is_some_and(|(last, _)| *last >= stream) {
                        return Err(SnapshotFormatError::Streams);
                    }
                    ends.insert(stream, (seq, ChainHash(reader.array()?)));
                }
                reader.finish()?;
                Ok(Self::Head(SnapshotHead(ends)))
            }
            ENTRY => {
                let doc = DocId(u128::from_be_bytes(reader.array()?));
                let stream = read_stream(&mut reader)?;
                let seq = Seq(canonical_u64(&mut reader)?);
                let hlc = Hlc(canonical_u64(&mut reader)?);
                let kind = EntryKind::from_code(reader.u8()?);
                // Who belongs to the cluster and what numbers are taken is part of no document.
                if (doc == NO_DOC) != matches!(kind, EntryKind::Member | EntryKind::Lease) {
                    return Err(SnapshotFormatError::NoDoc);
                }
                let payload = reader.bytes(reader.remaining())?;
                Ok(Self::Entry(SnapshotEntry { doc, dot: Dot { stream, seq }, hlc, kind, payload }))
            }
            kind => Err(SnapshotFormatError::Unknown(kind)),
        }
    }
}

fn read_stream(reader: &mut Reader) -> Result<StreamId, ReadError> {
    let raw = u32::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)?;
    Ok(StreamId::from_u32(raw))
}

/// Reads a snapshot as its bytes come.
#[derive(Debug, Default)]
pub struct SnapshotReader {
    /// The beginning of a record that has not come whole.
    rest: BytesMut,
    begun: bool,
}

impl SnapshotReader {
    /// Takes the next bytes and returns the records that they complete.
    ///
    /// # Errors
    /// When the bytes are no snapshot; nothing more can be read then.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Record>, SnapshotFormatError> {
        self.rest.extend_from_slice(bytes);
        let mut records = Vec::new();
        while let Some((header, len)) = self.next_len()? {
            if self.rest.len() < header + len {
                break;
            }
            self.rest.advance(header);
            let record = Record::decode(self.rest.split_to(len).freeze())?;
            if matches!(record, Record::Head(_)) == self.begun {
                return Err(SnapshotFormatError::Head);
            }
            self.begun = true;
            records.push(record);
        }
        Ok(records)
    }

    /// The length of the next record, and of what says it; none while that has not come.
    fn next_len(&self) -> Result<Option<(usize, usize)>, SnapshotFormatError> {
        /// What a length within the limit takes at most.
        const LENGTH_BYTES_MAX: usize = 5;
        let start = &self.rest[..self.rest.len().min(LENGTH_BYTES_MAX)];
        let Some(last) = start.iter().position(|byte| byte & 0x80 == 0) else {
            let endless = start.len() == LENGTH_BYTES_MAX;
            return if endless { Err(SnapshotFormatError::TooLong(u64::MAX)) } else { Ok(None) };
        };
        let len = canonical_u64(&mut Reader::new(Bytes::copy_from_slice(&start[..=last])))?;
        match usize::try_from(len) {
            Ok(short) if short <= RECORD_BYTES_MAX => Ok(Some((last + 1, short))),
            _ => Err(SnapshotFormatError::TooLong(len)),
        }
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// When the snapshot is not whole.
    pub fn finish(&self) -> Result<(), SnapshotFormatError> {
        match (self.begun, self.rest.is_empty()) {
            (true, true) => Ok(()),
            (false, true) => Err(SnapshotFormatError::Head),
            (_, false) => Err(SnapshotFormatError::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Record> {
        let kind = any::<u8>().prop_filter("of a document", |kind| {
            ![EntryKind::Member.code(), EntryKind::Lease.code()].contains(kind)
        });
        let ids = (1_u128.., any::<u32>(), any::<u32>(), any::<u64>(), kind);
        (ids, prop::collection::vec(any::<u8>(), 0..300)).prop_map(
            |((doc, stream, seq, hlc, kind), payload)| {
                let dot = Dot { stream: StreamId::from_u32(stream), seq: Seq(seq.into()) };
                let (kind, payload) = (EntryKind::from_code(kind), payload.into());
                Record::Entry(SnapshotEntry { doc: DocId(doc), dot, hlc: Hlc(hlc), kind, payload })
            },
        )
    }

    fn head() -> impl Strategy<Value = Record> {
        let end = (any::<u64>().prop_map(Seq), any::<[u8; 16]>().prop_map(ChainHash));
        let ends = prop::collection::btree_map(any::<u32>().prop_map(StreamId::from_u32), end, 0..9);
        ends.prop_map(|ends| Record::Head(SnapshotHead(ends)))
    }

    proptest! {
        #[test]
        fn l13_a_snapshot_is_read_in_pieces_of_any_length(
            head in head(),
            entries in prop::collection::vec(entry(), 0..20),
            piece in 1_usize..500,
        ) {
            let records: Vec<Record> = std::iter::once(head).chain(entries).collect();
            let mut bytes = Vec::new();
            records.iter().for_each(|record| record.encode(&mut bytes));
            let mut reader = SnapshotReader::default();
            let mut read = Vec::new();
            for piece in bytes.chunks(piece) {
                read.extend(reader.take(piece).expect("a snapshot"));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
            prop_assert_eq!(read, records);
            // Cut anywhere within a record it is not whole.
            let mut reader = SnapshotReader::default();
            let cut = reader.take(&bytes[..bytes.len() - 1]).map(drop).and_then(|()| reader.finish());
            prop_assert_eq!(cut, Err(SnapshotFormatError::Cut));
        }

        #[test]
        fn l13_any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = SnapshotReader::default().take(&bytes);
        }
    }

    #[test]
    fn l13_an_endless_or_headless_snapshot_is_refused() {
        let mut reader = SnapshotReader::default();
        assert_eq!(reader.take(&[0xff; 5]), Err(SnapshotFormatError::TooLong(u64::MAX)));
        let mut bytes = Vec::new();
        put_var_u64(&mut bytes, RECORD_BYTES_MAX as u64 + 1);
        let refused = SnapshotReader::default().take(&bytes);
        assert_eq!(refused, Err(SnapshotFormatError::TooLong(RECORD_BYTES_MAX as u64 + 1)));
        assert_eq!(SnapshotReader::default().finish(), Err(SnapshotFormatError::Head));
        let mut twice = Vec::new();
        Record::Head(SnapshotHead::default()).encode(&mut twice);
        Record::Head(SnapshotHead::default()).encode(&mut twice);
        assert_eq!(SnapshotReader::default().take(&twice), Err(SnapshotFormatError::Head));
    }
}
