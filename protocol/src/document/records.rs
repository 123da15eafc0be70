//! What is on record of a document across its restarts: its conflicts, and what its fields say to other
//! documents. Derived from what is committed, and told to the driver where it has changed.
//!
//! Invariant: what was told last, and the entries up to its position, agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::event::Output;
use super::machine::Document;
use crate::batch::Stamp;
use crate::fields::{Authorship, ConflictId, Conflicting, Ending, Index, OfField, Path, Record, Resolution};
use crate::lib0::ReadError;
use crate::time::Time;

/// A document is looked at no sooner again: while fields are written without a pause, one look serves many.
pub const DERIVE_INTERVAL_MS: u64 = 20;

/// The same where nothing but how far it was looked at can change.
pub const DERIVE_CALM_INTERVAL_MS: u64 = 200;

/// So many conflicts that are over stay on record of one document; then the oldest go.
pub const HISTORY_LEN_MAX: usize = 1_024;

/// They may have so many bytes together, values included.
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// What is new on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The position of the log that it holds.
    pub position: u64,
    /// The conflicts that are new or have changed, and none for each that is off the record.
    pub records: Vec<(ConflictId, Option<Record>)>,
    /// What the fields say to other documents, where that is something else now.
    pub index: Option<Index>,
    /// Whether something was written of the document's deletion, so that it may be deleted now, or back.
    pub turned: bool,
}

/// One conflict that is on record.
#[derive(Debug)]
struct Known {
    /// How it ended, where it is over.
    over: Option<Ending>,
    has_base: bool,
    bytes: usize,
    hash: blake3::Hash,
}

/// What is on record of a document.
#[derive(Debug, Default)]
pub(super) struct Records {
    known: BTreeMap<ConflictId, Known>,
    /// Those of each field that are over, and some that were.
    over: BTreeMap<Path, BTreeSet<ConflictId>>,
    /// Of each field in which there is one, the conflict that is not over.
    current: BTreeMap<Path, ConflictId>,
    /// The document's deletion, where it is in conflict.
    deletion: Option<Record>,
    /// Conflicts that were over by then have gone from the record, or may have.
    gone_before: Option<Stamp>,
    index: Index,
    /// The fields to be looked at.
    touched: BTreeSet<Path>,
    /// Whether something was written of its deletion since.
    turned: bool,
    due: Due,
    last: Option<Time>,
}

/// Whether what is on record is to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    #[default]
    No,
    /// Only to say how far it was looked at.
    Calm,
    Changed,
}

impl Records {
    /// Takes what is on record. A record that cannot be read is derived anew.
    pub(super) fn read(rows: Vec<(ConflictId, Bytes)>, index: Option<Bytes>) -> Self {
        let mut records = Self::default();
        for (id, row) in rows {
            let Ok(record) = Record::decode(row.clone()) else { continue };
            records.know(&record, &row);
            match (&record.of, &record.resolved) {
                (Conflicting::Writes(writes), None) => drop(records.current.insert(writes.path.clone(), id)),
                (Conflicting::Deletion(_), None) => records.deletion = Some(record),
                (_, Some(_)) => {}
            }
        }
        let index = index.map_or(Ok(Index::default()), Index::decode);
        records.index = index.unwrap_or_else(|_: ReadError| Index::default());
        let over = || records.known.values().filter_map(|known| Some(known.over?.by));
        if over().count() >= HISTORY_LEN_MAX {
            // Older ones may have gone.
            records.gone_before = over().min();
        }
        records
    }

    fn know(&mut self, record: &Record, row: &Bytes) -> bool {
        let over = record.ending();
        if let Some(path) = record.path().filter(|_| over.is_some()) {
            self.over.entry(path.clone()).or_default().insert(record.id);
        }
        let known = Known { over, has_base: record.has_base(), bytes: row.len(), hash: blake3::hash(row) };
        let hash = known.hash;
        self.known.insert(record.id, known).is_none_or(|before| before.hash != hash)
    }

    /// Fields have changed.
    pub(super) fn touch(&mut self, paths: impl IntoIterator<Item = Path>) {
        self.touched.extend(paths);
        self.due = Due::Changed;
    }

    /// Fields have changed, in which there is no conflict and has been none. `are_indexed` where they may say
    /// something else to other documents.
    pub(super) fn touch_calm(&mut self, are_indexed: bool) {
        self.due = self.due.max(if are_indexed { Due::Changed } else { Due::Calm });
    }

    /// Whether nothing is on record, or on its way there.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.current.is_empty() && self.over.is_empty() && self.touched.is_empty()
    }

    /// The fields to be looked at: those that were touched, and what is on record in maps that may have been
    /// replaced there.
    fn take_touched(&mut self) -> BTreeSet<Path> {
        let mut all = std::mem::take(&mut self.touched);
        let mut inside: Vec<Path> = Vec::new();
        for path in &all {
            let is_inside = |other: &&Path| other.keys().starts_with(path.keys());
            inside.extend(self.current.range(path..).map(|(other, _)| other).take_while(is_inside).cloned());
            inside.extend(self.over.range(path..).map(|(other, _)| other).take_while(is_inside).cloned());
        }
        all.extend(inside);
        all
    }

    /// Something else has changed from which something is derived.
    pub(super) const fn touch_life(&mut self) {
        self.turned = true;
        self.due = Due::Changed;
    }

    /// Whether a conflict that ended so is worth a look.
    fn is_news(&self, id: ConflictId, over: &Ending) -> bool {
        match self.known.get(&id) {
            Some(known) => known.over.is_none_or(|known| over.is_news_to(&known)),
            None => self.gone_before.is_none_or(|gone| over.by > gone),
        }
    }

    /// Whether what is on record has values that have been let go since.
    fn has_more_than(&self, record: &Record) -> bool {
        let Some(Known { over: Some(known), has_base, .. }) = self.known.get(&record.id) else {
            return false;
        };
        record.ending().is_some_and(|over| over.has_let_go_of(known)) || *has_base && !record.has_base()
    }

    fn put(&mut self, record: Record, changes: &mut Vec<(ConflictId, Option<Record>)>) {
        if self.know(&record, &record.encode()) {
            changes.push((record.id, Some(record)));
        }
    }

    /// Takes what is found of a field.
    fn field(
        &mut self,
        path: &Path,
        OfField { current, over, all_over }: OfField,
        changes: &mut Vec<(ConflictId, Option<Record>)>,
    ) {
        for record in over {
            if !self.has_more_than(&record) {
                self.put(record, changes);
            }
        }
        if let Some(all) = all_over {
            self.forget_but(path, &all, changes);
        }
        let before = self.current.remove(path);
        if let Some(record) = &current {
            self.current.insert(path.clone(), record.id);
        }
        let is_there = before == current.as_ref().map(|record| record.id);
        if let Some(before) = before.filter(|_| !is_there)
            && self.known.get(&before).is_some_and(|known| known.over.is_none())
        {
            self.known.remove(&before);
            changes.push((before, None));
        }
        current.into_iter().for_each(|record| self.put(record, changes));
    }

    /// Takes off the record what was taken for a conflict of the field and never was one: a region's write-back had
    /// come with an editor, before its region said what it is.
    fn forget_but(
        &mut self,
        path: &Path,
        all: &BTreeSet<ConflictId>,
        changes: &mut Vec<(ConflictId, Option<Record>)>,
    ) {
        let Some(over) = self.over.get_mut(path) else { return };
        let known = &mut self.known;
        over.retain(|id| {
            let is_over = known.get(id).is_some_and(|known| known.over.is_some());
            if is_over && !all.contains(id) {
                known.remove(id);
                changes.push((*id, None));
            }
            is_over && all.contains(id)
        });
        if over.is_empty() {
            self.over.remove(path);
        }
    }

    fn deletion(
        &mut self,
        current: Option<Record>,
        turned: Option<Stamp>,
        changes: &mut Vec<(ConflictId, Option<Record>)>,
    ) {
        let is_another = |before: &Record| current.as_ref().is_none_or(|current| current.id != before.id);
        if let (Some(mut before), Some(stamp)) = (self.deletion.take_if(|before| is_another(before)), turned)
        {
            let by = Authorship { stamp, who: Arc::default() };
            before.resolved = Some(Resolution { by, left: None });
            self.put(before, changes);
        }
        if let Some(record) = current {
            self.deletion = Some(record.clone());
            self.put(record, changes);
        }
    }

    /// Takes the oldest off the record of what is over, where it is too much.
    fn evict(&mut self, changes: &mut Vec<(ConflictId, Option<Record>)>) {
        let over = self.known.iter().filter_map(|(id, known)| Some((known.over?.by, *id, known.bytes)));
        let mut over: Vec<_> = over.collect();
        let mut bytes: usize = over.iter().map(|(_, _, bytes)| bytes).sum();
        if over.len() <= HISTORY_LEN_MAX && bytes <= HISTORY_BYTES_MAX {
            return;
        }
        over.sort_unstable();
        let mut left = over.len();
        for (stamp, id, len) in over {
            if left <= HISTORY_LEN_MAX && bytes <= HISTORY_BYTES_MAX {
                break;
            }
            (left, bytes) = (left - 1, bytes - len);
            self.gone_before = self.gone_before.max(Some(stamp));
            self.known.remove(&id);
            changes.push((id, None));
        }
        let known = &self.known;
        self.over.retain(|_, of_field| {
            of_field.retain(|id| known.contains_key(id));
            !of_field.is_empty()
        });
    }
}

impl Document {
    /// Whether it has to look whether what is on record has changed.
    pub(super) const fn is_to_derive(&self) -> bool {
        !matches!(self.records.due, Due::No) && !self.read_only && !self.has_failed()
    }

    /// Tells what has changed on record, where something may have.
    pub(super) fn derive(&mut self, now: Time, out: &mut Vec<Output>) {
        if !self.is_to_derive() {
            return;
        }
        let interval =
            if self.records.due == Due::Calm { DERIVE_CALM_INTERVAL_MS } else { DERIVE_INTERVAL_MS };
        if let Some(next) = self.records.last.map(|last| last.after(interval)).filter(|&next| now < next) {
            return self.wake_by(next, out);
        }
        let mut records = Vec::new();
        let rebuilt = self.fields.take_rebuilt();
        for path in self.records.take_touched() {
            let is_rebuilt = rebuilt.contains(&path);
            let is_wanted = |id, over: &Ending| {
                is_rebuilt && self.records.known.contains_key(&id) || self.records.is_news(id, over)
            };
            let found = self.fields.records(&path, &is_wanted);
            self.records.field(&path, found, &mut records);
        }
        let deletion = Record::of_life(&self.life, self.deleted);
        self.records.deletion(deletion, self.life.turned(), &mut records);
        self.records.evict(&mut records);
        let index = if self.deleted { Index::default() } else { self.fields.index() };
        let index = (index != self.records.index).then(|| {
            self.records.index = index.clone();
            index
        });
        let turned = std::mem::take(&mut self.records.turned);
        (self.records.due, self.records.last) = (Due::No, Some(now));
        out.push(Output::Derived(Box::new(Derived { position: self.position, records, index, turned })));
    }

    /// What is to be looked at when the document is opened: all of it where entries came of which nothing is
    /// derived yet, else what may be another by another schema.
    pub(super) fn derive_what_is_stored(&mut self, is_due: bool, now: Time, out: &mut Vec<Output>) {
        let tracker = self.fields.tracker();
        let mut paths = tracker.contested();
        if is_due {
            paths.extend(tracker.paths());
        }
        paths.extend(self.records.current.keys().cloned());
        if !is_due {
            // Nothing is told where all is as it was.
            let is_same = |path: &Path| {
                let OfField { current, .. } = self.fields.records(path, &|_, _| false);
                let hash = current.map(|record| blake3::hash(&record.encode()));
                let known = self.records.current.get(path).and_then(|id| self.records.known.get(id));
                hash == known.map(|known| known.hash)
            };
            let index = if self.deleted { Index::default() } else { self.fields.index() };
            if paths.iter().all(is_same) && index == self.records.index {
                return;
            }
        }
        self.records.turned = is_due;
        self.records.touch(paths);
        self.derive(now, out);
    }
}
