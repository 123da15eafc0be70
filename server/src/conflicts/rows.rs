//! The derived rows that conflicts are kept in.
//!
//! ```text
//! records  = doc · conflict             → version u8 = 1 · change · first · name · record
//! listed   = status · !since · doc · conflict → version u8 = 1 · kind · path · policy · name
//! ```
//!
//! What changes are of is said by `told.rs`; what documents say to each other is in spaces of its own (`indexed.rs`,
//! `flags.rs`, `between.rs`).
//!
//! Numbers in keys have their greatest byte first, so that they are in the order of the numbers; `!since` is the
//! complement of the time, so that the newest come first.

use bytes::Bytes;
use quire_protocol::fields::{ConflictId, Conflicting, Record, Status};
use quire_protocol::ids::{DocId, DocName};
use quire_protocol::lib0::{ReadError, Reader, put_var_bytes};
use quire_storage::DerivedKey;

/// The records, by document.
pub(super) const RECORDS: u8 = 1;
/// The last change of each conflict.
pub(super) const CHANGES: u8 = 2;
/// The records by their status, the newest first.
pub(super) const LISTED: u8 = 3;
/// What each document's fields say to other documents.
pub(super) const INDEXES: u8 = 4;

/// Where a listing of values that several documents claim goes on: behind all statuses.
pub(super) const CONTESTED_CODE: u8 = 3;
/// Where a listing of references to deleted documents goes on.
pub(super) const DANGLING_CODE: u8 = 4;

const VERSION: u8 = 1;

/// A document's name and one of its conflicts'.
pub(super) type Name = (DocId, ConflictId);

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The number of its last change.
    pub(crate) change: u64,
    /// The number of the change that it came on record with.
    pub(crate) first: u64,
    /// The document.
    pub(crate) document: DocName,
    pub(crate) record: Record,
}

/// Where a record is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) change: u64,
    pub(super) first: u64,
    pub(super) status: Status,
    pub(super) since_ms: u64,
}

/// What a listing can be filtered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) kind: String,
    pub(super) path: String,
    pub(super) policy: String,
    pub(super) document: String,
}

impl Place {
    /// `first` is the number of the change that the record came with.
    pub(super) fn of(change: u64, first: u64, record: &Record) -> Self {
        Self { change, first, status: record.status(), since_ms: record.since.0.ms() }
    }
}

/// What a conflict is between.
pub(crate) const fn kind(record: &Record) -> &'static str {
    match record.of {
        Conflicting::Writes(_) => "write",
        Conflicting::Deletion(_) => "delete",
    }
}

/// The name of the policy that a conflict is subject to.
pub(crate) fn policy(record: &Record) -> &str {
    match &record.of {
        Conflicting::Writes(writes) => &writes.policy,
        Conflicting::Deletion(deletion) if deletion.is_revived => "revive",
        Conflicting::Deletion(_) => "delete_wins",
    }
}

pub(super) fn record_key((doc, id): Name) -> DerivedKey {
    DerivedKey { space: RECORDS, key: named(&[], (doc, id)) }
}

pub(super) fn change_key(change: u64) -> DerivedKey {
    DerivedKey { space: CHANGES, key: Bytes::copy_from_slice(&change.to_be_bytes()) }
}

pub(super) fn listed_key(name: Name, place: Place) -> DerivedKey {
    let mut lead = vec![status_code(place.status)];
    lead.extend_from_slice(&(!place.since_ms).to_be_bytes());
    DerivedKey { space: LISTED, key: named(&lead, name) }
}

pub(super) fn index_key(doc: DocId) -> DerivedKey {
    DerivedKey { space: INDEXES, key: Bytes::copy_from_slice(&doc.0.to_be_bytes()) }
}

/// What has become of a conflict that came with a change, for somebody who has seen the changes up to a number.
pub(super) const fn event(status: Status, first: u64, seen: u64) -> &'static str {
    match status {
        Status::Resolved => "resolved",
        _ if first <= seen => "changed",
        Status::Open => "opened",
        Status::Merged => "merged",
    }
}

pub(super) const fn status_code(status: Status) -> u8 {
    match status {
        Status::Open => 0,
        Status::Merged => 1,
        Status::Resolved => 2,
    }
}

/// A document and a conflict behind what leads to them.
pub(super) fn named(lead: &[u8], (doc, id): Name) -> Bytes {
    [lead, &doc.0.to_be_bytes(), &id.0].concat().into()
}

/// The document and the conflict at the end of a key, or that a change names.
pub(super) fn read_name(bytes: &[u8]) -> Option<Name> {
    let (rest, id) = bytes.split_last_chunk::<16>()?;
    let (_, doc) = rest.split_last_chunk::<16>()?;
    Some((DocId(u128::from_be_bytes(*doc)), ConflictId(*id)))
}

/// A record as it is kept in its place.
pub(super) fn kept_row(place: Place, document: &DocName, record: &Record) -> Bytes {
    let mut out = vec![VERSION];
    out.extend_from_slice(&place.change.to_be_bytes());
    out.extend_from_slice(&place.first.to_be_bytes());
    put_var_bytes(&mut out, document.as_str().as_bytes());
    out.extend_from_slice(&record.encode());
    out.into()
}

impl Kept {
    pub(super) fn decode(row: Bytes) -> Result<Self, ReadError> {
        Self::decode_with_record(row).map(|(kept, _)| kept)
    }

    /// What has become of it, for somebody who has seen the changes up to a number.
    pub(crate) fn event(&self, seen: u64) -> &'static str {
        event(self.record.status(), self.first, seen)
    }

    /// Names the conflict as it is now: what is derived again after a crash, or in another region, has the same name.
    pub(crate) fn state_id(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.document.id().0.to_be_bytes());
        hasher.update(&self.record.encode());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// What is kept, and the record in it as its bytes.
    pub(super) fn decode_with_record(row: Bytes) -> Result<(Self, Bytes), ReadError> {
        let mut reader = Reader::new(row);
        if reader.u8()? != VERSION {
            return Err(ReadError::Overflow);
        }
        let change = u64::from_be_bytes(reader.array()?);
        let first = u64::from_be_bytes(reader.array()?);
        let document = DocName::new(reader.var_str()?.as_str()).map_err(|_| ReadError::Overflow)?;
        let bytes = reader.bytes(reader.remaining())?;
        let record = Record::decode(bytes.clone())?;
        Ok((Self { change, first, document, record }, bytes))
    }
}

impl Summary {
    pub(super) fn of(document: &DocName, record: &Record) -> Self {
        Self {
            kind: kind(record).to_owned(),
            path: record.path().map(ToString::to_string).unwrap_or_default(),
            policy: policy(record).to_owned(),
            document: document.as_str().to_owned(),
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        for text in [&self.kind, &self.path, &self.policy, &self.document] {
            put_var_bytes(&mut out, text.as_bytes());
        }
        out.into()
    }

    pub(super) fn decode(row: Bytes) -> Result<Self, ReadError> {
        let mut reader = Reader::new(row);
        if reader.u8()? != VERSION {
            return Err(ReadError::Overflow);
        }
        let mut text = || Ok::<_, ReadError>(reader.var_str()?.as_str().to_owned());
        let summary = Self { kind: text()?, path: text()?, policy: text()?, document: text()? };
        reader.finish()?;
        Ok(summary)
    }
}
