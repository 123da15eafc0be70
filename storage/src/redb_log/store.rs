//! The cold file: documents, their tails and snapshots, names, and batches kept for peers.
//!
//! Written by the checkpointer only, in transactions that also record redb's allocator state, so
//! that opening it after a crash takes no walk over the file, however large it is.
//!
//! Invariant: a transaction moves all rows from one position of the log to a later one.

use super::derived::{DERIVED, DUE};
use super::fault::{Fault, caught};
use super::file::RedbFile;
use super::meta;
use super::open::FORMAT;
use super::rows::{
    Identity, StoredRow, decode_acks, decode_doc, decode_head, decode_incarnation, decode_snapshot,
    decode_tail, encode_doc, encode_head, encode_incarnation, encode_tail, snapshot_header, tail_row_len,
};
use crate::acks::Acks;
use crate::derived::is_derived_from;
use crate::document::{Snapshot, TailEntry};
use crate::head::Head;
use crate::log::Position;
use bytes::Bytes;
use quire_protocol::ids::{DocId, DocName, Dot, Incarnation};
use redb::{
    ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    TableHandle as _, WriteTransaction,
};
use std::ops::Bound;

pub(super) const DOCUMENTS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("documents");
pub(super) const NAMES: TableDefinition<'_, &str, u128> = TableDefinition::new("names");
/// Keyed by document and the position of the row's last entry.
pub(super) const TAILS: TableDefinition<'_, (u128, u64), &[u8]> = TableDefinition::new("tails");
pub(super) const SNAPSHOTS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("snapshots");

#[derive(Debug)]
pub(super) struct Store {
    db: RedbFile,
}

/// One moment of the store.
pub(super) struct Cut(ReadTransaction);

/// A document's snapshot, and the entries after it.
pub(super) type Content = (Option<Snapshot>, Vec<TailEntry>);

impl Store {
    pub(super) const fn new(db: RedbFile) -> Self {
        Self { db }
    }

    /// Says whether a checkpoint is late.
    pub(super) fn set_late(&self, is_late: bool) {
        self.db.set_late(is_late);
    }

    /// Whose store this is; none when it was never set up.
    pub(super) fn identity(&self) -> Result<Option<Identity>, Fault> {
        caught("store.redb", || meta::read_identity(&self.db))
    }

    pub(super) fn set_up(&self, identity: &Identity, incarnation: Incarnation) -> Result<(), Fault> {
        caught("store.redb", || {
            let txn = self.begin_write()?;
            txn.open_table(DOCUMENTS)?;
            txn.open_table(NAMES)?;
            txn.open_table(TAILS)?;
            txn.open_table(SNAPSHOTS)?;
            txn.open_table(DERIVED)?;
            txn.open_table(DUE)?;
            txn.open_table(super::kept::LOG)?;
            meta::write(&txn, meta::FORMAT_KEY, &FORMAT.to_le_bytes())?;
            meta::write(&txn, meta::HEAD_KEY, &encode_head(&Head::default()))?;
            meta::write(&txn, meta::INCARNATION_KEY, &encode_incarnation(incarnation))?;
            meta::write_identity(&txn, identity)?;
            Ok(txn.commit()?)
        })
    }

    /// The incarnation that what is appended belongs to.
    pub(super) fn incarnation(&self) -> Result<Incarnation, Fault> {
        caught("store.redb", || {
            let row = meta::read(&self.db, meta::INCARNATION_KEY)?;
            decode_incarnation(&row.ok_or_else(|| Fault::corrupt("the incarnation is missing"))?)
        })
    }

    /// Whether the journal beside it has been set up too.
    pub(super) fn is_ready(&self) -> Result<bool, Fault> {
        caught("store.redb", || Ok(meta::read(&self.db, meta::READY_KEY)?.is_some()))
    }

    pub(super) fn set_ready(&self) -> Result<(), Fault> {
        caught("store.redb", || {
            let txn = self.begin_write()?;
            meta::write(&txn, meta::READY_KEY, &[])?;
            Ok(txn.commit()?)
        })
    }

    /// The log's end at the last checkpoint.
    pub(super) fn head(&self) -> Result<Head, Fault> {
        caught("store.redb", || {
            let row = meta::read(&self.db, meta::HEAD_KEY)?;
            decode_head(&row.ok_or_else(|| Fault::corrupt("the log's head is missing"))?)
        })
    }

    /// What peers were known to have at the last checkpoint.
    pub(super) fn acks(&self) -> Result<Acks, Fault> {
        caught("store.redb", || {
            let row = meta::read(&self.db, meta::ACKS_KEY)?;
            row.as_ref().map_or(Ok(Acks::default()), decode_acks)
        })
    }

    /// How many documents there are, and how many bytes are kept for peers.
    pub(super) fn sizes(&self) -> Result<(u64, u64), Fault> {
        caught("store.redb", || {
            let documents = self.db.begin_read()?.open_table(DOCUMENTS)?.len()?;
            Ok((documents, super::kept::bytes(&self.db)?))
        })
    }

    /// Begins to read this moment's store.
    pub(super) fn cut(&self) -> Result<Cut, Fault> {
        caught("store.redb", || Ok(Cut(self.db.begin_read()?)))
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        let mut txn = self.db.begin_write()?;
        // One commit without it would make the next opening after a crash walk the whole file.
        txn.set_quick_repair(true);
        Ok(txn)
    }
}

impl Cut {
    pub(super) const fn txn(&self) -> &ReadTransaction {
        &self.0
    }

    pub(super) fn has_table(&self, name: &str) -> Result<bool, Fault> {
        Ok(self.0.list_tables()?.any(|table| table.name() == name))
    }

    pub(super) fn row(&self, doc: DocId) -> Result<Option<StoredRow>, Fault> {
        caught("store.redb", || {
            let table = self.0.open_table(DOCUMENTS)?;
            if let Some(row) = table.get(doc.0)? {
                return decode_doc(&Bytes::copy_from_slice(row.value())).map(Some);
            }
            check_absent(doc, &self.0.open_table(TAILS)?, &self.0.open_table(SNAPSHOTS)?)?;
            Ok(None)
        })
    }

    /// A document's snapshot, and the entries after it or after `covered` where that is later; the
    /// snapshot is not read where that is so.
    pub(super) fn content(&self, doc: DocId, row: &StoredRow, covered: Position) -> Result<Content, Fault> {
        caught("store.redb", || {
            let snapshot =
                if row.snapshot > covered { Some(self.snapshot(doc, row.snapshot)?) } else { None };
            let covered = covered.max(row.snapshot);
            let mut entries = Vec::new();
            // Up to where nothing is missing: each row must begin there or before.
            let mut end = covered;
            for tail in self.0.open_table(TAILS)?.range((doc.0, covered.0 + 1)..=(doc.0, u64::MAX))? {
                let (key, tail) = tail?;
                let (previous, tail) = decode_tail(&Bytes::copy_from_slice(tail.value()))?;
                if previous > end {
                    return Err(missing(doc, end, previous));
                }
                end = Position(key.value().1);
                // A row may begin before the snapshot's position.
                entries.extend(tail.into_iter().filter(|entry| entry.position > covered));
            }
            if end < row.position {
                return Err(missing(doc, end, row.position));
            }
            Ok((snapshot, entries))
        })
    }

    fn snapshot(&self, doc: DocId, expected: Position) -> Result<Snapshot, Fault> {
        let table = self.0.open_table(SNAPSHOTS)?;
        let row =
            table.get(doc.0)?.ok_or_else(|| Fault::corrupt(format!("the snapshot of {doc:?} is missing")))?;
        let snapshot = decode_snapshot(&Bytes::copy_from_slice(row.value()))?;
        if snapshot.position == expected {
            return Ok(snapshot);
        }
        Err(Fault::corrupt(format!("the snapshot of {doc:?} is not the one its row tells of")))
    }

    /// Names from `lower` on that begin with `prefix`, in order, at most `limit`.
    pub(super) fn names(
        &self,
        lower: Bound<&str>,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<(String, DocId)>, Fault> {
        caught("store.redb", || {
            let mut names = Vec::new();
            for row in self.0.open_table(NAMES)?.range::<&str>((lower, Bound::Unbounded))?.take(limit) {
                let (name, doc) = row?;
                if !name.value().starts_with(prefix) {
                    break;
                }
                names.push((name.value().to_owned(), DocId(doc.value())));
            }
            Ok(names)
        })
    }
}

/// Makes sure that a document without a row has nothing else either.
///
/// A damaged page can lead redb's search astray without a panic, and a row seems never to have been
/// there. A document must not begin again from nothing for that.
fn check_absent(
    doc: DocId,
    tails: &impl ReadableTable<(u128, u64), &'static [u8]>,
    snapshots: &impl ReadableTable<u128, &'static [u8]>,
) -> Result<(), Fault> {
    let has_tail = tails.range((doc.0, 0)..=(doc.0, u64::MAX))?.next().is_some();
    if has_tail || snapshots.get(doc.0)?.is_some() {
        return Err(Fault::corrupt(format!("the row of {doc:?} is missing, and the document has content")));
    }
    Ok(())
}

fn missing(doc: DocId, from: Position, to: Position) -> Fault {
    Fault::corrupt(format!("{doc:?} lacks its entries between positions {} and {}", from.0, to.0))
}

/// What became of a document since the last checkpoint.
#[derive(Clone, Copy, Default)]
pub(super) struct Changes<'a> {
    pub(super) entries: &'a [TailEntry],
    pub(super) snapshot: Option<&'a Snapshot>,
    /// Up to where rows were derived of it, where that was done.
    pub(super) derived_to: Option<Position>,
}

/// The tables that a checkpoint writes a document to.
pub(super) struct DocTables<'txn> {
    documents: Table<'txn, u128, &'static [u8]>,
    names: Table<'txn, &'static str, u128>,
    tails: Table<'txn, (u128, u64), &'static [u8]>,
    snapshots: Table<'txn, u128, &'static [u8]>,
    due: Table<'txn, u128, u64>,
}

impl<'txn> DocTables<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, Fault> {
        Ok(Self {
            documents: txn.open_table(DOCUMENTS)?,
            names: txn.open_table(NAMES)?,
            tails: txn.open_table(TAILS)?,
            snapshots: txn.open_table(SNAPSHOTS)?,
            due: txn.open_table(DUE)?,
        })
    }

    /// Writes what became of a document since the last checkpoint: its tail's rows, the document's, and its mark
    /// where it is due. Says whether rows that were derived of it may be written: they are not older than those
    /// that are there.
    pub(super) fn write(&mut self, doc: DocId, changes: Changes<'_>) -> Result<bool, Fault> {
        let Changes { entries, snapshot, derived_to } = changes;
        let mut row = match self.documents.get(doc.0)? {
            Some(row) => decode_doc(&Bytes::copy_from_slice(row.value()))?,
            // A snapshot alone makes no document: it would have no name.
            None if entries.is_empty() => return Ok(false),
            None => {
                check_absent(doc, &self.tails, &self.snapshots)?;
                StoredRow::default()
            }
        };
        let known = row.doc.name.is_some();
        let stored_to = row.position;
        for entry in entries.iter().filter(|entry| entry.position > row.position) {
            row.doc.fold(entry);
        }
        row.position = entries.last().map_or(row.position, |entry| row.position.max(entry.position));
        if let Some(name) = row.doc.name.as_ref().filter(|_| !known) {
            self.names.insert(DocName::as_str(name), doc.0)?;
        }
        if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.position > row.snapshot) {
            self.replace_snapshot(doc, snapshot)?;
            row.snapshot = snapshot.position;
        }
        let first = entries.partition_point(|entry| entry.position <= row.snapshot);
        let mut previous = first.checked_sub(1).map_or(stored_to, |before| entries[before].position);
        let mut rest = &entries[first..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(tail_row_len(rest));
            let last = piece[piece.len() - 1].position;
            self.tails.insert((doc.0, last.0), &encode_tail(previous, piece)[..])?;
            (previous, rest) = (last, after);
        }
        let mut unseen = entries.iter().rev().take_while(|entry| entry.position > stored_to);
        // An edit may bring a deleted document back.
        let is_deleted = row.doc.life.deletion().is_some();
        let is_derived_from =
            |entry: &&TailEntry| is_derived_from(entry) || is_deleted && entry.kind.carries_update();
        let last = unseen.find(is_derived_from).map(|entry| entry.position);
        let is_derived = self.note_derived(doc, &mut row, last, derived_to)?;
        self.documents.insert(doc.0, &encode_doc(&row)[..])?;
        Ok(is_derived)
    }

    /// Notes up to where rows were derived of a document whose last new entry to derive from is `last`, and
    /// whether it is due. Says whether the rows may be written.
    fn note_derived(
        &mut self,
        doc: DocId,
        row: &mut StoredRow,
        last: Option<Position>,
        derived_to: Option<Position>,
    ) -> Result<bool, Fault> {
        let newer = derived_to.filter(|position| *position >= row.derived);
        row.derived = newer.unwrap_or(row.derived);
        if let Some(last) = last.filter(|last| *last > row.derived) {
            self.due.insert(doc.0, last.0)?;
        } else if newer.is_some() && self.due.get(doc.0)?.is_some_and(|mark| mark.value() <= row.derived.0) {
            self.due.remove(doc.0)?;
        }
        Ok(newer.is_some() || derived_to.is_none())
    }

    /// Has a document forget what a stream that now ends here had of it after its end.
    pub(super) fn part(&mut self, doc: DocId, end: Dot) -> Result<(), Fault> {
        let Some(row) = self.documents.get(doc.0)?.map(|row| Bytes::copy_from_slice(row.value())) else {
            return Ok(());
        };
        let mut row = decode_doc(&row)?;
        row.doc.life.part(end);
        self.documents.insert(doc.0, &encode_doc(&row)[..])?;
        Ok(())
    }

    /// How many documents there are.
    pub(super) fn documents(&self) -> Result<u64, Fault> {
        Ok(self.documents.len()?)
    }

    /// Writes a snapshot and removes the tails that lie within it.
    fn replace_snapshot(&mut self, doc: DocId, snapshot: &Snapshot) -> Result<(), Fault> {
        let header = snapshot_header(snapshot);
        let mut value = self.snapshots.insert_reserve(doc.0, header.len() + snapshot.len())?;
        let (start, body) = value.as_mut().split_at_mut(header.len());
        start.copy_from_slice(&header);
        let (state, fields) = body.split_at_mut(snapshot.state.len());
        state.copy_from_slice(&snapshot.state);
        fields.copy_from_slice(snapshot.fields.as_deref().unwrap_or_default());
        drop(value);
        self.tails.retain_in((doc.0, 0)..=(doc.0, snapshot.position.0), |_, _| false)?;
        Ok(())
    }
}
