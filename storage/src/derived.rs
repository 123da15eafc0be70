//! Rows over all documents that the documents' owners derive from their entries: what is asked across
//! documents is answered from them. They mean nothing to the log, which keeps them in step with the entries.
//!
//! What is put waits in memory, lies over what is stored when it is read, and is written by the checkpoint that
//! moves the entries it was derived from. A crash loses what was put, and its document is due again.
//!
//! Invariant: a document that has entries to derive from beyond what its rows were derived up to is due.

use crate::document::TailEntry;
use crate::error::DerivedError;
use crate::limits::{DERIVED_KEY_BYTES_MAX, DERIVED_PUT_BYTES_MAX, DERIVED_READ_BYTES_MAX};
use crate::log::Position;
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::ids::DocId;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What a row that waits, or a document's mark, costs in memory beyond its key and value, roughly.
pub(crate) const ROW_MEMORY_BYTES: usize = 128;

/// Where a derived row lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DerivedKey {
    /// Whose question it answers. Each space is ordered by itself.
    pub space: u8,
    /// Its place there, in the order of bytes; at most
    /// [`DERIVED_KEY_BYTES_MAX`](crate::limits::DERIVED_KEY_BYTES_MAX). It belongs to one document: where two
    /// put one key, the later put stands.
    pub key: Bytes,
}

/// Keys of a space from one on and up to another.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Whether rows may be derived from an entry, so that its document is due when it is applied. Of a document that
/// was merely created, or given a home, nothing is.
pub(crate) fn is_derived_from(entry: &TailEntry) -> bool {
    match entry.kind {
        EntryKind::Fields | EntryKind::Graph => true,
        EntryKind::Lifecycle => LifecycleChange::turns(&entry.payload),
        _ => false,
    }
}

/// Checks what a caller puts, and counts its bytes in memory.
///
/// # Errors
/// When a key or all of it is too long.
pub(crate) fn check(changes: &[(DerivedKey, Option<Bytes>)]) -> Result<usize, DerivedError> {
    let mut bytes = ROW_MEMORY_BYTES;
    for (DerivedKey { key, .. }, value) in changes {
        if key.len() > DERIVED_KEY_BYTES_MAX {
            return Err(DerivedError::KeyTooLong(key.len()));
        }
        bytes += cost(key, value.as_ref());
    }
    if bytes > DERIVED_PUT_BYTES_MAX { Err(DerivedError::TooLong(bytes)) } else { Ok(bytes) }
}

fn cost(key: &Bytes, value: Option<&Bytes>) -> usize {
    key.len() + value.map_or(0, Bytes::len) + ROW_MEMORY_BYTES
}

/// What was put: rows by their keys, none where one was removed, and how far documents are derived.
#[derive(Debug, Default)]
pub(crate) struct Puts {
    rows: BTreeMap<u8, BTreeMap<Bytes, Row>>,
    derived_to: BTreeMap<DocId, Position>,
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    doc: DocId,
    value: Option<Bytes>,
}

impl Puts {
    pub(crate) fn is_empty(&self) -> bool {
        self.derived_to.is_empty()
    }

    /// What it takes in memory.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Up to where a document's rows were derived that were put last.
    pub(crate) fn derived_to(&self, doc: DocId) -> Option<Position> {
        self.derived_to.get(&doc).copied()
    }

    /// The documents of which rows were put, or none had changed.
    pub(crate) fn docs(&self) -> impl Iterator<Item = DocId> + '_ {
        self.derived_to.keys().copied()
    }

    /// All rows in the order of their keys, each with its document.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u8, &Bytes, DocId, Option<&Bytes>)> {
        let spaces = self.rows.iter();
        spaces.flat_map(|(&space, rows)| {
            rows.iter().map(move |(key, row)| (space, key, row.doc, row.value.as_ref()))
        })
    }

    /// Takes what was derived of a document up to a position. Whoever calls has seen that it is no older than
    /// what is here.
    pub(crate) fn put(&mut self, doc: DocId, position: Position, changes: Vec<(DerivedKey, Option<Bytes>)>) {
        if self.derived_to.insert(doc, position).is_none() {
            self.bytes += ROW_MEMORY_BYTES;
        }
        for (DerivedKey { space, key }, value) in changes {
            self.insert(space, key, Row { doc, value });
        }
    }

    fn insert(&mut self, space: u8, key: Bytes, row: Row) {
        self.bytes += cost(&key, row.value.as_ref());
        let key_again = key.clone();
        if let Some(replaced) = self.rows.entry(space).or_default().insert(key, row) {
            self.bytes -= cost(&key_again, replaced.value.as_ref());
        }
    }

    /// Takes what was put later into what is stored, except for documents that are stored further already or
    /// not at all.
    pub(crate) fn store(&mut self, later: Self, is_stored: impl Fn(DocId) -> bool) {
        let derived_to = later.derived_to.into_iter();
        let taken: BTreeMap<DocId, Position> = derived_to
            .filter(|(doc, position)| is_stored(*doc) && self.derived_to(*doc) <= Some(*position))
            .collect();
        for (space, rows) in later.rows {
            for (key, row) in rows.into_iter().filter(|(_, row)| taken.contains_key(&row.doc)) {
                let stored = self.rows.entry(space).or_default();
                if row.value.is_some() { drop(stored.insert(key, row)) } else { drop(stored.remove(&key)) }
            }
        }
        self.derived_to.extend(taken);
    }

    /// The first rows of a range, which is not empty.
    pub(crate) fn piece(&self, space: u8, range: KeyRange<'_>, rows_max: usize) -> Piece {
        let mut piece = Piece::default();
        let rows = self.rows.get(&space).into_iter().flat_map(|rows| rows.range::<[u8], _>(range));
        for (key, row) in rows {
            piece.rows.insert(key.clone(), row.value.clone());
            if piece.rows.len() >= rows_max {
                piece.end = Some(key.clone());
                break;
            }
        }
        piece
    }
}

/// The first rows of a range.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// None where one was removed.
    pub(crate) rows: BTreeMap<Bytes, Option<Bytes>>,
    /// The last one, where there may be more.
    pub(crate) end: Option<Bytes>,
}

impl Piece {
    /// The piece with a later one over it, as far as both go.
    pub(crate) fn under(mut self, later: Self) -> Self {
        self.rows.extend(later.rows);
        self.end = match (self.end, later.end) {
            (Some(end), Some(other)) => Some(end.min(other)),
            (end, other) => end.or(other),
        };
        if let Some(end) = &self.end {
            self.rows.retain(|key, _| key <= end);
        }
        self
    }
}

/// Reads rows of a range piece by piece, each at most so many rows long: as many as are asked for, or as pass
/// [`DERIVED_READ_BYTES_MAX`].
pub(crate) fn gather<E>(
    range: KeyRange<'_>,
    limit: usize,
    mut piece: impl FnMut(KeyRange<'_>, usize) -> Result<Piece, E>,
) -> Result<Vec<(Bytes, Bytes)>, E> {
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut after: Option<Bytes> = None;
    loop {
        let from = after.as_deref().map_or(range.0, Bound::Excluded);
        if limit == 0 || is_empty((from, range.1)) {
            return Ok(found);
        }
        let Piece { rows, end } = piece((from, range.1), limit)?;
        for (key, value) in rows {
            let Some(value) = value else { continue };
            bytes += key.len() + value.len();
            found.push((key, value));
            if found.len() == limit || bytes > DERIVED_READ_BYTES_MAX {
                return Ok(found);
            }
        }
        match end {
            Some(end) => after = Some(end),
            None => return Ok(found),
        }
    }
}

/// Whether no key can lie in a range; the standard library refuses to look into most of those.
fn is_empty(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}
