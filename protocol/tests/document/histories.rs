//! Random histories: editors of both dialects type, lag, vanish and come back, the server is killed,
//! and in the end everybody has what the log holds.

use proptest::prelude::*;
use quire_protocol::document::{Access, Input, Limits};
use yrs::Transact;
use yrs::updates::decoder::Decode;

use super::editor::{Editor, document, essence};
use super::world::World;

/// The editors: two of each dialect, and a reader of each.
const EDITORS: [(&str, bool, Access); 6] = [
    ("ann", false, Access::Write),
    ("bob", true, Access::Write),
    ("cid", false, Access::Write),
    ("dan", true, Access::Write),
    ("eve", false, Access::Read),
    ("fay", true, Access::Read),
];
/// So many of them write.
const WRITERS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Types {
        who: usize,
        at: u32,
        letters: String,
    },
    Deletes {
        who: usize,
        at: u32,
        len: u32,
    },
    /// The server reads some of what an editor sent.
    Reads {
        who: usize,
        messages: usize,
    },
    /// An editor reads some of what it was sent.
    Receives {
        who: usize,
        frames: usize,
    },
    /// Two tabs of one browser share what they have, past the server.
    Hears {
        who: usize,
        whom: usize,
    },
    SaysAgain {
        who: usize,
    },
    Quiet,
    Commits,
    Leaves {
        who: usize,
    },
    Opens {
        who: usize,
    },
    Syncs {
        who: usize,
    },
    Stalls {
        who: usize,
    },
    Drains {
        who: usize,
    },
    Waits {
        ms: u64,
    },
    Killed,
    /// The disk refuses what was appended; the machine is let go and the document read again.
    DiskFails,
}

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
        1 => Just(Step::Killed),
        1 => Just(Step::DiskFails),
    ]
}

fn world() -> World {
    // Snapshots come early, so that restarts load from them.
    let mut world = World::new(Limits { snapshot_after_bytes: 64, ..Limits::default() });
    // Texts imply no deletions: every deletion shown must have been written.
    world.implied_deletions = false;
    for (client, (name, hocuspocus, access)) in (1..).zip(EDITORS) {
        world.editors.push(Editor::new(name, hocuspocus, access, client));
    }
    world
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Types { who, at, letters } => {
            let editor = &mut world.editors[who];
            let at = at.min(editor.len());
            editor.types(at, &letters);
        }
        Step::Deletes { who, at, len } => {
            let editor = &mut world.editors[who];
            let at = at.min(editor.len());
            let len = len.min(editor.len() - at);
            if len > 0 {
                editor.deletes(at, len);
            }
        }
        Step::Reads { who, messages } => (0..messages).for_each(|_| {
            world.reads(EDITORS[who].0);
        }),
        Step::Receives { who, frames } => (0..frames).for_each(|_| {
            world.receives(EDITORS[who].0);
        }),
        Step::Hears { who, whom } => {
            let state = world.editors[whom].state();
            world.editors[who].apply(&state);
        }
        Step::SaysAgain { who } => {
            let editor = &mut world.editors[who];
            if let Some(last) = editor.last.clone() {
                editor.says_again(last);
            }
        }
        Step::Quiet => world.handle(Input::Quiet),
        Step::Commits => {
            world.commits();
        }
        Step::Leaves { who } => world.leaves(EDITORS[who].0),
        Step::Opens { who } => opens(world, EDITORS[who].0),
        Step::Syncs { who } => {
            if world.editors[who].session.is_some() {
                world.editors[who].says_step1();
            }
        }
        Step::Stalls { who } => world.editors[who].stalled = world.editors[who].session.is_some(),
        Step::Drains { who } => drains(world, EDITORS[who].0),
        Step::Waits { ms } => world.passes(ms),
        Step::Killed => world.restarts(),
        Step::DiskFails => {
            if !world.appended.is_empty() {
                world.appended.clear();
                world.handle(Input::AppendFailed);
                assert!(world.machine.has_failed());
                world.restarts();
            }
        }
    }
}

fn opens(world: &mut World, name: &str) {
    if world.editor(name).session.is_none() {
        world.opens(name);
        world.editor(name).says_step1();
    }
}

/// A socket that drains has first written all that was queued for it.
fn drains(world: &mut World, name: &str) {
    if world.editor(name).stalled {
        while world.receives(name) {}
        world.drains(name);
    }
}

/// Everybody is online, everything is read, written and committed.
fn run_to_quiet(world: &mut World) {
    for (name, ..) in EDITORS {
        drains(world, name);
        opens(world, name);
    }
    let mut rounds = 0;
    loop {
        let mut busy = false;
        for (name, ..) in EDITORS {
            while world.receives(name) {
                busy = true;
            }
            while world.reads(name).is_some() {
                busy = true;
            }
        }
        world.handle(Input::Quiet);
        while world.commits() {
            busy = true;
        }
        world.handle(Input::Quiet);
        if !busy {
            break;
        }
        rounds += 1;
        assert!(rounds < 100, "questions and answers go round in circles");
    }
}

fn hold_to_account(world: &World) {
    let replay = document(u64::from(u32::MAX));
    for update in world.disk.log.iter() {
        if let quire_protocol::document::Write::Update(update) = update {
            let update = yrs::Update::decode_v1(update).expect("the log holds updates");
            replay.transact_mut().apply_update(update).expect("which apply in order");
        }
    }
    let expected = essence(&replay);
    for editor in &world.editors {
        assert_eq!(essence(&editor.doc), expected, "{} against the log", editor.name);
        if editor.access == Access::Write && editor.is_hocuspocus() {
            assert_eq!((editor.saved, editor.refused), (editor.earned, 0), "statuses of {}", editor.name);
            assert!(editor.unconfirmed.is_empty(), "{} was never told that all is saved", editor.name);
        }
        if editor.access == Access::Write && !editor.is_hocuspocus() {
            assert!(
                editor.unechoed.0.is_empty() && editor.unechoed.1.is_empty(),
                "{} got no echo",
                editor.name
            );
        }
    }
    assert!(
        world.closed.iter().all(|closed| closed.ends_with(": disk")),
        "nobody did wrong: {:?}",
        world.closed
    );
}

proptest! {
    #[test]
    fn d1_whatever_happens_everybody_ends_with_what_the_log_holds(
        steps in prop::collection::vec(step(), 1..160),
    ) {
        let mut world = world();
        for step in steps {
            take(&mut world, step);
        }
        run_to_quiet(&mut world);
        hold_to_account(&world);
    }
}
