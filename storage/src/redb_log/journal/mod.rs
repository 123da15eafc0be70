//! The hot part: commits since the last checkpoint, appended to two files with one write and one
//! sync each. They are read once, at start-up.
//!
//! One file takes commits while the other waits for the store to hold all of it; then they change
//! places. Nothing is ever removed: **ordinals alone say what a commit is worth**. One that the
//! store holds is skipped wherever it lies, and those that it does not hold must follow each other
//! without a gap, or the journal is damaged.
//!
//! Invariant: a file is written from its beginning only when the store holds all that is in it.

mod record;
mod segment;

pub(super) use record::Record;

use super::fault::Fault;
use super::rows::Identity;
use crate::head::Ordinal;
use crate::limits::JOURNAL_COMMIT_BYTES_MAX;
use quire_protocol::batch::EncodedBatch;
use redb::StorageBackend;
use segment::Segment;
use std::sync::Arc;

/// The journal's files.
pub(super) const JOURNAL_FILES: [&str; 2] = ["journal.0", "journal.1"];

/// What a commit buffer may keep of its size for the next one.
const BUFFER_KEPT_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Journal {
    segments: [Segment; 2],
    /// The one that takes commits.
    active: usize,
    /// The next commit's bytes, kept for their capacity.
    buffer: Vec<u8>,
    /// Makes a record of this directory unlike any bytes that a client could have stored in one.
    key: u32,
}

impl Journal {
    pub(super) fn new(files: [Box<dyn StorageBackend>; 2]) -> Result<Self, Fault> {
        let [first, second] = files;
        let segments = [Segment::open(JOURNAL_FILES[0], first)?, Segment::open(JOURNAL_FILES[1], second)?];
        Ok(Self { segments, active: 0, buffer: Vec::new(), key: 0 })
    }

    /// Whose journal each file is; none where it was never set up.
    ///
    /// # Errors
    /// When a file is no journal, or one of another format.
    pub(super) fn identities(&self) -> Result<[Option<Identity>; 2], Fault> {
        Ok([self.segments[0].identity()?, self.segments[1].identity()?])
    }

    /// Sets up both files, which hold no commit. [`Self::belong_to`] comes after.
    pub(super) fn set_up(&mut self, identity: &Identity) -> Result<(), Fault> {
        self.segments.iter_mut().try_for_each(|segment| segment.set_up(identity))
    }

    /// Says whose records to look for.
    pub(super) fn belong_to(&mut self, identity: &Identity) {
        self.key = record::key(identity);
    }

    /// Reads the records after an ordinal, in order. Whether they follow each other is for the
    /// caller to see.
    pub(super) fn after(&self, ordinal: Ordinal) -> Result<Vec<Record>, Fault> {
        let mut records = self.segments[0].after(ordinal, self.key)?;
        records.extend(self.segments[1].after(ordinal, self.key)?);
        records.sort_by_key(|record| record.first);
        Ok(records)
    }

    /// Goes on after the records that were read: makes sure that they are durable, since what wrote
    /// them may have died, or been refused, before they were.
    pub(super) fn resume(&mut self, records: &[Record]) -> Result<(), Fault> {
        for segment in &mut self.segments {
            segment.resume(records)?;
        }
        self.active = usize::from(self.segments[1].last() > self.segments[0].last());
        Ok(())
    }

    /// Makes batches durable, all or none, of which `first` is the first entry's ordinal. `checkpointed`
    /// is how far the store holds the log. Returns the bytes that they take in the file.
    pub(super) fn commit(
        &mut self,
        first: Ordinal,
        batches: &[Arc<EncodedBatch>],
        checkpointed: Ordinal,
    ) -> Result<u64, Fault> {
        if batches.is_empty() {
            return Ok(0);
        }
        let last = record::last(first, batches);
        let mut buffer = std::mem::take(&mut self.buffer);
        record::encode(&mut buffer, first, batches, self.key);
        let written = self.room(checkpointed).and_then(|segment| segment.append(&buffer, last));
        let bytes = buffer.len() as u64;
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT_BYTES);
        self.buffer = buffer;
        written.map(|()| bytes)
    }

    /// The file that takes the next commit.
    fn room(&mut self, checkpointed: Ordinal) -> Result<&mut Segment, Fault> {
        let other = 1 - self.active;
        if self.segments[self.active].last() <= checkpointed {
            self.segments[self.active].restart()?;
        } else if self.segments[other].last() <= checkpointed {
            self.segments[other].restart()?;
            self.active = other;
        }
        Ok(&mut self.segments[self.active])
    }

    /// Gives the disk back what the files take, when the store holds all of the log.
    pub(super) fn empty(&mut self) -> Result<(), Fault> {
        self.segments.iter_mut().try_for_each(Segment::empty)
    }
}

/// Whether batches fit one commit.
pub(super) fn fits(batches: &[Arc<EncodedBatch>]) -> bool {
    record::encoded_len(batches) <= JOURNAL_COMMIT_BYTES_MAX
}
