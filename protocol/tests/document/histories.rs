//! Random histories: editors of both dialects type, lag, vanish and come back, the server is killed,
//! and in the end everybody has what the log holds.

use proptest::prelude::*;
use quire_protocol::document::{Limits, Request};
use quire_protocol::fields::schema::DeletePolicy;

use super::steps::{
    EDITORS, Step, WRITERS, everything_is_on_disk, hold_to_account, nobody_did_wrong, run_to_quiet, take,
    world,
};

fn step() -> impl Strategy<Value = Step> {
    let who = 0..EDITORS.len();
    let writer = 0..WRITERS;
    prop_oneof![
        8 => (writer.clone(), 0..40_u32, "[a-z😀é]{1,3}").prop_map(|(who, at, letters)| Step::Types { who, at, letters }),
        4 => (writer.clone(), 0..40_u32, 1..4_u32).prop_map(|(who, at, len)| Step::Deletes { who, at, len }),
        12 => (who.clone(), 1..5_usize).prop_map(|(who, messages)| Step::Reads { who, messages }),
        8 => (who.clone(), 1..5_usize).prop_map(|(who, frames)| Step::Receives { who, frames }),
        3 => (writer.clone(), writer.clone()).prop_map(|(who, whom)| Step::Hears { who, whom }),
        1 => writer.prop_map(|who| Step::SaysAgain { who }),
        8 => Just(Step::Quiet),
        5 => Just(Step::Commits),
        2 => who.clone().prop_map(|who| Step::Leaves { who }),
        5 => who.clone().prop_map(|who| Step::Opens { who }),
        1 => who.clone().prop_map(|who| Step::Syncs { who }),
        3 => who.clone().prop_map(|who| Step::Stalls { who }),
        3 => who.prop_map(|who| Step::Drains { who }),
        1 => (0..20_000_u64).prop_map(|ms| Step::Waits { ms }),
        4 => (any::<bool>(), 0..40_u32, "[A-Z]{1,3}", 0..3_u32).prop_map(|(hears, at, letters, deletes)| {
            Step::Elsewhere { hears, at, letters, deletes }
        }),
        2 => (0..WRITERS).prop_map(|who| Step::Doubles { who }),
        1 => any::<bool>().prop_map(|deletes| Step::Turns { deletes }),
        2 => (any::<bool>(), 0..=100_usize, 1..60_u64).prop_map(|(deletes, seen, ms)| {
            Step::TurnsElsewhere { deletes, seen, ms }
        }),
        1 => Just(Step::Killed),
        1 => Just(Step::DiskFails),
    ]
}

proptest! {
    #[test]
    fn d1_whatever_happens_everybody_ends_with_what_the_log_holds(
        steps in prop::collection::vec(step(), 1..160), deletions_win: bool,
    ) {
        // Snapshots come early, so that restarts load from them.
        let mut world = world(Limits { snapshot_after_bytes: 64, ..Limits::default() }, 1);
        // Texts imply no deletions: every deletion shown must have been written.
        world.implied_deletions = false;
        if deletions_win {
            world.disk.on_delete = DeletePolicy::DeleteWins;
            world.restarts();
        }
        for step in steps {
            take(&mut world, step);
        }
        everything_is_on_disk(&mut world);
        world.request(Request::Restore);
        everything_is_on_disk(&mut world);
        run_to_quiet(&mut world);
        assert!(world.editors.iter().all(|editor| editor.session.is_some()));
        hold_to_account(&world);
        nobody_did_wrong(&world);
        assert_eq!(world.diverged, 0, "every region shows what the others do");
    }
}
