//! Entries and batches: what is written to disk and sent to other regions, in the same bytes.
//!
//! This module says what they are; `codec` how they are spelt; `lifecycle` what a lifecycle
//! entry's payload means. An update's payload is opaque here.
//!
//! Invariant: a batch's bytes are never made anew: whoever stores or forwards it keeps what it got,
//! since the hash chain of the stream runs over the bytes.

mod canary;
mod codec;
mod lease;
mod lifecycle;
mod member;
mod stamp;

pub use canary::{decode_canary, encode_canary};
pub use codec::{BatchBuilder, BatchError, BatchFull, EncodedBatch, batch_range};
pub use lease::NumberLease;
pub use lifecycle::{LifecycleChange, LifecycleError};
pub use member::{MemberChange, Membership};
pub use stamp::{Stamp, put_stamp, read_stamp};

use crate::frontier::Frontier;
use crate::hlc::Hlc;
use crate::ids::{DocId, Dot, Seq, StreamId};
use bytes::Bytes;

/// The most bytes of a batch with more than one entry: 64 KiB less what a row on disk has around it,
/// since a row that just passes 64 KiB would take twice that. Small enough that a link sends one
/// without holding up acks, large enough that headers and hashing vanish beside the payloads.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 - 256;

/// The most entries of a batch.
pub const BATCH_ENTRIES_MAX: usize = 4096;

/// The longest payload of an entry. A payload that does not fit a batch of [`BATCH_BYTES_MAX`] is
/// a batch by itself; this bounds what a peer can make us read at once.
pub const ENTRY_PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an entry does to its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// A Yjs update.
    Update,
    /// An update that writes fields, with what its region says about it: a [`crate::fields::FieldsEntry`].
    Fields,
    /// Creation, deletion, restoration or a change of home: a [`LifecycleChange`].
    Lifecycle,
    /// A region was added or removed: a [`MemberChange`]; belongs to [`NO_DOC`].
    Member,
    /// Keeps an idle stream measurable; belongs to [`NO_DOC`].
    Canary,
    /// What a region knew of a document's fields when it told a snapshot: a stored [`crate::fields::Graph`].
    /// Only snapshots hold it, and the tails of those who took one.
    Graph,
    /// A region takes numbers for new documents: a [`NumberLease`]; belongs to [`NO_DOC`].
    Lease,
    /// A kind that a newer release writes. It is stored and forwarded as it is.
    Unknown(u8),
}

/// The document of entries that concern the cluster and no document. No name gives it.
pub const NO_DOC: DocId = DocId(0);

impl EntryKind {
    /// The kind's number in a batch.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Update => 1,
            Self::Fields => 2,
            Self::Lifecycle => 3,
            Self::Member => 4,
            Self::Canary => 5,
            Self::Graph => 6,
            Self::Lease => 7,
            Self::Unknown(code) => code,
        }
    }

    /// Whether its payload holds a Yjs update.
    #[must_use]
    pub const fn carries_update(self) -> bool {
        matches!(self, Self::Update | Self::Fields)
    }

    /// The kind that a number stands for.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Update,
            2 => Self::Fields,
            3 => Self::Lifecycle,
            4 => Self::Member,
            5 => Self::Canary,
            6 => Self::Graph,
            7 => Self::Lease,
            unknown => Self::Unknown(unknown),
        }
    }
}

/// One accepted operation in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The document it belongs to.
    pub doc: DocId,
    /// What it does.
    pub kind: EntryKind,
    /// When its region accepted it.
    pub hlc: Hlc,
    /// What it does it with.
    pub payload: Bytes,
}

/// A batch's link to the batch before it in the stream: 128 bits of blake3 over that batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChainHash(pub [u8; 16]);

impl ChainHash {
    /// What the first batch of a stream names as its predecessor.
    pub const START: Self = Self([0; 16]);
}

/// Entries of one stream that were committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The stream.
    pub stream: StreamId,
    /// The first entry's place in it; the others follow without gaps.
    pub first_seq: Seq,
    /// No entry's stamp is below this one.
    pub hlc_base: Hlc,
    /// What the origin held of the other streams when it committed the batch.
    pub deps: Frontier,
    /// The hash of the stream's batch before this one.
    pub prev_hash: ChainHash,
    /// The entries, stamps never falling. Never empty.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// The last entry's name.
    ///
    /// # Panics
    /// Never for a decoded batch: it has an entry, and its last seq fits.
    #[must_use]
    pub fn last_dot(&self) -> Dot {
        let rest = self.entries.len().checked_sub(1).expect("a batch has an entry");
        Dot { stream: self.stream, seq: Seq(self.first_seq.0 + rest as u64) }
    }
}
