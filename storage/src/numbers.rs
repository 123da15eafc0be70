//! How many numbers each replica has taken for documents, as the log's lease entries say.
//!
//! Invariant: the same set of entries gives the same in any order: the greatest lease of a replica stands.

use crate::document::TailEntry;
use quire_protocol::batch::{EntryKind, NO_DOC, NumberLease};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::snapshot::SnapshotEntry;
use std::collections::BTreeMap;

/// Per replica, the first number that it has not taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers(pub(crate) BTreeMap<ReplicaId, u64>);

impl Numbers {
    /// The first number that a replica has not taken.
    pub(crate) fn below(&self, replica: ReplicaId) -> u64 {
        self.0.get(&replica).copied().unwrap_or_default()
    }

    /// Takes note of an entry, whatever kind it is of.
    pub(crate) fn fold(&mut self, entry: &TailEntry) {
        let lease = (entry.kind == EntryKind::Lease).then(|| NumberLease::decode(&entry.payload));
        let Some(NumberLease { replica, below }) = lease.flatten() else { return };
        let known = self.0.entry(replica).or_default();
        *known = below.max(*known);
    }

    /// The entries by which a snapshot tells of them. Each stands for many.
    pub(crate) fn told(&self) -> impl Iterator<Item = SnapshotEntry> + '_ {
        self.0.iter().map(|(&replica, &below)| {
            let payload = NumberLease { replica, below }.encode();
            let dot = Dot { stream: StreamId { replica, incarnation: Incarnation(0) }, seq: Seq(0) };
            SnapshotEntry { doc: NO_DOC, dot, hlc: Hlc(0), kind: EntryKind::Lease, payload }
        })
    }
}
