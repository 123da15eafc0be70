//! What a log is: entries go in, durably and in order; documents come out as they were put in.
//!
//! `tests/contract` states the contract as tests that every implementation passes.
//!
//! Invariant: what `append` returned a receipt for is read back by every later `load`, whatever
//! happens to the process or the machine's power in between.

use crate::acks::Acks;
use crate::derived::{DerivedKey, KeyRange};
use crate::document::{StoredDoc, TailEntry};
use crate::error::{
    AppendError, CheckpointError, DerivedError, Failure, LoadError, ReadBatchesError, SnapshotError,
};
use crate::members::Members;
use bytes::Bytes;
use quire_protocol::batch::{EncodedBatch, EntryKind};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, DocName, Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::life::Life;
use quire_protocol::snapshot::{SnapshotEntry, SnapshotHead};
use std::sync::Arc;
use std::time::Duration;

/// Counts the entries that this replica applied, of whatever stream, in the order it did: 1, 2, 3…; 0 is
/// before the first. Means nothing to other replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// An entry on its way into the log, which gives it its place and stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The document it belongs to.
    pub doc: DocId,
    /// What it does.
    pub kind: EntryKind,
    /// What it does it with.
    pub payload: Bytes,
}

/// What a group of entries became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The last entry of the group; the others come right before it.
    pub last: Dot,
    /// The last entry's stamp.
    pub hlc: Hlc,
    /// The last entry's position; the others come right before it.
    pub position: Position,
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// What each group became.
    pub receipts: Vec<Receipt>,
    /// What each batch was: only the next of a stream is written; a duplicate is dropped, and so are one
    /// behind a gap and one that is not of the stream that is known here.
    pub arrivals: Vec<Arrival>,
    /// Batches of other replicas that documents show from now on, in the order of their positions, which
    /// come after those of the groups. Some may have been received long before.
    pub applied: Vec<Applied>,
}

/// A batch of another replica that documents show from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Its first entry.
    pub first: Dot,
    /// Its last entry.
    pub last: Dot,
    /// What its origin had applied of the other streams when it committed it.
    pub deps: Frontier,
    /// Its entries in their order, each beside its document.
    pub entries: Vec<(DocId, TailEntry)>,
}

/// What the import of a snapshot did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The documents that got entries of the snapshot.
    pub docs: Vec<DocId>,
    /// Their positions: after the first, up to the second.
    pub positions: (Position, Position),
    /// Per stream, the last entry of what it holds.
    pub ends: Frontier,
    /// Batches that had waited and are applied now, after those, in the order of their positions.
    pub applied: Vec<Applied>,
}

/// What became of this replica's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The one that it appends to from now on.
    pub stream: StreamId,
    /// Entries that the one before no longer holds: they are part of the new one, or said only when they were
    /// written.
    pub moved: u64,
}

/// A cut of all documents, read piece by piece. Holds what it reads in the store for as long as it lives.
pub trait Export: Send {
    /// The next bytes of the snapshot, at most so many; none at its end.
    ///
    /// # Errors
    /// When a document cannot be read.
    fn next(&mut self, bytes_max: usize) -> Result<Option<Bytes>, LoadError>;
}

/// What is known of a document without reading its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocInfo {
    /// Its identity.
    pub doc: DocId,
    /// Its name.
    pub name: DocName,
    /// Whether it is deleted, and what the deletion had not seen.
    pub life: Life,
    /// The replica that makes its write-backs: the one that was named last, else the one that made it first;
    /// none where a release wrote it that did not keep the latter.
    pub home: Option<ReplicaId>,
    /// The least stamp of its creations.
    pub created: Hlc,
    /// The greatest stamp of its entries.
    pub changed: Hlc,
    /// How many entries it has had.
    pub entries: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

/// What the log keeps for peers beyond what its own documents need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// What every active peer has acknowledged; none when there is no peer, and nothing is kept.
    pub acknowledged: Option<Frontier>,
    /// What is acknowledged is kept for so long all the same: a disk that is restored gets it from there.
    pub acknowledged_age_ms: u64,
    /// Beyond so many bytes the oldest go, acknowledged or not.
    pub bytes_max: u64,
    /// Batches older than this go, acknowledged or not.
    pub age_ms_max: u64,
}

/// Whether the log takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Serving,
    /// It does not, until it has been opened anew.
    Failed(Failure),
}

/// Figures for operating a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// The last position.
    pub position: Position,
    /// Entries received that wait for others before they can be applied.
    pub waiting: u64,
    /// Up to where the document store holds everything; what follows is replayed at a restart.
    pub checkpoint: Position,
    /// Entries and derived rows in memory since the last checkpoint, in bytes as they are counted against the bound.
    pub memory_bytes: u64,
    /// Snapshots that wait for the next checkpoint, in bytes.
    pub pending_snapshot_bytes: u64,
    /// Commits since the log was opened.
    pub commits: u64,
    /// Checkpoints since the log was opened.
    pub checkpoints: u64,
    /// How long the last checkpoint took.
    pub last_checkpoint: Duration,
    /// How often a commit had to wait because the checkpoint was behind.
    pub stalls: u64,
    /// Documents in the store, deleted ones included; new ones count from the next checkpoint on.
    pub documents: u64,
    /// Batches kept for peers, in bytes.
    pub kept_bytes: u64,
}

/// A durable log of entries, and the documents that they make.
///
/// Everything may be called from any thread, but blocks on the disk: not for async tasks.
pub trait Log: Send + Sync + 'static {
    /// Writes groups of this replica's own entries, and batches of others', in one durable transaction,
    /// all or none. Called by one committer only.
    ///
    /// A batch is written as soon as it comes, and applied when what its origin had applied before it
    /// has been: in this commit or a later one.
    ///
    /// # Errors
    /// `Invalid` and `SecondWriter` leave the log as it was. `Failed` latches: whether the entries
    /// are on the disk is known after a restart only, and no write is taken until then.
    fn commit(
        &self,
        now_ms: u64,
        groups: &[Vec<NewEntry>],
        batches: &[Arc<EncodedBatch>],
    ) -> Result<Committed, AppendError>;

    /// Writes groups of entries, and returns what each became.
    ///
    /// # Errors
    /// As [`Log::commit`].
    fn append(&self, now_ms: u64, groups: &[Vec<NewEntry>]) -> Result<Vec<Receipt>, AppendError> {
        Ok(self.commit(now_ms, groups, &[])?.receipts)
    }

    /// Reads a document: its latest snapshot and every entry after it, in order. None when it has
    /// no entry.
    ///
    /// # Errors
    /// When it cannot be read whole. A failure is never an empty document.
    fn load(&self, doc: DocId) -> Result<Option<StoredDoc>, LoadError>;

    /// Replaces a document's entries up to a position by a state that holds all of them, and by the graph of
    /// its fields where it has some, both at the next checkpoint and in one row. A snapshot older than one that
    /// was given before is ignored.
    ///
    /// # Errors
    /// When the log takes no writes, or the snapshot is too long or beyond the log.
    fn put_snapshot(
        &self,
        doc: DocId,
        position: Position,
        state: Bytes,
        fields: Option<Bytes>,
    ) -> Result<(), SnapshotError>;

    /// Takes what was derived of a document from its entries up to a position: rows that are new or have changed,
    /// and none for each that is gone. They are read at once, and stored by the next checkpoint, in the
    /// transaction that moves the document's entries; a crash before that loses them. A put is taken as a whole
    /// or not, and one with no change says all the same how far the document is derived.
    ///
    /// A put that is older than what is stored of the document, or of a document without entries, is ignored, at
    /// the next checkpoint at the latest. Never blocks for longer than a lock is held: for async tasks too.
    ///
    /// # Errors
    /// When the log takes no writes, or the rows are too many or beyond the log.
    fn put_derived(
        &self,
        doc: DocId,
        position: Position,
        changes: Vec<(DerivedKey, Option<Bytes>)>,
    ) -> Result<(), DerivedError>;

    /// Reads derived rows of a space in the order of their keys, each as it was put last: at most `limit` and
    /// [`LIST_LEN_MAX`](crate::limits::LIST_LEN_MAX), none after those that pass
    /// [`DERIVED_READ_BYTES_MAX`](crate::limits::DERIVED_READ_BYTES_MAX). Where none come, there are none.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn derived(&self, space: u8, range: KeyRange<'_>, limit: usize)
    -> Result<Vec<(Bytes, Bytes)>, LoadError>;

    /// Lists the documents that are due after one, in the order of their ids: those with an entry beyond what was
    /// last put of them that is of the kind fields or graph, or deletes the document or brings it back; one whose
    /// edit does so is due from the next checkpoint on at the latest. At most `limit` and
    /// [`LIST_LEN_MAX`](crate::limits::LIST_LEN_MAX); fewer at the end only.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn due(&self, after: Option<DocId>, limit: usize) -> Result<Vec<DocId>, LoadError>;

    /// Lists documents by name, deleted ones included: those that begin with `prefix`, after a name,
    /// at most `limit` and [`LIST_LEN_MAX`](crate::limits::LIST_LEN_MAX).
    ///
    /// # Errors
    /// When the store cannot be read.
    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<DocInfo>, LoadError>;

    /// What is known of one document.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn info(&self, doc: DocId) -> Result<Option<DocInfo>, LoadError>;

    /// Per stream, the last entry that is durable here.
    fn received(&self) -> Frontier;

    /// Per stream, the last entry that documents here show.
    fn applied(&self) -> Frontier;

    /// Who belongs to the cluster, as far as what is applied here says.
    fn members(&self) -> Members;

    /// The first number that a replica has not taken for documents, as far as what is applied here says.
    fn numbers_below(&self, replica: ReplicaId) -> u64;

    /// Moves everything that was appended before the call into the document store.
    ///
    /// # Errors
    /// `Failed` latches, as in `append`.
    fn checkpoint(&self) -> Result<Position, CheckpointError>;

    /// Reads a stream's batches as they were written, from the one that holds `from` on and without a gap,
    /// until `max_bytes` are passed; at least one when there is one, none past the end.
    ///
    /// # Errors
    /// `Truncated` when the log no longer has `from`.
    fn read_batches(
        &self,
        stream: StreamId,
        from: Seq,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ReadBatchesError>;

    /// Reads as [`Log::read_batches`] does where that needs no disk; none where it does. Never blocks for
    /// longer than a lock is held: for async tasks too.
    fn read_recent(&self, from: Dot, max_bytes: usize) -> Option<Vec<Bytes>>;

    /// Begins to read a snapshot of all documents, as they are at this moment or were at the last
    /// checkpoint: what came later is in the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn export(&self) -> Result<Box<dyn Export>, LoadError>;

    /// Forgets what was staged.
    ///
    /// # Errors
    /// `Failed` latches, as in [`Log::commit`].
    fn begin_import(&self) -> Result<(), AppendError>;

    /// Puts entries of a snapshot where they wait for the rest; nobody sees them yet.
    ///
    /// # Errors
    /// `Failed` latches, as in [`Log::commit`].
    fn stage(&self, entries: Vec<SnapshotEntry>) -> Result<(), AppendError>;

    /// Makes what was staged part of the documents, all of it or nothing: their entries are merged with those
    /// that are there. Streams go on from where the snapshot ends. Called by the committer only.
    ///
    /// # Errors
    /// `Refused` when the snapshot contradicts what is known here, and nothing was changed. `Failed` latches.
    fn import(&self, snapshot: &SnapshotHead) -> Result<Imported, AppendError>;

    /// Says what to keep for peers, from the next checkpoint on.
    fn truncate(&self, retention: Retention);

    /// What peers were known to have.
    fn acks(&self) -> Acks;

    /// Remembers what peers are known to have, from the next checkpoint on.
    fn remember(&self, acks: Acks);

    /// Figures for operating the log.
    fn stats(&self) -> LogStats;

    /// Whether the log takes writes.
    fn health(&self) -> Health;

    /// The stream that this log's own entries make. Changes with [`Log::renew_stream`].
    fn stream(&self) -> StreamId;

    /// Ends this replica's stream and begins the next, with an incarnation above its own and above `known`:
    /// what is appended from now on belongs to it. The one before is then a stream like those of others,
    /// and what peers hold of it beyond what this disk does can be received.
    ///
    /// # Errors
    /// `Failed` latches, as in `append`. `Invalid` when no incarnation is left.
    fn renew_stream(&self, known: Incarnation) -> Result<StreamId, AppendError> {
        Ok(self.part_stream(Seq(u64::MAX), known)?.stream)
    }

    /// Renews the stream as [`Log::renew_stream`] does, when others hold another history of it that is the
    /// same up to `last`. What was written here after that is written again at the beginning of the new stream,
    /// and the old one ends with the last batch up to there, or where this log begins to have it: all of it at
    /// once, or nothing. Called by the committer only.
    ///
    /// # Errors
    /// As [`Log::renew_stream`].
    fn part_stream(&self, last: Seq, known: Incarnation) -> Result<Renewal, AppendError>;
}
