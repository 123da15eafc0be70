//! Taking a peer's snapshot: its entries are staged in the store as they come, and become part of the
//! documents in one transaction, with the log's end that goes with them.
//!
//! Made by the checkpointer, as the second half of a checkpoint: the journal then holds nothing that the
//! store does not, and nothing is written beside it. A crash before it leaves what was staged to be
//! forgotten; a crash after it finds all of it.

use super::fault::{Fault, caught};
use super::kept;
use super::recent::Epoch;
use super::rows::{decode_tail, encode_tail};
use super::store::{Changes, DocTables, Store};
use crate::document::TailEntry;
use crate::error::AppendError;
use crate::head::{AppliedBatch, Head};
use crate::log::{Imported, Position};
use bytes::Bytes;
use quire_protocol::batch::NO_DOC;
use quire_protocol::ids::{DocId, Dot, StreamId};
use quire_protocol::snapshot::{SnapshotEntry, SnapshotHead};
use redb::{ReadableTable, Table, TableDefinition, TableHandle as _, WriteTransaction};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keyed by document and the order in which entries came; a value is a tail of one entry.
const STAGED: TableDefinition<'_, (u128, u64), &[u8]> = TableDefinition::new("staged");

type Staged<'txn> = Table<'txn, (u128, u64), &'static [u8]>;

/// A snapshot that is to be imported, and the stream that this replica originates.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) own: StreamId,
    pub(super) snapshot: SnapshotHead,
}

/// What an import did to the store.
pub(super) struct Merged {
    pub(super) head: Head,
    pub(super) imported: Imported,
    pub(super) kept_bytes: u64,
}

impl Store {
    /// Whether a snapshot was staged and not imported.
    pub(super) fn has_staged(&self) -> Result<bool, Fault> {
        caught("store.redb", || self.cut()?.has_table(STAGED.name()))
    }

    /// Forgets what was staged.
    pub(super) fn forget_staged(&self) -> Result<(), Fault> {
        caught("store.redb", || {
            let txn = self.begin_write()?;
            txn.delete_table(STAGED)?;
            Ok(txn.commit()?)
        })
    }

    /// Stages entries, the first of which is the one of this number.
    pub(super) fn stage(&self, first: u64, entries: Vec<SnapshotEntry>) -> Result<(), Fault> {
        caught("store.redb", || {
            let txn = self.begin_write()?;
            let mut table = txn.open_table(STAGED)?;
            for (entry, number) in entries.into_iter().zip(first..) {
                let SnapshotEntry { doc, dot, hlc, kind, payload } = entry;
                let entry = TailEntry { position: Position(number), dot, hlc, kind, payload };
                table.insert((doc.0, number), &encode_tail(Position(0), &[entry])[..])?;
            }
            drop(table);
            Ok(txn.commit()?)
        })
    }
}

/// Merges what was staged into the documents, after an epoch has been written to them. The error within is
/// that the snapshot contradicts what is known here; nothing may be committed then.
pub(super) fn merge(
    txn: &WriteTransaction,
    epoch: &Epoch,
    request: &Request,
    kept_bytes: u64,
) -> Result<Result<Merged, AppendError>, Fault> {
    let mut head = epoch.head.clone();
    let before = head.position;
    let mut imported = Imported::default();
    let mut tables = DocTables::open(txn)?;
    let staged = txn.open_table(STAGED)?;
    let mut stamp = head.seen;
    let mut after = 0;
    while let Some((doc, entries)) = next_staged(&staged, after)? {
        let mut placed = Vec::with_capacity(entries.len());
        for TailEntry { dot, hlc, kind, payload, .. } in entries {
            stamp = stamp.max(hlc);
            placed.push(head.place(SnapshotEntry { doc, dot, hlc, kind, payload }));
        }
        // Who belongs to the cluster is part of the log's end, and of no document.
        if doc != NO_DOC {
            tables.write(doc, Changes { entries: &placed, ..Changes::default() })?;
            imported.docs.push(doc);
        }
        let Some(next) = doc.0.checked_add(1) else { break };
        after = next;
    }
    imported.positions = (before, head.position);
    imported.ends = request.snapshot.frontier();
    let moved = match head.skip_to(request.own, &request.snapshot, stamp) {
        Ok(moved) => moved,
        Err(reason) => return Ok(Err(AppendError::Refused(reason.into()))),
    };
    drop(staged);
    txn.delete_table(STAGED)?;
    let kept_bytes = kept_bytes.saturating_sub(kept::forget(txn, &moved)?);
    let mut waiting = |first: Dot| Ok(Arc::new(kept::waiting(txn, first)?));
    let mut applied = Vec::new();
    head.drain(&mut waiting, &mut applied)
        .map_err(|failure| Fault { kind: failure.kind, text: failure.text.as_ref().into() })?;
    show(&mut tables, applied.iter().flat_map(AppliedBatch::entries))?;
    imported.applied = applied.iter().map(AppliedBatch::shown).collect();
    Ok(Ok(Merged { head, imported, kept_bytes }))
}

/// The entries of the first staged document from this one on.
fn next_staged(staged: &Staged<'_>, from: u128) -> Result<Option<(DocId, Vec<TailEntry>)>, Fault> {
    let first = staged.range((from, 0)..)?.next().transpose()?;
    let Some(doc) = first.map(|(key, _)| key.value().0) else { return Ok(None) };
    let mut entries = Vec::new();
    for row in staged.range((doc, 0)..=(doc, u64::MAX))? {
        entries.extend(decode_tail(&Bytes::copy_from_slice(row?.1.value()))?.1);
    }
    Ok(Some((DocId(doc), entries)))
}

/// Writes entries that had waited to their documents.
fn show(tables: &mut DocTables<'_>, applied: impl Iterator<Item = (DocId, TailEntry)>) -> Result<(), Fault> {
    let mut by_doc: BTreeMap<DocId, Vec<TailEntry>> = BTreeMap::new();
    for (doc, entry) in applied.filter(|(doc, _)| *doc != NO_DOC) {
        by_doc.entry(doc).or_default().push(entry);
    }
    for (doc, entries) in by_doc {
        tables.write(doc, Changes { entries: &entries, ..Changes::default() })?;
    }
    Ok(())
}
