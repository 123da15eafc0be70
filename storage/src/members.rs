//! Who belongs to the cluster, as the log's member entries say.
//!
//! Invariant: the same set of entries gives the same members in any order: of two changes of one region the
//! greater stamp stands.

use crate::document::TailEntry;
use quire_protocol::batch::{EntryKind, MemberChange, Membership, NO_DOC, Stamp};
use quire_protocol::ids::ReplicaId;
use quire_protocol::snapshot::SnapshotEntry;
use std::collections::BTreeMap;

/// What has been said of regions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(pub(crate) BTreeMap<ReplicaId, (Membership, Stamp)>);

impl Members {
    /// Whether a region has been removed.
    #[must_use]
    pub fn is_removed(&self, replica: ReplicaId) -> bool {
        self.0.get(&replica).is_some_and(|(membership, _)| *membership == Membership::Removed)
    }

    /// The regions that have been removed.
    pub fn removed(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.0.keys().copied().filter(|replica| self.is_removed(*replica))
    }

    /// Takes note of an entry, whatever kind it is of.
    pub(crate) fn fold(&mut self, entry: &TailEntry) {
        let change = (entry.kind == EntryKind::Member).then(|| MemberChange::decode(&entry.payload));
        let Some(MemberChange { replica, membership }) = change.flatten() else { return };
        let stamp = (entry.hlc, entry.dot);
        if self.0.get(&replica).is_none_or(|(_, known)| stamp > *known) {
            self.0.insert(replica, (membership, stamp));
        }
    }

    /// The entries by which a snapshot tells of them.
    pub(crate) fn told(&self) -> impl Iterator<Item = SnapshotEntry> + '_ {
        self.0.iter().map(|(&replica, &(membership, (hlc, dot)))| {
            let payload = MemberChange { replica, membership }.encode();
            SnapshotEntry { doc: NO_DOC, dot, hlc, kind: EntryKind::Member, payload }
        })
    }
}
