//! The document machine under a sequence of events: honest editors type, lag and come back, the disk fails,
//! the server is killed, others say what a fuzzer has them say, and in the end everybody is healed.
//!
//! The world of the machine's own tests carries out its orders and holds it to its contract at every event:
//! nothing is shown or acknowledged before its commit, and who lags is not sent news. Both those tests and
//! the fuzz target give this file its neighbours.

use std::collections::BTreeMap;

use bytes::Bytes;
use quire_protocol::document::{Access, Answer, Dialect, Input, Limits, Refused, Request, Splice, Ticket};
use quire_protocol::hocuspocus::{self, Body, Frame};
use quire_protocol::lib0::{ReadError, Reader};
use quire_protocol::update::{ClientId, StateVector, Update};
use quire_protocol::ysync::{self, Message};
use yrs::Transact;
use yrs::updates::decoder::Decode;

use super::editor::{Editor, document, essence};
use super::steps::{
    EDITORS, Step, WRITERS, hold_to_account, nobody_did_wrong, replayed, run_to_quiet, take, world,
};
use super::world::World;

/// Longer inputs are passed over: they take long, and find nothing that a short one would not.
const INPUT_BYTES_MAX: usize = 1_536;
/// Events of one input that are looked at.
const EVENTS_MAX: usize = 128;
/// The client ids of honest editors and of splices lie between these, apart from those in the seeds.
const HONEST: std::ops::Range<u32> = 3_000_000_000..4_200_000_000;
const FIRST_EDITOR: u64 = 4_100_000_000;
const FIRST_SPLICER: u32 = 3_000_000_000;
/// What honest editors type.
const LETTERS: [&str; 4] = ["a", "é", "😀", "xyz"];
/// Who says what a fuzzer has them say, by name, dialect and access.
const STRANGERS: [(&str, bool, Access); 3] =
    [("mal", false, Access::Write), ("moe", true, Access::Write), ("mia", true, Access::Read)];
/// Small enough that short inputs reach them.
const TIGHT: Limits = Limits {
    update_bytes_max: 256,
    document_bytes_max: 2_048,
    sessions_max: 6,
    unload_after_ms: 1_000,
    snapshot_after_bytes: 64,
};
/// The longest pause between two events, in milliseconds.
const PAUSE_MS_MAX: u64 = 40_000;

/// Runs one history and heals it.
pub(crate) fn run(data: &[u8]) {
    if data.len() > INPUT_BYTES_MAX {
        return;
    }
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let Ok(limits) = reader.u8() else { return };
    let mut story = Story::new(limits % 2 == 1);
    for _ in 0..EVENTS_MAX {
        if story.event(&mut reader).is_err() {
            break;
        }
        story.settle();
    }
    story.heal();
}

struct Story {
    world: World,
    /// Limits are tight: honest editors may be sent away for reaching them.
    tight: bool,
    /// A stranger wrote under an honest client id: documents may then differ, and nothing can be done.
    spoofed: bool,
    splices: u32,
    /// Requests without an answer, and what each wants written.
    asked: BTreeMap<Ticket, Option<Update>>,
}

impl Story {
    fn new(tight: bool) -> Self {
        let limits = if tight { TIGHT } else { Limits { snapshot_after_bytes: 64, ..Limits::default() } };
        let mut world = world(limits, FIRST_EDITOR);
        for (client, (name, hocuspocus, access)) in (1..).zip(STRANGERS) {
            world.editors.push(Editor::new(name, hocuspocus, access, client));
        }
        Self { world, tight, spoofed: false, splices: 0, asked: BTreeMap::new() }
    }

    fn event(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let kind = reader.u8()? % 24;
        match kind {
            0..=15 => self.step(kind, reader)?,
            16 | 17 => self.stranger_connects(reader)?,
            18..=20 => self.stranger_speaks(reader)?,
            21 => self.stranger_mutates(reader)?,
            22 => self.request(reader)?,
            _ => {
                self.world.handle(Input::Quiet);
                while self.world.commits() {}
                self.world.handle(Input::Quiet);
            }
        }
        Ok(())
    }

    /// What the random histories do too.
    fn step(&mut self, kind: u8, reader: &mut Reader) -> Result<(), ReadError> {
        let who = usize::from(reader.u8()?);
        let (writer, who) = (who % WRITERS, who % EDITORS.len());
        let mut number = || reader.u8().map(u32::from);
        let step = match kind {
            0 => {
                let letters = LETTERS[number()? as usize % LETTERS.len()].to_owned();
                Step::Types { who: writer, at: number()?, letters }
            }
            1 => Step::Deletes { who: writer, at: number()?, len: 1 + number()? % 4 },
            2 => Step::Reads { who, messages: 1 + number()? as usize % 4 },
            3 => Step::Receives { who, frames: 1 + number()? as usize % 4 },
            4 => Step::Hears { who: writer, whom: number()? as usize % WRITERS },
            5 => Step::SaysAgain { who: writer },
            6 => Step::Quiet,
            7 => Step::Commits,
            8 => Step::Leaves { who },
            9 => Step::Opens { who },
            10 => Step::Syncs { who },
            11 => Step::Stalls { who },
            12 => Step::Drains { who },
            13 => Step::Waits { ms: reader.var_u64()? % PAUSE_MS_MAX },
            14 => Step::Killed,
            _ => Step::DiskFails,
        };
        if matches!(step, Step::Killed) {
            self.asked.clear();
        }
        take(&mut self.world, step);
        Ok(())
    }

    fn stranger_connects(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let (name, _, access) = STRANGERS[usize::from(reader.u8()?) % STRANGERS.len()];
        let expires = self.world.now.after(reader.var_u64()? % PAUSE_MS_MAX).0;
        let editor = self.world.editor(name);
        match (reader.u8()? % 6, editor.session.is_some()) {
            (0, true) => self.world.leaves(name),
            (1, true) => editor.stalled = true,
            (2, true) => self.world.drains(name),
            (3, true) => {
                (editor.access, editor.expires) = (other(editor.access), Some(expires));
                self.world.renews(name);
            }
            (4, true) => self.world.renews(name),
            (_, true) => {}
            (_, false) => {
                (editor.access, editor.expires) = (access, expires.is_multiple_of(2).then_some(expires));
                self.world.opens(name);
            }
        }
        Ok(())
    }

    /// A stranger sends bytes, behind its address where its dialect has one.
    fn stranger_speaks(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let (name, ..) = STRANGERS[usize::from(reader.u8()?) % STRANGERS.len()];
        let bytes = reader.var_bytes()?;
        let message = match &self.world.editor(name).dialect {
            Dialect::YWebsocket => ysync::parse(bytes).ok(),
            Dialect::Hocuspocus(address) => {
                let mut frame = Vec::new();
                address.put(&mut frame);
                frame.extend_from_slice(&bytes);
                match hocuspocus::read(frame.into()) {
                    Ok(Frame::Document(_, Body::Message(message))) => Some(message),
                    Ok(Frame::Document(_, Body::Token(_) | Body::Stateless) | Frame::Ping | Frame::Pong) => {
                        return Ok(());
                    }
                    Ok(Frame::Document(_, Body::Close)) | Err(_) => None,
                }
            }
        };
        match message {
            Some(message) => self.say(name, message),
            None => self.world.leaves(name),
        }
        Ok(())
    }

    /// A stranger sends what an honest editor sent last, with one byte changed, or none.
    fn stranger_mutates(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let (name, ..) = STRANGERS[usize::from(reader.u8()?) % STRANGERS.len()];
        let whom = usize::from(reader.u8()?) % WRITERS;
        let (at, change) = (usize::from(reader.u8()?), reader.u8()?);
        let Some(last) = self.world.editors[whom].last.clone() else { return Ok(()) };
        let mut bytes = last.to_vec();
        let at = at % bytes.len();
        bytes[at] ^= change;
        if change == 0 {
            self.deliver(name, Message::Update(last));
        } else {
            self.say(name, Message::Update(bytes.into()));
        }
        Ok(())
    }

    fn say(&mut self, name: &str, message: Message) {
        if let Message::Update(bytes) | Message::SyncStep2(bytes) = &message {
            self.spoofed |= spoofs(bytes);
        }
        self.deliver(name, message);
    }

    fn deliver(&mut self, name: &str, message: Message) {
        let editor = self.world.editor(name);
        if editor.session.is_some() {
            // Whatever it says may earn it a status; nobody counts.
            editor.earned = u32::MAX;
            editor.up.push_back(message);
            self.world.reads(name);
        }
    }

    fn request(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let mut wants = None;
        let request = match reader.u8()? % 10 {
            0 => Request::State,
            1 => Request::Diff(StateVector::decode(&reader.var_bytes()?).unwrap_or_default()),
            2 => Request::Text(reader.var_str()?.as_str().to_owned()),
            3 => Request::Info,
            4 => {
                let bytes = reader.var_bytes()?;
                self.spoofed |= spoofs(&bytes);
                wants = Update::decode(bytes.clone()).ok();
                Request::Update(bytes)
            }
            5 | 6 => {
                self.splices += 1;
                let (at, delete) = (u32::from(reader.u8()?), u32::from(reader.u8()?));
                let splice = Splice { at, delete, insert: reader.var_str()?.as_str().to_owned() };
                let client = FIRST_SPLICER + self.splices;
                Request::Splice { root: "content".to_owned(), splices: vec![splice], client }
            }
            7 => {
                let seed = reader.var_bytes()?;
                self.spoofed |= spoofs(&seed);
                Request::Create((!seed.is_empty()).then_some(seed))
            }
            8 => Request::Delete { seen: self.world.disk.applied() },
            _ => Request::Restore,
        };
        let ticket = self.world.request(request);
        self.asked.insert(ticket, wants);
        Ok(())
    }

    /// What holds between any two events.
    fn settle(&mut self) {
        for (ticket, answer) in std::mem::take(&mut self.world.replies) {
            let wanted = self.asked.remove(&ticket).expect("one answer for each request");
            assert_ne!(answer, Err(Refused::Reason(quire_protocol::close::CloseReason::LoadFailed)));
            if let (Ok(Answer::Saved { .. }), Some(update)) = (answer, wanted) {
                self.world.hold_to_the_disk(&update);
            }
        }
        let broken = self.world.closed.iter().find(|closed| closed.ends_with(": load_failed"));
        assert_eq!(broken, None, "whatever was admitted, the live document takes");
        for (name, ..) in STRANGERS {
            self.world.editor(name).down.clear();
        }
    }

    /// Strangers leave, the document is restored, everybody comes back and says what they have.
    fn heal(mut self) {
        for (name, ..) in STRANGERS {
            self.world.leaves(name);
        }
        for request in [Request::Restore, Request::State] {
            let ticket = self.world.request(request);
            self.asked.insert(ticket, None);
            self.world.handle(Input::Quiet);
            while self.world.commits() {}
            self.world.handle(Input::Quiet);
            self.settle();
        }
        run_to_quiet(&mut self.world);
        self.settle();
        assert!(self.asked.is_empty(), "every request has its answer");
        self.serves_what_the_log_holds();
        if !self.spoofed {
            hold_to_account(&self.world);
        }
        if !self.spoofed && !self.tight {
            let honest = |closed: &String| EDITORS.iter().any(|(name, ..)| closed.starts_with(name));
            self.world.closed.retain(honest);
            nobody_did_wrong(&self.world);
            let editors = self.world.editors.iter().take(EDITORS.len());
            assert!(editors.into_iter().all(|editor| editor.session.is_some()), "everybody is back");
        }
    }

    fn serves_what_the_log_holds(&mut self) {
        let _ticket = self.world.request(Request::State);
        let Some((_, Ok(Answer::Update(state)))) = self.world.replies.pop() else {
            panic!("the document answers")
        };
        let served = document(u64::from(u32::MAX));
        let state = yrs::Update::decode_v1(&state).expect("a state can be read");
        served.transact_mut().apply_update(state).expect("and applied");
        assert_eq!(essence(&served), essence(&replayed(&self.world)), "the machine against the log");
    }
}

const fn other(access: Access) -> Access {
    match access {
        Access::Read => Access::Write,
        Access::Write => Access::Read,
    }
}

/// Whether an update has blocks under a client id of an honest editor.
fn spoofs(bytes: &Bytes) -> bool {
    let honest = |client: ClientId| HONEST.contains(&client.0);
    Update::decode(bytes.clone()).is_ok_and(|update| update.clients().any(|(client, _)| honest(client)))
}
