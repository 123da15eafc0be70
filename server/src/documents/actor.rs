//! One document's actor: the only task that owns its machine.
//!
//! A dumb loop: take a burst of messages, hand each to the machine, say that the burst is over, carry
//! out what the machine orders. Whatever it means is decided in `quire_protocol::document`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quire_protocol::batch::EntryKind;
use quire_protocol::close::CloseReason;
use quire_protocol::document::{
    Answer, Document, Input, LoadError, Output, Refused, Stored, Ticket, Urgency, Write,
};
use quire_protocol::fields::home;
use quire_protocol::ids::{DocId, DocName, ReplicaId, SessionId};
use quire_protocol::time::Time;
use quire_storage::{AppendError, Health, NewEntry, Receipt, TailEntry};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Sleep;

use super::client::great_client;
use super::delivery::Undelivered;
use super::inbox::{Inbox, Message};
use super::outbox::{Outbox, Pushed};
use super::registry::Documents;
use crate::conflicts::Page;

/// A burst's memory is kept for the next one up to so many messages.
const IDLE_MESSAGES: usize = 4;

/// Reads the document from the log, serves it until nobody needs it, and leaves the registry.
pub(super) async fn run(documents: Arc<Documents>, name: DocName, inbox: Arc<Inbox>) {
    match load(&documents, &name).await {
        Ok(Loaded { machine, page, out }) => {
            documents.note_read(name.id(), true);
            inbox.serve();
            Box::new(Actor::new(documents, name, inbox, machine, page)).serve(out).await;
        }
        Err(error) => {
            tracing::error!(document = %name, %error, "cannot open the document; what is stored stays as it is");
            metrics::counter!(crate::metrics::LOADS_FAILED).increment(1);
            documents.note_read(name.id(), false);
            documents.evict(name.id(), &inbox);
            inbox.close().into_iter().for_each(|message| refuse(message, CloseReason::Unreadable));
        }
    }
}

/// Why a document could not be opened.
#[derive(Debug, thiserror::Error)]
enum OpenFailed {
    #[error("the log cannot be read: {0}")]
    Log(#[from] quire_storage::LoadError),
    #[error("{0}")]
    Content(#[from] LoadError),
    #[error("the reading thread was lost: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// A document that has been read.
struct Loaded {
    machine: Document,
    page: Page,
    out: Vec<Output>,
}

async fn load(documents: &Arc<Documents>, name: &DocName) -> Result<Loaded, OpenFailed> {
    let _permit = documents.shared.loads.acquire().await.expect("the semaphore is never closed");
    let (shared, name) = (documents.clone(), name.clone());
    tokio::task::spawn_blocking(move || {
        let mut stored =
            shared.log().load(name.id())?.map_or_else(Stored::default, super::stored::to_machine);
        let on_record = shared.book().read(&name)?;
        (stored.records, stored.index) = (on_record.records, on_record.index);
        let options = &shared.shared.options;
        stored.rules = options.rules.rules(&name);
        stored.on_delete = stored.rules.collection().on_delete;
        stored.region = options.region.clone();
        (stored.client, stored.writer) = (great_client(), great_client());
        stored.read_only = shared.log().health() != Health::Serving;
        let mut out = Vec::new();
        let machine = Document::load(shared.now(), options.document, stored, &mut out)?;
        Ok(Loaded { machine, page: on_record.page, out })
    })
    .await?
}

/// Turns away what waits for a document that cannot be opened, or was given up.
fn refuse(message: Message, reason: CloseReason) {
    match message {
        Message::Open(opened, outbox) => outbox.end(opened.session, reason),
        Message::Request(_, reply, _) => {
            // Whoever asked may have gone; then nobody misses the answer.
            let _gone = reply.send(Err(Refused::Reason(reason)));
        }
        _ => {}
    }
}

/// Waits until other leaders are reached; for ever where nobody tells.
pub(super) async fn changed(live: Option<&mut watch::Receiver<BTreeSet<ReplicaId>>>) {
    match live {
        Some(live) => {
            if live.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

struct Actor {
    documents: Arc<Documents>,
    name: DocName,
    id: DocId,
    inbox: Arc<Inbox>,
    machine: Document,
    /// What the derived rows have of the document.
    page: Page,
    outboxes: BTreeMap<SessionId, Arc<Outbox>>,
    replies: HashMap<Ticket, oneshot::Sender<Result<Answer, Refused>>>,
    /// The budget held by this burst's messages; it follows their writes to the disk.
    permits: Vec<OwnedSemaphorePermit>,
    /// What this burst holds of other regions' entries, until it has been shown.
    undelivered: Vec<Undelivered>,
    /// When the bursts began whose appends the log has not answered.
    appends: VecDeque<Instant>,
    /// When this burst began.
    began: Instant,
    /// When the last commit of this burst returned.
    committed: Option<Instant>,
    /// The leaders that this region reaches.
    live: Option<watch::Receiver<BTreeSet<ReplicaId>>>,
    /// The document's home.
    home: Option<ReplicaId>,
    wake: Option<Time>,
    /// Rings at `wake`; kept between turns, since a new timer for each costs more than most turns.
    alarm: Pin<Box<Sleep>>,
    leaving: bool,
}

impl Actor {
    fn new(
        documents: Arc<Documents>,
        name: DocName,
        inbox: Arc<Inbox>,
        machine: Document,
        page: Page,
    ) -> Self {
        let live = documents.live();
        Self {
            live,
            home: None,
            documents,
            id: name.id(),
            name,
            inbox,
            machine,
            page,
            outboxes: BTreeMap::new(),
            replies: HashMap::new(),
            permits: Vec::new(),
            undelivered: Vec::new(),
            appends: VecDeque::new(),
            began: Instant::now(),
            committed: None,
            wake: None,
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
            leaving: false,
        }
    }

    async fn serve(mut self: Box<Self>, mut out: Vec<Output>) {
        let mut burst = Vec::new();
        self.read_home(&mut out);
        loop {
            self.carry_out(&mut out);
            if self.leaving && self.has_left() {
                return;
            }
            tokio::select! {
                () = self.inbox.ready() => {}
                () = changed(self.live.as_mut()) => self.take_duty(&mut out),
                () = self.alarm.as_mut(), if self.wake.is_some() => {
                    self.wake = None;
                    self.machine.handle(self.documents.now(), Input::Tick, &mut out);
                    self.carry_out(&mut out);
                }
            }
            self.inbox.take(&mut burst);
            self.began = Instant::now();
            for message in burst.drain(..) {
                if let Message::Applied(_, undelivered) = &message
                    && !undelivered.has_turn(self.is_shared())
                {
                    // It may be what this burst holds that it waits for.
                    self.end_burst(&mut out);
                    undelivered.turn(self.is_shared()).await;
                    self.began = Instant::now();
                }
                self.hear(message, &mut out);
            }
            burst.shrink_to(IDLE_MESSAGES);
            self.end_burst(&mut out);
            out.shrink_to(IDLE_MESSAGES);
        }
    }

    /// Whether a connection has this document and others.
    fn is_shared(&self) -> bool {
        self.outboxes.values().any(|outbox| outbox.is_shared())
    }

    /// Has what was heard written and shown.
    fn end_burst(&mut self, out: &mut Vec<Output>) {
        self.machine.handle(self.documents.now(), Input::Quiet, out);
        self.carry_out(out);
        if let Some(committed) = self.committed.take() {
            self.documents.shared.fanout_seconds.record(committed.elapsed());
        }
        // What is still held was for messages that wrote nothing.
        self.permits.clear();
        self.undelivered.clear();
        self.undelivered.shrink_to(IDLE_MESSAGES);
    }

    /// Leaves the registry, once the log has answered everything and the registry agrees.
    fn has_left(&mut self) -> bool {
        if !self.appends.is_empty() {
            return false;
        }
        if self.machine.has_failed() {
            tracing::error!(document = %self.name, "the document was given up; its log is untouched");
            self.documents.evict(self.id, &self.inbox);
        } else if !self.documents.retire(self.id) {
            self.leaving = false;
            return false;
        }
        self.inbox.close().into_iter().for_each(|message| refuse(message, CloseReason::LoadFailed));
        true
    }

    fn hear(&mut self, message: Message, out: &mut Vec<Output>) {
        let input = match message {
            Message::Open(opened, outbox) => {
                outbox.joined();
                if let Some(before) = self.outboxes.insert(opened.session, outbox) {
                    before.left();
                }
                Input::Opened(opened)
            }
            Message::Renew(opened) => Input::Renewed(opened),
            Message::Close(session) => {
                if let Some(outbox) = self.outboxes.remove(&session) {
                    outbox.left();
                }
                Input::Closed(session)
            }
            Message::Said(session, message, permit) => {
                self.permits.push(permit);
                Input::Message(session, message)
            }
            Message::Drained(session) => Input::Drained(session),
            Message::Request(request, reply, permit) => {
                // A document that is due is asked something, so that it tells what it could not tell before.
                self.documents.book().put_owed(&self.name, &mut self.page);
                self.permits.push(permit);
                let ticket = self.documents.shared.next_ticket();
                self.replies.insert(ticket, reply);
                Input::Request(ticket, *request)
            }
            Message::Committed { writes, receipt, at } => {
                if let Some(began) = self.appends.pop_front() {
                    self.documents.shared.ack_seconds.record(at - began);
                }
                self.committed = Some(at);
                if self.home.is_none() {
                    // It may be what has made the document.
                    self.read_home(out);
                }
                let last = (receipt.hlc, receipt.last);
                Input::Committed { writes, position: receipt.position.0, last }
            }
            Message::AppendFailed => {
                self.appends.pop_front();
                Input::AppendFailed
            }
            Message::Elsewhere(payload, _undelivered) => Input::Ephemeral(payload),
            Message::Life(life) => Input::Life(life),
            Message::Rehome => return self.read_home(out),
            Message::Applied(entries, undelivered) => {
                self.undelivered.push(undelivered);
                return self.apply(&entries, out);
            }
        };
        self.machine.handle(self.documents.now(), input, out);
        self.carry_out(out);
    }

    /// Looks up the document's home, and tells the machine.
    fn read_home(&mut self, out: &mut Vec<Output>) {
        match self.documents.log().info(self.id) {
            Ok(info) => self.home = info.and_then(|info| info.home),
            Err(error) => {
                tracing::error!(document = %self.name, %error, "the document's home cannot be read");
            }
        }
        self.machine.handle(self.documents.now(), Input::Home(self.home), out);
        self.take_duty(out);
    }

    /// Tells the machine whether this region makes the document's write-backs.
    fn take_duty(&mut self, out: &mut Vec<Output>) {
        let Some(live) = &mut self.live else { return };
        let writer = home::writer(self.home, &live.borrow_and_update());
        let on_duty = writer == Some(self.documents.log().stream().replica);
        self.machine.handle(self.documents.now(), Input::Duty(on_duty), out);
    }

    fn apply(&mut self, entries: &[TailEntry], out: &mut Vec<Output>) {
        if entries.iter().any(|entry| entry.kind == EntryKind::Lifecycle) {
            self.read_home(out);
        }
        for entry in entries {
            if let Some(write) = super::stored::to_write(entry) {
                let (position, stamp) = (entry.position.0, (entry.hlc, entry.dot));
                let input = Input::Applied { write, position, stamp };
                self.machine.handle(self.documents.now(), input, out);
            }
        }
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: &mut Vec<Output>) {
        let mut lagging = Vec::new();
        while !out.is_empty() {
            for output in out.drain(..) {
                match output {
                    Output::Append(writes) => self.append(writes),
                    Output::Send(session, frame, urgency) => {
                        if self.send(session, frame, urgency) == Pushed::Full {
                            lagging.push(session);
                        }
                    }
                    Output::Close(session, reason) => self.end(session, reason),
                    Output::Reply(ticket, answer) => {
                        if let Some(reply) = self.replies.remove(&ticket) {
                            // Whoever asked may have gone; then nobody misses the answer.
                            let _gone = reply.send(answer);
                        }
                    }
                    Output::Ephemeral(payload) => self.documents.tell_elsewhere(self.id, &payload),
                    Output::Diverged(divergence) => {
                        metrics::counter!(crate::metrics::DIVERGENCE).increment(1);
                        tracing::error!(document = %self.name, %divergence, "this region does not show what another does");
                    }
                    Output::Snapshot { position, state, fields } => {
                        self.put_snapshot(position, state, fields);
                    }
                    Output::Derived(derived) => {
                        self.documents.book().put(&self.name, &mut self.page, *derived);
                    }
                    Output::WakeAt(time) => self.set_alarm(time),
                    Output::Unload => self.leaving = true,
                }
            }
            for session in lagging.drain(..) {
                metrics::counter!(crate::metrics::SESSIONS_LAGGING).increment(1);
                self.machine.handle(self.documents.now(), Input::Lagging(session), out);
            }
        }
    }

    fn send(&self, session: SessionId, frame: bytes::Bytes, urgency: Urgency) -> Pushed {
        self.outboxes.get(&session).map_or(Pushed::Done, |outbox| outbox.push(session, frame, urgency))
    }

    fn end(&mut self, session: SessionId, reason: CloseReason) {
        if reason.refuses_update() {
            metrics::counter!(crate::metrics::UPDATES_REFUSED, "reason" => reason.label()).increment(1);
        }
        if let Some(outbox) = self.outboxes.remove(&session) {
            outbox.left();
            tracing::info!(document = %self.name, session = session.0, %reason, "session ended");
            outbox.end(session, reason);
        }
    }

    fn append(&mut self, writes: Vec<Write>) {
        let count = writes.len();
        let entries = writes.into_iter().map(|write| self.entry(write)).collect();
        let inbox = self.inbox.clone();
        let permits = std::mem::take(&mut self.permits);
        self.appends.push_back(self.began);
        let done = move |result: Result<Receipt, AppendError>| {
            drop(permits);
            let message = match result {
                Ok(receipt) => Message::Committed { writes: count, receipt, at: Instant::now() },
                Err(_) => Message::AppendFailed,
            };
            // The actor stays while an append is unanswered, so its inbox is open.
            let _open = inbox.push(message);
        };
        self.documents.shared.appender.append(entries, done);
    }

    fn entry(&self, write: Write) -> NewEntry {
        super::stored::to_entry(self.id, &self.name, write)
    }

    fn set_alarm(&mut self, time: Time) {
        if self.wake.is_none_or(|wake| time < wake) {
            self.wake = Some(time);
            let wait = Duration::from_millis(time.since(self.documents.now()));
            self.alarm.as_mut().reset(tokio::time::Instant::now() + wait);
        }
    }

    fn put_snapshot(&self, position: u64, state: bytes::Bytes, fields: Option<bytes::Bytes>) {
        if let Err(error) =
            self.documents.log().put_snapshot(self.id, quire_storage::Position(position), state, fields)
        {
            // The log still holds everything: only opening the document takes longer.
            tracing::warn!(document = %self.name, %error, "a snapshot was not stored");
        }
    }
}
