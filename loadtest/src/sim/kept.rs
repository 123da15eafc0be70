//! What regions' logs keep for peers, where they count what each has: the acknowledgement matrix, as the server's
//! `kept` drives it.

use super::region::replica;
use super::wire::Way;
use super::world::World;
use quire_storage::Retention;

impl World {
    /// A region starts: what its peers had when it stopped counts.
    pub(super) fn keep_logs(&mut self, at: usize) {
        let region = &mut self.regions[at];
        if let Some(log) = &region.log {
            region.acks = log.acks();
        }
        self.forget_removed(at);
        self.let_go(at);
    }

    /// Takes note of what a region's peer is known to have.
    pub(super) fn note_acknowledged(&mut self, way: Way) {
        let (at, of) = way;
        let peer = replica(of);
        if !self.regions[at].keeps.counts_acks || self.is_removed_by(at, peer) {
            return;
        }
        let Some(held) = self.acknowledged(way) else { return };
        // One whose disk was set back no longer has all that it said it had.
        if self.workload.restored != Some(of) && !self.regions[of].durable.covers_all(&held) {
            self.ledger.violate(format!("region {at} counts on what region {of} does not have"));
        }
        if self.regions[at].acks.note(peer, &held) {
            self.let_go(at);
        }
    }

    /// Counts only peers that have not been removed.
    pub(super) fn forget_removed(&mut self, at: usize) {
        let Some(log) = self.regions[at].log.clone() else { return };
        let acks = &mut self.regions[at].acks;
        if log.members().removed().filter(|replica| acks.forget(*replica)).count() > 0 {
            self.let_go(at);
        }
    }

    /// Has a log keep what some peer lacks, from its next checkpoint on.
    fn let_go(&self, at: usize) {
        let region = &self.regions[at];
        if let Some(log) = region.log.as_ref().filter(|_| region.keeps.counts_acks) {
            log.remember(region.acks.clone());
            let acknowledged = Some(region.acks.acknowledged());
            log.truncate(Retention { acknowledged, ..region.keeps.caps.clone() });
        }
    }
}
