//! The durable log and document store. Stores bytes; never looks inside an update.
//!
//! `log` says what a log is; `redb_log` keeps one in a directory, `memory` one for tests and
//! simulations; `committer` is the thread through which a server writes to either. `docs/storage.md`
//! describes the files.

mod acks;
mod committer;
mod derived;
mod document;
mod error;
mod head;
mod log;
mod members;
mod memory;
mod numbers;
mod redb_log;
mod sequencer;
pub mod sim_disk;

pub use acks::Acks;
pub use committer::{Appender, Commit, CommitObserver, Committer, CommitterLimits, Unobserved};
pub use derived::{DerivedKey, KeyRange};
pub use document::{StoredDoc, TailEntry};
pub use error::{
    AppendError, CheckpointError, DerivedError, Failure, FailureKind, LoadError, ReadBatchesError,
    SnapshotError,
};
pub use log::{
    Applied, Committed, DocInfo, Export, Health, Imported, Log, LogStats, NewEntry, Position, Receipt,
    Renewal, Retention,
};
pub use members::Members;
pub use memory::{AppendFault, MemoryLog};
pub use redb_log::{OpenError, RedbLog, RedbLogOptions, Report, verify};

/// How many seqs, positions and entries fit a number is no concern: 64 bits of them outlast disks.
/// What bounds memory is named here.
pub mod limits {
    /// The longest snapshot of a document, state and graph of its fields together. redb holds a value in memory while it is written.
    pub const SNAPSHOT_BYTES_MAX: usize = 256 * 1024 * 1024;

    /// Snapshots that wait for the next checkpoint, in bytes; further ones are refused until it is
    /// done. Large enough for one of the largest.
    pub const PENDING_SNAPSHOT_BYTES_MAX: usize = 256 * 1024 * 1024;

    /// The longest key of a derived row: two names of documents, a field's, and room for what orders them.
    pub const DERIVED_KEY_BYTES_MAX: usize = 2048;

    /// What may be derived of one document at once, in bytes of memory. A document's fields are in its entries,
    /// so what is derived of them is not much longer than the longest.
    pub const DERIVED_PUT_BYTES_MAX: usize = 256 * 1024 * 1024;

    /// Derived rows that wait for the next checkpoint, in bytes of memory; further ones are refused until it is
    /// done, unless there are none. Twice what makes a checkpoint due by itself.
    pub const PENDING_DERIVED_BYTES_MAX: usize = 64 * 1024 * 1024;

    /// Reading derived rows ends when so many bytes are passed.
    pub const DERIVED_READ_BYTES_MAX: usize = 16 * 1024 * 1024;

    /// The longest commit. A committer's limits keep far below it.
    pub const JOURNAL_COMMIT_BYTES_MAX: usize = 512 * 1024 * 1024;

    /// Appends wait for the checkpointer while commits that the store does not hold take so many
    /// bytes in the journal's files.
    pub const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;

    /// The most documents or derived rows that one call lists.
    pub const LIST_LEN_MAX: usize = 1000;
}
