//! One open document: its sessions, what they say, and what they are told.
//!
//! Messages and commits are gathered until the driver says [`Input::Quiet`]: then the burst's writes
//! leave as one append, and what has been committed leaves as one frame for everybody.
//!
//! Invariant: nothing is shown, acknowledged or encoded for a joiner before its commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::admission::{Gate, Pipeline, Size, Waiter};
use super::event::{Input, Limits, Opened, Output, Refused};
use super::fan_out::Welcome;
use super::fields::{Clients, Fields, Noted};
use super::records::Records;
use super::replica::{Broken, EMPTY_UPDATE, Replica};
use super::session::{Access, Dialect, Session};
use crate::awareness::{self, Awareness};
use crate::batch::Stamp;
use crate::close::CloseReason;
use crate::fields::schema::DeletePolicy;
use crate::fields::{ConflictId, Graph, Rules, Tracker};
use crate::ids::SessionId;
use crate::lib0::ReadError;
use crate::life::Life;
use crate::time::Time;
use crate::update::{ClientId, Limits as UpdateLimits, Refusal, Shape, StateVector, Update, merge};

/// Awareness gathered for this long goes out as one message.
pub const AWARENESS_TICK_MS: u64 = 20;
/// A session that was sent nothing for this long is sent an empty awareness message: stock clients
/// give a connection up after 30 seconds without a message.
pub const KEEP_ALIVE_MS: u64 = 15_000;

/// What the log holds of a document.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Whether the log has ever heard of it.
    pub exists: bool,
    /// What is known of its deletions and edits.
    pub life: Life,
    /// What comes of edits that a deletion had not seen.
    pub on_delete: DeletePolicy,
    /// The newest snapshot.
    pub snapshot: Option<Bytes>,
    /// The graph of the fields that belongs to it, where there are some.
    pub fields: Option<Bytes>,
    /// What is on record of its conflicts, as [`Record::encode`](crate::fields::Record::encode) wrote it.
    pub records: Vec<(ConflictId, Bytes)>,
    /// What its fields say to other documents, as it is on record; none where they say nothing.
    pub index: Option<Bytes>,
    /// Whether it has entries that are not on record yet.
    pub is_due: bool,
    /// What was entered since.
    pub tail: Vec<Kept>,
    /// The log's position they reach.
    pub position: u64,
    /// What its collection says of its fields.
    pub rules: Rules,
    /// What this region is called.
    pub region: Arc<str>,
    /// A Yjs client id that nobody else uses in this document: random. This region writes fields for others as
    /// this client.
    pub client: u32,
    /// Another one, which it writes back as.
    pub writer: u32,
    /// Whether the log takes no writes: the document is then opened to be read.
    pub read_only: bool,
}

/// An entry of a document, as it is kept.
#[derive(Clone, Debug)]
pub enum Kept {
    /// An update.
    Update(Bytes),
    /// An update that writes fields, with the entry's stamp.
    Fields(Bytes, Stamp),
    /// What a region knew of the fields when it told a snapshot.
    Graph(Bytes),
}

impl Kept {
    fn len(&self) -> usize {
        let (Self::Update(bytes) | Self::Fields(bytes, _) | Self::Graph(bytes)) = self;
        bytes.len()
    }
}

/// Why what is stored cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A stored update does not decode.
    #[error("a stored update does not decode: {0}")]
    Undecodable(#[from] Refusal),
    /// What is stored of its fields does not decode.
    #[error("what is stored of the document's fields does not decode: {0}")]
    Fields(#[from] ReadError),
}

/// The life of the document as a whole, as far as it is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has written to it yet.
    New,
    Live,
    /// A deletion is on its way to the disk, or there.
    Deleted,
    /// The disk or the live document failed; the driver is to let go of this machine.
    Failed,
}

/// One open document.
#[derive(Debug)]
pub struct Document {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    /// Whether the document is deleted on disk, which is what it is to everybody.
    pub(super) deleted: bool,
    /// What is on disk of its deletions and edits, as far as it is told.
    pub(super) life: Life,
    pub(super) on_delete: DeletePolicy,
    pub(super) shape: Shape,
    pub(super) replica: Replica,
    pub(super) pipeline: Pipeline,
    pub(super) fields: Fields,
    pub(super) records: Records,
    pub(super) size: Size,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) welcome: Welcome,
    pub(super) awareness: Awareness,
    pub(super) awareness_due: Option<Time>,
    pub(super) committed: StateVector,
    /// Where the clients of the last fan-out stood before it.
    pub(super) before_fan_out: BTreeMap<ClientId, u32>,
    pub(super) position: u64,
    pub(super) read_only: bool,
    pub(super) unsnapshotted_bytes: usize,
    pub(super) idle_since: Time,
    pub(super) wake: Option<Time>,
}

impl Document {
    /// Opens a document from what the log holds of it.
    ///
    /// # Errors
    /// When something stored does not decode. Nothing is changed then.
    pub fn load(now: Time, limits: Limits, stored: Stored, out: &mut Vec<Output>) -> Result<Self, LoadError> {
        let snapshot = stored.snapshot.unwrap_or_else(|| Bytes::from_static(EMPTY_UPDATE));
        let mut size = Size::measured(snapshot.len());
        size.since = stored.tail.iter().map(Kept::len).sum();
        let mut shape = Shape::new();
        let mut updates = Vec::with_capacity(1 + stored.tail.len());
        let snapshot = Update::decode_within(snapshot, &UpdateLimits::STORED)?;
        shape.record(&snapshot);
        updates.push(snapshot);
        let mut fields = Tracker::new(Graph::new());
        stored.fields.map_or(Ok(()), |bytes| fields.merge(bytes))?;
        for kept in stored.tail {
            let (update, noted) = match kept {
                Kept::Update(bytes) => (Update::decode_within(bytes, &UpdateLimits::STORED)?, None),
                Kept::Fields(payload, stamp) => {
                    let noted = Noted::read(&payload)?;
                    (noted.update.clone(), Some((noted, stamp)))
                }
                Kept::Graph(bytes) => {
                    fields.merge(bytes)?;
                    continue;
                }
            };
            // Two regions may have logged the same content, and one that broke the rules what cannot be
            // taken: it was not when it came, and is not now.
            let Ok(admission) = shape.admit_within(update, &UpdateLimits::STORED) else { continue };
            if let Some((noted, stamp)) = noted.filter(|_| !admission.missing) {
                noted.enter(&mut fields, stamp);
            }
            if let Some(fresh) = admission.fresh.filter(|_| !admission.missing) {
                shape.record(&fresh);
                updates.push(fresh);
            }
        }
        drop(fields.take_touched());
        let deleted = stored.life.is_deleted(stored.on_delete);
        let phase = match (stored.exists, deleted) {
            (_, true) => Phase::Deleted,
            (true, false) => Phase::Live,
            (false, false) => Phase::New,
        };
        let clients = Clients { edits: ClientId(stored.client), write_backs: ClientId(stored.writer) };
        let mut document = Self {
            limits,
            phase,
            deleted,
            life: stored.life,
            on_delete: stored.on_delete,
            committed: shape.state_vector(),
            shape,
            // Joined as bytes: whoever opens the document need not wait for yrs to build it.
            replica: Replica::new(merge(&updates).encoded().clone()),
            pipeline: Pipeline::default(),
            fields: Fields::new(fields, stored.rules, &stored.region, clients),
            records: Records::read(stored.records, stored.index),
            size,
            sessions: BTreeMap::new(),
            awareness: Awareness::default(),
            awareness_due: None,
            before_fan_out: BTreeMap::new(),
            welcome: Welcome::default(),
            position: stored.position,
            read_only: stored.read_only,
            unsnapshotted_bytes: size.since,
            idle_since: now,
            wake: None,
        };
        document.derive_what_is_stored(stored.is_due, now, out);
        document.wake_by(now.after(limits.unload_after_ms), out);
        Ok(document)
    }

    /// Takes one event and appends what the driver must now do, in order.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        // The log may still answer for what it was given, and the driver for sessions that are gone.
        if self.has_failed() && !matches!(input, Input::Opened(_) | Input::Request(..)) {
            return;
        }
        match input {
            Input::Opened(opened) => self.open(now, &opened, out),
            Input::Renewed(opened) => self.renew(now, &opened, out),
            Input::Closed(session) => self.end(now, session, out),
            Input::Message(session, message) => self.message(now, session, message, out),
            Input::Request(ticket, request) => {
                // What has come on disk before it was asked is in the answer.
                self.tell(now, out);
                self.request(ticket, request, out);
            }
            Input::Committed { writes, position, last } => {
                self.pipeline.commit(writes, last);
                self.position = position;
            }
            Input::Applied { write, position, stamp } => self.applied(write, position, stamp, out),
            Input::Life(life) => self.lives(now, *life, out),
            Input::Duty(on_duty) => self.set_duty(on_duty),
            Input::Home(home) => self.set_home(home),
            Input::Ephemeral(bytes) => self.hear_elsewhere(now, bytes, out),
            Input::AppendFailed => self.disk_failed(now, out),
            Input::Lagging(session) => self.lagging(session),
            Input::Drained(session) => self.drained(now, session, out),
            Input::Tick => self.tick(now, out),
            Input::Quiet => self.quiet(now, out),
        }
    }

    /// Whether the disk or the live document has failed: nothing more is admitted, and the driver is to
    /// let go of this machine once the log has answered what it was given.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed)
    }

    /// Whether the document is deleted, to everybody who asks now.
    #[must_use]
    pub const fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// How many sessions the document has.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn open(&mut self, now: Time, opened: &Opened, out: &mut Vec<Output>) {
        let refusal = match self.phase {
            Phase::Failed => Some(CloseReason::LoadFailed),
            _ if self.deleted => Some(CloseReason::Deleted),
            _ if self.sessions.len() >= self.limits.sessions_max => {
                Some(CloseReason::SessionsFull("on this document"))
            }
            _ => None,
        };
        if let Some(reason) = refusal {
            return out.push(Output::Close(opened.session, reason));
        }
        let mut session = Session::new(opened, now);
        if session.dialect == Dialect::YWebsocket && session.access == Access::Write {
            self.ask(now, opened.session, &mut session, out);
        }
        if self.sessions.is_empty() {
            // While nobody was here, nobody listened.
            out.push(Output::Ephemeral(Bytes::from_static(awareness::EMPTY)));
        }
        self.sessions.insert(opened.session, session);
        self.wake_by(now.after(KEEP_ALIVE_MS), out);
        if let Some(expires) = opened.expires {
            self.wake_by(expires, out);
        }
    }

    pub(super) fn renew(&mut self, now: Time, opened: &Opened, out: &mut Vec<Output>) {
        // A session that has ended is not brought back: its client is about to hear of the end.
        let Some(mut session) = self.sessions.remove(&opened.session) else { return };
        let may_write_now = session.access == Access::Read && opened.access == Access::Write;
        session.access = opened.access;
        session.expires = opened.expires;
        session.author.clone_from(&opened.author);
        if may_write_now {
            // What it wrote as a reader was not taken, and nothing else makes it say that again.
            session.owed += std::mem::take(&mut session.refused);
            self.ask(now, opened.session, &mut session, out);
        }
        self.sessions.insert(opened.session, session);
        if let Some(expires) = opened.expires {
            self.wake_by(expires, out);
        }
    }

    pub(super) fn end(&mut self, now: Time, id: SessionId, out: &mut Vec<Output>) {
        if self.sessions.remove(&id).is_none() {
            return;
        }
        self.awareness.end_session(now, id);
        if self.sessions.is_empty() {
            self.idle_since = now;
            self.wake_by(now.after(self.limits.unload_after_ms), out);
            // The document may unload before the next tick.
            self.tell_awareness(now, out);
        } else {
            self.awareness_changed(now, out);
        }
    }

    pub(super) fn close(&mut self, now: Time, id: SessionId, reason: CloseReason, out: &mut Vec<Output>) {
        if self.sessions.contains_key(&id) {
            out.push(Output::Close(id, reason));
            self.end(now, id, out);
        }
    }

    pub(super) fn wake_by(&mut self, time: Time, out: &mut Vec<Output>) {
        if self.wake.is_none_or(|wake| time < wake) {
            self.wake = Some(time);
            out.push(Output::WakeAt(time));
        }
    }

    pub(super) fn gate(&mut self) -> Gate<'_> {
        Gate {
            phase: &mut self.phase,
            shape: &mut self.shape,
            replica: &mut self.replica,
            pipeline: &mut self.pipeline,
            size: &mut self.size,
            limits: &self.limits,
            fields: &mut self.fields,
            read_only: self.read_only,
        }
    }

    pub(super) fn session_ids(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    pub(super) fn disk_failed(&mut self, now: Time, out: &mut Vec<Output>) {
        self.tell(now, out);
        self.give_up(&CloseReason::Disk, out);
    }

    pub(super) fn fail(&mut self, _broken: &Broken, out: &mut Vec<Output>) {
        self.give_up(&CloseReason::LoadFailed, out);
    }

    /// The machine is ahead of the log, or without its content: everybody is sent away, and the
    /// driver lets go of it. Whoever comes back gets what the log holds.
    pub(super) fn give_up(&mut self, reason: &CloseReason, out: &mut Vec<Output>) {
        if self.has_failed() {
            return;
        }
        self.phase = Phase::Failed;
        for waiter in self.pipeline.fail() {
            if let Waiter::Request(ticket, _) | Waiter::TooLate(ticket) = waiter {
                out.push(Output::Reply(ticket, Err(Refused::Reason(reason.clone()))));
            }
        }
        for id in self.session_ids() {
            out.push(Output::Close(id, reason.clone()));
        }
        self.sessions.clear();
        out.push(Output::Unload);
    }
}
