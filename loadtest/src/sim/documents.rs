//! What a region shows: its documents in memory, which are made from the log at each start.
//!
//! Invariant: what is shown are the log's applied entries, once each and in order.

use super::editor::{ROOT, decoded};
use super::fields::Fields;
use super::ledger::Ledger;
use super::plant::{Plant, Planted};
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange, NO_DOC, Stamp};
use quire_protocol::document::Live;
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::fields::{Authorship, FieldsEntry, Mark, Who};
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, DocName, Dot, Seq, StreamId};
use quire_protocol::life::Life;
use quire_protocol::update::{ClientId, Clocks, Limits, Shape, StateVector, Update, merge};
use quire_storage::{Log, Position, SnapshotError, StoredDoc, TailEntry};
use std::collections::BTreeMap;
use std::sync::Arc;
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{ReadTxn, Text, Transact};

/// The documents of a cluster; in most runs only some of them are written.
const NAMES: [&str; 3] = ["notes", "minutes", "ideas"];

/// How many documents there are.
pub(super) const DOCUMENTS: usize = NAMES.len();

pub(super) fn doc_name(number: usize) -> DocName {
    DocName::new(NAMES[number]).expect("a valid name")
}

/// What comes of edits that a deletion had not seen: in the last document, deletions win.
pub(super) fn on_delete(number: usize) -> DeletePolicy {
    if number + 1 == DOCUMENTS { DeletePolicy::DeleteWins } else { DeletePolicy::Revive }
}

/// An entry that is to be shown; its seq is 0 where it stands for many.
pub(super) struct Shown {
    pub(super) doc: DocId,
    pub(super) dot: Dot,
    pub(super) hlc: Hlc,
    pub(super) kind: EntryKind,
    pub(super) payload: Bytes,
}

impl Shown {
    pub(super) fn of((doc, entry): (DocId, TailEntry)) -> Self {
        let TailEntry { dot, hlc, kind, payload, .. } = entry;
        Self { doc, dot, hlc, kind, payload }
    }

    /// The update that it carries, if it carries one.
    fn update(&self) -> Option<Update> {
        match self.kind {
            EntryKind::Update => Some(decoded(self.payload.clone())),
            EntryKind::Fields => Some(decoded(noted(&self.payload).update)),
            _ => None,
        }
    }

    /// What its region says of the fields that it writes.
    fn said(&self) -> Option<(Vec<Mark>, Authorship)> {
        let FieldsEntry { region, author, marks, .. } =
            (self.kind == EntryKind::Fields).then(|| noted(&self.payload))?;
        Some((marks, Authorship { stamp: (self.hlc, self.dot), who: Arc::new(Who { region, author }) }))
    }
}

/// Reads what a region says of an update that writes fields.
pub(super) fn noted(payload: &Bytes) -> FieldsEntry {
    FieldsEntry::decode(payload).expect("regions write what they can read")
}

/// Deleted ranges by client.
pub(super) type Deletes = BTreeMap<ClientId, Vec<Clocks>>;

/// What is known of a document, and what of it is deleted: equal where documents are.
pub(super) type Essence = (StateVector, Deletes);

/// What of a Yjs document is deleted. A shape knows of it only what somebody has said: what one value of a key took
/// the place of Yjs deletes by itself.
pub(super) fn deletes(doc: &yrs::Doc) -> Deletes {
    let txn = doc.transact();
    let all = decoded(txn.encode_state_as_update_v1(&txn.state_vector()).into());
    all.deletes().map(|(client, ranges)| (client, ranges.to_vec())).collect()
}

/// Whether ranges are within others, both in order and joined where they touch.
pub(super) fn are_within(inner: &[Clocks], outer: Option<&Vec<Clocks>>) -> bool {
    let outer = outer.map_or(&[][..], Vec::as_slice);
    inner.iter().all(|range| outer.iter().any(|held| held.start <= range.start && range.end <= held.end))
}

/// What is stored of a document, in the order in which it was shown.
fn placed(doc: DocId, stored: StoredDoc) -> impl Iterator<Item = (Position, Shown)> {
    let dot = Dot { stream: StreamId::from_u32(0), seq: Seq(0) };
    let state = move |kind, payload| (Position(0), Shown { doc, dot, hlc: Hlc(0), kind, payload });
    let graph = stored.fields.map(|payload| state(EntryKind::Graph, payload));
    let text = stored.snapshot.map(|payload| state(EntryKind::Update, payload));
    let tail = stored.tail.into_iter().map(move |entry| (entry.position, Shown::of((doc, entry))));
    graph.into_iter().chain(text).chain(tail)
}

/// The documents of one region.
pub(super) struct Documents {
    docs: BTreeMap<DocId, Open>,
    /// The entries that are shown.
    pub(super) frontier: Frontier,
    newest: Hlc,
}

/// A document in memory.
pub(super) struct Open {
    doc: Live,
    /// What was admitted, on disk or not.
    pub(super) admitted: Shape,
    /// What is shown.
    pub(super) shown: Shape,
    /// What is shown of its fields, and what is on its way.
    pub(super) fields: Fields,
    /// What is shown of its deletions and edits, and what comes of those that a deletion had not seen.
    pub(super) life: Life,
    on_delete: DeletePolicy,
}

impl Documents {
    /// All documents, empty.
    pub(super) fn new() -> Self {
        let docs =
            (0..DOCUMENTS).map(|number| (doc_name(number).id(), Open::new(on_delete(number)))).collect();
        Self { docs, frontier: Frontier::new(), newest: Hlc(0) }
    }

    /// Reads all documents from a log, as they are read when the first editor comes.
    pub(super) fn read(region: usize, log: &dyn Log, planted: Planted, ledger: &mut Ledger) -> Self {
        let mut shows = Self::new();
        let mut entries = Vec::new();
        for number in 0..DOCUMENTS {
            let doc = doc_name(number).id();
            shows.read_life(doc, log);
            match log.load(doc) {
                Ok(stored) => entries.extend(stored.into_iter().flat_map(|stored| placed(doc, stored))),
                Err(error) => ledger.violate(format!("region {region} cannot read a document: {error}")),
            }
        }
        entries.sort_by_key(|(position, _)| *position);
        let entries: Vec<Shown> = entries.into_iter().map(|(_, entry)| entry).collect();
        let applied = log.applied();
        let count: u64 = applied.iter().map(|dot| dot.seq.0).sum();
        let silent = ledger.count_silent(region, &applied);
        let is_one_by_one = !ledger.has_parted() && !ledger.has_imported(region);
        let is_told = entries.len() as u64 + silent == count && is_one_by_one;
        if is_told && entries.iter().all(|entry| entry.dot.seq.0 > 0) {
            for entry in &entries {
                shows.pass_silent(region, &applied, ledger);
                shows.show(region, entry, planted, ledger);
            }
            shows.pass_silent(region, &applied, ledger);
        } else {
            // States stand for entries that are not told one by one, and so does a snapshot; and what was
            // written again is told twice.
            shows.merge(region, &entries, planted, ledger);
            if entries.iter().all(|entry| ledger.may_hold(&applied, entry.dot)) {
                shows.frontier = applied.clone();
            }
        }
        if shows.frontier != applied {
            ledger.violate(format!("region {region}'s documents are not what its log says is applied"));
        }
        ledger.check_holds(region, &shows);
        shows
    }

    /// Takes what the log says of a document's life, where entries do not tell: some stand for many, and some were
    /// written again under other names.
    pub(super) fn read_life(&mut self, doc: DocId, log: &dyn Log) {
        if let Ok(Some(info)) = log.info(doc) {
            self.get_mut(doc).life = info.life;
        }
    }

    /// Takes what the log says of every document's life.
    pub(super) fn read_lives(&mut self, log: &dyn Log) {
        (0..DOCUMENTS).for_each(|number| self.read_life(doc_name(number).id(), log));
    }

    /// What has come of each document: whether it is deleted, and the last edit that a deletion had not seen.
    pub(super) fn fates(&self) -> Vec<(bool, Option<Stamp>)> {
        self.docs.values().map(|open| (open.is_deleted(), open.life.contested())).collect()
    }

    /// Goes on to entries of documents: what belongs to none is not among what is read.
    fn pass_silent(&mut self, region: usize, applied: &Frontier, ledger: &Ledger) {
        for Dot { stream, .. } in applied.iter() {
            let next = |shows: &Self| Dot { stream, seq: Seq(shows.frontier.get(stream).0 + 1) };
            while applied.covers(next(self)) && ledger.is_silent(region, next(self)) {
                self.frontier.raise(next(self));
            }
        }
    }

    pub(super) fn get(&self, doc: DocId) -> &Open {
        self.docs.get(&doc).expect("entries belong to one of the cluster's documents")
    }

    pub(super) fn get_mut(&mut self, doc: DocId) -> &mut Open {
        self.docs.get_mut(&doc).expect("entries belong to one of the cluster's documents")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DocId, &Open)> {
        self.docs.iter().map(|(&doc, open)| (doc, open))
    }

    /// Gives a log the states of all documents that it has, which hold all that is applied.
    pub(super) fn give_states(&self, log: &dyn Log, planted: Planted) -> Result<(), SnapshotError> {
        let position = log.stats().position;
        let named = self.docs.iter().filter(|(doc, _)| log.info(**doc).is_ok_and(|info| info.is_some()));
        for (doc, open) in named {
            let fields = open.fields.stored().filter(|_| !planted.is(Plant::GraphNotStored));
            log.put_snapshot(*doc, position, open.lacking(&[0]), fields)?;
        }
        Ok(())
    }

    /// What each document is, in short.
    pub(super) fn essences(&self) -> Vec<Essence> {
        self.docs.values().map(Open::essence).collect()
    }

    /// The texts with their formats, in words that are the same wherever they are.
    pub(super) fn texts(&self) -> Vec<String> {
        self.docs.values().map(Open::text).collect()
    }

    /// Merges what a snapshot or a state brings, much of which may be known. Returns what is news to sessions.
    /// What entries it stands for is up to whoever calls.
    pub(super) fn merge(
        &mut self,
        region: usize,
        entries: &[Shown],
        planted: Planted,
        ledger: &mut Ledger,
    ) -> Vec<(DocId, Bytes)> {
        let updates: Vec<(&Shown, Update)> =
            entries.iter().filter_map(|entry| Some((entry, entry.update()?))).collect();
        let mut news = Vec::new();
        for entry in entries {
            let fresh = self.get_mut(entry.doc).take(region, entry, planted, ledger);
            news.extend(fresh.map(|fresh| (entry.doc, fresh.encoded().clone())));
        }
        for (entry, update) in &updates {
            ledger.check_seen(region, update, self.get(entry.doc));
        }
        news
    }

    /// Forgets a document, as a planted bug does.
    pub(super) fn empty(&mut self, doc: DocId) {
        let on_delete = self.get(doc).on_delete;
        self.docs.insert(doc, Open::new(on_delete));
    }

    /// Shows an entry. Returns what is news to sessions.
    pub(super) fn show(
        &mut self,
        region: usize,
        entry: &Shown,
        planted: Planted,
        ledger: &mut Ledger,
    ) -> Option<Bytes> {
        let Shown { doc, dot, hlc, .. } = entry;
        let expected = self.frontier.get(dot.stream).0 + 1;
        if dot.seq.0 != expected {
            let how = if dot.seq.0 < expected { "again" } else { "before the one before it" };
            ledger.violate(format!("region {region} shows entry {dot} {how}"));
        }
        match ledger.deps(region, *dot).map(|deps| self.frontier.covers_all(&deps.without(dot.stream))) {
            Some(true) => {}
            Some(false) => ledger.violate(format!("region {region} shows entry {dot} before its causes")),
            None => ledger.violate(format!("region {region} shows entry {dot}, which nobody wrote")),
        }
        self.frontier.raise(*dot);
        if planted.is(Plant::ClockAsFilter) && *hlc < self.newest {
            return None;
        }
        self.newest = self.newest.max(*hlc);
        if *doc != NO_DOC {
            self.get_mut(*doc).lives(entry, planted);
        }
        let update = entry.update()?;
        let open = self.get_mut(*doc);
        let news = open.take(region, entry, planted, ledger);
        ledger.check_seen(region, &update, open);
        Some(merge([&update].into_iter().chain(&news)).encoded().clone())
    }
}

impl Open {
    fn new(on_delete: DeletePolicy) -> Self {
        let life = Life::default();
        let fields = Fields::default();
        Self { doc: Live::new(1), admitted: Shape::new(), shown: Shape::new(), fields, life, on_delete }
    }

    pub(super) fn doc(&self) -> &yrs::Doc {
        &self.doc
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.life.is_deleted(self.on_delete)
    }

    /// Takes note of what an entry does to its document's life.
    fn lives(&mut self, entry: &Shown, planted: Planted) {
        let stamp = (entry.hlc, entry.dot);
        let counts = !planted.is(Plant::EarlierEditsForgotten) || self.life.deletion().is_some();
        if entry.kind.carries_update() && counts {
            self.life.edited(stamp);
        }
        match LifecycleChange::decode(&entry.payload) {
            Ok(LifecycleChange::Delete { frontier }) if entry.kind == EntryKind::Lifecycle => {
                self.life.deleted(stamp, frontier);
            }
            Ok(LifecycleChange::Restore) if entry.kind == EntryKind::Lifecycle => self.life.restored(stamp),
            _ => {}
        }
    }

    /// Takes an entry into the document. Returns what of it was new to the text, with the deletion of what of that stands
    /// in something deleted.
    fn take(
        &mut self,
        region: usize,
        entry: &Shown,
        planted: Planted,
        ledger: &mut Ledger,
    ) -> Option<Update> {
        if entry.kind == EntryKind::Graph && !planted.is(Plant::GraphIgnored) {
            let merged = self.fields.merge(entry.payload.clone());
            merged.unwrap_or_else(|error| {
                ledger.violate(format!("region {region} cannot read what is stored of fields: {error}"));
            });
        }
        let update = entry.update()?;
        let fresh = self.take_update(region, entry.dot, &update, ledger);
        // An entry that says nothing new of the text may still be the earlier one, or say more of the fields.
        if let Some((marks, by)) = entry.said()
            && (fresh.is_some() || !planted.is(Plant::KnownTextIgnored))
        {
            let stamp =
                if planted.is(Plant::StampByArrival) { self.fields.arrival(by.stamp) } else { by.stamp };
            self.fields.take(&update, &marks, &Authorship { stamp, ..by });
        }
        fresh
    }

    fn take_update(
        &mut self,
        region: usize,
        dot: Dot,
        update: &Update,
        ledger: &mut Ledger,
    ) -> Option<Update> {
        match self.shown.admit_within(update.clone(), &Limits::STORED) {
            Ok(admission) => {
                if admission.missing {
                    ledger.violate(format!("region {region} shows entry {dot}, which rests on a hole"));
                }
                let fresh = admission.fresh?;
                self.shown.record(&fresh);
                self.admitted.record(&fresh);
                let update = yrs::Update::decode_v1(fresh.encoded()).expect("it has been checked");
                self.doc.transact_mut().apply_update(update).expect("it was admitted");
                Some(merge([&fresh].into_iter().chain(&admission.dropped)))
            }
            Err(refusal) => {
                ledger.violate(format!("region {region} cannot show entry {dot}: {refusal}"));
                None
            }
        }
    }

    pub(super) fn essence(&self) -> Essence {
        (self.shown.state_vector(), deletes(&self.doc))
    }

    /// Whether all that an update does is to delete what is deleted.
    fn has_deleted(&self, update: &Update) -> bool {
        let known = deletes(&self.doc);
        update.block_count() == 0
            && update.deletes().all(|(client, ranges)| are_within(ranges, known.get(&client)))
    }

    /// Whether all of an update is shown.
    pub(super) fn holds(&self, update: &Update) -> bool {
        let admission = self.shown.admit_within(update.clone(), &Limits::STORED);
        admission.is_ok_and(|admission| {
            !admission.missing && admission.fresh.is_none_or(|fresh| self.has_deleted(&fresh))
        })
    }

    /// What a state vector lacks of what is shown.
    pub(super) fn lacking(&self, held: &[u8]) -> Bytes {
        let held = yrs::StateVector::decode_v1(held).expect("a state vector");
        self.doc.transact().encode_state_as_update_v1(&held).into()
    }

    pub(super) fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }

    fn text(&self) -> String {
        let text = self.doc.get_or_insert_text(ROOT);
        let txn = self.doc.transact();
        let mut told = String::new();
        let mut last = None;
        for piece in text.diff(&txn, yrs::types::text::YChange::identity) {
            let formats: BTreeMap<String, String> = piece
                .attributes
                .iter()
                .flat_map(|all| all.iter().map(|(key, value)| (key.to_string(), format!("{value:?}"))))
                .collect();
            let formats = format!("{formats:?}");
            if last.as_ref() != Some(&formats) {
                told.push_str(&formats);
            }
            told.push_str(&piece.insert.to_string(&txn));
            last = Some(formats);
        }
        told
    }
}
