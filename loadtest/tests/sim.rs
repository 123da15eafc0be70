//! The simulator over seeds that nobody has seen, over those that once found something, and the checks of its
//! checkers.
//!
//! `docs/verification.md` says what is simulated and what is checked.

use quire_loadtest::sim::{Setup, Totals, simulate};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// So many fresh seeds run with every change; `quire-loadtest sim --seeds` runs more.
const FRESH: u64 = 100;
/// And so many over logs in memory.
const FRESH_IN_MEMORY: u64 = 20;
/// Seeds that found something when they were first run. What a seed draws changes with what is simulated: the
/// older ones have other histories by now.
const ONCE_FOUND: [u64; 22] = [
    43,
    125,
    166,
    177,
    224,
    528,
    1150,
    1526,
    2106,
    2140,
    4068,
    6308,
    10236,
    10946,
    20077,
    20179,
    50093,
    1_795_856_964_041,
    1_796_000_002_085,
    1_796_000_002_878,
    1_796_010_002_070,
    1_796_200_000_131,
];

/// And those that did over logs in memory.
const ONCE_FOUND_IN_MEMORY: [u64; 2] = [1_796_200_000_867, 1_796_600_000_064];

/// Runs seeds on all cores, and says what was found at the first that breaks a promise.
fn run(seeds: Range<u64>, in_memory: bool) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = simulate(seed, Setup { in_memory, ..Setup::default() });
            let memory = if in_memory { " --memory" } else { "" };
            let replay = format!("replay it: quire-loadtest sim --seed {seed}{memory}");
            assert_eq!(outcome.violation, None, "{replay}");
            assert!(outcome.totals.entries > 0, "nothing happens; {replay}");
            totals.lock().expect("nobody panics while it is held").add(&outcome.totals);
        }
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    totals.into_inner().expect("nobody panics while it is held")
}

/// The first of the fresh seeds: from the clock, or from `QUIRE_SIM_SEED` to have the same ones again.
fn fresh() -> u64 {
    let given = std::env::var("QUIRE_SIM_SEED").ok();
    let first = given.map_or_else(
        || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() * 1000,
        |seed| seed.parse().expect("QUIRE_SIM_SEED is a number"),
    );
    println!("seeds from {first} on; QUIRE_SIM_SEED={first} has the same ones again");
    first
}

#[test]
fn fresh_seeds_keep_every_promise() {
    let first = fresh();
    let totals = run(first..first + FRESH, false);
    // A hundred runs in which something never happens would say nothing about it.
    let never = [
        ("partitions", totals.partitions),
        ("crashes", totals.crashes),
        ("disks", totals.disks),
        ("streams begun anew", totals.renewals),
        ("entries written again", totals.moved),
        ("snapshots", totals.snapshots_taken),
        ("joins", totals.joins),
        ("removals", totals.removals),
        ("drains", totals.drains),
        ("deletions", totals.deletions),
        ("restorations", totals.restorations),
        ("documents that are deleted in the end", totals.deleted),
        ("documents that are revived in the end", totals.revived),
        ("edits of fields", totals.field_edits),
        ("write-backs", totals.write_backs),
        ("conflicts in the end", totals.conflicts),
        ("conflicts that are over", totals.past_conflicts),
        ("versions told too often", totals.told_too_often),
        ("write-backs given back", totals.given_back),
        ("duplicates", totals.duplicates),
        ("gaps", totals.gaps),
    ];
    let never: Vec<_> = never.into_iter().filter(|(_, count)| *count == 0).collect();
    assert!(never.is_empty(), "from seed {first} on these never happened: {never:?}");
}

#[test]
fn logs_in_memory_keep_every_promise() {
    let first = fresh();
    run(first..first + FRESH_IN_MEMORY, true);
}

#[test]
fn seeds_that_once_found_something_keep_every_promise() {
    for seed in ONCE_FOUND {
        assert_eq!(simulate(seed, Setup::default()).violation, None, "seed {seed}");
    }
    for seed in ONCE_FOUND_IN_MEMORY {
        let setup = Setup { in_memory: true, ..Setup::default() };
        assert_eq!(simulate(seed, setup).violation, None, "seed {seed} in memory");
    }
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in [1, 3, 7] {
        let tells = Setup { tells: true, ..Setup::default() };
        let first = simulate(seed, tells);
        assert!(first.lines.len() > 50, "seed {seed} says little");
        assert_eq!(first, simulate(seed, tells), "seed {seed}");
    }
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_bug_is_found() {
    use clap::ValueEnum as _;
    let plants = quire_loadtest::sim::Plant::value_variants();
    let missed: Vec<_> =
        plants.iter().filter(|plant| quire_loadtest::sim::caught(**plant, false).is_none()).collect();
    assert!(missed.is_empty(), "not found within 200 seeds: {missed:?}");
}
