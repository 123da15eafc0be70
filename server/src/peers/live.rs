//! Which leaders this region reaches at this moment, itself among them: they decide who writes what all would.
//!
//! A peer is reached while it has a link over which it has answered. A connection that has gone silent is found out
//! after three pings.

use super::links::Peers;
use quire_protocol::ids::ReplicaId;
use quire_protocol::link::Role;
use std::collections::BTreeSet;
use tokio::sync::watch;

/// The leaders that are reached.
pub(super) struct Live {
    me: Option<ReplicaId>,
    reached: watch::Sender<BTreeSet<ReplicaId>>,
}

impl Live {
    pub(super) fn new(me: ReplicaId, role: Role) -> Self {
        let me = (role == Role::Leader).then_some(me);
        Self { me, reached: watch::Sender::new(me.into_iter().collect()) }
    }

    /// Takes note of the leaders among the peers that are reached, and wakes whoever waits if they are others.
    pub(super) fn note(&self, peers: impl Iterator<Item = ReplicaId>) {
        let reached: BTreeSet<ReplicaId> = self.me.into_iter().chain(peers).collect();
        self.reached.send_if_modified(|before| {
            let changes = *before != reached;
            *before = reached;
            changes
        });
    }
}

impl Peers {
    /// The leaders that are reached at this moment, this region among them if it is one.
    pub(crate) fn live_leaders(&self) -> BTreeSet<ReplicaId> {
        self.watch_live_leaders().borrow().clone()
    }

    /// Tells the leaders that are reached, whenever they change.
    pub(crate) fn watch_live_leaders(&self) -> watch::Receiver<BTreeSet<ReplicaId>> {
        self.live.reached.subscribe()
    }
}
