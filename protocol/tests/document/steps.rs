//! What can happen to editors, a server and its disk, one step at a time, and what must hold in the end.
//!
//! Histories are made elsewhere: of random steps, or of bytes that a fuzzer chose.

use quire_protocol::document::{Access, Input, Limits, Live, Request, Write};
use quire_protocol::update::{Shape, Update};
use yrs::Transact;
use yrs::updates::decoder::Decode;

use super::editor::{Editor, document, essence};
use super::world::{World, update_in};

/// The editors: two of each dialect, and a reader of each.
pub(crate) const EDITORS: [(&str, bool, Access); 6] = [
    ("ann", false, Access::Write),
    ("bob", true, Access::Write),
    ("cid", false, Access::Write),
    ("dan", true, Access::Write),
    ("eve", false, Access::Read),
    ("fay", true, Access::Read),
];
/// So many of them write.
pub(crate) const WRITERS: usize = 4;

#[derive(Clone, Debug)]
pub(crate) enum Step {
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
    /// Somebody in another region, who may have seen what is on disk here, types or deletes.
    Elsewhere {
        hears: bool,
        at: u32,
        letters: String,
        deletes: u32,
    },
    /// Somebody without a session deletes or restores the document here.
    Turns {
        deletes: bool,
    },
    /// Another region deletes or restores it, having seen the log up to a share of it in percent.
    TurnsElsewhere {
        deletes: bool,
        seen: usize,
        ms: u64,
    },
    /// An editor's last edit reaches another region too, which logs it.
    Doubles {
        who: usize,
    },
    Killed,
    /// The disk refuses what was appended; the machine is let go and the document read again.
    DiskFails,
}

/// A world with the editors, whose Yjs client ids begin with this one.
pub(crate) fn world(limits: Limits, first_client: u64) -> World {
    let mut world = World::new(limits);
    for (client, (name, hocuspocus, access)) in (first_client..).zip(EDITORS) {
        world.editors.push(Editor::new(name, hocuspocus, access, client));
    }
    world.elsewhere = Editor::new("gus", false, Access::Write, first_client + EDITORS.len() as u64);
    world
}

pub(crate) fn take(world: &mut World, step: Step) {
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
        Step::Elsewhere { hears, at, letters, deletes } => elsewhere(world, hears, at, &letters, deletes),
        Step::Turns { deletes: true } => {
            world.request(Request::Delete { seen: world.disk.applied() });
        }
        Step::Turns { deletes: false } => {
            world.request(Request::Restore);
        }
        Step::TurnsElsewhere { deletes: true, seen, ms } => {
            let stamps = &world.disk.stamps;
            let seen = stamps[..stamps.len() * seen / 100].iter().map(|(_, dot)| *dot).collect();
            world.applies(Write::Delete { seen }, ms);
        }
        Step::TurnsElsewhere { deletes: false, ms, .. } => world.applies(Write::Restore, ms),
        Step::Doubles { who } => doubles(world, who),
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

fn elsewhere(world: &mut World, hears: bool, at: u32, letters: &str, deletes: u32) {
    if hears {
        for update in world.disk.log.iter().filter_map(update_in) {
            world.elsewhere.apply(&update);
        }
    }
    let editor = &mut world.elsewhere;
    let at = at.min(editor.len());
    let deletes = deletes.min(editor.len() - at);
    if deletes > 0 {
        editor.deletes(at, deletes);
    } else {
        editor.types(at, letters);
    }
    editor.up.clear();
    let edit = editor.last.clone().expect("an edit");
    world.applies(Write::Update(edit), 1);
}

fn doubles(world: &mut World, who: usize) {
    let Some(last) = world.editors[who].last.clone() else { return };
    let mut held = Shape::new();
    for update in world.disk.log.iter().filter_map(update_in) {
        let update = Update::decode(update).expect("the log holds updates");
        let admission = held.admit(update).expect("which were admitted");
        admission.fresh.iter().for_each(|fresh| held.record(fresh));
    }
    let edit = Update::decode(last.clone()).expect("an edit can be read");
    // The other region has admitted it too: there was no hole.
    if held.admit(edit).is_ok_and(|admission| !admission.missing) {
        world.applies(Write::Update(last), 1);
    }
}

fn opens(world: &mut World, name: &str) {
    if world.editor(name).session.is_none() {
        world.opens(name);
        if world.editor(name).session.is_some() {
            world.editor(name).says_step1();
        }
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
pub(crate) fn run_to_quiet(world: &mut World) {
    everything_is_on_disk(world);
    assert_eq!(
        world.machine.is_deleted(),
        world.disk.life().is_deleted(world.disk.on_delete),
        "whether it is deleted is what the log says"
    );
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

/// All that was written here and elsewhere is on disk and told.
pub(crate) fn everything_is_on_disk(world: &mut World) {
    world.handle(Input::Quiet);
    while world.commits() {}
    world.handle(Input::Quiet);
}

/// A document with all that the log holds.
pub(crate) fn replayed(world: &World) -> Live {
    let replay = document(u64::from(u32::MAX));
    for update in world.disk.log.iter().filter_map(update_in) {
        let update = yrs::Update::decode_v1(&update).expect("the log holds updates");
        replay.transact_mut().apply_update(update).expect("which apply in order");
    }
    replay
}

/// Everybody who is still there has what the log holds, and has been told so.
pub(crate) fn hold_to_account(world: &World) {
    let expected = essence(&replayed(world));
    for editor in world.editors.iter().filter(|editor| editor.session.is_some()) {
        assert_eq!(essence(&editor.doc), expected, "{} against the log", editor.name);
        if editor.access == Access::Write && editor.is_hocuspocus() {
            assert_eq!((editor.saved, editor.refused), (editor.earned, 0), "statuses of {}", editor.name);
            assert!(editor.unconfirmed.is_empty(), "{} was never told that all is saved", editor.name);
        }
        if editor.access == Access::Write && !editor.is_hocuspocus() {
            let (inserted, deleted) = &editor.unechoed;
            assert!(inserted.is_empty() && deleted.is_empty(), "{} got no echo", editor.name);
        }
    }
}

/// Nobody was sent away but for what happened to the disk or the document.
pub(crate) fn nobody_did_wrong(world: &World) {
    let innocent = |closed: &String| closed.ends_with(": disk") || closed.ends_with(": deleted");
    assert!(world.closed.iter().all(innocent), "nobody did wrong: {:?}", world.closed);
}
