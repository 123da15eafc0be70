//! The simulator over fresh seeds, and the checks of its checkers.
//!
//! `docs/verification.md` says what is simulated and what is checked.

use quire_loadtest::sim::{Setup, simulate};

/// So many seeds run with every change; `quire-loadtest sim --count` runs more.
const SEEDS: std::ops::Range<u64> = 1..41;
/// And so many over logs in memory.
const SEEDS_IN_MEMORY: std::ops::Range<u64> = 60..80;

#[test]
fn fresh_seeds_keep_every_promise() {
    for seed in SEEDS {
        let outcome = simulate(seed, Setup::default());
        assert_eq!(outcome.violation, None, "replay it: quire-loadtest sim --seed {seed}");
        assert!(outcome.totals.entries > 0, "seed {seed} does nothing");
    }
}

#[test]
fn a_restored_disk_waits_for_its_peers_although_its_power_went_as_it_began_a_new_stream() {
    assert_eq!(simulate(1526, Setup::default()).violation, None);
}

#[test]
fn logs_in_memory_keep_every_promise() {
    for seed in SEEDS_IN_MEMORY {
        let outcome = simulate(seed, Setup { in_memory: true, ..Setup::default() });
        assert_eq!(outcome.violation, None, "replay it: quire-loadtest sim --memory --seed {seed}");
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
