//! The values of the store's rows: documents, tails, snapshots, the log's head.
//!
//! Each ends with a CRC-32C over the rest, since redb hands out pages without verifying them: what
//! is read back is what was written, or an error. `docs/storage.md` describes the bytes.

use super::fault::Fault;
use crate::acks::Acks;
use crate::document::{DocRow, Snapshot, TailEntry};
use crate::head::{Head, Ordinal};
use crate::log::Position;
use crate::members::Members;
use crate::numbers::Numbers;
use bytes::Bytes;
use quire_protocol::batch::{ChainHash, EntryKind, Membership, Stamp};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Gate;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocName, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use quire_protocol::life::Life;
use std::collections::BTreeMap;

const CRC_BYTES: usize = 4;

/// Where an early row of a document has the time when it was created, which is a greater number or 0.
const DOC_ROW_VERSION: u64 = 2;

/// The name of a creation in an early row, which does not tell it.
const NAMELESS: Dot =
    Dot { stream: StreamId { replica: ReplicaId(0), incarnation: Incarnation(0) }, seq: Seq(0) };

/// What a tail's row takes at most, unless a single entry takes more. With its key it fits a page of 64 KiB: redb
/// rounds pages up to a power of two, and a longer row would have twice its bytes written in the worst case.
const TAIL_ROW_BYTES: usize = 65_000;

/// What an entry takes beside its payload where it stands in a tail's row, most often less than half of it.
const TAIL_ENTRY_BYTES: usize = 16;

/// A document's row: what its entries say, and how far the store holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredRow {
    pub(super) doc: DocRow,
    /// The last entry that the row, the tails and the snapshot tell of.
    pub(super) position: Position,
    /// Up to where the snapshot holds everything; 0 when there is none.
    pub(super) snapshot: Position,
    /// Up to where its derived rows were derived; 0 when they never were.
    pub(super) derived: Position,
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Checks a row's checksum and begins to read it.
fn unseal(row: &Bytes, what: &str) -> Result<Reader, Fault> {
    let body = row.len().checked_sub(CRC_BYTES).ok_or_else(|| torn(what, "it is too short"))?;
    if crc32c::crc32c(&row[..body]).to_le_bytes() != row[body..] {
        return Err(torn(what, "its checksum does not match"));
    }
    Ok(Reader::new(row.slice(..body)))
}

fn torn(what: &str, why: impl std::fmt::Display) -> Fault {
    Fault::corrupt(format!("{what} is damaged: {why}"))
}

/// Reads the whole of a row.
fn read<T>(
    row: &Bytes,
    what: &str,
    fields: impl FnOnce(&mut Reader) -> Result<T, ReadError>,
) -> Result<T, Fault> {
    let mut reader = unseal(row, what)?;
    let value = fields(&mut reader).map_err(|error| torn(what, error))?;
    reader.finish().map_err(|error| torn(what, error))?;
    Ok(value)
}

/// An integer that may be missing: 0, or one more than it.
fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    put_var_u64(out, value.map_or(0, |value| value + 1));
}

fn read_option(reader: &mut Reader) -> Result<Option<u64>, ReadError> {
    Ok(reader.var_u64()?.checked_sub(1))
}

fn put_stamp(out: &mut Vec<u8>, stamp: Option<Stamp>) {
    put_var_u64(out, stamp.is_some().into());
    if let Some((hlc, dot)) = stamp {
        put_var_u64(out, hlc.0);
        put_dot(out, dot);
    }
}

fn read_stamp(reader: &mut Reader) -> Result<Option<Stamp>, ReadError> {
    if reader.var_u64()? == 0 {
        return Ok(None);
    }
    Ok(Some((Hlc(reader.var_u64()?), read_dot(reader)?)))
}

fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    put_var_u64(out, u64::from(dot.stream.to_u32()));
    put_var_u64(out, dot.seq.0);
}

fn read_dot(reader: &mut Reader) -> Result<Dot, ReadError> {
    let stream = StreamId::from_u32(reader.var_u32()?);
    Ok(Dot { stream, seq: Seq(reader.var_u64()?) })
}

pub(super) fn encode_doc(row: &StoredRow) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    let doc = &row.doc;
    put_var_bytes(&mut out, doc.name.as_ref().map_or("", DocName::as_str).as_bytes());
    put_var_u64(&mut out, row.position.0);
    put_var_u64(&mut out, row.snapshot.0);
    put_var_u64(&mut out, DOC_ROW_VERSION);
    put_stamp(&mut out, doc.created);
    put_var_u64(&mut out, doc.changed.0);
    put_var_u64(&mut out, doc.entries);
    put_var_u64(&mut out, doc.bytes);
    doc.life.encode(&mut out);
    put_option(&mut out, doc.home.map(|replica| replica.0.into()));
    put_stamp(&mut out, doc.home_stamp);
    if row.derived > Position(0) {
        put_var_u64(&mut out, row.derived.0);
    }
    seal(out)
}

/// What an early row says of its document's life: what stands, and not which edits a deletion has not seen.
fn read_early_life(reader: &mut Reader) -> Result<Life, ReadError> {
    let mut life = Life::default();
    let is_deleted = reader.var_u64()? > 0;
    let seen = is_deleted.then(|| Frontier::decode(reader)).transpose().map_err(|_| ReadError::Overflow)?;
    match (read_stamp(reader)?, seen) {
        (Some(stamp), Some(seen)) => life.deleted(stamp, seen),
        (Some(stamp), None) => life.restored(stamp),
        (None, _) => {}
    }
    Ok(life)
}

pub(super) fn decode_doc(row: &Bytes) -> Result<StoredRow, Fault> {
    read(row, "a document's row", |reader| {
        let name = reader.var_str()?;
        let position = Position(reader.var_u64()?);
        let snapshot = Position(reader.var_u64()?);
        let version = reader.var_u64()?;
        let is_early = version != DOC_ROW_VERSION;
        let created = if is_early { Some((Hlc(version), NAMELESS)) } else { read_stamp(reader)? };
        let changed = Hlc(reader.var_u64()?);
        let entries = reader.var_u64()?;
        let bytes = reader.var_u64()?;
        let life = if is_early { read_early_life(reader)? } else { Life::decode(reader)? };
        let home = read_option(reader)?.map(u16::try_from).transpose().map_err(|_| ReadError::Overflow)?;
        let home_stamp = read_stamp(reader)?;
        // A row ends here while nothing was derived of its document.
        let derived = Position(if reader.remaining() > 0 { reader.var_u64()? } else { 0 });
        let name = (!name.as_str().is_empty()).then(|| DocName::new(name.as_str()));
        let name = name.transpose().map_err(|_| ReadError::Utf8)?;
        let home = home.map(ReplicaId);
        let doc = DocRow { name, life, home, home_stamp, created, changed, entries, bytes };
        Ok(StoredRow { doc, position, snapshot, derived })
    })
}

/// Some entries of one document, positions rising, and the position of its entry before them: a row
/// that is missing in between is noticed.
/// How many of the entries go into one row of a tail, one at least.
pub(super) fn tail_row_len(entries: &[TailEntry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&TailEntry| {
        bytes += entry.payload.len() + TAIL_ENTRY_BYTES;
        bytes <= TAIL_ROW_BYTES
    };
    entries.iter().take_while(fits).count().max(1)
}

pub(super) fn encode_tail(previous: Position, entries: &[TailEntry]) -> Vec<u8> {
    let payload_bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    let mut out = Vec::with_capacity(payload_bytes + entries.len() * 16 + 32);
    put_var_u64(&mut out, previous.0);
    put_var_u64(&mut out, entries.len() as u64);
    let mut last = TailBase::default();
    for entry in entries {
        put_var_u64(&mut out, entry.position.0.wrapping_sub(last.position));
        put_var_u64(&mut out, u64::from(entry.dot.stream.to_u32()));
        put_var_u64(&mut out, entry.dot.seq.0.wrapping_sub(last.seq));
        put_var_u64(&mut out, zigzag(entry.hlc.0.wrapping_sub(last.hlc)));
        out.push(entry.kind.code());
        put_var_bytes(&mut out, &entry.payload);
        last = TailBase::of(entry);
    }
    seal(out)
}

pub(super) fn decode_tail(row: &Bytes) -> Result<(Position, Vec<TailEntry>), Fault> {
    read(row, "a document's tail", |reader| {
        let previous = Position(reader.var_u64()?);
        let count = reader.var_u64()?;
        let mut entries = Vec::new();
        let mut last = TailBase::default();
        for _ in 0..count {
            let position = Position(last.position.wrapping_add(reader.var_u64()?));
            let stream = StreamId::from_u32(reader.var_u32()?);
            let seq = Seq(last.seq.wrapping_add(reader.var_u64()?));
            let hlc = Hlc(last.hlc.wrapping_add(unzigzag(reader.var_u64()?)));
            let kind = EntryKind::from_code(reader.u8()?);
            let payload = reader.var_bytes()?;
            entries.push(TailEntry { position, dot: Dot { stream, seq }, hlc, kind, payload });
            last = entries.last().map(TailBase::of).unwrap_or_default();
        }
        Ok((previous, entries))
    })
}

/// The incarnation that a directory's own entries belong to.
pub(super) fn encode_incarnation(incarnation: Incarnation) -> Vec<u8> {
    seal(incarnation.0.to_le_bytes().to_vec())
}

pub(super) fn decode_incarnation(row: &Bytes) -> Result<Incarnation, Fault> {
    read(row, "the incarnation", |reader| Ok(Incarnation(u16::from_le_bytes(reader.array()?))))
}

pub(super) fn encode_acks(acks: &Acks) -> Vec<u8> {
    let mut out = Vec::new();
    put_var_u64(&mut out, acks.0.len() as u64);
    for (peer, received) in &acks.0 {
        put_var_u64(&mut out, u64::from(peer.0));
        put_var_u64(&mut out, received.len() as u64);
        received.iter().for_each(|dot| put_dot(&mut out, dot));
    }
    seal(out)
}

pub(super) fn decode_acks(row: &Bytes) -> Result<Acks, Fault> {
    read(row, "what peers have", |reader| {
        let mut acks = Acks::default();
        for _ in 0..reader.var_u64()? {
            let peer = u16::try_from(reader.var_u32()?).map_err(|_| ReadError::Overflow)?;
            let mut received = Frontier::new();
            for _ in 0..reader.var_u64()? {
                received.raise(read_dot(reader)?);
            }
            acks.note(ReplicaId(peer), &received);
        }
        Ok(acks)
    })
}

/// What the next entry of a tail is told apart from.
#[derive(Default)]
struct TailBase {
    position: u64,
    seq: u64,
    hlc: u64,
}

impl TailBase {
    const fn of(entry: &TailEntry) -> Self {
        Self { position: entry.position.0, seq: entry.dot.seq.0, hlc: entry.hlc.0 }
    }
}

/// Small differences of either sign as small integers.
const fn zigzag(value: u64) -> u64 {
    value << 1 ^ 0_u64.wrapping_sub(value >> 63)
}

const fn unzigzag(value: u64) -> u64 {
    value >> 1 ^ 0_u64.wrapping_sub(value & 1)
}

/// What every snapshot's row has in front of the state.
const SNAPSHOT_HEADER_BYTES: usize = 12;

/// Set in a snapshot's position where the graph of the document's fields follows its state. No position has it:
/// a release that knows no graphs takes the row for another document's, and loads none without its fields.
const HAS_FIELDS: u64 = 1 << 63;

/// What goes in front of a snapshot's state, behind which the graph of the fields lies: the position and a
/// checksum over all the rest; then the graph's length where there is one.
pub(super) fn snapshot_header(snapshot: &Snapshot) -> Vec<u8> {
    let fields = snapshot.fields.as_ref();
    let position = snapshot.position.0 | fields.map_or(0, |_| HAS_FIELDS);
    let len = fields.map(|fields| (fields.len() as u64).to_le_bytes());
    let len = len.as_ref().map_or(&[][..], |len| len);
    let parts = [len, &snapshot.state, fields.map_or(&[][..], |fields| fields)];
    let crc = parts.into_iter().fold(crc32c::crc32c(&position.to_le_bytes()), crc32c::crc32c_append);
    [&position.to_le_bytes()[..], &crc.to_le_bytes(), len].concat()
}

pub(super) fn decode_snapshot(row: &Bytes) -> Result<Snapshot, Fault> {
    let too_short = || torn("a snapshot", "it is too short");
    let (position, rest) = row.split_first_chunk().ok_or_else(too_short)?;
    let (crc, body) = rest.split_first_chunk().ok_or_else(too_short)?;
    if crc32c::crc32c_append(crc32c::crc32c(position), body) != u32::from_le_bytes(*crc) {
        return Err(torn("a snapshot", "its checksum does not match"));
    }
    let mut state = row.slice(SNAPSHOT_HEADER_BYTES..);
    let raw = u64::from_le_bytes(*position);
    let fields = if raw & HAS_FIELDS > 0 {
        let len = u64::from_le_bytes(*body.first_chunk().ok_or_else(too_short)?);
        state = state.slice(size_of::<u64>()..);
        let len = usize::try_from(len).ok().and_then(|len| state.len().checked_sub(len));
        Some(state.split_off(len.ok_or_else(too_short)?))
    } else {
        None
    };
    Ok(Snapshot { position: Position(raw & !HAS_FIELDS), state, fields })
}

/// A derived row's value. The checksum covers the key too: a row that is found in another's place is noticed.
pub(super) fn encode_derived(space: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &derived_crc(space, key, value).to_le_bytes()].concat()
}

pub(super) fn decode_derived(space: u8, key: &[u8], row: &Bytes) -> Result<Bytes, Fault> {
    let len = row.len().checked_sub(CRC_BYTES).ok_or_else(|| torn("a derived row", "it is too short"))?;
    let value = row.slice(..len);
    if derived_crc(space, key, &value).to_le_bytes() != row[len..] {
        return Err(torn("a derived row", "its checksum does not match"));
    }
    Ok(value)
}

fn derived_crc(space: u8, key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&[space]), key), value)
}

pub(super) fn encode_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::new();
    for number in [head.ordinal.0, head.position.0, head.own.0, head.seen.0] {
        put_var_u64(&mut out, number);
    }
    put_var_u64(&mut out, head.hashes.len() as u64);
    for (&stream, hash) in &head.hashes {
        put_dot(&mut out, Dot { stream, seq: head.gate.received().get(stream) });
        put_var_u64(&mut out, head.gate.applied().get(stream).0);
        out.extend_from_slice(&hash.0);
    }
    put_var_u64(&mut out, head.members.0.len() as u64);
    for (replica, (membership, stamp)) in &head.members.0 {
        put_var_u64(&mut out, u64::from(replica.0));
        out.push(u8::from(*membership == Membership::Removed));
        put_stamp(&mut out, Some(*stamp));
    }
    put_var_u64(&mut out, head.numbers.0.len() as u64);
    for (replica, below) in &head.numbers.0 {
        put_var_u64(&mut out, u64::from(replica.0));
        put_var_u64(&mut out, *below);
    }
    seal(out)
}

pub(super) fn decode_head(row: &Bytes) -> Result<Head, Fault> {
    read(row, "the log's head", |reader| {
        let (ordinal, position) = (Ordinal(reader.var_u64()?), Position(reader.var_u64()?));
        let (own, seen) = (Hlc(reader.var_u64()?), Hlc(reader.var_u64()?));
        let (mut received, mut applied) = (Frontier::new(), Frontier::new());
        let mut hashes = BTreeMap::new();
        for _ in 0..reader.var_u64()? {
            let dot = read_dot(reader)?;
            received.raise(dot);
            applied.raise(Dot { seq: Seq(reader.var_u64()?), ..dot });
            let mut hash = ChainHash::START;
            hash.0.copy_from_slice(&reader.bytes(16)?);
            hashes.insert(dot.stream, hash);
        }
        let mut members = Members::default();
        // A head that was written before there were member entries ends here.
        let count = if reader.remaining() > 0 { reader.var_u64()? } else { 0 };
        for _ in 0..count {
            let replica = ReplicaId(u16::try_from(reader.var_u32()?).map_err(|_| ReadError::Overflow)?);
            let membership = if reader.u8()? == 0 { Membership::Member } else { Membership::Removed };
            let stamp = read_stamp(reader)?.ok_or(ReadError::End)?;
            members.0.insert(replica, (membership, stamp));
        }
        let mut numbers = Numbers::default();
        // And one that was written before there were lease entries here.
        let count = if reader.remaining() > 0 { reader.var_u64()? } else { 0 };
        for _ in 0..count {
            let replica = ReplicaId(u16::try_from(reader.var_u32()?).map_err(|_| ReadError::Overflow)?);
            numbers.0.insert(replica, reader.var_u64()?);
        }
        let gate = Gate::new(received, applied);
        Ok(Head { ordinal, position, own, seen, hashes, gate, members, numbers })
    })
}

/// Whose directory it is. All files hold the same, so that files of two directories are not mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: u128,
    pub(super) replica: ReplicaId,
    /// Drawn when the directory was made.
    pub(super) directory: u128,
}

pub(super) fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut out = identity.cluster.to_le_bytes().to_vec();
    out.extend_from_slice(&identity.directory.to_le_bytes());
    put_var_u64(&mut out, u64::from(identity.replica.0));
    seal(out)
}

pub(super) fn decode_identity(row: &Bytes) -> Result<Identity, Fault> {
    read(row, "the directory's identity", |reader| {
        let (mut cluster, mut directory) = ([0; 16], [0; 16]);
        cluster.copy_from_slice(&reader.bytes(16)?);
        directory.copy_from_slice(&reader.bytes(16)?);
        Ok(Identity {
            cluster: u128::from_le_bytes(cluster),
            directory: u128::from_le_bytes(directory),
            replica: ReplicaId(u16::try_from(reader.var_u32()?).map_err(|_| ReadError::Overflow)?),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dots() -> impl Strategy<Value = Dot> {
        (any::<u32>(), any::<u64>()).prop_map(|(s, seq)| Dot { stream: StreamId::from_u32(s), seq: Seq(seq) })
    }

    fn entries() -> impl Strategy<Value = Vec<TailEntry>> {
        let payload = proptest::collection::vec(any::<u8>(), 0..40);
        let entry = (any::<u64>(), dots(), any::<u64>(), any::<u8>(), payload).prop_map(
            |(position, dot, hlc, kind, payload)| TailEntry {
                position: Position(position),
                dot,
                hlc: Hlc(hlc),
                kind: EntryKind::from_code(kind),
                payload: payload.into(),
            },
        );
        proptest::collection::vec(entry, 0..20)
    }

    proptest! {
        #[test]
        fn a_tail_survives_its_row(entries in entries()) {
            prop_assert_eq!(decode_tail(&encode_tail(Position(7), &entries).into()), Ok((Position(7), entries)));
        }

        #[test]
        fn a_tail_is_cut_into_rows_that_fit_a_page(
            sizes in proptest::collection::vec(prop_oneof![0..100_usize, 1..20_000_usize, 60_000..80_000_usize], 1..60),
        ) {
            let entry = |(n, bytes): (usize, usize)| TailEntry {
                position: Position(n as u64),
                dot: Dot { stream: StreamId::from_u32(1), seq: Seq(n as u64) },
                hlc: Hlc((n as u64) << 20),
                kind: EntryKind::Update,
                payload: Bytes::from(vec![0; bytes]),
            };
            let entries: Vec<_> = sizes.into_iter().enumerate().map(entry).collect();
            let mut rest = &entries[..];
            while !rest.is_empty() {
                let (row, after) = rest.split_at(tail_row_len(rest));
                let bytes = encode_tail(Position(0), row).len();
                // A leaf with one pair has a header of 4 bytes, the key's 24, and 4 for where the value ends.
                prop_assert!(bytes + 32 <= 1 << 16 || row.len() == 1, "{} entries in {bytes} bytes", row.len());
                if let Some(next) = after.first() {
                    prop_assert!(bytes + next.payload.len() + 2 * TAIL_ENTRY_BYTES * row.len() > TAIL_ROW_BYTES);
                }
                rest = after;
            }
        }

        #[test]
        fn a_document_survives_its_row(
            name in proptest::option::of("[a-z/]{1,20}"), numbers: [u32; 6], deleted in proptest::option::of(dots()),
            edited in dots(), stamp in proptest::option::of(dots()), home: Option<u16>,
        ) {
            let mut life = Life::default();
            life.edited((Hlc(numbers[2].into()), edited));
            deleted.into_iter().for_each(|dot| life.deleted((Hlc(5), dot), std::iter::once(dot).collect()));
            stamp.into_iter().for_each(|dot| life.restored((Hlc(4), dot)));
            let doc = DocRow {
                name: name.map(|name| DocName::new(&name).expect("a valid name")),
                life,
                home: home.map(ReplicaId),
                home_stamp: stamp.map(|dot| (Hlc(u64::MAX), dot)),
                created: stamp.map(|dot| (Hlc(numbers[0].into()), dot)),
                changed: Hlc(numbers[1].into()),
                entries: numbers[2].into(),
                bytes: numbers[3].into(),
            };
            let position = Position(numbers[4].into());
            let (snapshot, derived) = (Position(numbers[5].into()), Position((numbers[1] / 2).into()));
            let row = StoredRow { doc, position, snapshot, derived };
            prop_assert_eq!(decode_doc(&encode_doc(&row).into()), Ok(row));
        }

        #[test]
        fn any_row_is_read_or_refused(mut bytes: Vec<u8>) {
            let _ = (decode_snapshot(&bytes.clone().into()), decode_derived(1, b"key", &bytes.clone().into()));
            bytes = seal(bytes);
            let row = Bytes::from(bytes);
            let _ = (decode_tail(&row), decode_doc(&row), decode_head(&row));
            let _ = (decode_identity(&row), decode_incarnation(&row), decode_acks(&row));
        }

        #[test]
        fn a_damaged_bit_is_noticed(entries in entries(), at: prop::sample::Index, bit in 0..8_u8) {
            let mut row = encode_tail(Position(7), &entries);
            let at = at.index(row.len());
            row[at] ^= 1 << bit;
            prop_assert!(decode_tail(&row.into()).is_err());
        }
    }

    #[test]
    fn a_row_that_knew_no_edits_is_read() {
        let dot = Dot { stream: StreamId::from_u32(3), seq: Seq(4) };
        let mut row = Vec::new();
        put_var_bytes(&mut row, b"early");
        [7, 0, 9 << 16, 11 << 16, 5, 60, 1].into_iter().for_each(|number| put_var_u64(&mut row, number));
        std::iter::once(dot).collect::<Frontier>().encode(&mut row);
        put_stamp(&mut row, Some((Hlc(10 << 16), dot)));
        put_option(&mut row, Some(2));
        put_stamp(&mut row, Some((Hlc(8 << 16), dot)));
        let row = decode_doc(&seal(row).into()).expect("readable");
        let deletion = row.doc.life.deletion().expect("deleted");
        assert_eq!((deletion.stamp, row.doc.home), ((Hlc(10 << 16), dot), Some(ReplicaId(2))));
        assert_eq!((row.doc.created, row.doc.entries), (Some((Hlc(9 << 16), NAMELESS)), 5));
    }

    #[test]
    fn a_snapshot_survives_its_row_and_a_damaged_one_does_not() {
        for fields in [None, Some(Bytes::new()), Some(Bytes::from_static(b"graph"))] {
            let snapshot = Snapshot { position: Position(7), state: Bytes::from_static(b"state"), fields };
            let mut row = snapshot_header(&snapshot);
            row.extend_from_slice(&snapshot.state);
            row.extend_from_slice(snapshot.fields.as_deref().unwrap_or_default());
            assert_eq!(decode_snapshot(&row.clone().into()), Ok(snapshot));
            for at in 0..row.len() {
                row[at] ^= 1;
                assert!(decode_snapshot(&row.clone().into()).is_err(), "byte {at}");
                row[at] ^= 1;
            }
        }
    }

    #[test]
    fn a_derived_row_is_read_in_its_own_place_only() {
        let row = Bytes::from(encode_derived(1, b"key", b"value"));
        assert_eq!(decode_derived(1, b"key", &row), Ok(Bytes::from_static(b"value")));
        assert!(decode_derived(2, b"key", &row).is_err());
        assert!(decode_derived(1, b"kex", &row).is_err());
        assert!(decode_derived(1, b"key", &row.slice(1..)).is_err());
    }

    #[test]
    fn a_snapshot_whose_graph_is_longer_than_its_row_is_refused() {
        let fields = Some(Bytes::from_static(b"graph"));
        let snapshot = Snapshot { position: Position(7), state: Bytes::from_static(b"state"), fields };
        let mut row = snapshot_header(&snapshot);
        row.extend_from_slice(b"grap");
        let crc = crc32c::crc32c_append(crc32c::crc32c(&row[..8]), &row[SNAPSHOT_HEADER_BYTES..]);
        row[8..SNAPSHOT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_snapshot(&row.into()), Err(torn("a snapshot", "it is too short")));
    }
}
