//! The language of transcripts: one command a line, a burst a block.
//!
//! ```text
//! ann types "hello"
//! bob deletes 0..2
//! ----
//! append 2: …
//! ```
//!
//! A block's commands reach the machine as one burst; then editors that do not pause receive what they
//! were sent and answer it, as stock clients do, until nobody has anything to say.

use bytes::Bytes;
use quire_protocol::awareness;
use quire_protocol::document::{Access, Input, Kept, Limits, Request, Splice, Write};
use quire_protocol::fields::FieldsEntry;
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::frontier::Frontier;
use quire_protocol::lib0::{put_var_bytes, put_var_u64};
use quire_protocol::update::StateVector;
use quire_protocol::ysync::Message;
use yrs::Transact;
use yrs::updates::decoder::Decode;

use super::editor::{Editor, document, essence};
use super::render::{Said, read, sync};
use super::world::World;

/// Runs one block and returns what happened, a line each.
pub(crate) fn block(world: &mut World, commands: &[&str]) -> Vec<String> {
    for command in commands {
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(global(world, &words) || personal(world, &words), "no such command: {command}");
        let names: Vec<String> = world.editors.iter().map(|editor| editor.name.clone()).collect();
        for name in &names {
            while world.reads(name).is_some() {}
        }
    }
    loop {
        world.handle(Input::Quiet);
        if !answers(world) {
            break;
        }
    }
    std::mem::take(&mut world.lines)
}

/// Editors read what they were sent; true when one of them answered.
fn answers(world: &mut World) -> bool {
    let names: Vec<String> = world.editors.iter().map(|editor| editor.name.clone()).collect();
    let mut answered = false;
    for name in &names {
        if world.editor(name).paused || world.editor(name).stalled {
            continue;
        }
        while world.receives(name) {}
        let message = world.editor(name).up.front().cloned();
        if let Some(message) = message {
            world.say(format!("{name} → {}", sync(&message)));
            answered = true;
            world.reads(name);
        }
    }
    answered
}

/// Splits a line at blanks; a text in quotes is one word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('"') {
            Some(text) => text.split_once('"').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    words
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("not a number: {word}"))
}

fn range(word: &str) -> (u32, u32) {
    let (start, end) = word.split_once("..").expect("a range such as 0..3");
    (number(start), number::<u32>(end) - number::<u32>(start))
}

fn global(world: &mut World, words: &[&str]) -> bool {
    match words {
        ["limit", what, value] => limit(world, what, value),
        ["editor" | "reader", name, dialect @ ("y-websocket" | "hocuspocus"), "as", client, rest @ ..] => {
            let access = if words[0] == "reader" { Access::Read } else { Access::Write };
            let mut editor = Editor::new(name, *dialect == "hocuspocus", access, number(client));
            if let ["until", time] = rest {
                editor.expires = Some(number(time));
            }
            world.editors.push(editor);
        }
        ["quiet"] => world.handle(Input::Quiet),
        ["commit"] => while world.commits() {},
        ["commit", "one"] => assert!(world.commits(), "an append to commit"),
        ["disk", "fails"] => {
            world.appended.clear();
            world.handle(Input::AppendFailed);
        }
        ["disk", "fails", "keeping", "the", "rest"] => world.handle(Input::AppendFailed),
        ["elsewhere", "asks"] => world.handle(Input::Ephemeral(Bytes::from_static(awareness::EMPTY))),
        ["elsewhere", "points", client, "at", clock, json] => {
            let mut states = vec![1];
            put_var_u64(&mut states, number(client));
            put_var_u64(&mut states, number(clock));
            put_var_bytes(&mut states, json.as_bytes());
            world.handle(Input::Ephemeral(states.into()));
        }
        ["elsewhere", what @ ..] => elsewhere(world, what),
        ["wait", ms] => world.passes(number(ms)),
        ["tick"] => world.handle(Input::Tick),
        ["restart"] => world.restarts(),
        ["reopen"] => world.reopens(),
        ["log", "tells", "of", what @ ..] => {
            let (write, ms) = match what {
                ["an", "edit", "at", ms] => (Write::Update(Bytes::from_static(&[0, 0])), ms),
                ["a", "deletion", "at", ms] => (Write::Delete { seen: Frontier::new() }, ms),
                ["a", "restoration", "at", ms] => (Write::Restore, ms),
                other => panic!("no life is told so: {other:?}"),
            };
            world.told_of(write, number(ms));
        }
        ["deletions", "win"] => {
            world.disk.on_delete = DeletePolicy::DeleteWins;
            world.restarts();
        }
        ["request", what @ ..] => request(world, what),
        ["everybody", "has", text] => everybody_has(world, text),
        ["log", "has", text] => {
            let doc = document(u64::from(u32::MAX));
            let stored = world.disk.stored();
            for update in stored.snapshot.clone().into_iter().chain(stored.tail.iter().map(update_of)) {
                let update = yrs::Update::decode_v1(&update).expect("the log holds updates");
                doc.transact_mut().apply_update(update).expect("which apply");
            }
            assert_eq!(&essence(&doc).0, text, "the log's text");
        }
        _ => return false,
    }
    true
}

/// Another region's entry is applied: the last edit of an editor that is there, or a change at a time.
fn elsewhere(world: &mut World, what: &[&str]) {
    let (write, ms) = match what {
        ["deletes", "at", ms] => (Write::Delete { seen: world.disk.applied() }, number(ms)),
        ["deletes", "unseen", "at", ms] => (Write::Delete { seen: Frontier::new() }, number(ms)),
        ["restores", "at", ms] => (Write::Restore, number(ms)),
        ["creates"] => (Write::Create, 1),
        [name, "writes"] => {
            let editor = world.editor(name);
            editor.up.clear();
            (Write::Update(editor.last.clone().expect("an edit")), 1)
        }
        other => panic!("nothing happens so elsewhere: {other:?}"),
    };
    world.applies(write, ms);
}

fn limit(world: &mut World, what: &str, value: &str) {
    let limits = &mut world.limits;
    match what {
        "sessions" => limits.sessions_max = number(value),
        "update" => limits.update_bytes_max = number(value),
        "document" => limits.document_bytes_max = number(value),
        "unload" => limits.unload_after_ms = number(value),
        "snapshot" => limits.snapshot_after_bytes = number(value),
        other => panic!("no such limit: {other}"),
    }
    let limits = world.limits;
    *world = World::new(limits);
}

/// The update that a stored entry holds.
fn update_of(kept: &Kept) -> Bytes {
    match kept {
        Kept::Update(bytes) => bytes.clone(),
        Kept::Fields(payload, _) => FieldsEntry::decode(payload).expect("it was admitted").update,
        Kept::Graph(_) => panic!("no snapshot of a region is told here"),
    }
}

fn everybody_has(world: &mut World, text: &str) {
    let mut log = World::new(Limits::default());
    log.disk.log = world.disk.log.clone();
    log.disk.stamps = world.disk.stamps.clone();
    let replay = document(u64::from(u32::MAX));
    for update in log.disk.stored().tail.iter().map(update_of) {
        let update = yrs::Update::decode_v1(&update).expect("the log holds updates");
        replay.transact_mut().apply_update(update).expect("which apply");
    }
    let expected = essence(&replay);
    assert_eq!(expected.0, text, "the log's text");
    for editor in world.editors.iter().filter(|editor| editor.session.is_some()) {
        assert_eq!(essence(&editor.doc), expected, "{} and the log", editor.name);
    }
}

fn request(world: &mut World, what: &[&str]) {
    let seed = |text: &str| {
        let mut editor = Editor::new("seed", false, Access::Write, 77);
        editor.types(0, text);
        Bytes::from(editor.state())
    };
    let request = match what {
        ["state"] => Request::State,
        ["diff"] => Request::Diff(StateVector::default()),
        ["text"] => Request::Text("content".to_owned()),
        ["info"] => Request::Info,
        ["create"] => Request::Create(None),
        ["create", text] => Request::Create(Some(seed(text))),
        ["create", "hole", text] => {
            let mut editor = Editor::new("seed", false, Access::Write, 77);
            editor.types(0, text);
            editor.types(0, text);
            Request::Create(editor.last.take())
        }
        ["update", name] => Request::Update(world.editor(name).last.clone().expect("an edit")),
        ["delete"] => Request::Delete { seen: world.disk.applied() },
        ["restore"] => Request::Restore,
        ["splice", "as", client, changes @ ..] => {
            let splices = changes.chunks(2).map(|change| {
                let (at, delete) = range(change[0]);
                Splice { at, delete, insert: change[1].to_owned() }
            });
            let root = "content".to_owned();
            Request::Splice { root, splices: splices.collect(), client: number(client) }
        }
        other => panic!("no such request: {other:?}"),
    };
    let _ticket = world.request(request);
}

fn personal(world: &mut World, words: &[&str]) -> bool {
    let [name, words @ ..] = words else { return false };
    if !world.editors.iter().any(|editor| editor.name == *name) {
        return false;
    }
    connection(world, name, words) || edit(world.editor(name), words) || speech(world, name, words)
}

fn connection(world: &mut World, name: &str, words: &[&str]) -> bool {
    match words {
        ["opens"] => {
            world.opens(name);
            if world.editor(name).session.is_some() {
                world.editor(name).says_step1();
            }
        }
        ["connects"] => world.opens(name),
        ["joins"] => world.editor(name).says_step1(),
        ["leaves"] => world.leaves(name),
        ["renews", rest @ ..] => {
            if let ["until", time] = rest {
                world.editor(name).expires = Some(number(time));
            }
            if let ["to", access] = rest {
                world.editor(name).access = if *access == "write" { Access::Write } else { Access::Read };
            }
            world.renews(name);
        }
        ["pauses"] => world.editor(name).paused = true,
        ["reads"] => world.editor(name).paused = false,
        ["stalls"] => world.editor(name).stalled = true,
        ["drains"] => world.drains(name),
        ["hears", other] => {
            let state = world.editor(other).state();
            world.editor(name).hears(&state);
        }
        ["hears", "last", "of", other] => {
            let update = world.editor(other).last.clone().expect("an edit");
            world.editor(name).hears(&update);
        }
        _ => return false,
    }
    true
}

fn edit(editor: &mut Editor, words: &[&str]) -> bool {
    match words {
        ["types", text] => {
            let end = editor.len();
            editor.types(end, text);
        }
        ["types", text, "at", at] => editor.types(number(at), text),
        ["types", count, "letters"] => {
            let end = editor.len();
            editor.types(end, &"x".repeat(number(count)));
        }
        ["deletes", at] => {
            let (at, len) = range(at);
            editor.deletes(at, len);
        }
        ["formats", at, key] => {
            let (at, len) = range(at);
            editor.formats(at, len, key);
        }
        ["sets", key, value] => editor.sets(key, value),
        ["sets", key, value, "in", map] => editor.sets_in(map, key, value),
        ["replaces", map] => editor.replaces(map),
        ["remembers"] => editor.remembers(),
        ["undoes"] => editor.undoes(),
        ["reads", "the", "text", text] => assert_eq!(&editor.text(), text, "{}", editor.name),
        _ => return false,
    }
    true
}

fn speech(world: &mut World, name: &str, words: &[&str]) -> bool {
    let editor = world.editor(name);
    match words {
        ["sends", "last", "again"] => {
            let last = editor.last.clone().expect("an edit");
            editor.says_again(last);
        }
        ["sends", "everything"] => {
            let state = editor.state().into();
            editor.says_again(state);
        }
        ["sends", kind @ ("update" | "state" | "has" | "awareness"), hex @ ..] => {
            let bytes =
                hex.iter().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect::<Vec<u8>>();
            let bytes = Bytes::from(bytes);
            editor.earned += 1;
            editor.up.push_back(match *kind {
                "update" => Message::Update(bytes),
                "state" => Message::SyncStep2(bytes),
                "has" => Message::SyncStep1(bytes),
                _ => Message::Awareness(bytes),
            });
        }
        ["points", client, "at", clock, json] => {
            let mut states = vec![1];
            put_var_u64(&mut states, number(client));
            put_var_u64(&mut states, number(clock));
            put_var_bytes(&mut states, json.as_bytes());
            editor.up.push_back(Message::Awareness(states.into()));
        }
        ["batches"] => editor.batch = Some(Vec::new()),
        ["sends", "the", "batch"] => editor.sends_batch(),
        ["asks", "who", "is", "here"] => editor.up.push_back(Message::QueryAwareness),
        ["is", "owed", count] => {
            assert_eq!(editor.earned - editor.saved, number::<u32>(count), "statuses owed to {name}");
        }
        ["lost", "nothing"] => {
            assert!(editor.unechoed.0.is_empty() && editor.unechoed.1.is_empty(), "{name} waits for an echo");
        }
        ["has", count, "frames", "waiting"] => assert_eq!(editor.down.len(), number::<usize>(count)),
        ["frames", "waiting", "are"] => {
            let (dialect, frames) = (editor.dialect.clone(), editor.down.clone());
            let said: Vec<Said> = frames.iter().map(|frame| read(&dialect, frame)).collect();
            said.iter().for_each(|said| world.say(format!("{name} will read {said}")));
        }
        _ => return false,
    }
    true
}
