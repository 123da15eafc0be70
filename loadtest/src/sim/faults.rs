//! Regions that go and come back: killed, without power, stopped, on a new disk or an old one.

use super::documents::Documents;
use super::region::{Disk, Standing, replica};
use super::world::{Happening, World};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::Incarnation;
use quire_storage::sim_disk::{SimDisk, Unsynced};

use super::plant::Plant;

/// A power cut comes within so many operations of the disk.
const CUT_WITHIN: u64 = 40;
/// So many checkpoints of a hundred store the states of documents, which take the place of their entries.
const STATES_PERCENT: u64 = 40;
/// Between two checkpoints that a region makes by itself, in milliseconds.
const CHECKPOINT_MS: (u64, u64) = (500, 4000);

/// What happens to a disk while its region is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// An empty one takes its place.
    Lost,
    /// A copy of it from earlier does.
    Restored,
}

impl World {
    pub(super) fn jumps_clock(&mut self, at: usize) {
        let ms = [-10_000, 10_000][self.rng.index(2)];
        self.regions[at].clock_ms += ms;
        self.say(format_args!("region {at}'s clock jumps by {ms} ms"));
    }

    pub(super) fn checkpoint(&mut self, at: usize) {
        let with_states = self.rng.percent(STATES_PERCENT);
        let region = &self.regions[at];
        let Some(log) = region.log.clone() else { return };
        if with_states && let Err(error) = region.shows.give_states(&*log, self.planted) {
            self.ledger.violate(format!("region {at} cannot store a document's state: {error}"));
        }
        let how = if with_states { ", with states of its documents" } else { "" };
        self.say(format_args!("region {at} makes a checkpoint{how}"));
        if log.checkpoint().is_err() {
            drop(log);
            self.power_fails(at);
        }
    }

    /// A region that does not keep all makes checkpoints by itself, at which it drops what it need not keep.
    pub(super) fn checkpoint_again(&mut self, at: usize) {
        self.checkpoint(at);
        let ms = self.rng.within(CHECKPOINT_MS.0, CHECKPOINT_MS.1);
        self.after(ms, Happening::Checkpoint(at));
    }

    pub(super) fn back_up(&mut self, at: usize) {
        let region = &mut self.regions[at];
        if let (Disk::Redb(disk), true) = (&region.disk, region.log.is_some()) {
            region.backup = Some(([0, 1, 2].map(|file| disk.contents(file)), region.durable.clone()));
            self.say(format_args!("region {at}'s disk is copied"));
        }
    }

    pub(super) fn arm_power_cut(&mut self, at: usize) {
        let within = self.rng.within(0, CUT_WITHIN);
        let region = &mut self.regions[at];
        if let Disk::Redb(disk) = &region.disk {
            region.power_cut_is_near = true;
            disk.cut_at(disk.operations() + within);
            self.say(format_args!("region {at} loses power after {within} operations of its disk"));
        }
    }

    pub(super) fn breaks_a_region(&mut self, at: usize) {
        if self.regions[at].log.is_none() {
            return;
        }
        match self.rng.within(0, 6) {
            0 | 1 => {
                self.say(format_args!("region {at} is killed"));
                self.kill(at);
            }
            2 => self.power_fails(at),
            // One that leaves has sent its editors away, and writes nothing that nobody waits for.
            3 if !self.regions[at].stopping && self.regions[at].standing == Standing::Member => {
                self.drain(at);
            }
            3 => {
                self.say(format_args!("region {at} stops before its peers have everything"));
                self.goes_down(at);
            }
            _ if self.workload.disk_gone => {}
            4 => self.loses_disk(at, Replaced::Lost),
            _ if self.regions[at].backup.is_some() => self.loses_disk(at, Replaced::Restored),
            _ => {}
        }
    }

    pub(super) fn loses_disk(&mut self, at: usize, replaced: Replaced) {
        self.workload.disk_gone = true;
        self.say(format_args!("region {at} goes down, and its disk will be {replaced:?}"));
        self.workload.replaced = Some((at, replaced));
        self.kill(at);
    }

    /// Ends a region's process, which has no time for anything; its disk keeps its power.
    pub(super) fn kill(&mut self, at: usize) {
        self.regions[at].power_cut_is_near = false;
        if let Disk::Redb(disk) = &self.regions[at].disk {
            disk.kill();
        }
        self.goes_down(at);
    }

    /// The power of a region goes, now or when its disk was to be written.
    pub(super) fn power_fails(&mut self, at: usize) {
        let seed = self.rng.next();
        let unsynced = [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn { seed }][self.rng.index(3)];
        let how = format!("{unsynced:?}");
        let how = how.split(' ').next().unwrap_or_default();
        self.say(format_args!("region {at} loses power; what was not synced is {how}"));
        self.regions[at].power_cut_is_near = false;
        match &self.regions[at].disk {
            Disk::Redb(disk) => disk.crash(unsynced),
            Disk::Memory(log) => log.crash(),
        }
        self.goes_down(at);
    }

    pub(super) fn goes_down(&mut self, at: usize) {
        let region = &mut self.regions[at];
        // A snapshot that is still read would keep the store open.
        region.exporting.clear();
        region.importing = None;
        if region.log.take().is_none() {
            return;
        }
        region.life += 1;
        region.stopping = false;
        region.writes.clear();
        region.batches.clear();
        region.partings.clear();
        region.committing = false;
        self.totals.crashes += 1;
        let editors: Vec<usize> =
            (0..self.editors.len()).filter(|editor| self.editors[*editor].region == at).collect();
        editors.into_iter().for_each(|editor| self.part(editor));
        self.drop_connections_of(at);
        let down_ms = self.rng.within(300, 4000);
        self.after(down_ms, Happening::Restart(at));
    }

    pub(super) fn restart(&mut self, at: usize) {
        // One that was added again has started by itself.
        if self.is_gone(at) || self.regions[at].log.is_some() {
            return;
        }
        if let Some((of, replaced)) = self.workload.replaced
            && of == at
        {
            // What others are about to store of it is on their disks first, so that it is known who has what.
            if self.others_are_busy(at) {
                return self.after(50, Happening::Restart(at));
            }
            self.workload.replaced = None;
            self.replace_disk(at, replaced);
        }
        let log = match self.regions[at].open_log() {
            Ok(log) => log,
            // The power goes while it starts: it starts again.
            Err(error) if self.regions[at].power_cut_is_near && error.contains("the power is gone") => {
                self.power_fails(at);
                return self.after(1000, Happening::Restart(at));
            }
            Err(error) => return self.ledger.violate(format!("region {at} does not start: {error}")),
        };
        if self.ledger.is_to_part(at, log.stream()) {
            self.has_parted(at, &*log);
        }
        let in_doubt = self.ledger.written(at, &*log);
        let region = &mut self.regions[at];
        region.durable = log.received();
        region.log = Some(log.clone());
        self.say(format_args!("region {at} starts; {in_doubt} entries were not known to be on its disk"));
        self.regions[at].shows = Documents::read(at, &*log, self.planted, &mut self.ledger);
        self.keep_logs(at);
        self.look_at_fields(at);
        self.check_fields(at);
        self.check_acknowledged(at, Some(at));
    }

    /// Whether another region is down at the moment, or has yet to store what it was sent.
    pub(super) fn others_are_busy(&self, at: usize) -> bool {
        let mut others =
            self.regions.iter().filter(|region| region.number != at && !self.is_gone(region.number));
        others.any(|region| region.log.is_none() || !region.batches.is_empty() || region.importing.is_some())
    }

    fn replace_disk(&mut self, at: usize, replaced: Replaced) {
        self.totals.disks += 1;
        let backup = self.regions[at].backup.take().filter(|_| replaced == Replaced::Restored);
        let kept = if let Some((contents, kept)) = backup {
            self.regions[at].disk = Disk::Redb(SimDisk::holding(contents));
            kept
        } else {
            self.empty_disk(at);
            Frontier::new()
        };
        self.forget(at, &kept);
        if replaced == Replaced::Restored {
            self.set_back(at, &kept);
        }
    }

    /// Gives a region an empty disk.
    pub(super) fn empty_disk(&mut self, at: usize) {
        let number = self.rng.within(1 << 15, (1 << 16) - 1);
        let reused = self.planted.is(Plant::IncarnationReused);
        let region = &mut self.regions[at];
        if !reused {
            region.first_incarnation = Incarnation(u16::try_from(number).expect("below 2^16"));
        }
        region.disk = region.fresh_disk();
    }

    /// What only the lost disk had is nobody's any more.
    pub(super) fn forget(&mut self, at: usize, kept: &Frontier) {
        let mut held = kept.clone();
        for region in self.regions.iter().filter(|region| region.number != at) {
            held.merge(&region.durable);
        }
        for stream in self.ledger.streams_of(replica(at).0) {
            self.ledger.forget(stream, held.get(stream));
        }
        for saved in self.ledger.acknowledged.iter_mut().filter(|saved| saved.region == at) {
            saved.gone |= saved.dot.is_none_or(|dot| !held.covers(dot));
            saved.elsewhere |= saved.dot.is_none_or(|dot| !kept.covers(dot));
        }
    }

    /// Checks that a region shows what was acknowledged: by itself, or by any.
    pub(super) fn check_acknowledged(&mut self, at: usize, by: Option<usize>) {
        let shows = &self.regions[at].shows;
        let saved = self.ledger.acknowledged.iter().filter(|saved| !saved.gone);
        let mut of_these = saved.filter(|saved| by.is_none_or(|by| saved.region == by && !saved.elsewhere));
        let lost = of_these.find(|saved| !shows.get(saved.doc).holds(&saved.update));
        if let Some(lost) = lost {
            let (by, dot) = (lost.region, lost.dot.map_or_else(String::new, |dot| format!(" (entry {dot})")));
            self.ledger.violate(format!("region {at} lacks what region {by} acknowledged{dot}"));
        }
    }
}
