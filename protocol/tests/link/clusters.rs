//! Random clusters: whatever is written, delayed, cut and muted, all have all in the end.

use super::world::World;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Act {
    Write(usize, usize),
    Pass(u64),
    Cut(usize, usize),
    Connect(usize, usize),
    /// One direction goes dead without an end of the connection.
    Mute(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let ends = || (0..4_usize, 0..4_usize);
    prop_oneof![
        6 => (0..4_usize, 1..5_usize).prop_map(|(at, entries)| Act::Write(at, entries)),
        6 => (0..400_u64).prop_map(Act::Pass),
        1 => (1000..5000_u64).prop_map(Act::Pass),
        1 => ends().prop_map(|(a, b)| Act::Cut(a, b)),
        2 => ends().prop_map(|(a, b)| Act::Connect(a, b)),
        1 => ends().prop_map(|(a, b)| Act::Mute(a, b)),
    ]
}

fn take(world: &mut World, act: &Act, links: &[(usize, usize)]) {
    match *act {
        Act::Write(at, entries) => world.write(at, entries),
        Act::Pass(ms) => world.pass(ms),
        Act::Cut(a, b) => world.cut(a, b),
        Act::Connect(a, b) if links.contains(&(a, b)) => world.connect(a, b),
        Act::Connect(..) => {}
        Act::Mute(a, b) => drop(world.mute.insert((a, b))),
    }
}

/// Four regions, with a delay for each direction.
fn world_with(delays: Vec<u64>) -> World {
    let mut world = World::new(4);
    for (i, delay) in delays.into_iter().enumerate() {
        world.delays.insert((i / 3, (i / 3 + 1 + i % 3) % 4), delay);
    }
    world
}

/// Links that connect all: each region but the first to one before it, and some more.
fn connected(world: &mut World, tree: [usize; 3], more: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let tree = tree.iter().enumerate().map(|(at, &to)| (at + 1, to));
    let links: Vec<_> = tree.chain(more.into_iter().filter(|(a, b)| a != b)).collect();
    links.iter().for_each(|&(a, b)| world.connect(a, b));
    links
}

proptest! {
    #[test]
    fn l4_all_regions_get_everything_once_links_connect_them(
        acts in prop::collection::vec(act(), 0..80),
        delays in prop::collection::vec(1..300_u64, 12),
        tree in [0..1_usize, 0..2, 0..3],
        more in prop::collection::vec((0..4_usize, 0..4_usize), 0..4),
    ) {
        let mut world = world_with(delays);
        let links = connected(&mut world, tree, more);
        for act in &acts {
            take(&mut world, act, &links);
        }
        // Once what is dead has been found to be, all are linked again; and then it is quickly over.
        world.mute.clear();
        for _ in 0..3 {
            world.pass(4500);
            links.iter().for_each(|&(a, b)| world.connect(a, b));
        }
        world.pass(10_000);
        prop_assert!(world.is_equal());
        for replica in &world.replicas[1..] {
            prop_assert_eq!(&replica.log, &world.replicas[0].log);
            prop_assert_eq!(replica.shown.len(), world.replicas[0].shown.len());
        }
    }

    #[test]
    fn l13_regions_that_forget_give_snapshots_instead(
        acts in prop::collection::vec((act(), 0..6_usize, 0..4_usize), 0..60),
        delays in prop::collection::vec(1..300_u64, 12),
        tree in [0..1_usize, 0..2, 0..3],
        more in prop::collection::vec((0..4_usize, 0..4_usize), 0..4),
    ) {
        let mut world = world_with(delays);
        let links = connected(&mut world, tree, more);
        for (act, forgets, kept) in &acts {
            take(&mut world, act, &links);
            if let Some(replica) = world.replicas.get_mut(*forgets) {
                replica.forget(*kept);
            }
        }
        world.mute.clear();
        for _ in 0..3 {
            world.pass(4500);
            links.iter().for_each(|&(a, b)| world.connect(a, b));
        }
        // A snapshot of which a piece has vanished without an end of the connection is given up.
        world.pass(40_000);
        links.iter().for_each(|&(a, b)| world.connect(a, b));
        world.pass(15_000);
        prop_assert!(world.is_equal());
        prop_assert!(links.iter().all(|&(a, b)| world.ends.contains_key(&(a, b))), "links stay");
    }

    #[test]
    fn l4_a_healthy_mesh_sends_each_batch_to_each_region_once(
        acts in prop::collection::vec((0..4_usize, 1..5_usize, 0..300_u64), 0..60),
        delays in prop::collection::vec(1..300_u64, 12),
    ) {
        let mut world = world_with(delays);
        for a in 0..4 {
            (0..a).for_each(|b| world.connect(a, b));
        }
        // Until all have said whom they hear.
        world.pass(700);
        for (at, entries, ms) in acts {
            world.write(at, entries);
            world.pass(ms);
        }
        world.pass(4000);
        prop_assert!(world.is_equal());
        let batches = world.replicas[0].shown.len();
        let duplicates: usize = world.replicas.iter().map(|replica| replica.duplicates).sum();
        prop_assert_eq!((duplicates, world.sent), (0, 3 * batches));
    }
}
