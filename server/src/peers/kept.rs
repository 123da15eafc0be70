//! What of the log is kept for peers: whatever one that counts has not acknowledged, and the rest for a while, both
//! within the caps.
//!
//! A peer counts from its first link until it is removed from the cluster, whether it is there or not.

use crate::config::Limits;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::ReplicaId;
use quire_storage::{Acks, Log, Retention};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) struct Kept {
    log: Arc<dyn Log>,
    acks: Mutex<Acks>,
    caps: Retention,
}

impl Kept {
    pub(super) fn new(log: Arc<dyn Log>, limits: &Limits) -> Self {
        let caps = Retention {
            acknowledged: None,
            acknowledged_age_ms: crate::run::ms(limits.kept_acknowledged),
            bytes_max: limits.kept_bytes as u64,
            age_ms_max: crate::run::ms(limits.kept),
        };
        Self { acks: Mutex::new(log.acks()), log, caps }
    }

    fn acks(&self) -> MutexGuard<'_, Acks> {
        // Every change under the lock is one step.
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the log kept from now on.
    pub(super) fn begin(&self) {
        let mut acks = self.acks();
        // One may have been removed after what peers have was remembered last.
        self.forget_removed(&mut acks);
        self.truncate(&acks);
    }

    /// Takes note of what a peer is known to have.
    pub(super) fn acknowledged(&self, peer: ReplicaId, received: &Frontier) {
        let mut acks = self.acks();
        // Its link may take a moment to end.
        if !self.log.members().is_removed(peer) && acks.note(peer, received) {
            self.truncate(&acks);
        }
    }

    /// Counts only peers that have not been removed.
    pub(super) fn members_changed(&self) {
        let mut acks = self.acks();
        if self.forget_removed(&mut acks) {
            self.truncate(&acks);
        }
    }

    /// True where one was removed that counted.
    fn forget_removed(&self, acks: &mut Acks) -> bool {
        let members = self.log.members();
        members.removed().filter(|replica| acks.forget(*replica)).count() > 0
    }

    fn truncate(&self, acks: &Acks) {
        self.log.remember(acks.clone());
        self.log.truncate(Retention { acknowledged: Some(acks.acknowledged()), ..self.caps.clone() });
    }
}
