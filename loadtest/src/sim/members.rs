//! Who belongs to the cluster: regions that join in the middle of a run, that are removed, orderly or as lost,
//! and that are added again.
//!
//! A removal is an entry of the log, as in the server's `members`: the regions that have applied it end their
//! links to the removed one and let it in no more. Who removes waits first until nothing would be lost by it.

use super::region::{Standing, replica};
use super::wire::pair;
use super::world::{Happening, World};
use quire_protocol::batch::{EntryKind, MemberChange, Membership, NO_DOC};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::ReplicaId;
use quire_protocol::link::{Bye, ByeReason, Input};
use quire_storage::NewEntry;
use std::collections::BTreeSet;

/// Who removes looks so often whether what must spread has spread.
const LOOK_EVERY_MS: u64 = 100;
/// A removed region is switched off after so many milliseconds, and is added again after so many more.
const SWITCHED_OFF_MS: (u64, u64) = (200, 3000);
const ADDED_AGAIN_MS: (u64, u64) = (300, 5000);
/// Of removed regions so many in a hundred were lost, and so many are added again.
const LOST_PERCENT: u64 = 40;
const ADDED_AGAIN_PERCENT: u64 = 50;

/// A removal leaves at least so many regions.
const MEMBERS_MIN: usize = 2;

/// How a region leaves the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    /// It is there, and its editors have gone.
    Orderly,
    /// It is gone for good, and its disk with it.
    Lost,
}

/// A removal under way.
pub(super) struct Leaving {
    region: usize,
    /// Who removes it.
    by: usize,
    removal: Removal,
    /// What must have spread: what anybody held when it was first asked.
    target: Option<Frontier>,
}

impl World {
    /// The regions that belong to the cluster.
    pub(super) fn members(&self) -> Vec<usize> {
        let members = self.regions.iter().filter(|region| region.standing == Standing::Member);
        members.map(|region| region.number).collect()
    }

    pub(super) fn draw_member(&mut self) -> usize {
        let members = self.members();
        members[self.rng.index(members.len())]
    }

    /// An empty region joins the cluster.
    pub(super) fn join(&mut self, at: usize) {
        self.say(format_args!("region {at} joins"));
        self.totals.joins += 1;
        self.regions[at].standing = Standing::Member;
        self.restart(at);
    }

    /// Begins to remove a region, where one may go.
    pub(super) fn leave(&mut self) {
        let is_whole = self.regions.iter().all(|region| region.unmet.is_empty());
        // A restored disk must be able to meet all who hold more of its stream than itself.
        if self.workload.disk_gone || !is_whole {
            return;
        }
        let mut members = self.members();
        members.retain(|at| {
            let can_remove = |by: &usize| self.regions[*by].standing == Standing::Member;
            let has_neighbour = self.neighbours(*at).iter().any(can_remove);
            self.regions[*at].log.is_some() && has_neighbour && self.holds_together_without(*at)
        });
        if members.is_empty() || self.members().len() <= MEMBERS_MIN {
            return;
        }
        let region = members[self.rng.index(members.len())];
        let mut by = self.neighbours(region);
        by.retain(|at| self.regions[*at].standing == Standing::Member);
        let by = by[self.rng.index(by.len())];
        let removal = if self.rng.percent(LOST_PERCENT) { Removal::Lost } else { Removal::Orderly };
        self.workload.disk_gone = true;
        self.workload.leaving = Some(Leaving { region, by, removal, target: None });
        self.regions[region].standing = Standing::Leaving;
        self.send_editors_away(region);
        if removal == Removal::Lost {
            self.say(format_args!("region {region} is lost for good; region {by} is to remove it"));
            self.kill(region);
        } else {
            self.say(format_args!("region {region}'s editors go; region {by} is to remove it"));
        }
        self.after(LOOK_EVERY_MS, Happening::Removal);
    }

    /// Whether a region is to be removed, or to remove another.
    pub(super) fn waits_for_removal(&self, at: usize) -> bool {
        self.workload.leaving.as_ref().is_some_and(|it| it.region == at || it.by == at)
    }

    /// Whether a region is down and does not come back as things are.
    pub(super) fn is_gone(&self, at: usize) -> bool {
        let lost = self.workload.leaving.as_ref();
        let is_lost = lost.is_some_and(|it| it.removal == Removal::Lost && it.region == at);
        is_lost || matches!(self.regions[at].standing, Standing::Coming | Standing::Removed)
    }

    /// Whether the others, those that are to join among them, are connected with each other without this one.
    fn holds_together_without(&self, at: usize) -> bool {
        let stays = |other: &usize| {
            *other != at && matches!(self.regions[*other].standing, Standing::Member | Standing::Coming)
        };
        let others: BTreeSet<usize> = (0..self.regions.len()).filter(stays).collect();
        let mut reached: BTreeSet<usize> = others.first().copied().into_iter().collect();
        loop {
            let next = reached.iter().flat_map(|from| self.neighbours(*from));
            let next: BTreeSet<usize> = next.filter(|to| others.contains(to)).collect();
            if next.is_subset(&reached) {
                return reached == others;
            }
            reached.extend(next);
        }
    }

    /// Removes the region that is leaving, once nothing would be lost by that.
    pub(super) fn remove(&mut self) {
        let Some(mut leaving) = self.workload.leaving.take() else { return };
        let Leaving { region, by, removal, .. } = leaving;
        let has_spread = match removal {
            Removal::Orderly => self.has_exchanged(&mut leaving),
            Removal::Lost => self.has_spread(&mut leaving),
        };
        // An entry that could not be known to be on the disk may have been found there after a restart.
        let is_removed = self.is_removed_by(by, replica(region));
        if !(is_removed || has_spread && self.change_member(by, region, Membership::Removed)) {
            self.workload.leaving = Some(leaving);
            return self.after(LOOK_EVERY_MS, Happening::Removal);
        }
        self.say(format_args!("region {by} has removed region {region}"));
        if !has_spread && removal == Removal::Orderly {
            self.workload.removed_unawares = Some(region);
        }
        self.totals.removals += 1;
        self.regions[region].standing = Standing::Removed;
        self.workload.members_to_change += 1;
        let ms = self.rng.within(SWITCHED_OFF_MS.0, SWITCHED_OFF_MS.1);
        self.after(ms, Happening::SwitchOff(region));
        if removal == Removal::Lost {
            self.empty_disk(region);
        }
    }

    /// Whether the region that leaves and the one that removes it have what either had. The first is asked as
    /// an operator would: nothing that it wrote is queued for the other.
    fn has_exchanged(&self, leaving: &mut Leaving) -> bool {
        let Leaving { region, by, .. } = *leaving;
        let leaver = &self.regions[region];
        let is_written = leaver.log.is_some() && leaver.writes.is_empty() && !leaver.committing;
        let (Some(held), Some(0)) = (self.held((by, region)), self.queued((region, by))) else {
            return false;
        };
        if !is_written {
            return false;
        }
        let here = &self.regions[by].durable;
        let target = leaving.target.get_or_insert_with(|| {
            let mut all = here.clone();
            all.merge(held);
            all
        });
        here.covers_all(target) && held.covers_all(target)
    }

    /// Whether all that are linked with the one that removes have what any of them has of a lost region.
    fn has_spread(&mut self, leaving: &mut Leaving) -> bool {
        let Leaving { region, by, .. } = *leaving;
        if leaving.target.is_none() {
            // What others are about to store of it is on their disks first, so that it is known who has what.
            if self.others_are_busy(region) {
                return false;
            }
            self.forget(region, &Frontier::new());
        }
        let linked = self.neighbours(by).into_iter().filter_map(|to| self.held((by, to)));
        let held: Vec<&Frontier> = linked.chain(std::iter::once(&self.regions[by].durable)).collect();
        let target = leaving.target.get_or_insert_with(|| {
            let of_it = held.iter().flat_map(|held| held.iter());
            let mut target = Frontier::new();
            of_it.filter(|dot| dot.stream.replica == replica(region)).for_each(|dot| target.raise(dot));
            target
        });
        self.regions[by].log.is_some() && held.iter().all(|held| held.covers_all(target))
    }

    /// Writes who belongs to the cluster into a region's log. False when it cannot now.
    fn change_member(&mut self, by: usize, region: usize, membership: Membership) -> bool {
        let payload = MemberChange { replica: replica(region), membership }.encode();
        self.append(by, NewEntry { doc: NO_DOC, kind: EntryKind::Member, payload })
    }

    /// A removed region is switched off. It may be added again.
    pub(super) fn switch_off(&mut self, at: usize) {
        self.say(format_args!("region {at}, which was removed, is switched off"));
        self.goes_down(at);
        if self.rng.percent(ADDED_AGAIN_PERCENT) {
            let ms = self.rng.within(ADDED_AGAIN_MS.0, ADDED_AGAIN_MS.1);
            self.after(ms, Happening::AddAgain(at));
        } else {
            self.workload.members_to_change -= 1;
        }
    }

    /// A removal that was on its way to the disk when the power went, and is found there later, counts from the
    /// beginning. What the removed region wrote meanwhile is with it alone, unless it was added again.
    pub(super) fn forget_what_came_unawares(&mut self) {
        let removed = self.workload.removed_unawares;
        let Some(at) = removed.filter(|at| self.regions[*at].standing == Standing::Removed) else { return };
        // All members have the same by now.
        let held = self.regions[self.members()[0]].durable.clone();
        for stream in self.ledger.streams_of(replica(at).0) {
            self.ledger.forget(stream, held.get(stream));
        }
    }

    /// A region that knows of the removal adds the removed one again.
    pub(super) fn add_again(&mut self, at: usize) {
        let members = self.members();
        let by = members.iter().copied().find(|by| self.is_removed_by(*by, replica(at)));
        let is_added = match by {
            Some(by) => self.change_member(by, at, Membership::Member),
            // An entry that could not be known to be on the disk was found there after a restart.
            None => members.iter().all(|by| self.regions[*by].log.is_some()),
        };
        if !is_added {
            return self.after(LOOK_EVERY_MS, Happening::AddAgain(at));
        }
        self.say(format_args!("region {at} is added again"));
        self.totals.joins += 1;
        self.workload.members_to_change -= 1;
        self.regions[at].standing = Standing::Member;
        self.restart(at);
    }

    /// Whether a region that is up has applied the removal of another.
    pub(super) fn is_removed_by(&self, by: usize, replica: ReplicaId) -> bool {
        self.regions[by].log.as_ref().is_some_and(|log| log.members().is_removed(replica))
    }

    /// Whether neither of two regions knows the other for removed.
    pub(super) fn may_link(&self, a: usize, b: usize) -> bool {
        !self.is_removed_by(a, replica(b)) && !self.is_removed_by(b, replica(a))
    }

    /// Counts no more what removed regions have, and ends the links to them.
    pub(super) fn members_changed(&mut self, at: usize) {
        self.forget_removed(at);
        for to in self.neighbours(at) {
            if self.is_removed_by(at, replica(to)) {
                let connection = self.connections.get_mut(&pair((at, to)));
                connection.into_iter().for_each(|connection| connection.removed = true);
                let detail = "the region was removed from the cluster".to_owned();
                self.handle((at, to), Input::Stop(Bye { reason: ByeReason::Removed, detail }));
            }
        }
    }
}
