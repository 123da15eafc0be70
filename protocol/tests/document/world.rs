//! A small world around one document machine: its disk, its editors, its clock.
//!
//! Carries out the machine's orders as a driver does and, whatever the story, holds the machine to
//! its contract: no frame may hold what is not on disk, and no count of acks may be full before.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quire_protocol::awareness;
use quire_protocol::batch::Stamp;
use quire_protocol::document::{
    Access, Answer, Document, Input, Kept, Limits, Opened, Output, Refused, Request, Stored, Ticket, Urgency,
    Write,
};
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::fields::{ConflictId, FieldsEntry, Record};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{Dot, Seq, SessionId, StreamId};
use quire_protocol::life::Life;
use quire_protocol::time::Time;
use quire_protocol::update::Update;
use quire_protocol::ysync::Message;

use super::editor::Editor;
use super::render::{Said, close, presence, read, updates, writes};
use super::units::{Units, units};

/// What is on disk.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) log: Vec<Write>,
    /// Of each entry of the log: this region's own follow its clock, another's are told.
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) snapshot: Option<(u64, Bytes)>,
    pub(crate) inserted: Units,
    pub(crate) deleted: Units,
    pub(crate) on_delete: DeletePolicy,
}

impl Disk {
    fn store(&mut self, writes: Vec<Write>) {
        for write in writes {
            let at = self.log.len() as u64 + 1;
            // Stamps rise by one within a commit, as the log's do.
            // They follow another region's clock, if not as far as one that is broken.
            let last = self.stamps.iter().map(|(hlc, _)| hlc.0).filter(|ms| *ms < 1000).max();
            let last = last.unwrap_or_default();
            self.put(write, (Hlc(last + 1), Dot { stream: StreamId::from_u32(1), seq: Seq(at) }));
        }
    }

    fn put(&mut self, write: Write, stamp: Stamp) {
        if let Some(Ok(update)) = update_in(&write).map(Update::decode) {
            let (inserted, deleted) = units(&update);
            self.inserted.extend(&inserted);
            self.deleted.extend(&deleted);
        }
        self.log.push(write);
        self.stamps.push(stamp);
    }

    /// What the log says of the document's life, entry by entry.
    pub(crate) fn life(&self) -> Life {
        let mut life = Life::default();
        for (write, stamp) in self.log.iter().zip(&self.stamps) {
            match write {
                Write::Create => {}
                Write::Update(_) | Write::Fields(_) | Write::Graph(_) => life.edited(*stamp),
                Write::Delete { seen } => life.deleted(*stamp, seen.clone()),
                Write::Restore => life.restored(*stamp),
            }
        }
        life
    }

    /// All that is on disk.
    pub(crate) fn applied(&self) -> Frontier {
        self.stamps.iter().map(|(_, dot)| *dot).collect()
    }

    /// What a restart finds.
    pub(crate) fn stored(&self) -> Stored {
        let from = self
            .snapshot
            .as_ref()
            .map_or(0, |(position, _)| usize::try_from(*position).expect("a short log"));
        let entries = self.log.iter().zip(&self.stamps).skip(from);
        let updates = entries.filter_map(|(write, stamp)| match write {
            Write::Update(update) => Some(Kept::Update(update.clone())),
            Write::Fields(payload) => Some(Kept::Fields(payload.clone(), *stamp)),
            _ => None,
        });
        Stored {
            exists: !self.log.is_empty(),
            life: self.life(),
            on_delete: self.on_delete,
            snapshot: self.snapshot.as_ref().map(|(_, state)| state.clone()),
            tail: updates.collect(),
            position: self.log.len() as u64,
            ..Stored::default()
        }
    }
}

/// The update that a write carries, if it carries one.
pub(crate) fn update_in(write: &Write) -> Option<Bytes> {
    match write {
        Write::Update(update) => Some(update.clone()),
        Write::Fields(payload) => FieldsEntry::decode(payload).ok().map(|entry| entry.update),
        Write::Create | Write::Graph(_) | Write::Delete { .. } | Write::Restore => None,
    }
}

pub(crate) struct World {
    pub(crate) machine: Document,
    pub(crate) limits: Limits,
    pub(crate) now: Time,
    pub(crate) wake: Option<Time>,
    pub(crate) editors: Vec<Editor>,
    /// Somebody who types in another region.
    pub(crate) elsewhere: Editor,
    pub(crate) disk: Disk,
    /// Appends that the disk has not confirmed, oldest first.
    pub(crate) appended: VecDeque<Vec<Write>>,
    pub(crate) lines: Vec<String>,
    /// Deletions that conflicts imply are shown without being written: they follow from what is.
    pub(crate) implied_deletions: bool,
    pub(crate) replies: Vec<(Ticket, Result<Answer, Refused>)>,
    pub(crate) closed: Vec<String>,
    /// Entries of another region that were not shown in full.
    pub(crate) diverged: usize,
    /// The conflicts that are on record.
    pub(crate) records: BTreeMap<ConflictId, Record>,
    /// Of each time that the machine told what is on record, how many of them changed or went.
    pub(crate) told: Vec<usize>,
    /// Frames sent since anything else happened, and the line that tells of each.
    last_sent: Vec<(Bytes, usize)>,
    next_session: u64,
    next_ticket: u64,
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        let mut out = Vec::new();
        let machine = Document::load(Time(0), limits, Stored::default(), &mut out).expect("nothing to load");
        let mut world = Self {
            machine,
            limits,
            now: Time(0),
            wake: None,
            editors: Vec::new(),
            elsewhere: Editor::new("gus", false, Access::Write, 1000),
            disk: Disk::default(),
            appended: VecDeque::new(),
            lines: Vec::new(),
            implied_deletions: true,
            replies: Vec::new(),
            closed: Vec::new(),
            diverged: 0,
            records: BTreeMap::new(),
            told: Vec::new(),
            last_sent: Vec::new(),
            next_session: 1,
            next_ticket: 1,
        };
        world.carry_out(out);
        world
    }

    pub(crate) fn editor(&mut self, name: &str) -> &mut Editor {
        self.editors.iter_mut().find(|editor| editor.name == name).expect("an editor of that name")
    }

    pub(crate) fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        self.carry_out(out);
    }

    pub(crate) fn opens(&mut self, name: &str) {
        let opened = self.opened(name);
        self.handle(Input::Opened(opened));
    }

    /// The words with which the next session of an editor opens the document.
    fn opened(&mut self, name: &str) -> Opened {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        let editor = self.editor(name);
        assert_eq!(editor.session, None, "{name} is connected");
        editor.session = Some(session);
        Opened {
            session,
            dialect: editor.dialect.clone(),
            access: editor.access,
            expires: editor.expires.map(Time),
            author: None,
        }
    }

    pub(crate) fn renews(&mut self, name: &str) {
        let editor = self.editor(name);
        let session = editor.session.unwrap_or(SessionId(u64::MAX));
        let (dialect, access) = (editor.dialect.clone(), editor.access);
        let expires = editor.expires.map(Time);
        self.handle(Input::Renewed(Opened { session, dialect, access, expires, author: None }));
    }

    pub(crate) fn leaves(&mut self, name: &str) {
        let session = self.editor(name).session;
        self.editor(name).disconnect();
        if let Some(session) = session {
            self.handle(Input::Closed(session));
        }
    }

    /// The server reads the next message of an editor.
    pub(crate) fn reads(&mut self, name: &str) -> Option<Message> {
        let editor = self.editor(name);
        let session = editor.session?;
        let message = editor.up.pop_front()?;
        if let Message::SyncStep2(_) = message {
            editor.questions = editor.questions.saturating_sub(1);
        }
        self.handle(Input::Message(session, message.clone()));
        Some(message)
    }

    /// The editor reads the next frame.
    pub(crate) fn receives(&mut self, name: &str) -> bool {
        let editor = self.editor(name);
        let Some(frame) = editor.down.pop_front() else { return false };
        if let Said::Sync(message) = read(&editor.dialect, &frame) {
            editor.hear_sync(&message);
        }
        true
    }

    pub(crate) fn drains(&mut self, name: &str) {
        let editor = self.editor(name);
        (editor.stalled, editor.lags) = (false, false);
        if let Some(session) = editor.session {
            self.handle(Input::Drained(session));
        }
    }

    pub(crate) fn request(&mut self, request: Request) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.handle(Input::Request(ticket, request));
        ticket
    }

    /// The oldest append is on disk.
    pub(crate) fn commits(&mut self) -> bool {
        let Some(oldest) = self.appended.pop_front() else { return false };
        let count = oldest.len();
        self.disk.store(oldest);
        let last = *self.disk.stamps.last().expect("an append has a write");
        self.handle(Input::Committed { writes: count, position: self.disk.log.len() as u64, last });
        true
    }

    /// Another region's entry comes into the log and is applied there.
    pub(crate) fn applies(&mut self, write: Write, ms: u64) {
        let position = self.disk.log.len() as u64 + 1;
        let stamp = (Hlc(ms), Dot { stream: StreamId::from_u32(2), seq: Seq(position) });
        self.disk.put(write.clone(), stamp);
        self.handle(Input::Applied { write, position, stamp });
    }

    /// Another region's entry comes into the log among many that a state stands for: the machine is told what the log
    /// then says of the document's life.
    pub(crate) fn told_of(&mut self, write: Write, ms: u64) {
        let seq = Seq(self.disk.log.len() as u64 + 1);
        self.disk.put(write, (Hlc(ms), Dot { stream: StreamId::from_u32(2), seq }));
        self.handle(Input::Life(Box::new(self.disk.life())));
    }

    /// Time passes; the machine is woken when it asked to be.
    pub(crate) fn passes(&mut self, ms: u64) {
        let until = self.now.after(ms);
        let mut ticks = 0;
        while let Some(wake) = self.wake.filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.wake = None;
            self.handle(Input::Tick);
            self.handle(Input::Quiet);
            ticks += 1;
            assert!(ticks < 10_000, "the machine asks to be woken without end");
        }
        self.now = until;
    }

    /// The server is killed and started again.
    pub(crate) fn restarts(&mut self) {
        self.loads(self.disk.stored());
    }

    /// The document is opened again with what is on record of it. It is due where a crash may have lost some of that.
    pub(crate) fn opens_with_its_records(&mut self, is_due: bool) {
        let records = self.records.iter().map(|(id, record)| (*id, record.encode())).collect();
        self.loads(Stored { records, is_due, ..self.disk.stored() });
    }

    /// A machine that was given up is loaded anew, while the disk takes no writes.
    pub(crate) fn reopens(&mut self) {
        self.loads(Stored { read_only: true, ..self.disk.stored() });
    }

    fn loads(&mut self, stored: Stored) {
        for editor in &mut self.editors {
            editor.disconnect();
        }
        self.appended.clear();
        self.wake = None;
        let mut out = Vec::new();
        self.machine =
            Document::load(self.now, self.limits, stored, &mut out).expect("what was admitted can be loaded");
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        let mut lagging = Vec::new();
        for output in out {
            match output {
                Output::Append(writes) => self.append(writes),
                Output::Send(session, frame, urgency) => {
                    if self.send(session, &frame, urgency) {
                        lagging.push(session);
                    }
                }
                Output::Close(session, reason) => {
                    let name = self.name_of(session);
                    self.say(format!("close {name}: {}", close(&reason)));
                    self.closed.push(format!("{name}: {}", reason.label()));
                    if let Some(editor) = self.editors.iter_mut().find(|e| e.session == Some(session)) {
                        editor.disconnect();
                    }
                }
                Output::Reply(ticket, answer) => {
                    self.say(format!("reply #{}: {}", ticket.0, super::render::answer(&answer)));
                    self.replies.push((ticket, answer));
                }
                Output::Snapshot { position, state, .. } => {
                    let update = Update::decode(state.clone()).expect("a state can be read");
                    self.hold_to_the_disk(&update);
                    self.say(format!("snapshot at {position}: {}", updates(&update)));
                    self.disk.snapshot = Some((position, state));
                }
                // Only who is there hears the question.
                Output::Ephemeral(bytes) if bytes.as_ref() == awareness::EMPTY => {}
                Output::Ephemeral(bytes) => self.say(format!("elsewhere ← {}", presence(&bytes))),
                Output::Diverged(divergence) => {
                    self.say(format!("diverged: {divergence}"));
                    self.diverged += 1;
                }
                Output::Derived(derived) => {
                    assert!(derived.position <= self.disk.log.len() as u64, "what is on record is on disk");
                    self.told.push(derived.records.len());
                    for (id, record) in derived.records {
                        match record {
                            Some(record) => drop(self.records.insert(id, record)),
                            None => drop(self.records.remove(&id)),
                        }
                    }
                }
                Output::WakeAt(time) => self.wake = Some(self.wake.map_or(time, |wake| wake.min(time))),
                Output::Unload => {
                    assert_eq!(self.machine.sessions(), 0, "nobody is left behind");
                    self.say("unload".to_owned());
                }
            }
        }
        for session in lagging {
            if let Some(editor) = self.editors.iter_mut().find(|editor| editor.session == Some(session)) {
                editor.lags = true;
            }
            self.handle(Input::Lagging(session));
        }
    }

    fn append(&mut self, appended: Vec<Write>) {
        self.say(format!("append {}: {}", appended.len(), writes(&appended)));
        self.appended.push_back(appended);
    }

    /// Queues a frame as a driver would; true when the session lags.
    fn send(&mut self, session: SessionId, frame: &Bytes, urgency: Urgency) -> bool {
        let Some(at) = self.editors.iter().position(|editor| editor.session == Some(session)) else {
            panic!("a frame for a session that has ended")
        };
        let said = read(&self.editors[at].dialect, frame);
        if let Said::Sync(Message::SyncStep2(update) | Message::Update(update)) = &said {
            let update = Update::decode(update.clone()).expect("what is sent can be read");
            self.hold_to_the_disk(&update);
        }
        let editor = &mut self.editors[at];
        assert!(!editor.lags || urgency != Urgency::FanOut, "{}: news while it lags", editor.name);
        let full = editor.stalled && urgency != Urgency::Answer;
        if let Said::Sync(Message::SyncStep1(_)) = &said {
            editor.questions += 1;
            assert_eq!(editor.questions, 1, "{}: questions outstanding", editor.name);
        }
        if let Said::Status(saved) = &said {
            *(if *saved { &mut editor.saved } else { &mut editor.refused }) += 1;
            let most = editor.saved.max(editor.refused);
            assert!(most <= editor.earned, "{}: more statuses than earned", editor.name);
            if editor.saved == editor.earned {
                let unsaved = std::mem::take(&mut editor.unconfirmed);
                unsaved.iter().for_each(|update| self.hold_to_the_disk(update));
            }
        }
        let editor = &mut self.editors[at];
        if !full {
            editor.down.push_back(frame.clone());
        }
        let name = editor.name.clone();
        let text = said.to_string();
        let fate = match (full, urgency) {
            (false, _) => "",
            (true, Urgency::Awareness) => " (no room)",
            (true, _) => " (no room: lags)",
        };
        self.say_sent(&name, &text, fate, frame);
        full && urgency == Urgency::FanOut
    }

    /// Nothing may leave the machine before it is on disk.
    pub(crate) fn hold_to_the_disk(&self, update: &Update) {
        let (inserted, deleted) = units(update);
        let early = inserted.without(&self.disk.inserted);
        assert!(early.is_empty(), "shown or confirmed before its commit: {early:?}");
        let known = if self.implied_deletions { &self.disk.inserted } else { &self.disk.deleted };
        let early = deleted.without(known);
        assert!(early.is_empty(), "a deletion shown or confirmed before its commit: {early:?}");
    }

    pub(crate) fn name_of(&self, session: SessionId) -> String {
        let found = self.editors.iter().find(|editor| editor.session == Some(session));
        found.map_or_else(|| format!("session {}", session.0), |editor| editor.name.clone())
    }

    pub(crate) fn say(&mut self, line: String) {
        self.last_sent.clear();
        self.lines.push(line);
    }

    /// Names in one line all who are sent the same bytes in memory.
    fn say_sent(&mut self, name: &str, text: &str, fate: &str, frame: &Bytes) {
        let same = |(sent, _): &&(Bytes, usize)| std::ptr::eq(sent.as_ptr(), frame.as_ptr());
        let ends = format!(" ← {text}");
        if let Some((_, line)) = self.last_sent.iter().find(same) {
            let line = &mut self.lines[*line];
            line.truncate(line.len() - ends.len());
            *line = format!("{line} + {name}{fate}{ends}");
        } else {
            self.last_sent.push((frame.clone(), self.lines.len()));
            self.lines.push(format!("{name}{fate}{ends}"));
        }
    }
}
