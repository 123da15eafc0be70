//! Derived rows and the documents that are due, in memory and in the store.
//!
//! A document's mark says up to where its entries want something derived; its row, up to where that was done.
//! Both are written in the transaction that moves its entries and its derived rows.
//!
//! Invariant: the store has a document's mark exactly as long as its mark is beyond what its row says.

use super::RedbLog;
use super::fault::{Fault, caught};
use super::rows::{decode_derived, encode_derived};
use super::store::{Cut, DOCUMENTS, Store};
use crate::derived::{KeyRange, Piece, Puts, gather};
use crate::limits::DERIVED_READ_BYTES_MAX;
use crate::log::Position;
use bytes::Bytes;
use quire_protocol::ids::DocId;
use redb::{ReadableTable as _, TableDefinition, TableHandle as _, WriteTransaction};
use std::collections::BTreeSet;
use std::ops::Bound;

/// Keyed by space and key.
pub(super) const DERIVED: TableDefinition<'_, (u8, &[u8]), &[u8]> = TableDefinition::new("derived");
/// The position of a due document's last entry to derive from.
pub(super) const DUE: TableDefinition<'_, u128, u64> = TableDefinition::new("due");

impl RedbLog {
    pub(super) fn read_derived(
        &self,
        space: u8,
        range: KeyRange<'_>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        gather(range, limit, |range, rows_max| {
            let (put, cut) = {
                let state = self.shared.state();
                (state.recent.derived(space, range, rows_max), self.shared.store.cut()?)
            };
            Ok(cut.derived(space, range, rows_max)?.under(put))
        })
    }

    pub(super) fn read_due(&self, after: Option<DocId>, limit: usize) -> Result<Vec<DocId>, Fault> {
        let (mut due, mut after) = (Vec::new(), after);
        while due.len() < limit {
            let (mut marked, cut) = {
                let state = self.shared.state();
                (state.recent.marked(after, limit), self.shared.store.cut()?)
            };
            marked.extend(cut.marked(after, limit)?);
            // Each side may have been cut short after so many.
            let marked: Vec<DocId> = marked.into_iter().take(limit).collect();
            let Some(&last) = marked.last() else { break };
            after = Some(last);
            due.extend(self.of_these_due(marked)?);
        }
        due.truncate(limit);
        Ok(due)
    }

    /// Whether a document is due that was read at this moment.
    pub(super) fn is_due(&self, doc: DocId, cut: &Cut) -> Result<bool, Fault> {
        let (mark, derived_to) = self.shared.state().recent.mark(doc);
        Ok(mark.max(cut.mark(doc)?) > derived_to)
    }

    /// Those of some documents that are due, all at one moment.
    fn of_these_due(&self, docs: Vec<DocId>) -> Result<Vec<DocId>, Fault> {
        let (in_memory, cut) = {
            let state = self.shared.state();
            let in_memory: Vec<_> = docs.iter().map(|doc| state.recent.mark(*doc)).collect();
            (in_memory, self.shared.store.cut()?)
        };
        let mut due = Vec::new();
        for (doc, (mark, derived_to)) in docs.into_iter().zip(in_memory) {
            if mark.max(cut.mark(doc)?) > derived_to {
                due.push(doc);
            }
        }
        Ok(due)
    }
}

impl Store {
    /// Has all documents be due in a store from before there were derived rows.
    pub(super) fn begin_deriving(&self) -> Result<(), Fault> {
        caught("store.redb", || {
            if self.cut()?.has_table(DUE.name())? {
                return Ok(());
            }
            let txn = self.begin_write()?;
            txn.open_table(DERIVED)?;
            let mut due = txn.open_table(DUE)?;
            for row in txn.open_table(DOCUMENTS)?.iter()? {
                let (doc, row) = row?;
                // One that cannot be read is told of when it is opened.
                if let Ok(row) = super::rows::decode_doc(&Bytes::copy_from_slice(row.value())) {
                    due.insert(doc.value(), row.position.0)?;
                }
            }
            drop(due);
            Ok(txn.commit()?)
        })
    }
}

impl Cut {
    /// The first rows of a range, which is not empty.
    fn derived(&self, space: u8, range: KeyRange<'_>, rows_max: usize) -> Result<Piece, Fault> {
        let from = match range.0 {
            Bound::Unbounded => Bound::Included((space, &[][..])),
            from => from.map(|key| (space, key)),
        };
        let to = match range.1 {
            Bound::Unbounded => {
                space.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded((next, &[][..])))
            }
            to => to.map(|key| (space, key)),
        };
        caught("store.redb", || {
            let (mut piece, mut bytes) = (Piece::default(), 0);
            for row in self.txn().open_table(DERIVED)?.range::<(u8, &[u8])>((from, to))? {
                let (key, value) = row?;
                let key = Bytes::copy_from_slice(key.value().1);
                let value = decode_derived(space, &key, &Bytes::copy_from_slice(value.value()))?;
                bytes += value.len();
                piece.rows.insert(key.clone(), Some(value));
                if piece.rows.len() >= rows_max || bytes > DERIVED_READ_BYTES_MAX {
                    piece.end = Some(key);
                    break;
                }
            }
            Ok(piece)
        })
    }

    /// The first documents after one that have marks.
    fn marked(&self, after: Option<DocId>, limit: usize) -> Result<Vec<DocId>, Fault> {
        caught("store.redb", || {
            let after = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0));
            let marks = self.txn().open_table(DUE)?;
            let marks = marks.range::<u128>((after, Bound::Unbounded))?.take(limit);
            marks.map(|mark| Ok(DocId(mark?.0.value()))).collect()
        })
    }

    fn mark(&self, doc: DocId) -> Result<Position, Fault> {
        caught("store.redb", || {
            let mark = self.txn().open_table(DUE)?.get(doc.0)?.map(|mark| Position(mark.value()));
            Ok(mark.unwrap_or_default())
        })
    }
}

/// Writes what was put, except of some documents.
pub(super) fn write(txn: &WriteTransaction, puts: &Puts, but: &BTreeSet<DocId>) -> Result<(), Fault> {
    if puts.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(DERIVED)?;
    for (space, key, _, value) in puts.rows().filter(|(_, _, doc, _)| !but.contains(doc)) {
        match value {
            Some(value) => drop(table.insert((space, &key[..]), &encode_derived(space, key, value)[..])?),
            None => drop(table.remove((space, &key[..]))?),
        }
    }
    Ok(())
}
