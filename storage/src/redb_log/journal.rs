//! The hot file: batches since the last checkpoint, one small transaction and one fsync per commit.
//!
//! It stays small, so that redb's repair after a crash, which walks every page, is quick. It is
//! read once, at start-up.
//!
//! Invariant: rows are keyed by the position of their first entry, without gaps from the first.

use super::fault::{Fault, caught};
use super::file::RedbFile;
use super::rows::Identity;
use super::{meta, open::FORMAT};
use crate::log::Position;
use crate::sequencer::PlacedBatch;
use bytes::Bytes;
use quire_protocol::batch::EncodedBatch;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};

pub(super) const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

/// The most rows that one commit removes. Removing costs page writes too: a long list after a
/// checkpoint is spread over commits rather than held against one.
const REMOVED_PER_COMMIT_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Journal {
    db: RedbFile,
}

impl Journal {
    pub(super) const fn new(db: RedbFile) -> Self {
        Self { db }
    }

    /// Whose journal this is; none when it was never set up.
    pub(super) fn identity(&self) -> Result<Option<Identity>, Fault> {
        caught("journal.redb", || meta::read_identity(&self.db))
    }

    pub(super) fn set_up(&self, identity: &Identity) -> Result<(), Fault> {
        caught("journal.redb", || {
            let txn = self.db.begin_write()?;
            txn.open_table(BATCHES)?;
            meta::write(&txn, meta::FORMAT_KEY, &FORMAT.to_le_bytes())?;
            meta::write_identity(&txn, identity)?;
            Ok(txn.commit()?)
        })
    }

    /// Makes batches durable and removes rows that the store holds, up to `checkpointed`.
    pub(super) fn commit(&self, batches: &[PlacedBatch], checkpointed: Position) -> Result<(), Fault> {
        caught("journal.redb", || {
            let txn = self.db.begin_write()?;
            {
                let mut table = txn.open_table(BATCHES)?;
                let mut done = Vec::new();
                for row in table.range(..=checkpointed.0)?.take(REMOVED_PER_COMMIT_MAX) {
                    done.push(row?.0.value());
                }
                for key in done {
                    // A row begins and ends within one checkpoint: epochs are sealed between commits.
                    table.remove(key)?;
                }
                for placed in batches {
                    table.insert(placed.first.0, &placed.encoded.bytes[..])?;
                }
            }
            Ok(txn.commit()?)
        })
    }

    /// Reads the batches after a position, in order.
    pub(super) fn after(&self, position: Position) -> Result<Vec<PlacedBatch>, Fault> {
        caught("journal.redb", || {
            let txn = self.db.begin_read()?;
            let table = match txn.open_table(BATCHES) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut batches = Vec::new();
            for row in table.range(position.0 + 1..)? {
                let (first, bytes) = row?;
                batches.push(placed(first.value(), Bytes::copy_from_slice(bytes.value()))?);
            }
            Ok(batches)
        })
    }
}

/// Reads one row.
pub(super) fn placed(first: u64, bytes: Bytes) -> Result<PlacedBatch, Fault> {
    let encoded = EncodedBatch::decode(bytes)
        .map_err(|error| Fault::corrupt(format!("the batch at position {first} is damaged: {error}")))?;
    Ok(PlacedBatch { first: Position(first), encoded })
}
