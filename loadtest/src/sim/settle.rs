//! The end of a run: all faults end, the cluster becomes quiet within a bounded time, and is judged.

use super::documents::{Documents, Essence};
use super::region::Disk;
use super::wire::Way;
use super::world::{Happening, World};
use quire_protocol::ids::DocId;
use quire_protocol::time::Time;
use std::collections::BTreeMap;

/// The cluster is quiet so long after the last fault has ended.
const QUIET_WITHIN_MS: u64 = 60_000;
/// It is looked at so often.
const LOOK_EVERY_MS: u64 = 500;

impl World {
    pub(super) fn heal(&mut self) {
        self.say(format_args!("all is healed"));
        let paths: Vec<Way> = self.paths.keys().copied().collect();
        for of in paths {
            self.paths.get_mut(&of).expect("it is one of them").damage = false;
            self.mend(of);
        }
        for region in &self.regions {
            if let Disk::Redb(disk) = &region.disk {
                disk.cut_at(u64::MAX);
            }
        }
        for editor in &mut self.editors {
            editor.online = true;
        }
        let until = self.now.after(QUIET_WITHIN_MS);
        self.after(LOOK_EVERY_MS, Happening::Look(until));
    }

    pub(super) fn look(&mut self, until: Time) {
        let unrest = self.unrest();
        if unrest.is_none() && std::mem::replace(&mut self.was_quiet, true) {
            self.done = true;
            return self.judge();
        }
        if let Some(unrest) = unrest {
            self.was_quiet = false;
            if self.now >= until {
                let seconds = QUIET_WITHIN_MS / 1000;
                return self.ledger.violate(format!("not quiet {seconds} s after the last fault: {unrest}"));
            }
        }
        self.after(LOOK_EVERY_MS, Happening::Look(until));
    }

    /// What is still to happen before all is quiet.
    fn unrest(&self) -> Option<String> {
        if self.workload.leaving.is_some() || self.workload.members_to_change > 0 {
            return Some("a region is still to be removed or to be added again".to_owned());
        }
        let members = self.members();
        let first = &self.regions[members[0]];
        let (said, zero) = (first.log.as_ref().map(|log| log.members()), first.number);
        for at in members {
            let region = &self.regions[at];
            let Some(log) = &region.log else { return Some(format!("region {at} is down")) };
            if !region.unmet.is_empty() {
                return Some(format!("region {at} has not met its neighbours"));
            }
            if region.shows.iter().any(|(_, open)| open.fields.is_to_write_back() && !open.is_deleted()) {
                return Some(format!("region {at} has yet to write back"));
            }
            if !region.writes.is_empty() || !region.batches.is_empty() || region.importing.is_some() {
                return Some(format!("region {at} has yet to commit"));
            }
            if log.received() != first.durable {
                return Some(format!("regions {zero} and {at} have not received the same"));
            }
            if Some(log.members()) != said {
                return Some(format!("regions {zero} and {at} do not agree on who belongs to the cluster"));
            }
            if log.applied() != first.durable {
                return Some(format!("region {at} has not applied all that it received"));
            }
            if region.shows.fates() != first.shows.fates() {
                return Some(format!("regions {zero} and {at} do not agree on what is deleted"));
            }
            if region.shows.essences() != first.shows.essences() {
                return Some(format!("regions {zero} and {at} do not show the same"));
            }
        }
        if !self.is_linked() {
            return Some("two neighbours are not linked".to_owned());
        }
        // Whoever edits what is deleted is let go, and keeps what was not taken.
        let open = self.editors.iter().filter(|it| !it.closed && !first.shows.get(it.of).is_deleted());
        let shown: BTreeMap<DocId, Essence> =
            first.shows.iter().map(|(doc, open)| (doc, open.essence())).collect();
        let mut connected = open.into_iter();
        let apart = connected.find(|editor| {
            let shown = &shown[&editor.of];
            editor.session.is_none() || editor.essence() != *shown
        });
        apart.map(|editor| format!("editor {} does not have what the regions have", editor.client))
    }

    fn judge(&mut self) {
        self.forget_what_came_unawares();
        let members = self.members();
        let first = members[0];
        let texts = self.regions[first].shows.texts();
        for at in members {
            let told = self.regions[at].shows.texts();
            if told != texts {
                self.ledger
                    .violate(format!("regions {first} and {at} read differently: {texts:?} and {told:?}"));
            }
            self.check_acknowledged(at, None);
            self.judge_lives(at);
            let Some(log) = self.regions[at].log.clone() else { continue };
            let keeps_all = self.keeps_all();
            self.ledger.compare(at, &*log, keeps_all);
            let again = Documents::read(at, &*log, self.planted, &mut self.ledger);
            if again.texts() != texts {
                self.ledger.violate(format!("region {at} would read differently after a restart"));
            }
            self.judge_fields(at, first, &again);
        }
    }
}
