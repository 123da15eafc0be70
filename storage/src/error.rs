//! Why an operation on the log failed: one type per operation that a caller can react to.
//!
//! All of them can be cloned, since one failed commit answers everyone who waited for it.

use crate::log::Position;
use quire_protocol::ids::{DocId, Seq};
use std::sync::Arc;

/// What stopped the log. It stays stopped until a restart has read the disk again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What to look at first.
    pub kind: FailureKind,
    /// One line that names the file and the operating system's reason.
    pub text: Arc<str>,
}

/// What kind of failure stopped the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The disk, or a quota on it, is full.
    DiskFull,
    /// Reading, writing or syncing failed. What the disk holds is known after a restart only.
    Io,
    /// What was read is not what was written.
    Corrupt,
}

/// Why an append did not become durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log takes no writes any more: this append or an earlier one failed, and nobody knows
    /// what of it the disk holds. Never retried.
    #[error("the log takes no writes: {0}")]
    Failed(#[from] Failure),
    /// The entries break a rule. Nothing of the call was written; the log goes on.
    #[error("the entries break a rule: {0}")]
    Invalid(&'static str),
    /// A snapshot contradicts what is known here. Nothing of it was written; the log goes on.
    #[error("the snapshot cannot be taken: {0}")]
    Refused(Arc<str>),
    /// A second writer, or a bug in the caller: the log has exactly one.
    #[error("another writer is at work: a log has exactly one")]
    SecondWriter,
    /// The committer has been stopped.
    #[error("the log has been closed")]
    Closed,
}

/// Why a document could not be read. It never means that the document is empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// What is stored is damaged. It was left as it is.
    #[error("what is stored is damaged: {0}")]
    Corrupt(Arc<str>),
    /// The disk could not be read.
    #[error("cannot read the store: {0}")]
    Disk(Arc<str>),
    /// There are entries, but none that creates the document: its name is not known.
    #[error("{0:?} has entries and no name")]
    Nameless(DocId),
}

/// Why a snapshot was not taken. The entries that it would have replaced are kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The log takes no writes any more.
    #[error("the log takes no writes: {0}")]
    Failed(#[from] Failure),
    /// It stands for entries that the log does not have.
    #[error("a snapshot of position {given:?} is beyond the log, which is at {head:?}")]
    Beyond {
        /// What the snapshot claims to hold.
        given: Position,
        /// The log's last position.
        head: Position,
    },
    /// Longer than [`SNAPSHOT_BYTES_MAX`](crate::limits::SNAPSHOT_BYTES_MAX).
    #[error("a snapshot of {0} bytes is too long")]
    TooLong(usize),
    /// Too many bytes of snapshots wait for the next checkpoint: try again after it.
    #[error("too many snapshots wait for the next checkpoint")]
    Busy,
}

/// Why derived rows were not taken. Their document stays due where it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DerivedError {
    /// The log takes no writes any more.
    #[error("the log takes no writes: {0}")]
    Failed(#[from] Failure),
    /// They are derived from entries that the log does not have.
    #[error("rows derived up to position {given:?} are beyond the log, which is at {head:?}")]
    Beyond {
        /// Up to where they claim to be derived.
        given: Position,
        /// The log's last position.
        head: Position,
    },
    /// A key is longer than [`DERIVED_KEY_BYTES_MAX`](crate::limits::DERIVED_KEY_BYTES_MAX).
    #[error("a derived row's key of {0} bytes is too long")]
    KeyTooLong(usize),
    /// Together longer than [`DERIVED_PUT_BYTES_MAX`](crate::limits::DERIVED_PUT_BYTES_MAX).
    #[error("derived rows of {0} bytes are too long")]
    TooLong(usize),
    /// Too many bytes of derived rows wait for the next checkpoint: try again after it.
    #[error("too many derived rows wait for the next checkpoint")]
    Busy,
}

/// Why a checkpoint was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The log takes no writes any more.
    #[error("the log takes no writes: {0}")]
    Failed(#[from] Failure),
}

/// Why batches could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadBatchesError {
    /// The log no longer has what was asked for: the reader needs snapshots.
    #[error("the log begins at {first_kept:?}")]
    Truncated {
        /// The first entry of the stream that is still there, or the one that comes next.
        first_kept: Seq,
    },
    /// The log could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}
