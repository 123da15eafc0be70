//! A snapshot of all documents for a peer: the store as it was at its last checkpoint, read one document at a
//! time.
//!
//! The store moves from one position of the log to a later one as a whole, so any moment of it is a
//! consistent cut, and the log has what came after. Its pages stay for as long as somebody reads that moment.

use super::RedbLog;
use super::fault::{Fault, caught};
use super::rows::{decode_doc, decode_head};
use super::store::{Cut, DOCUMENTS};
use super::{meta, rows::StoredRow};
use crate::error::LoadError;
use crate::log::{Export, Position};
use bytes::{Bytes, BytesMut};
use quire_protocol::ids::{DocId, StreamId};
use quire_protocol::snapshot::Record;
use std::ops::Bound;
use std::sync::Arc;

/// A snapshot that is being read.
struct Reading {
    cut: Cut,
    /// Names what stands for many entries.
    by: StreamId,
    /// What has been read of the store and not been asked for: at most one document.
    read: BytesMut,
    last: Option<DocId>,
    ended: bool,
}

impl RedbLog {
    pub(super) fn begin_export(&self) -> Result<Box<dyn Export>, LoadError> {
        let cut = self.shared.store.cut()?;
        let head = cut.head()?;
        let mut waiting = |first| Ok(Arc::new(cut.waiting(first)?));
        let ends = head.snapshot(&mut waiting).map_err(|failure| LoadError::Corrupt(failure.text))?;
        let mut reading = Reading {
            cut,
            by: crate::log::Log::stream(self),
            read: BytesMut::new(),
            last: None,
            ended: false,
        };
        let all = head.members.told().chain(head.numbers.told());
        reading.put(std::iter::once(Record::Head(ends)).chain(all.map(Record::Entry)));
        Ok(Box::new(reading))
    }
}

impl Reading {
    fn put(&mut self, records: impl IntoIterator<Item = Record>) {
        let mut bytes = Vec::new();
        records.into_iter().for_each(|record| record.encode(&mut bytes));
        self.read.extend_from_slice(&bytes);
    }

    /// Reads the next document; false when there is none.
    fn read_next(&mut self) -> Result<bool, Fault> {
        let Some((doc, row)) = self.cut.next_row(self.last)? else { return Ok(false) };
        let (snapshot, tail) = self.cut.content(doc, &row, Position(0))?;
        let entries = row.doc.told(doc, self.by, snapshot, tail);
        self.put(entries.into_iter().map(Record::Entry));
        self.last = Some(doc);
        Ok(true)
    }
}

impl Export for Reading {
    fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LoadError> {
        while self.read.len() < bytes_max && !self.ended {
            self.ended = !self.read_next()?;
        }
        let len = self.read.len().min(bytes_max);
        Ok((len > 0).then(|| self.read.split_to(len).freeze()))
    }
}

impl Cut {
    /// The log's end at this moment of the store.
    fn head(&self) -> Result<crate::head::Head, Fault> {
        caught("store.redb", || {
            let table = self.txn().open_table(meta::META)?;
            let row =
                table.get(meta::HEAD_KEY)?.ok_or_else(|| Fault::corrupt("the log's head is missing"))?;
            decode_head(&Bytes::copy_from_slice(row.value()))
        })
    }

    /// The first document after another one.
    fn next_row(&self, last: Option<DocId>) -> Result<Option<(DocId, StoredRow)>, Fault> {
        caught("store.redb", || {
            let after = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.0));
            let table = self.txn().open_table(DOCUMENTS)?;
            let next = table.range::<u128>((after, Bound::Unbounded))?.next().transpose()?;
            next.map(|(doc, row)| Ok((DocId(doc.value()), decode_doc(&Bytes::copy_from_slice(row.value()))?)))
                .transpose()
        })
    }
}
