//! The bytes of a batch, the same on disk and between regions.
//!
//! ```text
//! version u8 = 1 · stream u32 · hlc_base u64 · prev_hash 16 bytes          integers little-endian
//! first_seq · count · deps (a frontier) · docs, then docs × 16 bytes, big-endian     others: lib0's
//! count × [ doc index · kind u8 · stamp minus the one before · payload length · payload ]
//! crc32c u32 over everything before it
//! ```
//!
//! The decoder takes bytes from disks and peers: it never panics, never allocates from a length it
//! has not checked, and accepts exactly the bytes that the encoder writes. The dictionary of
//! documents is in order of first use, so equal batches have equal bytes.

use super::{
    BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Batch, ChainHash, ENTRY_PAYLOAD_BYTES_MAX, Entry, EntryKind,
};
use crate::frontier::{Frontier, FrontierError, canonical_u64};
use crate::hlc::Hlc;
use crate::ids::{DocId, Dot, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_u64};
use bytes::Bytes;
use std::collections::BTreeMap;

const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;

/// The fewest bytes an entry takes: doc index, kind, stamp, length.
const ENTRY_BYTES_MIN: usize = 4;
const DOC_BYTES: usize = 16;

/// The count of entries and the count of documents: lib0 integers of at most 4,096.
const COUNT_BYTES_MAX: usize = 4;

/// A frontier's count, and a stream and seq of it, at their longest.
const DEPS_COUNT_BYTES: usize = 3;
const DEP_BYTES_MAX: usize = 5 + 10;

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes are cut short, overlong or followed by more.
    #[error("cannot read a batch: {0}")]
    Read(#[from] ReadError),
    /// The dependencies cannot be read.
    #[error("cannot read a batch's dependencies: {0}")]
    Deps(#[from] FrontierError),
    /// A batch of a newer format.
    #[error("a batch of format {0}; this release reads format {VERSION}")]
    Version(u8),
    /// The checksum does not match: the bytes were damaged.
    #[error("a batch's checksum does not match its bytes")]
    Checksum,
    /// A limit of size, count or order is broken.
    #[error("a batch breaks a rule: {0}")]
    Rule(&'static str),
}

/// A batch with the bytes it is spelt in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBatch {
    /// What the bytes say; payloads share their memory.
    pub batch: Batch,
    /// The bytes.
    pub bytes: Bytes,
}

impl EncodedBatch {
    /// The hash that the stream's next batch names as its predecessor.
    #[must_use]
    pub fn hash(&self) -> ChainHash {
        let hash = blake3::hash(&self.bytes);
        let mut first = [0; 16];
        first.copy_from_slice(&hash.as_bytes()[..16]);
        ChainHash(first)
    }

    /// Reads a batch.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`BatchBuilder`] gives for some batch.
    pub fn decode(bytes: Bytes) -> Result<Self, BatchError> {
        let body = bytes.len().checked_sub(CRC_BYTES).ok_or(ReadError::End)?;
        let (covered, crc) = bytes.split_at(body);
        if bytes.first().is_some_and(|&version| version != VERSION) {
            return Err(BatchError::Version(bytes[0]));
        }
        if crc32c::crc32c(covered).to_le_bytes() != crc {
            return Err(BatchError::Checksum);
        }
        let mut reader = Reader::new(bytes.slice(..body));
        let (mut batch, count) = read_header(&mut reader)?;
        let docs = read_docs(&mut reader, count)?;
        read_entries(&mut reader, &mut batch, count, &docs)?;
        reader.finish()?;
        if batch.entries.len() > 1 && bytes.len() > BATCH_BYTES_MAX {
            return Err(BatchError::Rule("more than 64 KiB in more than one entry"));
        }
        Ok(Self { batch, bytes })
    }
}

/// Spells one batch, entry by entry.
#[derive(Debug)]
pub struct BatchBuilder {
    batch: Batch,
    docs: BTreeMap<DocId, u64>,
    dictionary: Vec<u8>,
    header: Vec<u8>,
    body: Vec<u8>,
    payload_starts: Vec<usize>,
    last_stamp: Hlc,
}

/// The batch is full: the entry is the first of the next one.
#[derive(Debug, PartialEq, Eq)]
pub struct BatchFull(pub Entry);

impl BatchBuilder {
    /// Begins a batch.
    #[must_use]
    pub fn new(
        stream: StreamId,
        first_seq: Seq,
        hlc_base: Hlc,
        deps: Frontier,
        prev_hash: ChainHash,
    ) -> Self {
        let mut header = vec![VERSION];
        header.extend_from_slice(&stream.to_u32().to_le_bytes());
        header.extend_from_slice(&hlc_base.0.to_le_bytes());
        header.extend_from_slice(&prev_hash.0);
        put_var_u64(&mut header, first_seq.0);
        Self {
            batch: Batch { stream, first_seq, hlc_base, deps, prev_hash, entries: Vec::new() },
            docs: BTreeMap::new(),
            dictionary: Vec::new(),
            header,
            body: Vec::new(),
            payload_starts: Vec::new(),
            last_stamp: hlc_base,
        }
    }

    /// Adds an entry. A batch without entries takes any entry.
    ///
    /// # Errors
    /// Gives the entry back when the batch would pass [`BATCH_BYTES_MAX`] or [`BATCH_ENTRIES_MAX`].
    ///
    /// # Panics
    /// When the entry's stamp is below the one before, or its payload is longer than
    /// [`ENTRY_PAYLOAD_BYTES_MAX`]: the caller made an entry that no log may hold.
    pub fn push(&mut self, entry: Entry) -> Result<(), BatchFull> {
        assert!(entry.payload.len() <= ENTRY_PAYLOAD_BYTES_MAX, "a payload has a limit");
        let count = self.batch.entries.len();
        let known = self.docs.get(&entry.doc).copied();
        let mark = self.body.len();
        put_var_u64(&mut self.body, known.unwrap_or(self.docs.len() as u64));
        self.body.push(entry.kind.code());
        let delta = entry.hlc.0.checked_sub(self.last_stamp.0).expect("stamps never fall in a batch");
        put_var_u64(&mut self.body, delta);
        put_var_u64(&mut self.body, entry.payload.len() as u64);
        let added = if known.is_some() { 0 } else { DOC_BYTES } + entry.payload.len();
        if count > 0 && (count >= BATCH_ENTRIES_MAX || self.bytes_len() + added > BATCH_BYTES_MAX) {
            self.body.truncate(mark);
            return Err(BatchFull(entry));
        }
        if known.is_none() {
            self.docs.insert(entry.doc, self.docs.len() as u64);
            self.dictionary.extend_from_slice(&entry.doc.0.to_be_bytes());
        }
        self.payload_starts.push(self.body.len());
        self.body.extend_from_slice(&entry.payload);
        self.last_stamp = entry.hlc;
        self.batch.entries.push(entry);
        Ok(())
    }

    /// The most bytes that the batch can take as it stands.
    fn bytes_len(&self) -> usize {
        let deps = DEPS_COUNT_BYTES + self.batch.deps.len() * DEP_BYTES_MAX;
        self.header.len() + COUNT_BYTES_MAX + deps + self.dictionary.len() + self.body.len() + CRC_BYTES
    }

    /// Ends the batch. The payloads of its entries then share the memory of its bytes, so that what
    /// they were sliced from is free to go.
    ///
    /// # Panics
    /// When the batch has no entry.
    #[must_use]
    pub fn finish(self) -> EncodedBatch {
        let Self { mut batch, docs, dictionary, header: mut out, body, payload_starts, .. } = self;
        assert!(!batch.entries.is_empty(), "a batch has an entry");
        out.reserve_exact(
            COUNT_BYTES_MAX
                + DEPS_COUNT_BYTES
                + batch.deps.len() * DEP_BYTES_MAX
                + dictionary.len()
                + body.len()
                + CRC_BYTES,
        );
        put_var_u64(&mut out, batch.entries.len() as u64);
        batch.deps.encode(&mut out);
        put_var_u64(&mut out, docs.len() as u64);
        out.extend_from_slice(&dictionary);
        let base = out.len();
        out.extend_from_slice(&body);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let bytes = Bytes::from(out);
        for (entry, start) in batch.entries.iter_mut().zip(payload_starts) {
            entry.payload = bytes.slice(base + start..base + start + entry.payload.len());
        }
        EncodedBatch { batch, bytes }
    }
}

/// The first and last entry of an encoded batch, from its head alone: for bytes that were checked when they
/// were stored. None when even that cannot be read.
#[must_use]
pub fn batch_range(bytes: &Bytes) -> Option<(Dot, Dot)> {
    let (batch, count) = read_header(&mut Reader::new(bytes.clone())).ok()?;
    let (stream, seq) = (batch.stream, batch.first_seq);
    let last = Seq(seq.0 + count as u64 - 1);
    Some((Dot { stream, seq }, Dot { stream, seq: last }))
}

fn read_u32(reader: &mut Reader) -> Result<u32, ReadError> {
    let mut raw = [0; 4];
    raw.copy_from_slice(&reader.bytes(4)?);
    Ok(u32::from_le_bytes(raw))
}

/// Reads up to the dictionary; the entries are still missing.
fn read_header(reader: &mut Reader) -> Result<(Batch, usize), BatchError> {
    reader.u8()?;
    let stream = StreamId::from_u32(read_u32(reader)?);
    let low = read_u32(reader)?;
    let hlc_base = Hlc(u64::from(read_u32(reader)?) << 32 | u64::from(low));
    let mut prev_hash = ChainHash::START;
    prev_hash.0.copy_from_slice(&reader.bytes(16)?);
    let first_seq = Seq(canonical_u64(reader)?);
    let count = canonical_u64(reader)?;
    if count == 0 || count > BATCH_ENTRIES_MAX as u64 {
        return Err(BatchError::Rule("a batch has 1 to 4,096 entries"));
    }
    if first_seq.0 == 0 || first_seq.0.checked_add(count - 1).is_none() {
        return Err(BatchError::Rule("seqs begin at 1 and fit 64 bits"));
    }
    let deps = Frontier::decode(reader)?;
    if deps.get(stream) > Seq(0) {
        return Err(BatchError::Rule("a batch depends on other streams than its own"));
    }
    let batch = Batch { stream, first_seq, hlc_base, deps, prev_hash, entries: Vec::new() };
    Ok((batch, usize::try_from(count).map_err(|_| ReadError::Overflow)?))
}

fn read_docs(reader: &mut Reader, entries: usize) -> Result<Vec<DocId>, BatchError> {
    let count = usize::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)?;
    if count == 0 || count > entries {
        return Err(BatchError::Rule("a batch names 1 document to as many as it has entries"));
    }
    // Bounded by BATCH_ENTRIES_MAX, and `bytes` checks it against what is left.
    let raw = reader.bytes(count * DOC_BYTES)?;
    let docs: Vec<DocId> = raw
        .chunks_exact(DOC_BYTES)
        .map(|doc| DocId(doc.iter().fold(0, |id, &byte| id << 8 | u128::from(byte))))
        .collect();
    let mut sorted = docs.clone();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(BatchError::Rule("a batch names a document once"));
    }
    Ok(docs)
}

fn read_entries(
    reader: &mut Reader,
    batch: &mut Batch,
    count: usize,
    docs: &[DocId],
) -> Result<(), BatchError> {
    if count * ENTRY_BYTES_MIN > reader.remaining() {
        return Err(ReadError::End.into());
    }
    batch.entries.reserve_exact(count);
    let mut stamp = batch.hlc_base;
    let mut docs_seen = 0;
    for _ in 0..count {
        let index = usize::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)?;
        if index > docs_seen {
            return Err(BatchError::Rule("documents are named in order of first use"));
        }
        docs_seen = docs_seen.max(index + 1);
        let doc = *docs.get(index).ok_or(BatchError::Rule("an entry names a document that is not there"))?;
        let kind = EntryKind::from_code(reader.u8()?);
        let stamped = stamp.0.checked_add(canonical_u64(reader)?);
        stamp = Hlc(stamped.ok_or(BatchError::Rule("stamps fit 64 bits"))?);
        let len = usize::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)?;
        if len > ENTRY_PAYLOAD_BYTES_MAX {
            return Err(BatchError::Rule("a payload is too long"));
        }
        batch.entries.push(Entry { doc, kind, hlc: stamp, payload: reader.bytes(len)? });
    }
    if docs_seen != docs.len() {
        return Err(BatchError::Rule("a batch names no document without an entry"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Dot, Incarnation, ReplicaId};
    use proptest::prelude::*;

    const STREAM: StreamId = StreamId { replica: ReplicaId(1), incarnation: Incarnation(1) };

    fn builder(first_seq: u64) -> BatchBuilder {
        BatchBuilder::new(
            STREAM,
            Seq(first_seq),
            Hlc::from_ms(1_700_000_000_000),
            Frontier::new(),
            ChainHash([7; 16]),
        )
    }

    fn entry(doc: u128, payload_len: usize) -> Entry {
        let hlc = Hlc::from_ms(1_700_000_000_000);
        Entry { doc: DocId(doc), kind: EntryKind::Update, hlc, payload: vec![7; payload_len].into() }
    }

    fn batches() -> impl Strategy<Value = EncodedBatch> {
        let entries = proptest::collection::vec(
            (0..5_u128, any::<u8>(), 0..1_u64 << 40, proptest::collection::vec(any::<u8>(), 0..80)),
            1..40,
        );
        let deps = proptest::collection::vec((0..9_u32, any::<u64>()), 0..4);
        (entries, deps, 1..u64::MAX - 50, any::<u32>(), any::<[u8; 16]>()).prop_map(
            |(entries, deps, first_seq, base, prev)| {
                let deps =
                    deps.into_iter().map(|(s, seq)| Dot { stream: StreamId::from_u32(s), seq: Seq(seq) });
                let base = Hlc(u64::from(base));
                let mut builder =
                    BatchBuilder::new(STREAM, Seq(first_seq), base, deps.collect(), ChainHash(prev));
                let mut stamp = base;
                for (doc, kind, delta, payload) in entries {
                    stamp.0 += delta;
                    let kind = EntryKind::from_code(kind);
                    builder
                        .push(Entry { doc: DocId(doc), kind, hlc: stamp, payload: payload.into() })
                        .expect("fits");
                }
                builder.finish()
            },
        )
    }

    proptest! {
        #[test]
        fn a_batch_survives_its_bytes(encoded in batches()) {
            prop_assert_eq!(EncodedBatch::decode(encoded.bytes.clone()), Ok(encoded));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = EncodedBatch::decode(bytes.clone().into());
            let mut spelt = vec![VERSION];
            spelt.extend(bytes);
            let _ = EncodedBatch::decode(with_crc(spelt));
        }

        /// A valid checksum must not be what stands between a peer and a panic.
        #[test]
        fn changed_bytes_are_refused_or_the_one_spelling_of_another_batch(
            encoded in batches(), at: prop::sample::Index, value: u8, cut in 0..8_usize,
        ) {
            let mut bytes = encoded.bytes[..encoded.bytes.len() - CRC_BYTES].to_vec();
            let at = at.index(bytes.len());
            bytes[at] = value;
            bytes.truncate(bytes.len().saturating_sub(cut / 4));
            if let Ok(changed) = EncodedBatch::decode(with_crc(bytes)) {
                prop_assert_eq!(&respelt(&changed.batch).bytes, &changed.bytes);
            }
        }

        #[test]
        fn a_damaged_bit_is_noticed(encoded in batches(), at: prop::sample::Index, bit in 0..8_u8) {
            let mut bytes = encoded.bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(EncodedBatch::decode(bytes.into()).is_err());
        }
    }

    fn with_crc(mut bytes: Vec<u8>) -> Bytes {
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.into()
    }

    fn respelt(batch: &Batch) -> EncodedBatch {
        let deps = batch.deps.clone();
        let mut builder =
            BatchBuilder::new(batch.stream, batch.first_seq, batch.hlc_base, deps, batch.prev_hash);
        for entry in batch.entries.clone() {
            builder.push(entry).expect("what was decoded fits");
        }
        builder.finish()
    }

    #[test]
    fn a_lone_entry_costs_at_most_96_bytes_beyond_its_payload() {
        let mut builder = builder(1 << 40);
        builder.push(entry(u128::MAX, 60)).expect("the first entry fits");
        let overhead = builder.finish().bytes.len() - 60;
        assert!(overhead <= 96, "{overhead} bytes");
    }

    #[test]
    fn a_hundred_entries_cost_at_most_10_bytes_each_beyond_their_payloads() {
        let mut builder = builder(1 << 40);
        for i in 0..100 {
            let hlc = Hlc(Hlc::from_ms(1_700_000_000_000).0 + i);
            builder.push(Entry { hlc, ..entry(u128::from(i % 10), 60) }).expect("the batch has room");
        }
        let overhead = (builder.finish().bytes.len() - 6000) as f64 / 100.0;
        assert!(overhead <= 10.0, "{overhead} bytes an entry");
    }

    #[test]
    fn a_full_batch_gives_the_entry_back_and_a_large_entry_is_alone() {
        let mut by_bytes = builder(1);
        by_bytes.push(entry(1, 100_000)).expect("any first entry fits");
        assert_eq!(by_bytes.push(entry(1, 0)), Err(BatchFull(entry(1, 0))));
        let large = by_bytes.finish();
        assert_eq!(EncodedBatch::decode(large.bytes.clone()), Ok(large));

        let mut by_count = builder(1);
        let fitting = (0..5000).take_while(|_| by_count.push(entry(1, 5)).is_ok()).count();
        assert_eq!(fitting, BATCH_ENTRIES_MAX);

        let mut by_docs = builder(1);
        let fitting = (0..5000).take_while(|&i| by_docs.push(entry(i, 0)).is_ok()).count();
        assert!(fitting < BATCH_ENTRIES_MAX);
        let full = by_docs.finish();
        assert!(full.bytes.len() <= BATCH_BYTES_MAX && full.bytes.len() > BATCH_BYTES_MAX - 64);
        assert_eq!(EncodedBatch::decode(full.bytes.clone()), Ok(full));
    }

    #[test]
    fn a_newer_format_is_named_as_such() {
        let mut builder = builder(1);
        builder.push(entry(1, 3)).expect("fits");
        let mut bytes = builder.finish().bytes.to_vec();
        bytes[0] = 2;
        assert_eq!(EncodedBatch::decode(bytes.into()), Err(BatchError::Version(2)));
    }
}
