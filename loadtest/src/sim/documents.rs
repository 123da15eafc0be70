//! What a region shows: its documents in memory, which are made from the log at each start.
//!
//! Invariant: what is shown are the log's applied entries, once each and in order.

use super::editor::{ROOT, decoded};
use super::ledger::Ledger;
use super::plant::{Plant, Planted};
use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange, NO_DOC, Stamp};
use quire_protocol::document::Live;
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::frontier::Frontier;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, DocName, Dot, Seq, StreamId};
use quire_protocol::life::Life;
use quire_protocol::update::{ClientId, Clocks, Limits, Shape, StateVector, Update};
use quire_storage::{Log, Position, SnapshotError, StoredDoc, TailEntry};
use std::collections::BTreeMap;
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
}

/// What is known of a document, and what of it is deleted: equal where documents are.
pub(super) type Essence = (StateVector, Vec<(ClientId, Vec<Clocks>)>);

/// All that makes two documents equal.
pub(super) fn essence(shape: &Shape) -> Essence {
    (shape.state_vector(), shape.deletes().collect())
}

/// What is stored of a document, in the order in which it was shown.
fn placed(doc: DocId, stored: StoredDoc) -> impl Iterator<Item = (Position, Shown)> {
    let dot = Dot { stream: StreamId::from_u32(0), seq: Seq(0) };
    let kind = EntryKind::Update;
    let state = stored.snapshot.map(|payload| Shown { doc, dot, hlc: Hlc(0), kind, payload });
    let tail = stored.tail.into_iter().map(move |entry| (entry.position, Shown::of((doc, entry))));
    state.map(|state| (Position(0), state)).into_iter().chain(tail)
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
            shows.merge(region, &entries, ledger);
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
    pub(super) fn give_states(&self, log: &dyn Log) -> Result<(), SnapshotError> {
        let position = log.stats().position;
        let named = self.docs.iter().filter(|(doc, _)| log.info(**doc).is_ok_and(|info| info.is_some()));
        for (doc, open) in named {
            log.put_snapshot(*doc, position, open.lacking(&[0]), None)?;
        }
        Ok(())
    }

    /// What each document is, in short.
    pub(super) fn essences(&self) -> Vec<Essence> {
        self.docs.values().map(|open| essence(&open.shown)).collect()
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
        ledger: &mut Ledger,
    ) -> Vec<(DocId, Bytes)> {
        let updates = entries.iter().filter(|entry| entry.kind == EntryKind::Update);
        let updates: Vec<(&Shown, Update)> =
            updates.map(|entry| (entry, decoded(entry.payload.clone()))).collect();
        let mut news = Vec::new();
        for (entry, update) in &updates {
            let fresh = self.get_mut(entry.doc).take(region, entry.dot, update, ledger);
            news.extend(fresh.map(|fresh| (entry.doc, fresh.encoded().clone())));
        }
        for (entry, update) in &updates {
            ledger.check_seen(region, update, &self.get(entry.doc).shown);
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
        let Shown { doc, dot, hlc, kind, payload } = entry;
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
        if *kind != EntryKind::Update {
            return None;
        }
        let open = self.get_mut(*doc);
        let update = decoded(payload.clone());
        open.take(region, *dot, &update, ledger);
        ledger.check_seen(region, &update, &open.shown);
        Some(payload.clone())
    }
}

impl Open {
    fn new(on_delete: DeletePolicy) -> Self {
        let life = Life::default();
        Self { doc: Live::new(1), admitted: Shape::new(), shown: Shape::new(), life, on_delete }
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

    /// Takes an update into the document. Returns what of it was new.
    fn take(&mut self, region: usize, dot: Dot, update: &Update, ledger: &mut Ledger) -> Option<Update> {
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
                Some(fresh)
            }
            Err(refusal) => {
                ledger.violate(format!("region {region} cannot show entry {dot}: {refusal}"));
                None
            }
        }
    }

    /// Whether all of an update is shown.
    pub(super) fn holds(&self, update: &Update) -> bool {
        let admission = self.shown.admit_within(update.clone(), &Limits::STORED);
        admission.is_ok_and(|admission| admission.fresh.is_none() && !admission.missing)
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
