//! The store's log table: batches that wait for their causes, and those that peers may still ask for.
//!
//! Invariant: the kept batches of each stream are contiguous and end at the last checkpoint, so what
//! is not here and not in memory has been truncated. What had not been applied then is here.

use super::fault::{Fault, caught};
use super::meta;
use super::recent::Epoch;
use super::store::Cut;
use crate::head::Ordinal;
use crate::log::Retention;
use bytes::Bytes;
use quire_protocol::batch::EncodedBatch;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{Dot, Seq, StreamId};
use redb::{Database, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::collections::BTreeMap;

/// Keyed by stream and first seq; the value is the ordinal of the first entry, then the batch.
pub(super) const LOG: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("log");

const ORDINAL_BYTES: usize = 8;

/// The most batches that one checkpoint removes beyond as many as it adds; the rest wait for the next one, so
/// that a peer that acknowledges a long absence's worth at once does not make one endless transaction.
const TRUNCATED_PER_CHECKPOINT_MAX: usize = 4096;

/// Bytes kept.
pub(super) fn bytes(db: &Database) -> Result<u64, Fault> {
    let row = meta::read(db, meta::KEPT_BYTES_KEY)?;
    let bytes = row.map(|row| <[u8; 8]>::try_from(row.as_ref())).transpose();
    let bytes = bytes.map_err(|_| Fault::corrupt("the count of kept bytes is not a number"))?;
    Ok(bytes.map_or(0, u64::from_le_bytes))
}

/// Adds an epoch's batches and removes what need not be kept. Each stream's last batch is: a replica whose disk
/// went back has it shown, to know its own history from its peers'. Returns the bytes kept.
pub(super) fn keep(
    txn: &WriteTransaction,
    epoch: &Epoch,
    retention: &Retention,
    kept_bytes: u64,
) -> Result<u64, Fault> {
    let applied = epoch.head.gate.applied();
    // What waits is kept whatever peers need, and without any only that.
    let waits = (epoch.head.waiting() > 0).then_some(applied);
    let kept = match retention.acknowledged.as_ref().or(waits) {
        Some(acknowledged) => {
            let mut keeper = Keeper { table: txn.open_table(LOG)?, kept_bytes };
            keeper.add(epoch)?;
            let oldest = Hlc::from_ms(epoch.head.own.ms().saturating_sub(retention.age_ms_max));
            let most = epoch.batches.len() + TRUNCATED_PER_CHECKPOINT_MAX;
            let received = epoch.head.gate.received();
            let recent = Hlc::from_ms(epoch.head.own.ms().saturating_sub(retention.acknowledged_age_ms));
            keeper.remove_while(most, |kept, bytes| {
                let batch = &kept.encoded.batch;
                let (end, applied) = (batch.last_dot(), applied.covers(batch.last_dot()));
                let needless = acknowledged.covers(end) && batch.hlc_base.ms() <= recent.ms()
                    || batch.hlc_base < oldest
                    || bytes > retention.bytes_max;
                needless && applied && end.seq < received.get(end.stream)
            })?;
            keeper.kept_bytes
        }
        None if kept_bytes > 0 => {
            // All at once: what stayed would be cut off from what a later peer makes us keep.
            txn.delete_table(LOG)?;
            txn.open_table(LOG)?;
            0
        }
        None => return Ok(0),
    };
    meta::write(txn, meta::KEPT_BYTES_KEY, &kept.to_le_bytes())?;
    Ok(kept)
}

/// Removes all batches of these streams, and returns how many bytes they had: a snapshot has taken their
/// place, and what comes next does not follow from them.
pub(super) fn forget(txn: &WriteTransaction, streams: &[StreamId]) -> Result<u64, Fault> {
    let mut table = txn.open_table(LOG)?;
    let mut bytes = 0;
    for stream in streams {
        let stream = stream.to_u32();
        table.retain_in((stream, 0)..=(stream, u64::MAX), |_, value| {
            bytes += value.len().saturating_sub(ORDINAL_BYTES) as u64;
            false
        })?;
    }
    Ok(bytes)
}

/// The kept batch that begins with an entry, as a transaction sees it.
pub(super) fn waiting(txn: &WriteTransaction, first: Dot) -> Result<EncodedBatch, Fault> {
    find(&txn.open_table(LOG)?, first)
}

fn find(table: &impl ReadableTable<(u32, u64), &'static [u8]>, first: Dot) -> Result<EncodedBatch, Fault> {
    let found = table.get((first.stream.to_u32(), first.seq.0))?;
    let missing = || {
        let Dot { stream, seq } = first;
        Fault::corrupt(format!("the batch of stream {stream} at seq {} waits and is missing", seq.0))
    };
    Ok(read(found.ok_or_else(missing)?.value())?.encoded)
}

/// A batch that is kept.
pub(super) struct Kept {
    /// Its first entry's.
    pub(super) ordinal: Ordinal,
    pub(super) encoded: EncodedBatch,
}

struct Keeper<'txn> {
    table: Table<'txn, (u32, u64), &'static [u8]>,
    kept_bytes: u64,
}

impl Keeper<'_> {
    fn add(&mut self, epoch: &Epoch) -> Result<(), Fault> {
        for (&(stream, first), received) in &epoch.batches {
            let value = row(received.ordinal, &received.bytes);
            self.table.insert((stream.to_u32(), first.0), &value[..])?;
            self.kept_bytes += received.bytes.len() as u64;
        }
        Ok(())
    }

    /// Removes so many batches at most from the front of streams, the oldest first, while they are dispensable.
    fn remove_while(&mut self, most: usize, dispensable: impl Fn(&Kept, u64) -> bool) -> Result<(), Fault> {
        let mut fronts = self.fronts()?;
        for _ in 0..most {
            let oldest = fronts.iter().min_by_key(|(_, front)| front.ordinal).map(|(stream, _)| *stream);
            let Some((stream, front)) = oldest.and_then(|stream| fronts.remove_entry(&stream)) else { break };
            if !dispensable(&front, self.kept_bytes) {
                // The stream keeps this batch, and with it all that follow.
                continue;
            }
            self.table.remove((stream, front.encoded.batch.first_seq.0))?;
            self.kept_bytes = self.kept_bytes.saturating_sub(front.encoded.bytes.len() as u64);
            let next = self.table.range((stream, 0)..=(stream, u64::MAX))?.next().transpose()?;
            if let Some((_, value)) = next {
                fronts.insert(stream, read(value.value())?);
            }
        }
        Ok(())
    }

    /// The first batch of each stream.
    fn fronts(&self) -> Result<BTreeMap<u32, Kept>, Fault> {
        let mut fronts = BTreeMap::new();
        let mut from = Some(0);
        while let Some(stream) = from {
            let Some(row) = self.table.range((stream, 0)..)?.next() else { break };
            let (key, value) = row?;
            fronts.insert(key.value().0, read(value.value())?);
            from = key.value().0.checked_add(1);
        }
        Ok(fronts)
    }
}

fn row(ordinal: Ordinal, batch: &[u8]) -> Vec<u8> {
    let mut value = ordinal.0.to_le_bytes().to_vec();
    value.extend_from_slice(batch);
    value
}

/// Keeps a batch, whose first entry has this ordinal.
pub(super) fn insert(
    table: &mut Table<'_, (u32, u64), &'static [u8]>,
    ordinal: Ordinal,
    encoded: &EncodedBatch,
) -> Result<(), Fault> {
    let key = (encoded.batch.stream.to_u32(), encoded.batch.first_seq.0);
    table.insert(key, &row(ordinal, &encoded.bytes)[..])?;
    Ok(())
}

/// Reads a row.
pub(super) fn read(value: &[u8]) -> Result<Kept, Fault> {
    let Some((ordinal, batch)) = value.split_first_chunk::<ORDINAL_BYTES>() else {
        return Err(Fault::corrupt("a kept batch is too short"));
    };
    let encoded = EncodedBatch::decode(Bytes::copy_from_slice(batch))
        .map_err(|error| Fault::corrupt(format!("a kept batch is damaged: {error}")))?;
    Ok(Kept { ordinal: Ordinal(u64::from_le_bytes(*ordinal)), encoded })
}

impl Cut {
    /// A stream's kept batches from the one that holds `from` on, until `max_bytes` are passed, and
    /// the first seq that is kept; none when nothing is.
    pub(super) fn kept(
        &self,
        stream: StreamId,
        from: Seq,
        max_bytes: usize,
    ) -> Result<(Option<Seq>, Vec<EncodedBatch>), Fault> {
        caught("store.redb", || {
            let table = self.txn().open_table(LOG)?;
            let stream = stream.to_u32();
            let first = table.range((stream, 0)..=(stream, u64::MAX))?.next().transpose()?;
            let first = first.map(|(key, _)| Seq(key.value().1));
            let holder = table.range((stream, 0)..=(stream, from.0))?.next_back().transpose()?;
            let start = holder.map_or(from.0, |(key, _)| key.value().1);
            let mut taken = Vec::new();
            let mut bytes = 0;
            for row in table.range((stream, start)..=(stream, u64::MAX))? {
                let encoded = read(row?.1.value())?.encoded;
                if encoded.batch.last_dot().seq < from {
                    continue;
                }
                bytes += encoded.bytes.len();
                if bytes > max_bytes && !taken.is_empty() {
                    break;
                }
                taken.push(encoded);
            }
            Ok((first, taken))
        })
    }

    /// The kept batch that begins with an entry.
    pub(super) fn waiting(&self, first: Dot) -> Result<EncodedBatch, Fault> {
        caught("store.redb", || find(&self.txn().open_table(LOG)?, first))
    }
}
