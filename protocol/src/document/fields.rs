//! The fields of an open document: what its region says about writes, and when it writes back.
//!
//! Invariant: what is read here is committed, like the rest of what the document shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::admission::{Admitted, Refusing, Waiter};
use super::event::{Answer, Divergence, FieldView, Output, Refused, Ticket};
use super::machine::{Document, LoadError, Phase};
use super::request::Stopped;
use crate::batch::Stamp;
use crate::fields::schema::FieldType;
use crate::fields::{
    Authorship, Claim, ConflictId, Drafted, Edit, Ending, FieldVersion, FieldsEntry, Index, Mark, OfField,
    Path, RESERVED_PREFIX, Rules, Shown, Tracker, Value, Who, Writer,
};
use crate::ids::ReplicaId;
use crate::lib0::ReadError;
use crate::time::Time;
use crate::update::{ClientId, Limits as UpdateLimits, Refusal, Update};

/// A document writes back so often on average: while siblings keep coming, one write-back renders many.
pub const WRITE_BACK_INTERVAL_MS: u64 = 100;

/// So many write-backs may follow each other at once after a rest. Where two people resolve a conflict at once, the
/// first one's write ends it, which is written back, and the second one's must not wait for that: it is a conflict.
const WRITE_BACKS_AT_ONCE: u64 = 3;

/// What a region says about an update that writes fields.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    /// The update as its region wrote it, of which part may be known here.
    pub(super) update: Update,
    pub(super) who: Arc<Who>,
    pub(super) marks: Vec<Mark>,
}

impl Noted {
    /// Reads an entry that writes fields.
    pub(super) fn read(payload: &Bytes) -> Result<Box<Self>, UnreadableEntry> {
        let FieldsEntry { region, author, marks, update } = FieldsEntry::decode(payload)?;
        let update = Update::decode_within(update, &UpdateLimits::STORED)?;
        Ok(Box::new(Self { update, who: Arc::new(Who { region, author }), marks }))
    }

    /// Enters it into the fields.
    pub(super) fn enter(&self, tracker: &mut Tracker, stamp: Stamp) {
        tracker.take(&self.update, &self.marks, &Authorship { stamp, who: self.who.clone() });
    }

    pub(super) fn payload(&self) -> Bytes {
        let Who { region, author } = (*self.who).clone();
        FieldsEntry { region, author, marks: self.marks.clone(), update: self.update.encoded().clone() }
            .encode()
    }
}

/// Why an entry that writes fields cannot be read.
#[derive(Debug)]
pub(super) enum UnreadableEntry {
    Payload(ReadError),
    Update(Refusal),
}

impl From<ReadError> for UnreadableEntry {
    fn from(error: ReadError) -> Self {
        Self::Payload(error)
    }
}

impl From<Refusal> for UnreadableEntry {
    fn from(refusal: Refusal) -> Self {
        Self::Update(refusal)
    }
}

impl From<UnreadableEntry> for LoadError {
    fn from(error: UnreadableEntry) -> Self {
        match error {
            UnreadableEntry::Payload(error) => Self::Fields(error),
            UnreadableEntry::Update(refusal) => Self::Undecodable(refusal),
        }
    }
}

impl From<UnreadableEntry> for Divergence {
    fn from(error: UnreadableEntry) -> Self {
        match error {
            UnreadableEntry::Payload(error) => Self::Fields(error),
            UnreadableEntry::Update(refusal) => Self::Refused(refusal),
        }
    }
}

/// The Yjs clients that this region writes fields as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients {
    /// What somebody writes without an editor.
    pub(super) edits: ClientId,
    pub(super) write_backs: ClientId,
}

/// The fields of one document.
#[derive(Debug)]
pub(super) struct Fields {
    tracker: Tracker,
    rules: Rules,
    /// This region, and who was the last to write in it.
    who: Arc<Who>,
    clients: Clients,
    /// Whether this region makes the document's write-backs.
    on_duty: bool,
    /// The document's home.
    home: Option<ReplicaId>,
    /// Fields that something has changed in since they were last looked at for a write-back.
    due: BTreeSet<Path>,
    /// When the next write-back would be if each had waited for its interval.
    next_write_back: Time,
    /// How many bytes the graph had when it was last stored.
    stored_bytes: usize,
}

impl Fields {
    pub(super) fn new(tracker: Tracker, rules: Rules, region: &str, clients: Clients) -> Self {
        let (on_duty, home, due, next_write_back, stored_bytes) = (false, None, BTreeSet::new(), Time(0), 0);
        // A copy for each document: its writes count who has it, and processors must not wait for each other's count.
        let who = Arc::new(Who { region: region.into(), author: None });
        Self { tracker, rules, who, clients, on_duty, home, due, next_write_back, stored_bytes }
    }

    /// What is to be said about an update that is admitted here, the new part of what was sent; none when it writes
    /// no field.
    pub(super) fn note(
        &mut self,
        update: &Update,
        sent: &Update,
        author: Option<&Arc<str>>,
    ) -> Option<Box<Noted>> {
        let marks = self.tracker.admit(update, sent)?;
        Some(self.noted(update.clone(), author, marks))
    }

    fn noted(&mut self, update: Update, author: Option<&Arc<str>>, marks: Vec<Mark>) -> Box<Noted> {
        if self.who.author.as_ref() != author {
            self.who = Arc::new(Who { region: self.who.region.clone(), author: author.cloned() });
        }
        Box::new(Noted { update, who: self.who.clone(), marks })
    }

    /// The fields in which anything is different since this was last asked.
    fn take_touched(&mut self) -> BTreeSet<Path> {
        let touched = self.tracker.take_touched();
        if self.on_duty {
            self.due.extend(touched.iter().cloned());
        }
        touched
    }

    pub(super) const fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// The fields of which what is over is to be looked at again.
    pub(super) fn take_rebuilt(&mut self) -> BTreeSet<Path> {
        self.tracker.take_rebuilt()
    }

    /// What is on record of a field's conflicts.
    pub(super) fn records(&self, path: &Path, is_wanted: &dyn Fn(ConflictId, &Ending) -> bool) -> OfField {
        // What regions say to editors is no field.
        if path.keys().first().is_some_and(|key| key.starts_with(RESERVED_PREFIX)) {
            return OfField::none();
        }
        self.tracker.records(path, self.rules.policy(path), is_wanted)
    }

    /// What the fields say to other documents.
    pub(super) fn index(&self) -> Index {
        Index::of(&self.tracker, &self.rules)
    }

    /// The graph, to be stored beside the state; none when there are no fields.
    pub(super) fn stored(&mut self) -> Option<Bytes> {
        let graph = (!self.tracker.is_empty()).then(|| self.tracker.graph().encode())?;
        self.stored_bytes = graph.len();
        Some(graph)
    }

    /// How many bytes the graph had when it was last stored.
    pub(super) const fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }

    fn view(&self, path: &Path) -> Option<FieldView> {
        let state = self.tracker.state(path, self.rules.policy(path))?;
        let shows = self.tracker.shows(path)?;
        let field = self.rules.field(path);
        let (ty, home) = (field.ty, self.home.filter(|_| field.home.is_some()));
        let is_valid = match &state.shown {
            Shown::Value(value) => ty.accepts(value.as_ref()),
            Shown::AsYjs => ty == FieldType::Any,
        };
        let last_valid = (!is_valid).then(|| self.tracker.last_left(path, |value| ty.accepts(value)));
        let claim = Claim::of(&self.tracker, &self.rules, path);
        Some(FieldView { path: path.clone(), state, shows, last_valid, home, claim })
    }
}

impl Document {
    /// This region makes the document's write-backs from now on, or does so no more.
    pub(super) fn set_duty(&mut self, on_duty: bool) {
        let fields = &mut self.fields;
        if on_duty && !fields.on_duty {
            fields.due = fields.tracker.contested();
        } else if !on_duty {
            fields.due.clear();
        }
        fields.on_duty = on_duty;
    }

    /// The document's home is this one from now on.
    pub(super) const fn set_home(&mut self, home: Option<ReplicaId>) {
        self.fields.home = home;
    }

    /// Takes what another region knew of the fields.
    pub(super) fn take_graph(&mut self, bytes: Bytes) -> Result<(), ReadError> {
        self.fields.tracker.merge(bytes)?;
        if self.fields.on_duty {
            self.fields.due = self.fields.tracker.contested();
        }
        self.records.touch(self.fields.tracker.paths());
        Ok(())
    }

    /// Takes what of the committed writes concerns fields.
    pub(super) fn take_fields(&mut self, committed: &[Admitted]) {
        let noted = committed.iter().filter_map(|admitted| admitted.noted.as_ref().zip(admitted.stamp));
        let mut any = false;
        for (noted, stamp) in noted {
            noted.enter(&mut self.fields.tracker, stamp);
            any = true;
        }
        if any {
            if self.records.is_empty() && self.fields.tracker.take_calm() {
                let is_indexed = self.fields.rules.are_indexed();
                self.records.touch_calm(is_indexed);
            } else {
                self.records.touch(self.fields.take_touched());
            }
        }
        let (admitted, committed) = self.pipeline.totals();
        self.fields.tracker.committed(admitted, committed);
    }

    /// Whether it has to look whether something is to be written back.
    pub(super) fn is_to_write_back(&self) -> bool {
        !self.fields.due.is_empty() && self.phase == Phase::Live && !self.deleted && !self.read_only
    }

    /// Writes back what is due, once nothing on its way says otherwise.
    pub(super) fn write_back(&mut self, now: Time, out: &mut Vec<Output>) {
        if !self.is_to_write_back() || !self.fields.tracker.is_settled() {
            return;
        }
        let ahead = WRITE_BACK_INTERVAL_MS * (WRITE_BACKS_AT_ONCE - 1);
        let earliest = Time(self.fields.next_write_back.0.saturating_sub(ahead));
        if now < earliest {
            return self.wake_by(earliest, out);
        }
        let due = std::mem::take(&mut self.fields.due);
        let writer = Writer { client: self.fields.clients.write_backs, schema: self.fields.rules.hash() };
        let shape = &self.shape;
        let next_clock = |client| shape.next_clock(client);
        let drafted = self.fields.tracker.write_back(&due, &self.fields.rules, writer, &next_clock);
        let Some(drafted) = drafted else { return };
        self.fields.next_write_back = self.fields.next_write_back.max(now).after(WRITE_BACK_INTERVAL_MS);
        match self.admit_drafted(drafted, None) {
            // A document that has no room is as it was: its editors see what Yjs shows them.
            Ok(()) | Err(Refusing::Reason(_)) => {}
            Err(Refusing::Broken(broken)) => return self.fail(&broken, out),
        }
        let writes = self.pipeline.take_unsent();
        if !writes.is_empty() {
            out.push(Output::Append(writes));
        }
    }

    fn admit_drafted(&mut self, drafted: Drafted, author: Option<&Arc<str>>) -> Result<(), Refusing> {
        let mut gate = self.gate();
        let update = gate.decode(drafted.update)?;
        gate.make_room(&update)?;
        gate.create();
        gate.shape.record(&update);
        let marks = gate.fields.tracker.admit_drafted(&update, drafted.marks);
        let noted = gate.fields.noted(update.clone(), author, marks);
        gate.pipeline.push_noted(update, None, Some(noted), None);
        Ok(())
    }

    /// What is committed of some fields, or of all.
    pub(super) fn field_views(&self, paths: Option<&[Path]>) -> Answer {
        let views: Vec<FieldView> = match paths {
            Some(paths) => paths.iter().filter_map(|path| self.fields.view(path)).collect(),
            None => self.fields.tracker.paths().iter().filter_map(|path| self.fields.view(path)).collect(),
        };
        Answer::Fields(views)
    }

    /// Writes fields for somebody without a session.
    pub(super) fn edit_fields(
        &mut self,
        ticket: Ticket,
        edits: &[Edit],
        is_exact: bool,
        author: Option<&Arc<str>>,
    ) -> Result<(), Stopped> {
        if is_exact {
            for edit in edits {
                let current =
                    self.fields.view(&edit.path).map(|view| view.state.version()).unwrap_or_default();
                if edit.on.as_ref() != Some(&current) {
                    return Err(Refused::FieldChanged(edit.path.clone()).into());
                }
            }
        }
        for edit in edits {
            let field = self.fields.rules.field(&edit.path);
            if !field.ty.accepts(edit.value.as_ref()) {
                return Err(Refused::FieldType { path: edit.path.clone(), ty: field.ty }.into());
            }
            if field.required && is_missing(edit.value.as_ref()) {
                return Err(Refused::FieldRequired(edit.path.clone()).into());
            }
        }
        let (client, shape) = (self.fields.clients.edits, &self.shape);
        let drafted = self.fields.tracker.edit(edits, client, || shape.next_clock(client));
        let drafted = drafted.map_err(Refused::Edit)?;
        let changed = drafted.is_some();
        if let Some(drafted) = drafted {
            self.admit_drafted(drafted, author)?;
        }
        self.pipeline.wait(Waiter::Request(ticket, changed));
        Ok(())
    }

    /// Resolves a conflict for somebody without a session.
    pub(super) fn resolve_field(
        &mut self,
        ticket: Ticket,
        path: Path,
        conflict: ConflictId,
        value: Option<Value>,
        author: Option<&Arc<str>>,
    ) -> Result<(), Stopped> {
        let on: Option<FieldVersion> = self.fields.tracker.conflict(&path, conflict);
        let on = on.ok_or_else(|| Refused::UnknownConflict { path: path.clone(), conflict })?;
        self.edit_fields(ticket, &[Edit { path, value, on: Some(on) }], false, author)
    }
}

fn is_missing(value: Option<&Value>) -> bool {
    value.is_none_or(|value| matches!(value, Value::Null | Value::Undefined))
}
