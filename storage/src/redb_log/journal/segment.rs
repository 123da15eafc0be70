//! One file of the journal: a header block, then records, each in blocks of its own.
//!
//! Space is written with zeros before it is used, and used again: a commit changes neither the
//! file's length nor where it lies on the disk, so that syncing it is one write for the disk too. A
//! block that holds a durable record is not touched by the next one, so that no torn write can reach
//! it.
//!
//! Never decides what a record is worth; that is the journal's.

use super::super::fault::Fault;
use super::super::open::{FORMAT, check_format};
use super::super::rows::{Identity, decode_identity, encode_identity};
use super::record::{self, Record};
use crate::head::Ordinal;
use bytes::Bytes;
use redb::StorageBackend;

/// What the file is written in: the page of the systems and disks it lies on, or a multiple of it.
pub(super) const BLOCK_BYTES: usize = 4096;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What every journal file begins with.
const MARK: &[u8; 8] = b"qJournal";

/// Where records begin.
const FIRST_RECORD: u64 = BLOCK;

/// The file grows to a multiple of this. What is beyond its records has been written with zeros, and is synced with
/// the record that it grew for: as little as that costs small records one slow commit in 64.
const GROWTH_BYTES: u64 = 256 * 1024;

/// The longest that a file stays once it is used again from its beginning.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Segment {
    name: &'static str,
    file: Box<dyn StorageBackend>,
    /// The file's length.
    len: u64,
    /// Where the next record goes.
    end: u64,
    /// The last ordinal in it that the store did not hold when it was written; 0 when there is none.
    last: Ordinal,
}

impl Segment {
    pub(super) fn open(name: &'static str, file: Box<dyn StorageBackend>) -> Result<Self, Fault> {
        let len = file.len().map_err(|error| disk(name, error))?;
        Ok(Self { name, file, len, end: FIRST_RECORD, last: Ordinal(0) })
    }

    pub(super) const fn last(&self) -> Ordinal {
        self.last
    }

    /// Whose file it is; none when it was never set up.
    pub(super) fn identity(&self) -> Result<Option<Identity>, Fault> {
        let header = self.read(0, self.len.min(BLOCK))?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let identity = || {
            if header.len() < BLOCK_BYTES || header[..8] != *MARK {
                return Err(Fault::corrupt("it is no journal"));
            }
            let number = |at: usize| {
                let bytes: [u8; 4] = header[at..at + 4].try_into().expect("four bytes of a block");
                u32::from_le_bytes(bytes)
            };
            check_format(number(8))?;
            let len = number(12) as usize;
            if len > BLOCK_BYTES - 16 {
                return Err(Fault::corrupt("its header is damaged"));
            }
            decode_identity(&header.slice(16..16 + len))
        };
        identity().map(Some).map_err(|fault| fault.at(self.name))
    }

    pub(super) fn set_up(&mut self, identity: &Identity) -> Result<(), Fault> {
        let row = encode_identity(identity);
        let mut header = MARK.to_vec();
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&u32::try_from(row.len()).expect("a row of some bytes").to_le_bytes());
        header.extend_from_slice(&row);
        header.resize(BLOCK_BYTES, 0);
        self.set_len(BLOCK)?;
        self.write(0, &header)?;
        self.sync()
    }

    /// The records that hold entries after an ordinal, as they lie in the file.
    pub(super) fn after(&self, ordinal: Ordinal, key: u32) -> Result<Vec<Record>, Fault> {
        let mut records = Vec::new();
        let mut offset = FIRST_RECORD;
        while offset + BLOCK <= self.len {
            // Each block is looked at: behind a torn or a damaged record there may be whole ones.
            let Some((first, bytes)) = self.record_at(offset, key)? else {
                offset += BLOCK;
                continue;
            };
            let len = (bytes.len() as u64).next_multiple_of(BLOCK);
            let batches = record::batches(bytes).map_err(|fault| fault.at(self.name))?;
            let record = Record { first, batches, file: self.name, offset, len };
            if record.last() > ordinal {
                records.push(record);
            }
            offset += len;
        }
        Ok(records)
    }

    /// The record that begins at a block, and its first entry's ordinal; none when none does.
    fn record_at(&self, offset: u64, key: u32) -> Result<Option<(Ordinal, Bytes)>, Fault> {
        let block = self.read(offset, BLOCK)?;
        let Some(len) = record::len_of(&block) else { return Ok(None) };
        if offset + len as u64 > self.len {
            return Ok(None);
        }
        let bytes = if len <= BLOCK_BYTES { block.slice(..len) } else { self.read(offset, len as u64)? };
        Ok(record::checked(&bytes, key).map(|first| (first, bytes)))
    }

    /// Goes on after those of the records that this file holds, having written them anew: pages that
    /// a system failed to write may still be read, and are not written by a further sync.
    pub(super) fn resume(&mut self, records: &[Record]) -> Result<(), Fault> {
        for record in records.iter().filter(|record| record.file == self.name) {
            let bytes = self.read(record.offset, record.len.min(self.len - record.offset))?;
            self.write(record.offset, &bytes)?;
            self.end = record.offset + record.len;
            self.last = record.last();
        }
        if self.last > Ordinal(0) { self.sync() } else { Ok(()) }
    }

    /// Makes a record durable, which is whole blocks.
    pub(super) fn append(&mut self, record: &[u8], last: Ordinal) -> Result<(), Fault> {
        let end = self.end + record.len() as u64;
        if end > self.len {
            self.grow(end)?;
        }
        self.write(self.end, record)?;
        self.sync()?;
        self.end = end;
        self.last = last;
        Ok(())
    }

    /// Has the next record go to the file's beginning. What it holds is not needed any more.
    pub(super) fn restart(&mut self) -> Result<(), Fault> {
        self.shorten(KEPT_BYTES)
    }

    /// Gives back all but the header. What it holds is not needed any more.
    pub(super) fn empty(&mut self) -> Result<(), Fault> {
        self.shorten(FIRST_RECORD)
    }

    fn shorten(&mut self, len: u64) -> Result<(), Fault> {
        self.end = FIRST_RECORD;
        self.last = Ordinal(0);
        if self.len > len { self.set_len(len) } else { Ok(()) }
    }

    /// Makes the file longer than a record needs that ends at `end`, which is still to be written.
    fn grow(&mut self, end: u64) -> Result<(), Fault> {
        let len = end.next_multiple_of(GROWTH_BYTES);
        self.set_len(len)?;
        self.write(end, &vec![0; index(len - end)?])
    }

    fn set_len(&mut self, len: u64) -> Result<(), Fault> {
        self.file.set_len(len).map_err(|error| disk(self.name, error))?;
        self.len = len;
        Ok(())
    }

    fn read(&self, offset: u64, len: u64) -> Result<Bytes, Fault> {
        let mut bytes = vec![0; index(len)?];
        self.file.read(offset, &mut bytes).map_err(|error| disk(self.name, error))?;
        Ok(bytes.into())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write(offset, bytes).map_err(|error| disk(self.name, error))
    }

    fn sync(&self) -> Result<(), Fault> {
        self.file.sync_data().map_err(|error| disk(self.name, error))
    }
}

fn disk(name: &str, error: std::io::Error) -> Fault {
    Fault::from(redb::Error::Io(error)).at(name)
}

fn index(len: u64) -> Result<usize, Fault> {
    usize::try_from(len).map_err(|_| Fault::corrupt("a file is longer than this system's memory"))
}
