//! The protocol model: the real causal gate and the real outflow under every order of events that a small
//! cluster allows, with cuts and crashes.
//!
//! The other tests play histories that somebody thought of or chance gave; this one plays all of them, up to
//! a number of writes, cuts and crashes. Each planted error must be found, or the properties prove nothing.

mod cluster;
mod region;

use cluster::Cluster;
use stateright::{Checker, HasDiscoveries, Model};

const CAUSES_FIRST: &str = "no effect is shown before its cause";
const SHOWN_ONCE: &str = "nothing is shown twice";
const NO_HOLES: &str = "each stream is received from its beginning without holes";
const CONFIRMED_DURABLE: &str = "what is confirmed is durable";
const CONFIRMED_KEPT: &str = "what is confirmed is not lost";
const ALL_SHOWN: &str = "when nothing moves and all links are up, everybody shows everything";
const QUIET_AT_THE_END: &str = "some history has everything happen and comes to rest";

const LINE: &[(usize, usize)] = &[(0, 1), (1, 2)];
const TRIANGLE: &[(usize, usize)] = &[(0, 1), (1, 2), (0, 2)];

/// An error put into the model on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plant {
    Nothing,
    /// What is received is shown at once.
    GateOff,
    /// A region sends nothing but its own stream.
    ForwardsNothing,
    /// A batch is acknowledged before it is durable.
    AcksEarly,
    /// A batch that came again is shown again.
    TakesDuplicates,
    /// A region that starts has forgotten what it had shown.
    ForgetsApplied,
    /// The first batch of each stream is lost on the way, and what comes after it is taken all the same.
    TakesGaps,
}

/// Goes through the states until nothing new is met, or `until` is.
fn check(cluster: Cluster, until: HasDiscoveries) -> impl Checker<Cluster> {
    let named = format!("{cluster:?}");
    let checker = cluster.checker().finish_when(until).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} states to depth {depth}: {named}");
    checker
}

fn holds(cluster: Cluster) {
    check(cluster, HasDiscoveries::AnyFailures).assert_properties();
}

fn is_found(property: &'static str, cluster: Cluster) {
    let plant = cluster.plant;
    let checker = check(cluster, HasDiscoveries::AllOf([property].into_iter().collect()));
    let path = checker.discovery(property).unwrap_or_else(|| panic!("{plant:?} was not found"));
    println!("{plant:?} breaks `{property}` by {:?}", path.into_actions());
}

const fn line() -> Cluster {
    Cluster { links: LINE, writes: [1, 1, 1], cuts: 0, crashes: 0, prompt: true, plant: Plant::Nothing }
}

const fn triangle() -> Cluster {
    Cluster { links: TRIANGLE, ..line() }
}

#[test]
fn l4_a_line_brings_everything_everywhere() {
    holds(line());
}

#[test]
fn l4_a_line_that_is_cut() {
    holds(Cluster { writes: [1, 0, 1], cuts: 1, ..line() });
}

#[test]
fn l4_a_line_whose_regions_crash() {
    holds(Cluster { writes: [1, 0, 1], crashes: 1, ..line() });
}

#[test]
fn l1_a_triangle_shows_causes_first() {
    holds(Cluster { writes: [1, 1, 0], ..triangle() });
}

#[test]
fn l1_a_triangle_that_is_cut() {
    holds(Cluster { writes: [1, 1, 0], cuts: 1, ..triangle() });
}

#[test]
fn l1_a_triangle_whose_regions_crash() {
    holds(Cluster { writes: [1, 1, 0], crashes: 1, ..triangle() });
}

#[test]
fn l1_a_triangle_whose_acks_are_late() {
    holds(Cluster { writes: [1, 1, 0], prompt: false, ..triangle() });
}

#[test]
fn l4_a_line_that_is_cut_and_whose_acks_are_late() {
    holds(Cluster { writes: [1, 0, 1], cuts: 1, prompt: false, ..line() });
}

#[test]
fn l1_a_triangle_where_one_writes_twice() {
    holds(Cluster { writes: [2, 1, 0], ..triangle() });
}

#[test]
fn l1_a_gate_that_is_off_is_found() {
    is_found(CAUSES_FIRST, Cluster { writes: [1, 1, 0], plant: Plant::GateOff, ..triangle() });
}

#[test]
fn l4_a_region_that_forwards_nothing_is_found() {
    is_found(ALL_SHOWN, Cluster { writes: [1, 0, 0], plant: Plant::ForwardsNothing, ..line() });
}

#[test]
fn l7_an_ack_before_the_batch_is_durable_is_found() {
    let early = Cluster { writes: [1, 0, 0], crashes: 1, plant: Plant::AcksEarly, ..line() };
    is_found(CONFIRMED_DURABLE, early.clone());
    is_found(CONFIRMED_KEPT, early);
}

#[test]
fn l4_a_duplicate_that_is_shown_again_is_found() {
    is_found(SHOWN_ONCE, Cluster { writes: [1, 0, 0], cuts: 1, plant: Plant::TakesDuplicates, ..triangle() });
}

#[test]
fn l1_a_region_that_forgets_what_it_has_shown_is_found() {
    is_found(SHOWN_ONCE, Cluster { writes: [1, 0, 0], crashes: 1, plant: Plant::ForgetsApplied, ..line() });
}

#[test]
fn l4_a_hole_in_a_stream_is_found() {
    is_found(NO_HOLES, Cluster { writes: [2, 0, 0], plant: Plant::TakesGaps, ..line() });
}
