//! What regions do with documents' fields: say what is to be said of a write, write back, and write for who has no
//! editor. As the server's document machine does, with the same tracker.

use super::documents::{DOCUMENTS, Open, doc_name};
use super::editor::decoded;
use super::field_checks::Admitted;
use super::plant::{Plant, Planted};
use super::region::{Standing, Write, replica};
use super::said::FieldsWritten;
use super::world::{Happening, World};
use bytes::Bytes;
use quire_protocol::batch::Stamp;
use quire_protocol::document::WRITE_BACK_INTERVAL_MS;
use quire_protocol::fields::schema::{Collection, Field, FieldType, Policy, Schema};
use quire_protocol::fields::{
    Authorship, Drafted, Edit, EditRefused, FieldState, FieldsEntry, Mark, MarkKind, Path, Rules, Tracker,
    Writer, home,
};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, Dot, ReplicaId, Seq, StreamId};
use quire_protocol::time::Time;
use quire_protocol::update::{ClientId, Update};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Regions write fields as Yjs clients from here on: editors have lower numbers.
const CLIENTS_FROM: u64 = 1 << 20;

/// One that may not write yet looks again so many milliseconds later.
const AGAIN_MS: u64 = 200;

/// The rules of all documents: a field of each policy, and what no rule names keeps its siblings.
pub(super) static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let mut collection = Collection::new("all", "**").expect("two stars are a pattern");
    let rank = Policy::Rank(["todo", "doing", "done"].map(str::to_owned).to_vec());
    let fields = [
        ("status", FieldType::String, Policy::Lww),
        ("votes", FieldType::Number, Policy::Counter),
        ("note", FieldType::String, Policy::Text3),
        ("tags", FieldType::List, Policy::Set),
        ("top", FieldType::Number, Policy::Max),
        ("stage", FieldType::String, rank),
    ];
    collection.fields =
        BTreeMap::from(fields.map(|(name, ty, policy)| (name.to_owned(), Field::new(ty, policy))));
    let schema = Schema::new(vec![collection]).expect("its rules go with their types");
    Rules::of(&schema, &doc_name(0))
});

/// The fields of an open document.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) tracker: Tracker,
    /// How many writes were admitted and how many of them are committed.
    admitted: u64,
    committed: u64,
    on_duty: bool,
    due: BTreeSet<Path>,
    next_write_back: Time,
    /// The Yjs clients that it writes fields as: for others, and back.
    clients: Option<[ClientId; 2]>,
    arrivals: u64,
}

impl Fields {
    /// What this region says of an update that it admits; none when it writes no field.
    pub(super) fn note(&mut self, fresh: &Update, sent: &Update, planted: Planted) -> Option<Vec<Mark>> {
        if planted.is(Plant::AheadForgotten) {
            self.tracker.committed(self.admitted, self.admitted);
        }
        let mut marks = self.tracker.admit(fresh, sent)?;
        if planted.is(Plant::GivenBackAsEdit) {
            marks.iter_mut().for_each(|mark| mark.kind = MarkKind::Edit);
        }
        Some(marks)
    }

    /// Counts what is on its way to the disk.
    pub(super) const fn has_admitted(&mut self) {
        self.admitted += 1;
    }

    /// Counts what has come on disk, and has been taken.
    pub(super) fn has_committed(&mut self, writes: u64) {
        self.committed += writes;
        self.tracker.committed(self.admitted, self.committed);
    }

    pub(super) fn take(&mut self, update: &Update, marks: &[Mark], by: &Authorship) {
        self.tracker.take(update, marks, by);
        let touched = self.tracker.take_touched();
        if self.on_duty {
            self.due.extend(touched);
        }
    }

    /// Takes what another region knew, or this one when it stored a state.
    pub(super) fn merge(&mut self, graph: Bytes) -> Result<(), String> {
        self.tracker.merge(graph).map_err(|error| error.to_string())?;
        if self.on_duty {
            self.due = self.tracker.contested();
        }
        Ok(())
    }

    /// The graph, to be stored beside the state; none when there are no fields.
    pub(super) fn stored(&self) -> Option<Bytes> {
        (!self.tracker.is_empty()).then(|| self.tracker.graph().encode())
    }

    fn set_duty(&mut self, on_duty: bool) {
        if on_duty && !self.on_duty {
            self.due = self.tracker.contested();
        } else if !on_duty {
            self.due.clear();
        }
        self.on_duty = on_duty;
    }

    pub(super) fn is_to_write_back(&self) -> bool {
        !self.due.is_empty()
    }

    /// A stamp by when an entry came, as a planted bug has it.
    pub(super) const fn arrival(&mut self, (_, dot): Stamp) -> Stamp {
        self.arrivals += 1;
        (Hlc(self.arrivals), dot)
    }
}

impl World {
    /// Has a region look at what it is to write back.
    pub(super) fn look_at_fields(&mut self, at: usize) {
        let life = self.regions[at].life;
        self.after(1, Happening::Fields(at, life));
    }

    pub(super) fn write_back_on(&mut self, at: usize, life: u64) {
        let region = &self.regions[at];
        let Some(log) = region.log.clone().filter(|_| region.life == life) else { return };
        let me = replica(at);
        let mut live: BTreeSet<ReplicaId> = self.hears(at);
        live.insert(me);
        let mut again: Option<Time> = None;
        for number in 0..DOCUMENTS {
            let doc = doc_name(number).id();
            let home = log.info(doc).ok().flatten().and_then(|info| info.home);
            let region = &mut self.regions[at];
            let may_write = region.takes_writes();
            let open = region.shows.get_mut(doc);
            open.fields.set_duty(home::writer(home, &live) == Some(me));
            if !open.fields.is_to_write_back() || open.is_deleted() || !open.fields.tracker.is_settled() {
                continue;
            }
            if !may_write {
                again = Some(self.now.after(AGAIN_MS));
            } else if self.now < open.fields.next_write_back {
                again = Some(open.fields.next_write_back);
            } else {
                self.write_back(at, doc);
            }
        }
        drop(log);
        if let Some(again) = again.filter(|_| self.regions[at].standing != Standing::Removed) {
            self.at(again, Happening::Fields(at, life));
        }
    }

    fn write_back(&mut self, at: usize, doc: DocId) {
        let [_, client] = self.own_clients(at, doc);
        let (now, planted) = (self.now, self.planted);
        let open = self.regions[at].shows.get_mut(doc);
        let due = std::mem::take(&mut open.fields.due);
        let writer = Writer { client, schema: RULES.hash() };
        let next_clock = |client| open.admitted.next_clock(client);
        let drafted = open.fields.tracker.write_back(&due, &RULES, writer, &next_clock);
        let Some(mut drafted) = drafted else { return };
        open.fields.next_write_back = now.after(WRITE_BACK_INTERVAL_MS);
        self.totals.write_backs += 1;
        self.say(format_args!("region {at} writes back {} fields of {doc:?}", due.len()));
        let truth = self.ledger.truth(doc);
        truth.drafted(&decoded(drafted.update.clone()));
        truth.written_back(&drafted.marks);
        for mark in &mut drafted.marks {
            if planted.is(Plant::WriteBackForgets) {
                mark.sees.pop();
            }
            if planted.is(Plant::WriteBackAsEdit) {
                mark.kind = MarkKind::Edit;
            }
        }
        self.check_write_back(at, doc, &drafted.marks);
        self.admit_drafted(at, doc, drafted, None);
    }

    /// The Yjs clients that a region writes the fields of a document as: others in each life.
    fn own_clients(&mut self, at: usize, doc: DocId) -> [ClientId; 2] {
        let number = u32::try_from(CLIENTS_FROM + 2 * self.next_number()).expect("few events");
        let fields = &mut self.regions[at].shows.get_mut(doc).fields;
        *fields.clients.get_or_insert([ClientId(number), ClientId(number + 1)])
    }

    fn admit_drafted(&mut self, at: usize, doc: DocId, drafted: Drafted, author: Option<&str>) {
        let Drafted { update, marks } = drafted;
        let update = match Update::decode(update) {
            Ok(update) => update,
            Err(refusal) => {
                return self.ledger.violate(format!("region {at} drafts what is refused: {refusal}"));
            }
        };
        self.ledger.truth(doc).drafted(&update);
        let open = self.regions[at].shows.get_mut(doc);
        // What it replaces may be on its way to being deleted already, by somebody whom it is concurrent with.
        let admitted = open.admitted.admit(update.clone());
        let blocks = |fresh: Option<Update>| fresh.map_or(0, |fresh| fresh.block_count());
        let is_whole = admitted.is_ok_and(|it| !it.missing && blocks(it.fresh) == update.block_count());
        if !is_whole {
            let update = update.encoded().len();
            return self
                .ledger
                .violate(format!("region {at} cannot admit an update of {update} bytes that it drafted"));
        }
        let all = open.fields.tracker.admit_drafted(&update, marks.clone());
        self.check_marks(at, doc, &Admitted { fresh: &update, sent: None, all: &all, drafted: &marks });
        self.regions[at].shows.get_mut(doc).admitted.record(&update);
        let noted = entry(at, author.map(str::to_owned), all, &update);
        let write = Write {
            doc,
            from: None,
            sent: update.clone(),
            fresh: Some(update),
            noted: Some(noted),
            told: false,
        };
        self.admit(at, write);
    }

    /// Puts a write among those that wait for the disk.
    pub(super) fn admit(&mut self, at: usize, write: Write) {
        let region = &mut self.regions[at];
        if write.fresh.is_some() {
            region.shows.get_mut(write.doc).fields.has_admitted();
        }
        region.writes.push(write);
        self.commit_soon(at);
    }

    /// Somebody writes fields without an editor, as over HTTP. False when it cannot be done.
    pub(super) fn edit_fields(&mut self, at: usize, doc: DocId, edits: &[Edit], author: &str) -> bool {
        let as_current = self.planted.is(Plant::OldVersionAsCurrent);
        let made =
            edits.iter().map(|edit| Edit { on: edit.on.clone().filter(|_| !as_current), ..edit.clone() });
        self.edit_fields_as(at, doc, edits, &made.collect::<Vec<_>>(), author)
    }

    /// The same, where what is made may be something else than what was asked for.
    pub(super) fn edit_fields_as(
        &mut self,
        at: usize,
        doc: DocId,
        edits: &[Edit],
        made: &[Edit],
        author: &str,
    ) -> bool {
        let [client, _] = self.own_clients(at, doc);
        let open = self.regions[at].shows.get_mut(doc);
        let drafted = open.fields.tracker.edit(made, client, || open.admitted.next_clock(client));
        match drafted {
            Ok(Some(drafted)) => {
                self.ledger.truth(doc).drafted(&decoded(drafted.update.clone()));
                self.check_edits(at, doc, edits, &drafted.marks);
                self.admit_drafted(at, doc, drafted, Some(author));
                true
            }
            Ok(None) | Err(EditRefused::UnknownVersion(_) | EditRefused::NoMap(_)) => false,
            Err(EditRefused::Twice(path)) => {
                self.ledger.violate(format!("an edit of {path} is refused that is made once"));
                false
            }
        }
    }
}

/// What a region says of an update that writes fields.
pub(super) fn entry(at: usize, author: Option<String>, marks: Vec<Mark>, update: &Update) -> FieldsEntry {
    let region = format!("region {at}").into();
    FieldsEntry { region, author: author.map(Into::into), marks, update: update.encoded().clone() }
}

/// A write that is on its way to the disk and has no stamp yet.
pub(super) fn coming(write: &Write) -> Option<FieldsWritten> {
    let dot = Dot { stream: StreamId::from_u32(u32::MAX), seq: Seq(u64::MAX) };
    let stamp: Stamp = (Hlc(u64::MAX), dot);
    let (noted, update) = (write.noted.as_ref()?, write.fresh.clone()?);
    Some(FieldsWritten { stamp, doc: write.doc, marks: noted.marks.clone(), update })
}

impl Open {
    /// The state of a field here.
    pub(super) fn field(&self, path: &Path) -> Option<FieldState> {
        self.fields.tracker.state(path, RULES.policy(path))
    }
}
