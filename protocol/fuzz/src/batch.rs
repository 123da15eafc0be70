//! Batches, frontiers, lifecycle changes and names: what comes from a disk, a peer or an HTTP header.
//!
//! Uses the library only: the crate's tests run it over the committed inputs.

use bytes::Bytes;
use quire_protocol::batch::{
    Batch, BatchBuilder, ChainHash, EncodedBatch, Entry, EntryKind, LifecycleChange,
};
use quire_protocol::frontier::{FRONTIER_STREAMS_MAX, FRONTIER_TOKEN_BYTES_MAX, Frontier};
use quire_protocol::hlc::Hlc;
use quire_protocol::hocuspocus::Address;
use quire_protocol::ids::{DOC_NAME_BYTES_MAX, DocId, DocName, Dot, Seq, StreamId};
use quire_protocol::lib0::{ReadError, Reader};

/// The format of the batches that are read here.
const VERSION: u8 = 1;
/// The most dots of a made batch's dependencies.
const DEPS_MAX: u8 = 8;

/// Reads the bytes as everything that this crate reads, and makes a batch out of them.
pub(crate) fn run(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    read_batch(bytes.clone());
    // A checksum that matches must not be what stands between a peer and a panic.
    read_batch(sealed(data.to_vec()));
    read_batch(sealed([&[VERSION], data].concat()));
    read_frontier(&bytes);
    if let Ok(change) = LifecycleChange::decode(&bytes) {
        assert_eq!(LifecycleChange::decode(&change.encode()), Ok(change));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        read_text(text);
    }
    if let Ok(made) = make(&mut Reader::new(bytes)) {
        assert_eq!(EncodedBatch::decode(made.bytes.clone()), Ok(made), "a batch survives its bytes");
    }
}

fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.into()
}

fn read_batch(bytes: Bytes) {
    let Ok(read) = EncodedBatch::decode(bytes) else { return };
    assert_eq!(respelt(&read.batch).bytes, read.bytes, "a batch has one spelling");
    assert!(read.batch.last_dot().seq >= read.batch.first_seq);
    assert!(read.batch.entries.is_sorted_by_key(|entry| entry.hlc), "stamps never fall");
    for entry in &read.batch.entries {
        assert_eq!(EntryKind::from_code(entry.kind.code()), entry.kind);
    }
}

fn respelt(batch: &Batch) -> EncodedBatch {
    let Batch { stream, first_seq, hlc_base, prev_hash, .. } = *batch;
    let mut builder = BatchBuilder::new(stream, first_seq, hlc_base, batch.deps.clone(), prev_hash);
    for entry in batch.entries.clone() {
        builder.push(entry).expect("what was decoded fits");
    }
    builder.finish()
}

fn read_frontier(bytes: &Bytes) {
    let mut reader = Reader::new(bytes.clone());
    let Ok(frontier) = Frontier::decode(&mut reader) else { return };
    let mut again = Vec::new();
    frontier.encode(&mut again);
    assert_eq!(again, bytes[..reader.position()], "a frontier has one spelling");
    assert!(frontier.len() <= FRONTIER_STREAMS_MAX);
    let token = frontier.to_token();
    assert!(token.len() <= FRONTIER_TOKEN_BYTES_MAX);
    assert_eq!(Frontier::from_token(&token), Ok(frontier));
}

fn read_text(text: &str) {
    if let Ok(frontier) = Frontier::from_token(text) {
        assert_eq!(frontier.to_token(), text, "a frontier has one token");
    }
    if let Ok(name) = DocName::new(text) {
        assert_eq!((name.as_str(), name.id()), (text, DocName::new(text).expect("it is a name").id()));
        assert!(text.len() <= DOC_NAME_BYTES_MAX && !text.contains(char::is_control));
    }
    if let Ok(address) = Address::new(text) {
        assert_eq!(address.as_str(), text, "replies carry the address as it came");
        assert_eq!(text.split('\0').next(), Some(address.name().as_str()));
    }
}

/// Makes a batch of what the bytes say.
fn make(reader: &mut Reader) -> Result<EncodedBatch, ReadError> {
    let stream = StreamId::from_u32(reader.var_u32()?);
    // Every entry that may follow has a seq.
    let first_seq = Seq(reader.var_u64()?.clamp(1, u64::MAX - reader.remaining() as u64));
    let mut stamp = Hlc(reader.var_u64()?);
    let mut deps = Frontier::new();
    for _ in 0..reader.u8()? % DEPS_MAX {
        deps.raise(Dot { stream: StreamId::from_u32(reader.var_u32()?), seq: Seq(reader.var_u64()?) });
    }
    let mut builder = BatchBuilder::new(stream, first_seq, stamp, deps.without(stream), ChainHash::START);
    builder.push(entry(reader, &mut stamp)?).expect("any first entry fits");
    while let Ok(entry) = entry(reader, &mut stamp) {
        if builder.push(entry).is_err() {
            break;
        }
    }
    Ok(builder.finish())
}

fn entry(reader: &mut Reader, stamp: &mut Hlc) -> Result<Entry, ReadError> {
    let (doc, kind) = (DocId(u128::from(reader.u8()?)), EntryKind::from_code(reader.u8()?));
    stamp.0 = stamp.0.saturating_add(reader.var_u64()?);
    Ok(Entry { doc, kind, hlc: *stamp, payload: reader.var_bytes()? })
}
