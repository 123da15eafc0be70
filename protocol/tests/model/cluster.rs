//! A cluster of the model: regions, the links between them, and all that can happen to them.
//!
//! What a link sends is what the real `Outflow` chooses. Links lose nothing until they are cut; a cut, or a
//! crash of either end, loses what was on the way and all that both ends knew of each other.

use super::Plant;
use super::region::{Region, Wrote, id, stream_of};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{Dot, ReplicaId, Seq, StreamId};
use quire_protocol::link::Outflow;
use stateright::{Model, Property};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const REGIONS: usize = 3;

/// The model: which links there are, and how much may happen.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) links: &'static [(usize, usize)],
    /// Batches that each region writes.
    pub(crate) writes: [usize; REGIONS],
    pub(crate) cuts: u8,
    pub(crate) crashes: u8,
    /// Whatever is not a batch arrives as soon as nothing is before it, and before anything else happens: fewer
    /// orders, so that more can happen in them.
    pub(crate) prompt: bool,
    pub(crate) plant: Plant,
}

/// What one end says to the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Said {
    Frontier(Frontier, BTreeSet<ReplicaId>),
    Ack(Frontier),
    Need(StreamId, Seq, Seq),
    Batch(Arc<Wrote>),
}

/// One direction of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Way {
    outflow: Outflow,
    said: VecDeque<Said>,
}

/// Regions and ways are shared between states until they change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    regions: Vec<Arc<Region>>,
    /// By who sends and who receives.
    ways: BTreeMap<(usize, usize), Arc<Way>>,
    cuts: u8,
    crashes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A region commits a batch of its editors.
    Write(usize),
    /// A link sends the next batch.
    Send(usize, usize),
    /// What is next on a way arrives.
    Deliver(usize, usize),
    /// A region's log has made durable what came first.
    Store(usize),
    Cut(usize, usize),
    Heal(usize, usize),
    Crash(usize),
}

impl World {
    fn region(&mut self, at: usize) -> &mut Region {
        Arc::make_mut(&mut self.regions[at])
    }

    /// A direction of a link; none when the link is down.
    fn way(&mut self, from: usize, to: usize) -> Option<&mut Way> {
        self.ways.get_mut(&(from, to)).map(Arc::make_mut)
    }

    /// What is confirmed right after another confirmation goes with it, as on a real link.
    fn say(&mut self, from: usize, to: usize, said: Said) {
        let Some(way) = self.way(from, to) else { return };
        match (way.said.back_mut(), said) {
            (Some(Said::Ack(before)), Said::Ack(more)) => before.merge(&more),
            (_, said) => way.said.push_back(said),
        }
    }

    fn peers(&self, at: usize) -> Vec<usize> {
        (0..REGIONS).filter(|&to| self.ways.contains_key(&(at, to))).collect()
    }

    /// A region tells its peers what it has and whom it hears first-hand.
    fn tell_frontier(&mut self, at: usize) {
        let peers = self.peers(at);
        let hears: BTreeSet<_> = peers.iter().map(|&to| id(to)).collect();
        for to in peers {
            let received = self.regions[at].received().clone();
            self.say(at, to, Said::Frontier(received, hears.clone()));
        }
    }

    fn tell_ack(&mut self, at: usize, last: Dot) {
        for to in self.peers(at) {
            self.say(at, to, Said::Ack([last].into_iter().collect()));
        }
    }

    fn heal(&mut self, a: usize, b: usize) {
        for ends in [(a, b), (b, a)] {
            let mut way = Way::default();
            way.outflow.hear_credit(u64::MAX);
            self.ways.insert(ends, Arc::new(way));
        }
        self.tell_frontier(a);
        self.tell_frontier(b);
    }

    fn cut(&mut self, a: usize, b: usize) {
        self.ways.remove(&(a, b));
        self.ways.remove(&(b, a));
        self.tell_frontier(a);
        self.tell_frontier(b);
    }

    fn next(&self, plant: Plant, (from, to): (usize, usize)) -> Option<Dot> {
        let next = self.ways.get(&(from, to))?.outflow.next(id(from), self.regions[from].received())?;
        (plant != Plant::ForwardsNothing || next.stream == stream_of(from)).then_some(next)
    }

    fn send(&mut self, plant: Plant, from: usize, to: usize) -> Option<()> {
        let next = self.next(plant, (from, to))?;
        let wrote = Arc::clone(self.regions[from].held(next));
        let way = self.way(from, to)?;
        // Of no length, so that what has been spent does not set equal states apart.
        way.outflow.send(wrote.first, wrote.last.seq, 0);
        if plant != Plant::TakesGaps || wrote.first.seq > Seq(1) {
            way.said.push_back(Said::Batch(wrote));
        }
        Some(())
    }

    fn deliver(&mut self, plant: Plant, from: usize, to: usize) -> Option<()> {
        let said = self.way(from, to)?.said.pop_front()?;
        if let Said::Frontier(told, _) | Said::Ack(told) = &said {
            self.region(from).confirm(told);
        }
        let back = &mut self.way(to, from)?.outflow;
        match said {
            Said::Frontier(received, hears) => back.hear_frontier(&received, hears),
            Said::Ack(received) => back.hear_ack(&received),
            Said::Need(stream, first, last) => back.hear_need(stream, first, last),
            Said::Batch(wrote) => {
                back.hear_batch(wrote.last);
                if plant == Plant::AcksEarly {
                    self.tell_ack(to, wrote.last);
                }
                self.region(to).on_the_way.push_back((from, wrote));
            }
        }
        Some(())
    }

    fn store(&mut self, plant: Plant, at: usize) -> Option<()> {
        let (from, wrote) = self.region(at).on_the_way.pop_front()?;
        match self.region(at).store(&wrote, plant) {
            Arrival::Next => self.tell_ack(at, wrote.last),
            Arrival::Gap { from: first } => {
                self.say(at, from, Said::Need(wrote.first.stream, first, wrote.last.seq));
            }
            Arrival::Duplicate => {}
            Arrival::Astray => unreachable!("batches of one length are never cut"),
        }
        Some(())
    }

    fn crash(&mut self, plant: Plant, at: usize) {
        self.region(at).crash(plant);
        for to in self.peers(at) {
            self.cut(at, to);
        }
    }

    /// Nothing moves unless somebody writes or something breaks.
    fn is_quiet(&self, cluster: &Cluster) -> bool {
        let all_up = self.ways.len() == 2 * cluster.links.len();
        let none_comes = self.regions.iter().all(|region| region.on_the_way.is_empty());
        let none_goes = self
            .ways
            .iter()
            .all(|(&ends, way)| way.said.is_empty() && self.next(cluster.plant, ends).is_none());
        all_up && none_comes && none_goes
    }

    fn all_regions(&self, hold: impl Fn(&Region) -> bool) -> bool {
        self.regions.iter().all(|region| hold(region))
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Act;

    /// All links are up, and both ends have said whom they hear.
    fn init_states(&self) -> Vec<World> {
        let regions = (0..REGIONS).map(|_| Arc::default()).collect();
        let mut world = World { regions, ways: BTreeMap::new(), cuts: 0, crashes: 0 };
        for &(a, b) in self.links {
            world.heal(a, b);
        }
        for &(a, b) in self.links {
            while world.deliver(self.plant, a, b).is_some() {}
            while world.deliver(self.plant, b, a).is_some() {}
        }
        vec![world]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        let told = |way: &&Arc<Way>| way.said.front().is_some_and(|said| !matches!(said, Said::Batch(_)));
        let mut ways = world.ways.iter();
        if let Some((&(from, to), _)) = ways.find(|(_, way)| self.prompt && told(way)) {
            return acts.push(Act::Deliver(from, to));
        }
        for (at, region) in world.regions.iter().enumerate() {
            if region.written(at) < self.writes[at] {
                acts.push(Act::Write(at));
            }
            if !region.on_the_way.is_empty() {
                acts.push(Act::Store(at));
            }
            if world.crashes < self.crashes {
                acts.push(Act::Crash(at));
            }
        }
        for (&(from, to), way) in &world.ways {
            if world.next(self.plant, (from, to)).is_some() {
                acts.push(Act::Send(from, to));
            }
            if !way.said.is_empty() {
                acts.push(Act::Deliver(from, to));
            }
        }
        for &(a, b) in self.links {
            let up = world.ways.contains_key(&(a, b));
            if up && world.cuts < self.cuts {
                acts.push(Act::Cut(a, b));
            }
            if !up {
                acts.push(Act::Heal(a, b));
            }
        }
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        match act {
            Act::Write(at) => world.region(at).write(at),
            Act::Send(from, to) => world.send(self.plant, from, to)?,
            Act::Deliver(from, to) => {
                world.deliver(self.plant, from, to)?;
                // Only a crash could tell what has arrived from what is durable.
                if world.crashes == self.crashes {
                    while world.store(self.plant, to).is_some() {}
                }
            }
            Act::Store(at) => world.store(self.plant, at)?,
            Act::Cut(a, b) => {
                world.cuts += 1;
                world.cut(a, b);
            }
            Act::Heal(a, b) => world.heal(a, b),
            Act::Crash(at) => {
                world.crashes += 1;
                world.crash(self.plant, at);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(super::CAUSES_FIRST, |_, world: &World| {
                world.all_regions(Region::causes_come_first)
            }),
            Property::always(super::SHOWN_ONCE, |_, world: &World| world.all_regions(Region::shows_once)),
            Property::always(super::NO_HOLES, |_, world: &World| world.all_regions(Region::is_contiguous)),
            Property::always(super::CONFIRMED_DURABLE, |_, world: &World| {
                world.all_regions(Region::confirms_what_is_durable)
            }),
            Property::always(super::CONFIRMED_KEPT, |_, world: &World| {
                world.all_regions(Region::keeps_its_word)
            }),
            Property::always(super::ALL_SHOWN, |cluster: &Cluster, world: &World| {
                let written = world.regions.iter().enumerate().map(|(at, region)| region.written(at)).sum();
                !world.is_quiet(cluster) || world.all_regions(|region| region.has_shown(written))
            }),
            // Without it the property above could hold for want of a quiet state.
            Property::sometimes(super::QUIET_AT_THE_END, |cluster: &Cluster, world: &World| {
                let all_written = world
                    .regions
                    .iter()
                    .enumerate()
                    .all(|(at, region)| region.written(at) == cluster.writes[at]);
                let all_broken = world.cuts == cluster.cuts && world.crashes == cluster.crashes;
                all_written && all_broken && world.is_quiet(cluster)
            }),
        ]
    }
}
