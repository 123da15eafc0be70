//! A cluster in virtual time: regions, the paths between them, editors, and what happens next.
//!
//! Everything that happens is an event in one queue, and every choice is drawn from the seed, so a seed
//! always gives the same run.

use super::editor::Editor;
use super::ledger::Ledger;
use super::plant::Planted;
use super::region::{Region, Standing};
use super::rng::Rng;
use super::sessions::{Down, Lanes, Up};
use super::topology::Topology;
use super::transcript::{Totals, Transcript};
use super::wire::{Connection, Path, Way};
use bytes::Bytes;
use quire_protocol::ids::Incarnation;
use quire_protocol::time::Time;
use std::collections::BTreeMap;
use std::fmt::Arguments;

/// A run with more events than this talks without end: the longest have a tenth of it.
const EVENTS_MAX: u64 = 2_000_000;

/// What is simulated, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Logs in memory, which are quicker and lose no writes, instead of the real ones on simulated disks.
    pub in_memory: bool,
    /// A bug to be found.
    pub planted: Planted,
    /// Whether lines are kept.
    pub tells: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What happened, line by line, where lines were kept.
    pub lines: Vec<String>,
    /// Figures.
    pub totals: Totals,
    /// What was found wrong.
    pub violation: Option<String>,
}

/// What happens at some moment.
pub(super) enum Happening {
    /// Two regions may be linked.
    Dial(Way),
    /// A frame of a connection comes to its end.
    Frame(Way, u64, Bytes),
    /// The alarm of an end of a connection.
    Wake(Way, u64),
    /// A region's disk comes round to what waits, if it is still in this life.
    Commit(usize, u64),
    Restart(usize),
    /// An editor looks whether it can connect.
    LookAfter(usize),
    Up(usize, u64, Up),
    Down(usize, u64, Down),
    /// An editor types the next of these letters.
    Key(usize, u32, &'static str),
    /// Somebody types, or something breaks.
    Act,
    /// A path breaks for so many milliseconds.
    Cut(Way, u64),
    Kill(usize),
    /// A region's disk reads the next piece of a snapshot: the connection, the offset, and how much at most.
    Piece(Way, u64, u64, usize),
    /// A region's disk comes round to a snapshot that it takes, if it is still in this life.
    Import(usize, u64),
    /// A region looks at what fields it is to write back, if it is still in this life.
    Fields(usize, u64),
    /// A region makes a checkpoint, and will again.
    Checkpoint(usize),
    /// A region that stops looks whether its peers have everything, until some time, if it is still in this life.
    Drain(usize, u64, Time),
    /// A region's disk is copied, and some time later set back to the copy.
    BackUp(usize),
    SetBack(usize),
    /// A region writes a canary.
    Canary(usize),
    /// An empty region joins.
    Join(usize),
    /// A region is to be removed.
    Leave,
    /// Who removes a region looks whether that may be done.
    Removal,
    /// A removed region goes down for good.
    SwitchOff(usize),
    /// A removed region is added again.
    AddAgain(usize),
    /// A path is whole again.
    Mend(Way),
    /// An editor's network is back.
    Return(usize),
    /// All faults end.
    Heal,
    /// Whether all is quiet.
    Look(Time),
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) rng: Rng,
    pub(super) planted: Planted,
    pub(super) regions: Vec<Region>,
    pub(super) editors: Vec<Editor>,
    pub(super) paths: BTreeMap<Way, Path>,
    pub(super) connections: BTreeMap<Way, Connection>,
    pub(super) lanes: BTreeMap<u64, Lanes>,
    pub(super) ledger: Ledger,
    pub(super) totals: Totals,
    pub(super) batch_bytes_max: u64,
    pub(super) workload: super::workload::Workload,
    /// Quiet when it was last looked.
    pub(super) was_quiet: bool,
    pub(super) done: bool,
    transcript: Transcript,
    queue: BTreeMap<(Time, u64), Happening>,
    numbers: u64,
}

/// Runs one seed.
#[must_use]
pub fn simulate(seed: u64, setup: Setup) -> Outcome {
    let mut rng = Rng::new(seed);
    let topology = Topology::draw(&mut rng);
    let incarnation = |rng: &mut Rng| Incarnation(u16::try_from(rng.within(1, 1 << 15)).expect("below 2^15"));
    let workload = super::workload::Workload::draw(&mut rng);
    let regions = (0..topology.regions).map(|number| {
        let keeps = workload.draw_keeps(&mut rng);
        let region = Region::new(number, setup.in_memory, incarnation(&mut rng), keeps);
        let joins = topology.joins && number + 1 == topology.regions;
        Region { standing: if joins { Standing::Coming } else { Standing::Member }, ..region }
    });
    let mut world = World {
        now: Time(0),
        regions: regions.collect(),
        editors: Vec::new(),
        paths: topology.paths,
        connections: BTreeMap::new(),
        lanes: BTreeMap::new(),
        ledger: Ledger::default(),
        totals: Totals::default(),
        batch_bytes_max: 0,
        workload,
        was_quiet: false,
        done: false,
        transcript: Transcript::new(setup.tells),
        queue: BTreeMap::new(),
        numbers: 0,
        planted: setup.planted,
        rng,
    };
    world.say(format_args!("seed {seed}: {}", topology.name));
    world.begin();
    world.run();
    world.into_outcome()
}

impl World {
    fn run(&mut self) {
        let mut events = 0;
        while !self.done && self.ledger.violation.is_none() {
            let Some(((time, _), happening)) = self.queue.pop_first() else { break };
            self.now = self.now.max(time);
            self.happen(happening);
            events += 1;
            if events > EVENTS_MAX {
                self.ledger.violate("the cluster talks without end".to_owned());
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Dial(of) => self.dial(of),
            Happening::Frame(way, number, frame) => self.arrive(way, number, frame),
            Happening::Wake(way, number) => self.wake(way, number),
            Happening::Commit(at, life) => self.commit(at, life),
            Happening::Restart(at) => self.restart(at),
            Happening::LookAfter(editor) => self.look_after(editor),
            Happening::Up(editor, session, message) => self.hear_editor(editor, session, message),
            Happening::Down(editor, session, message) => self.hear_region(editor, session, message),
            Happening::Key(editor, at, rest) => self.types_on(editor, at, rest),
            Happening::Act => self.act(),
            Happening::Cut(of, ms) if self.is_active() => {
                self.say(format_args!("the link between regions {} and {} is cut for {ms} ms", of.0, of.1));
                self.cut(of, ms);
            }
            Happening::Kill(at) if self.is_active() && self.regions[at].log.is_some() => {
                self.say(format_args!("region {at} is killed"));
                self.kill(at);
            }
            Happening::Cut(..) | Happening::Kill(_) => {}
            Happening::Piece(way, connection, offset, bytes_max) => {
                self.read_piece(way, connection, offset, bytes_max);
            }
            Happening::Import(at, life) => self.import_on(at, life),
            Happening::Fields(at, life) => self.write_back_on(at, life),
            Happening::Checkpoint(at) => self.checkpoint_again(at),
            Happening::Drain(at, life, until) => self.drain_on(at, life, until),
            Happening::BackUp(at) => self.back_up_to_set_back(at),
            Happening::SetBack(at) => self.sets_back(at),
            Happening::Canary(at) => self.write_canary_again(at),
            Happening::Join(at) => self.join(at),
            Happening::Leave => self.leave(),
            Happening::Removal => self.remove(),
            Happening::SwitchOff(at) => self.switch_off(at),
            Happening::AddAgain(at) => self.add_again(at),
            Happening::Mend(of) => self.mend(of),
            Happening::Return(editor) => self.editors[editor].online = true,
            Happening::Heal => self.heal(),
            Happening::Look(until) => self.look(until),
        }
    }

    fn into_outcome(mut self) -> Outcome {
        let paths: Vec<Way> = self.paths.keys().copied().collect();
        paths.into_iter().for_each(|of| self.count_paced(of));
        self.totals.simulated_ms = self.now.0;
        self.totals.gone_with_disk =
            self.ledger.acknowledged.iter().filter(|saved| saved.gone).count() as u64;
        let totals = self.totals;
        match self.ledger.violation.clone() {
            Some(violation) => self.say(format_args!("VIOLATION: {violation}")),
            None => self.say(format_args!("quiet and equal: {totals:?}")),
        }
        Outcome { lines: self.transcript.into_lines(), totals: self.totals, violation: self.ledger.violation }
    }

    pub(super) fn say(&mut self, line: Arguments<'_>) {
        self.transcript.say(self.now, line);
    }

    /// Says what an editor does.
    pub(super) fn say_of(&mut self, editor: usize, line: Arguments<'_>) {
        let client = self.editors[editor].client;
        self.transcript.say(self.now, format_args!("editor {client} {line}"));
    }

    pub(super) const fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Has something happen at a time, after all that happens at that time already.
    pub(super) fn at(&mut self, time: Time, happening: Happening) {
        let number = self.next_number();
        self.queue.insert((time, number), happening);
    }

    pub(super) fn after(&mut self, ms: u64, happening: Happening) {
        self.at(self.now.after(ms), happening);
    }
}
