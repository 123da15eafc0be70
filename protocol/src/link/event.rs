//! What goes into a link machine and what comes out of it.

#[cfg(doc)]
use super::limits::CALL_BYTES_MAX;
use super::{Bye, CallRefused, Piece};
use crate::batch::EncodedBatch;
use crate::frontier::Frontier;
use crate::gate::Arrival;
use crate::ids::{DocId, Dot, ReplicaId, Seq, StreamId};
use crate::snapshot::{SnapshotEntry, SnapshotHead};
use crate::time::Time;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What happens to a link.
#[derive(Clone, Debug)]
pub enum Input {
    /// The peer says something.
    Frame {
        /// One frame of its.
        frame: Bytes,
        /// The wall clock here, in milliseconds since 1970.
        wall_ms: u64,
    },
    /// So much is durable here, whoever it came from.
    Received(Frontier),
    /// This replica hears these others first-hand, the peer among them.
    Hears(BTreeSet<ReplicaId>),
    /// This replica's entries belong to a new stream from now on.
    Renewed(StreamId),
    /// The answer to [`Output::Read`].
    Read(Found),
    /// What the oldest so many batches of [`Output::Store`] were to the log; those that were next are durable.
    Stored(Vec<Arrival>),
    /// The log takes nothing any more.
    StoreFailed,
    /// The answer to [`Output::ReadSnapshot`].
    SnapshotRead(Piece),
    /// The answer to [`Output::BeginImport`]: whether a snapshot can be taken now. Only one can at a time,
    /// whoever it is from.
    ImportBegun(bool),
    /// The entries of the oldest [`Output::Stage`] are staged.
    Staged,
    /// The snapshot is part of this region's documents, and so much is durable here.
    Imported(Frontier),
    /// The snapshot contradicts what is known here, in these words.
    ImportRefused(String),
    /// Awareness that the peer is to be told of.
    Ephemeral {
        /// The document.
        doc: DocId,
        /// An awareness update.
        payload: Bytes,
    },
    /// Somebody here asks the peer for something. Answered by one [`Output::Returned`], unless the link ends.
    Call {
        /// The driver's number for it, which no call of this link had before.
        call: u64,
        /// The document that it is about.
        doc: DocId,
        /// What is asked.
        payload: Bytes,
    },
    /// The answer to an [`Output::Called`], of at most [`CALL_BYTES_MAX`] bytes.
    Return {
        /// Which.
        call: u64,
        /// The answer.
        payload: Bytes,
    },
    /// The moment asked for by [`Output::WakeAt`] has come.
    Tick {
        /// The wall clock here, in milliseconds since 1970.
        wall_ms: u64,
    },
    /// The link is to end, for this reason.
    Stop(Bye),
}

/// What the log has of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Batches of the stream as they are stored, from the one that holds the entry on; none when the log
    /// ends before it.
    Batches(Vec<Bytes>),
    /// The log begins later.
    Truncated {
        /// The first entry of the stream that it has, or the one that comes next.
        first_kept: Seq,
    },
    /// It cannot be read, for this reason.
    Failed(String),
}

/// What the driver must now do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Queue a frame for the peer.
    Send(Bytes),
    /// Queue a frame for the peer, or drop it where many bytes wait.
    SendEphemeral(Bytes),
    /// Read a stream's batches from the log and say what was found. One is asked for at a time.
    Read {
        /// The first entry that is wanted.
        from: Dot,
        /// How many bytes to read, at least one batch.
        bytes_max: usize,
    },
    /// Give a batch to the log, in order, and say what it was to it.
    Store(Arc<EncodedBatch>),
    /// Read the next piece of a snapshot of all documents, and say what was found. At offset 0 it is begun
    /// anew, as a cut of this moment.
    ReadSnapshot {
        /// How many bytes of it have been read.
        offset: u64,
        /// How many bytes to read at most.
        bytes_max: usize,
    },
    /// Say whether a snapshot can be taken, and hold that place until it is imported or the link ends.
    BeginImport,
    /// Put a snapshot's entries where they wait for the rest, in order, and say so.
    Stage(Vec<SnapshotEntry>),
    /// Make all that was staged part of this region's documents at once, and say so.
    Import(SnapshotHead),
    /// Somebody in the peer's region moves or comes or goes.
    Ephemeral {
        /// The document.
        doc: DocId,
        /// An awareness update that can be read.
        payload: Bytes,
    },
    /// The peer asks for something: do it, and say what came of it, by the same number.
    Called {
        /// The peer's number for it.
        call: u64,
        /// The document that it is about.
        doc: DocId,
        /// What is asked; nothing has looked into it.
        payload: Bytes,
    },
    /// What came of an [`Input::Call`].
    Returned {
        /// Which.
        call: u64,
        /// The peer's answer, into which nothing has looked; or why the peer was not asked.
        answer: Result<Bytes, CallRefused>,
    },
    /// The peer lacks entries of a stream that the log no longer has: it needs a snapshot.
    Truncated {
        /// The stream.
        stream: StreamId,
        /// The first entry that the log has.
        first_kept: Seq,
    },
    /// The peer holds another history of this replica's own stream, or more of it than this replica does: its
    /// disk went back in time. The stream is to be renewed above every incarnation that is known, and what was
    /// written in it after this entry is to be written again there.
    WentBack {
        /// The last entry of it up to which both hold the same.
        held: Dot,
    },
    /// Come back at this time; an earlier time replaces a later one.
    WakeAt(Time),
    /// The link has ended: send these last words, and close the connection. Nothing else comes out.
    Close(Bye),
}
