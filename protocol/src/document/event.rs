//! What goes into a document machine and what comes out of it.

use bytes::Bytes;
use std::sync::Arc;

use super::records::Derived;
use super::session::{Access, Dialect};
use crate::batch::Stamp;
use crate::close::CloseReason;
use crate::fields::schema::FieldType;
use crate::fields::{Claim, ConflictId, Edit, EditRefused, FieldState, Held, Path, Value, Version};
use crate::frontier::Frontier;
use crate::ids::{ReplicaId, SessionId};
use crate::lib0::ReadError;
use crate::life::Life;
use crate::time::Time;
use crate::update::{ItemId, Refusal, StateVector};
use crate::ysync::Message;

/// The bounds of one document.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest update one message may carry, in bytes.
    pub update_bytes_max: usize,
    /// The largest state a document may grow to, in bytes of its encoded form.
    pub document_bytes_max: usize,
    /// The most sessions on one document.
    pub sessions_max: usize,
    /// How long a document without sessions stays open, in milliseconds.
    pub unload_after_ms: u64,
    /// How many bytes of log make a document worth a new snapshot, unless it is long itself.
    pub snapshot_after_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            update_bytes_max: 8 << 20,
            document_bytes_max: 64 << 20,
            sessions_max: 2_000,
            unload_after_ms: 30_000,
            snapshot_after_bytes: 64 << 10,
        }
    }
}

/// Names a request, so that its answer finds the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A session that has been authenticated and now opens the document.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its number.
    pub session: SessionId,
    /// How it speaks.
    pub dialect: Dialect,
    /// What it may do.
    pub access: Access,
    /// When its token's time is over.
    pub expires: Option<Time>,
    /// Who it is, where a token says so: the author of the fields that it writes.
    pub author: Option<Arc<str>>,
}

/// What happens to a document.
#[derive(Clone, Debug)]
pub enum Input {
    /// A session opens the document.
    Opened(Opened),
    /// A session's token was renewed in place.
    Renewed(Opened),
    /// A session's connection is gone.
    Closed(SessionId),
    /// A session says something.
    Message(SessionId, Message),
    /// Somebody without a session asks for something.
    Request(Ticket, Request),
    /// The oldest so many writes are on disk, at this position of the log.
    Committed {
        /// How many writes.
        writes: usize,
        /// Where the last of them stands in the log.
        position: u64,
        /// The last one's stamp. Those before it have the stamps and names right before it.
        last: Stamp,
    },
    /// The log shows an entry of another region. They come in the order of the log, and the commits of
    /// this region's own between them.
    Applied {
        /// What it does.
        write: Write,
        /// Where it stands in the log.
        position: u64,
        /// Its stamp.
        stamp: Stamp,
    },
    /// What the log says of the document's deletions and edits, where it says more than the entries that are
    /// told here: some were written again under other names, or stand for many.
    Life(Box<Life>),
    /// Whether this region makes the document's write-backs.
    Duty(bool),
    /// The document's home, as far as is known.
    Home(Option<ReplicaId>),
    /// Somebody in another region moves, comes or goes: an awareness update. An empty one asks who is here.
    Ephemeral(Bytes),
    /// The disk refused an append: what was admitted since will never be on disk.
    AppendFailed,
    /// A session's outbox had no room for a fan-out frame, which was not queued.
    Lagging(SessionId),
    /// A lagging session's outbox has been written to its socket.
    Drained(SessionId),
    /// The moment asked for by [`Output::WakeAt`] has come.
    Tick,
    /// No more input is waiting: what was gathered goes out together.
    Quiet,
}

/// What somebody without a session may ask for.
#[derive(Clone, Debug)]
pub enum Request {
    /// The whole state.
    State,
    /// What this state vector lacks.
    Diff(StateVector),
    /// One root text.
    Text(String),
    /// Who is here and how large it is.
    Info,
    /// The state of some fields, or of all.
    Fields(Option<Vec<Path>>),
    /// Write fields, all or none.
    EditFields {
        /// The writes.
        edits: Vec<Edit>,
        /// Whether each must be made on the current version.
        is_exact: bool,
        /// Who writes.
        author: Option<Arc<str>>,
    },
    /// Resolve a conflict.
    ResolveField {
        /// The field.
        path: Path,
        /// Which conflict: what else has been written since stays.
        conflict: ConflictId,
        /// The value; none deletes the key.
        value: Option<Value>,
        /// Who resolves it.
        author: Option<Arc<str>>,
    },
    /// Apply an update.
    Update(Bytes),
    /// Change one root text, as the editor with this Yjs client id.
    Splice {
        /// The root text's name.
        root: String,
        /// The changes, each on the text that the one before it left.
        splices: Vec<Splice>,
        /// A client id no editor of this document uses: random.
        client: u32,
    },
    /// Make the document, with this first content; does nothing where it exists.
    Create(Option<Bytes>),
    /// Delete the document.
    Delete {
        /// What this region has applied: of the edits of others, those beyond it are concurrent.
        seen: Frontier,
    },
    /// Bring a deleted document back, or say that one that was revived is to stay.
    Restore,
}

impl Request {
    /// Whether it asks for a change.
    pub(super) const fn writes(&self) -> bool {
        match self {
            Self::State | Self::Diff(_) | Self::Text(_) | Self::Info | Self::Fields(_) => false,
            Self::EditFields { .. } | Self::ResolveField { .. } => true,
            Self::Update(_) | Self::Splice { .. } | Self::Create(_) | Self::Delete { .. } | Self::Restore => {
                true
            }
        }
    }
}

/// One change of a text, in UTF-16 code units as Yjs counts them; positions past the end mean the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where.
    pub at: u32,
    /// How many units go.
    pub delete: u32,
    /// What comes.
    pub insert: String,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A Yjs update.
    Update(Bytes),
    /// The state of fields, in the order that was asked for or of their paths; none that was never written.
    Fields(Vec<FieldView>),
    /// A text; `None` where the document has no such root.
    Text(Option<String>),
    /// Who is here and how large it is.
    Info {
        /// Sessions at this moment.
        sessions: usize,
        /// Bytes of the encoded state.
        bytes: usize,
        /// What it holds.
        state_vector: StateVector,
    },
    /// The write is on disk; `false` where nothing had to be written.
    Saved {
        /// Whether the request changed anything.
        changed: bool,
    },
}

/// The state of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldView {
    /// Where it is.
    pub path: Path,
    /// What its writes come to.
    pub state: FieldState,
    /// What Yjs shows at this moment.
    pub shows: Held,
    /// The last value that is of the field's type, where what is to be shown is not: an editor cannot be refused.
    pub last_valid: Option<Option<Value>>,
    /// Where it is to be written: the document's home, where that is known and its schema says so.
    pub home: Option<ReplicaId>,
    /// What no other document may have, where that is what it holds.
    pub claim: Option<Claim>,
}

impl FieldView {
    /// Whether it is to be written at home, and another region took what it holds: nobody has written it at home
    /// who had seen that.
    #[must_use]
    pub fn away_from_home(&self) -> bool {
        self.state.versions.iter().any(|version| self.is_away(version))
    }

    /// Whether a version of it was taken by another region than the one where it is to be written.
    #[must_use]
    pub fn is_away(&self, version: &Version) -> bool {
        let (_, dot) = version.by.stamp;
        self.home.is_some_and(|home| home != dot.stream.replica)
    }
}

/// Why a [`Request`] was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The same reasons that end a session.
    #[error("{0}")]
    Reason(CloseReason),
    /// The update rests on changes that this document does not have.
    #[error("the update rests on changes this document does not have: send the whole state")]
    Missing,
    /// A write of a field cannot be made.
    #[error("{0}")]
    Edit(EditRefused),
    /// A field has been written since the version that the write must be made on.
    #[error("field `{0}` has been written since the version given")]
    FieldChanged(Path),
    /// A value is not of its field's type.
    #[error("field `{path}` takes a value of type {}", ty.name())]
    FieldType {
        /// The field.
        path: Path,
        /// Its type.
        ty: FieldType,
    },
    /// A field that each document must have cannot be left without a value.
    #[error("field `{0}` is required")]
    FieldRequired(Path),
    /// The conflict is none of the field's, or nothing is known of it here yet.
    #[error("field `{path}` has no conflict {conflict} here: read the field again")]
    UnknownConflict {
        /// The field.
        path: Path,
        /// The conflict.
        conflict: ConflictId,
    },
}

/// One write to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The document now exists.
    Create,
    /// An admitted update.
    Update(Bytes),
    /// An admitted update that writes fields: a [`crate::fields::FieldsEntry`].
    Fields(Bytes),
    /// What a region knew of the fields when it told a snapshot: a stored [`crate::fields::Graph`].
    Graph(Bytes),
    /// The document is deleted.
    Delete {
        /// What the deleting region had applied.
        seen: Frontier,
    },
    /// The document is back.
    Restore,
}

/// Why what another region wrote cannot be shown here as it is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// It could harm the document.
    #[error("an update of another region was not taken: {0}")]
    Refused(#[from] Refusal),
    /// What its region says about it cannot be read.
    #[error("an entry of another region that writes fields cannot be read: {0}")]
    Fields(#[from] ReadError),
    /// It rests on what its region never sent.
    #[error("an update of another region rests on what never came")]
    Hole,
    /// Two editors in two regions had one client id at once: each region shows one's content.
    #[error("two regions have different content for item {0}: two editors share its client id")]
    ClientReused(ItemId),
}

/// How badly a session needs a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It asked for it: always queued. The driver reads no further from a session whose outbox is full.
    Answer,
    /// News: when the outbox is full, the machine is told that the session is lagging.
    FanOut,
    /// Awareness: dropped when the outbox is full.
    Awareness,
}

/// What the driver must now do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append these writes to the log, in this order, and say when they are on disk.
    Append(Vec<Write>),
    /// Queue a frame for a session.
    Send(SessionId, Bytes, Urgency),
    /// End a session.
    Close(SessionId, CloseReason),
    /// Answer a request.
    Reply(Ticket, Result<Answer, Refused>),
    /// Tell the other regions who moves, comes or goes here: an awareness update. An empty one asks who is
    /// there.
    Ephemeral(Bytes),
    /// An entry of another region is not shown, or not in full: say so where operators look.
    Diverged(Divergence),
    /// Store the whole state as of this position of the log.
    Snapshot {
        /// The position the state holds.
        position: u64,
        /// The encoded state.
        state: Bytes,
        /// The graph of the fields, where the document has some.
        fields: Option<Bytes>,
    },
    /// What is on record of the document has changed, or only how far that goes.
    Derived(Box<Derived>),
    /// Come back at this time; an earlier time replaces a later one.
    WakeAt(Time),
    /// Nobody needs the document: close it, unless somebody has just asked for it.
    Unload,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{Authorship, Base, Shown, WriteId};
    use crate::hlc::Hlc;
    use crate::ids::{Dot, Seq, StreamId};
    use crate::update::{ClientId, ItemId};

    /// A field with siblings that these regions took.
    fn view(home: Option<u16>, taken_by: &[u32]) -> FieldView {
        let version = |(clock, &replica): (u32, &u32)| {
            let dot = Dot { stream: StreamId::from_u32(replica << 16 | 1), seq: Seq(1) };
            let by = Authorship { stamp: (Hlc(0), dot), who: Arc::default() };
            Version { write: WriteId::Set(ItemId { client: ClientId(1), clock }), held: Held::Unknown, by }
        };
        let versions = (0..).zip(taken_by).map(version).collect();
        let (base, shown) = (Base::Nothing, Shown::AsYjs);
        let state = FieldState { versions, left_out: 0, base, shown, conflict: None };
        let home = home.map(ReplicaId);
        FieldView { path: Path::of("slug"), state, shows: Held::Unknown, last_valid: None, home, claim: None }
    }

    #[test]
    fn f9_a_field_is_away_from_home_while_a_version_is_that_another_region_took() {
        assert!(!view(Some(2), &[2]).away_from_home());
        assert!(view(Some(2), &[1]).away_from_home());
        let both = view(Some(2), &[2, 3]);
        assert!(both.away_from_home());
        assert_eq!(
            both.state.versions.iter().map(|version| both.is_away(version)).collect::<Vec<_>>(),
            [false, true]
        );
        // It is written anywhere, or nobody knows where.
        assert!(!view(None, &[1, 2]).away_from_home());
    }
}
