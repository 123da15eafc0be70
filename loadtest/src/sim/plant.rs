//! Bugs that can be planted in the simulator's drivers, to see that the checkers find them.
//!
//! They change what is done with the machines' orders and the log's answers, never a machine or a log.
//! Without the cargo feature `planted` none can be chosen, and asking for one is always answered no.

/// A bug by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "planted", derive(clap::ValueEnum))]
pub enum Plant {
    /// An editor is told that its update is saved before the commit has returned
    AckBeforeSync,
    /// What is received is shown at once, whatever it depends on
    GateOff,
    /// A batch behind a gap is shown, and the link is told that it was the next
    GapIgnored,
    /// An update without blocks is taken for one without news, although it deletes
    DeleteSetDropped,
    /// A new disk begins with the incarnation of the one before it
    IncarnationReused,
    /// A batch is passed on to the other peers as it came, before it has been checked or stored
    ForwardWithoutCheck,
    /// Batches are dropped from the log before all peers have them
    TruncateEarly,
    /// A batch that comes again is shown again
    DuplicateApplied,
    /// An entry with an older stamp than the newest that is shown is left out
    ClockAsFilter,
    /// An editor that connects again is not asked for what the region lacks
    SessionNotResynced,
    /// A peer is sent more than it allows
    CreditIgnored,
    /// A restored region begins a new stream, and leaves what it wrote in the old one where it is
    HistoryNotParted,
    /// A document that a peer's snapshot holds is replaced by what the snapshot has of it
    SnapshotReplaces,
    /// An edit counts against a deletion only when it comes after it
    EarlierEditsForgotten,
    /// What a region says of fields is not written with the update
    MarksDropped,
    /// What is said of a deletion is kept, and not who comes after it
    DeletionsUnordered,
    /// A region forgets what is on its way to the disk when it says what an update does to fields
    AheadForgotten,
    /// An update that writes fields is logged as one that does not
    FieldsAsText,
    /// A write-back leaves out one of the siblings that it renders
    WriteBackForgets,
    /// A write-back is written as if somebody had edited the field
    WriteBackAsEdit,
    /// A write-back that an editor brings is taken for what that has written
    GivenBackAsEdit,
    /// A write on an old version is made on the current one
    OldVersionAsCurrent,
    /// A conflict is resolved with all that the field has by now
    ResolvesUnseen,
    /// A document's state is stored without the graph of its fields
    GraphNotStored,
    /// The graph of fields that comes with a snapshot is not read
    GraphIgnored,
    /// A write is stamped by when it came to a region
    StampByArrival,
    /// An entry whose text is known is not read for its fields
    KnownTextIgnored,
}

/// The bug of this run, if one is planted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "planted")]
    plant: Option<Plant>,
}

impl Planted {
    /// A run without one.
    #[cfg(not(feature = "planted"))]
    pub(super) const NONE: Self = Self {};

    /// A run with this bug.
    #[cfg(feature = "planted")]
    #[must_use]
    pub const fn with(plant: Plant) -> Self {
        Self { plant: Some(plant) }
    }

    #[cfg(feature = "planted")]
    pub(super) fn is(self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(super) const fn is(self, _plant: Plant) -> bool {
        false
    }
}
