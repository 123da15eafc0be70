//! A disk that was set back to a copy: whether its region takes writes at once, and how it parts with a stream of
//! which its peers have another history. As the server's `renewal` does.

use super::faults::Replaced;
use super::plant::Plant;
use super::region::replica;
use super::wire::Way;
use super::world::{Happening, World};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{Dot, Incarnation, Seq, StreamId};
use quire_protocol::link::{Bye, ByeReason, Input};
use quire_storage::{Log, Renewal};

/// Where Quire heals what is written before any peer has been met, so many restored regions of a hundred are
/// written to at once.
const AT_ONCE_PERCENT: u64 = 75;

/// In so many runs of a hundred a disk is copied for that, and set back so many milliseconds later, if no disk has
/// gone until then. Others are set back by chance.
const SET_BACK_PERCENT: u64 = 30;
const SET_BACK_AFTER_MS: (u64, u64) = (1000, 8000);
/// So many of these regions of a hundred reach nobody for so many milliseconds then.
const ALONE_PERCENT: u64 = 70;
const ALONE_MS: (u64, u64) = (2000, 9000);

/// What a peer has made known of a region's own stream.
pub(super) struct Parting {
    /// The last entry that both have alike.
    last: Dot,
    /// The greatest incarnation of the region that either knows.
    known: Incarnation,
}

impl World {
    pub(super) fn draw_set_back(&mut self, active_ms: u64) {
        if self.rng.percent(SET_BACK_PERCENT) {
            let mut able = self.members();
            able.retain(|at| self.regions[*at].keeps.all_that_is_lacked());
            let at = if able.is_empty() { self.draw_member() } else { able[self.rng.index(able.len())] };
            let ms = self.rng.within(active_ms / 10, active_ms * 3 / 5);
            self.after(ms, Happening::BackUp(at));
        }
    }

    pub(super) fn back_up_to_set_back(&mut self, at: usize) {
        self.back_up(at);
        let ms = self.rng.within(SET_BACK_AFTER_MS.0, SET_BACK_AFTER_MS.1);
        self.after(ms, Happening::SetBack(at));
    }

    pub(super) fn sets_back(&mut self, at: usize) {
        let region = &self.regions[at];
        let is_up = region.log.is_some() && region.backup.is_some();
        if !self.is_active() || self.workload.disk_gone || !is_up {
            return;
        }
        self.loses_disk(at, Replaced::Restored);
        if self.rng.percent(ALONE_PERCENT) {
            for to in self.neighbours(at) {
                let ms = self.rng.within(ALONE_MS.0, ALONE_MS.1);
                self.cut((at, to), ms);
            }
        }
    }

    /// A region's disk was set back to a copy that holds this.
    pub(super) fn set_back(&mut self, at: usize, kept: &Frontier) {
        let stream = StreamId { replica: replica(at), incarnation: self.regions[at].first_incarnation };
        let last = Dot { stream, seq: kept.get(stream) };
        self.workload.restored = Some(at);
        self.ledger.set_back(at, last);
        if self.heals(at, last) && self.rng.percent(AT_ONCE_PERCENT) {
            return self.say(format_args!("region {at}, whose disk was set back, takes writes at once"));
        }
        let members = self.members();
        let neighbours = self.neighbours(at).into_iter();
        self.regions[at].unmet = neighbours.filter(|to| members.contains(to)).collect();
    }

    /// Whether what a restored region writes before it has met a peer is healed. A neighbour that has nothing
    /// newer of its stream would take its word for it while others have more, and be alone with that; one that
    /// got the end of it in a snapshot, or is yet to, has no batch to show; and what a log has let go of cannot
    /// be written again.
    fn heals(&self, at: usize, last: Dot) -> bool {
        let held = |to: usize| self.regions[to].durable.get(last.stream);
        let shows = |to: usize| {
            let log = self.regions[to].log.as_ref();
            let read = log.map(|log| log.read_batches(last.stream, held(to), 1));
            matches!(read, Some(Ok(batches)) if !batches.is_empty())
        };
        let others = (0..self.regions.len()).filter(|to| *to != at);
        let most = others.map(held).max().unwrap_or_default();
        let neighbours_show = || self.neighbours(at).into_iter().all(|to| held(to) == most && shows(to));
        (most <= last.seq || neighbours_show()) && self.regions[at].keeps.all_that_is_lacked()
    }

    /// A neighbour says what it has. One that has more of a region's stream than the region itself has not been
    /// met before the disk has parted with that: its power may go until then, and nothing is known to it.
    pub(super) fn meets(&mut self, at: usize, from: usize, received: &Frontier) {
        let region = &mut self.regions[at];
        let Some(own) = region.log.as_ref().map(|log| log.stream()) else { return };
        if received.get(own) <= region.durable.get(own) {
            region.unmet.remove(&from);
        }
    }

    /// A peer has another history of a region's stream, or more of it. Its disk parts with it before the next
    /// commit.
    pub(super) fn went_back(&mut self, way: Way, last: Dot) {
        let here = &self.regions[way.0].durable;
        let streams = here.iter().chain(self.held(way).into_iter().flat_map(Frontier::iter));
        let of_it = streams.map(|dot| dot.stream).filter(|stream| stream.replica == last.stream.replica);
        let known = of_it.map(|stream| stream.incarnation).max().unwrap_or(last.stream.incarnation);
        self.regions[way.0].partings.push(Parting { last, known });
        self.commit_soon(way.0);
    }

    /// Has a region's disk part with its stream, as peers have asked. False when the disk fails.
    pub(super) fn part_streams(&mut self, at: usize) -> bool {
        let partings = std::mem::take(&mut self.regions[at].partings);
        partings.iter().all(|parting| self.part_stream(at, parting))
    }

    fn part_stream(&mut self, at: usize, parting: &Parting) -> bool {
        let Some(log) = self.regions[at].log.clone() else { return false };
        let Parting { last, known } = *parting;
        let old = log.stream();
        // Two peers may find the same at once.
        let parted = if last.stream == old {
            let is_kept = self.planted.is(Plant::HistoryNotParted);
            log.part_stream(if is_kept { Seq(u64::MAX) } else { last.seq }, known)
        } else {
            Ok(Renewal { stream: old, moved: 0 })
        };
        let Ok(Renewal { stream, moved }) = parted else {
            drop(log);
            self.power_fails(at);
            return false;
        };
        if stream != old {
            self.say(format_args!("region {at} goes on as {stream} after {last}, {moved} entries again"));
            self.totals.moved += moved;
            self.regions[at].unmet.clear();
            self.has_parted(at, &*log);
            self.shows_the_same(at, &*log, old);
        }
        self.tell_received(at);
        self.tell_all(at, &Input::Renewed(stream));
        if moved > 0 {
            let detail = "this region has given up a part of its stream: begin anew".to_owned();
            self.tell_all(at, &Input::Stop(Bye { reason: ByeReason::Renewed, detail }));
        }
        true
    }

    /// A region's disk has parted with a stream: told now, or found when it starts.
    pub(super) fn has_parted(&mut self, at: usize, log: &dyn Log) {
        self.totals.renewals += 1;
        self.ledger.part(at);
        self.ledger.written(at, log);
        self.regions[at].durable = log.received();
    }

    /// Checks that a region whose log has parted with a stream has dropped nothing else, and that its documents
    /// hold what is applied now and nothing beyond.
    fn shows_the_same(&mut self, at: usize, log: &dyn Log, old: StreamId) {
        let shows = &mut self.regions[at].shows;
        let before = std::mem::replace(&mut shows.frontier, log.applied());
        shows.read_lives(log);
        if before.without(old) != shows.frontier.without(old).without(log.stream()) {
            self.ledger.violate(format!("region {at} has dropped entries of others with its stream {old}"));
        }
        self.ledger.check_holds(at, shows);
        self.lives_changed(at);
    }
}
