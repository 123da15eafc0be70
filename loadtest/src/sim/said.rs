//! What is to come of the writes that some entries carry: the causal graph of each field, worked out anew from
//! what its writers knew and what regions have said of deletions.
//!
//! It is meant to be seen through at one reading and has no care for speed: no node, no level, no order of arrival.

use super::truth::{Place, Truth};
use quire_protocol::batch::Stamp;
use quire_protocol::fields::{Base, Held, Mark, MarkKind, Value, WriteBackMark, WriteId};
use quire_protocol::ids::DocId;
use quire_protocol::lib0::Reader;
use quire_protocol::update::{Content, ItemId, ItemRef, Update};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An entry that writes fields.
#[derive(Clone)]
pub(super) struct FieldsWritten {
    pub(super) stamp: Stamp,
    pub(super) doc: DocId,
    pub(super) marks: Vec<Mark>,
    pub(super) update: Update,
}

/// What entries of one document carry of its fields.
pub(super) struct Said<'a> {
    pub(super) truth: &'a Truth,
    /// The units that are set, and the least stamp of the entries that carry each.
    set: BTreeMap<ItemId, Stamp>,
    values: BTreeMap<ItemId, Held>,
    /// Units that come last in an item, that come before another one in an item, and that somebody names. Of units
    /// that came as one only the last has a say.
    last: BTreeSet<ItemId>,
    inner: BTreeSet<ItemId>,
    named: BTreeSet<ItemId>,
    /// The items whose key was deleted while they were shown.
    deleted: BTreeMap<ItemId, Stamp>,
    saw: BTreeMap<WriteId, BTreeSet<WriteId>>,
    /// What regions have written back. Who made one knows more of it than who was given it by an editor.
    write_backs: BTreeMap<ItemId, WriteBackMark>,
}

impl<'a> Said<'a> {
    pub(super) fn of(truth: &'a Truth, entries: impl IntoIterator<Item = &'a FieldsWritten>) -> Self {
        let mut said = Self {
            truth,
            set: BTreeMap::new(),
            values: BTreeMap::new(),
            last: BTreeSet::new(),
            inner: BTreeSet::new(),
            named: BTreeSet::new(),
            deleted: BTreeMap::new(),
            saw: BTreeMap::new(),
            write_backs: BTreeMap::new(),
        };
        entries.into_iter().for_each(|entry| said.hear(&entry.update, &entry.marks, entry.stamp));
        said
    }

    fn hear(&mut self, update: &Update, marks: &[Mark], stamp: Stamp) {
        // What is collected went with the map that it was in.
        for item in update.items().filter(|item| item.content() != Content::Gc) {
            for clock in item.clocks().start..item.clocks().end {
                let unit = ItemId { clock, ..item.id() };
                if self.truth.made(unit).is_some() {
                    least(&mut self.set, unit, stamp);
                    let is_last = clock + 1 == item.clocks().end;
                    if is_last { &mut self.last } else { &mut self.inner }.insert(unit);
                }
            }
            self.named.extend(item.origin());
            let last = ItemId { clock: item.clocks().end - 1, ..item.id() };
            if let Some(held) = held(&item).filter(|_| self.truth.made(last).is_some()) {
                self.values.insert(last, held);
            }
        }
        for mark in marks {
            self.saw.entry(mark.write).or_default().extend(&mark.sees);
            self.named.insert(mark.write.item());
            if let WriteId::Deleted(item) = mark.write {
                least(&mut self.deleted, item, stamp);
            }
            if let MarkKind::WriteBack(by) = mark.kind {
                let known = self.write_backs.entry(mark.write.item()).or_insert(by);
                *known = by.max(*known);
            }
        }
    }

    /// The item whose value Yjs shows in a field.
    pub(super) fn tail(&self, place: &Place) -> Option<ItemId> {
        self.truth.tail(place, |item| self.set.contains_key(&item))
    }

    /// Whether an item is carried.
    pub(super) fn is_set(&self, item: ItemId) -> bool {
        self.set.contains_key(&item)
    }

    /// Whether a key was deleted while this item was shown.
    pub(super) fn is_deleted(&self, item: ItemId) -> bool {
        self.deleted.contains_key(&item)
    }

    pub(super) fn is_write_back(&self, write: WriteId) -> bool {
        let mark = self.write_backs.get(&write.item());
        // What comes to nothing is deleted at once, and that is no deletion of anybody's.
        mark.is_some_and(|by| by.absent || matches!(write, WriteId::Set(_)))
    }

    /// Whether a unit that is set is a write of its own.
    fn is_own(&self, item: ItemId) -> bool {
        let is_valued = self.last.contains(&item) && self.values.contains_key(&item);
        is_valued || self.named.contains(&item) || !self.inner.contains(&item)
    }

    /// Whether a unit may be one or not, as its entries came: it is known by itself and with what replaced it at
    /// once, and its value is not.
    pub(super) fn is_idle(&self, write: WriteId) -> bool {
        matches!(write, WriteId::Set(item) if self.last.contains(&item) && !self.is_own(item))
    }

    /// The stamp of a write.
    pub(super) fn stamp(&self, write: WriteId) -> Option<Stamp> {
        match write {
            WriteId::Set(item) => self.set.get(&item).copied(),
            WriteId::Deleted(item) => self.deleted.get(&item).copied(),
        }
    }

    /// What a write left, as far as it was carried.
    pub(super) fn held(&self, write: WriteId) -> Held {
        match write {
            WriteId::Deleted(_) => Held::Deleted,
            WriteId::Set(item) => self.values.get(&item).cloned().unwrap_or(Held::Unknown),
        }
    }

    /// Whether a key is absent while this item is the last.
    pub(super) fn is_absent(&self, item: ItemId) -> bool {
        self.is_deleted(item) || self.is_write_back(WriteId::Deleted(item))
    }

    /// The writes of a field, and what each was made on.
    pub(super) fn history(&self, place: &Place) -> History {
        let set = self.truth.items(place).iter().copied();
        let set = set.filter(|&item| self.set.contains_key(&item) && self.is_own(item));
        let deleted = self.deleted.keys().copied().filter(|&item| self.truth.place_of(item) == Some(place));
        let mut working = Working { said: self, known: BTreeSet::new(), parents: BTreeMap::new() };
        working.known = set.map(WriteId::Set).chain(deleted.map(WriteId::Deleted)).collect();
        working.work_out();
        let write_backs = working.known.iter().copied().filter(|&write| self.is_write_back(write)).collect();
        History { parents: working.parents, write_backs }
    }
}

fn least(of: &mut BTreeMap<ItemId, Stamp>, item: ItemId, stamp: Stamp) {
    of.entry(item).and_modify(|known| *known = stamp.min(*known)).or_insert(stamp);
}

/// What an item holds, if it has not been let go.
fn held(item: &ItemRef<'_>) -> Option<Held> {
    match item.content() {
        Content::Type(kind) => Some(Held::Shared(kind)),
        Content::Any => {
            let mut reader = Reader::new(item.content_bytes().to_vec().into());
            let count = reader.var_u64().ok()?;
            (0..count).map(|_| Value::decode(&mut reader).ok()).last()?.map(Held::Value)
        }
        _ => None,
    }
}

struct Working<'a> {
    said: &'a Said<'a>,
    known: BTreeSet<WriteId>,
    parents: BTreeMap<WriteId, BTreeSet<WriteId>>,
}

impl Working<'_> {
    fn work_out(&mut self) {
        for write in self.in_causal_order() {
            let parents = self.parents(write);
            self.parents.insert(write, parents);
        }
    }

    /// What a write was made on: none above another, write-backs as what they render.
    fn parents(&self, write: WriteId) -> BTreeSet<WriteId> {
        let mut parents = BTreeSet::new();
        for named in self.named(write) {
            match self.parents.get(&named) {
                Some(rendered) if self.said.is_write_back(named) => parents.extend(rendered.iter().copied()),
                Some(_) => drop(parents.insert(named)),
                // It has gone round in a circle.
                None => {}
            }
        }
        let above: BTreeSet<WriteId> = parents.iter().flat_map(|&it| above(&self.parents, it)).collect();
        parents.retain(|it| !above.contains(it));
        parents
    }

    /// The write that another one took the place of.
    fn replaced(&self, write: WriteId) -> Option<WriteId> {
        let shown = |item: ItemId| self.said.truth.made(item).and_then(|made| made.shown);
        let mut replaced = match write {
            WriteId::Set(item) => shown(item),
            WriteId::Deleted(item) => Some(item),
        };
        while let Some(item) = replaced.filter(|&item| self.said.is_set(item) && !self.said.is_own(item)) {
            replaced = shown(item);
        }
        replaced.map(WriteId::Set).filter(|replaced| self.known.contains(replaced))
    }

    /// What the writer of a write is known to have seen.
    fn named(&self, write: WriteId) -> BTreeSet<WriteId> {
        let saw = self.said.saw.get(&write).into_iter().flatten().copied();
        let named = self.replaced(write).into_iter().chain(saw);
        named.filter(|named| *named != write && self.known.contains(named)).collect()
    }

    /// Every write after those that it names. A circle is opened at the least name, as by a tracker, and never between
    /// a write and what it took the place of.
    fn in_causal_order(&self) -> Vec<WriteId> {
        let mut missing: BTreeMap<WriteId, BTreeSet<WriteId>> =
            self.known.iter().map(|&write| (write, self.named(write))).collect();
        let none = |missing: &BTreeSet<WriteId>| missing.is_empty();
        let mut ready: VecDeque<WriteId> =
            missing.iter().filter(|(_, of)| none(of)).map(|(&write, _)| write).collect();
        let mut order: Vec<WriteId> = Vec::new();
        let (mut ordered, mut way) = (BTreeSet::new(), Vec::new());
        loop {
            if ready.is_empty() && way.is_empty() {
                let mut next = self.known.iter().copied().find(|write| !ordered.contains(write));
                while let Some(write) = next.filter(|write| !ordered.contains(write)) {
                    way.push(write);
                    next = self.replaced(write);
                }
            }
            let Some(write) = ready.pop_front().or_else(|| way.pop()) else { return order };
            if !ordered.insert(write) {
                continue;
            }
            order.push(write);
            for (&next, of) in &mut missing {
                if of.remove(&write) && none(of) {
                    ready.push_back(next);
                }
            }
        }
    }
}

/// All that a write was made on, directly or not.
fn above(parents: &BTreeMap<WriteId, BTreeSet<WriteId>>, write: WriteId) -> BTreeSet<WriteId> {
    let mut found = BTreeSet::new();
    let mut open = vec![write];
    while let Some(write) = open.pop() {
        let of = parents.get(&write).into_iter().flatten().copied();
        open.extend(of.filter(|&parent| found.insert(parent)));
    }
    found
}

/// The writes of one field: what each was made on.
pub(super) struct History {
    parents: BTreeMap<WriteId, BTreeSet<WriteId>>,
    write_backs: BTreeSet<WriteId>,
}

impl History {
    /// Somebody's writes, each with what it was made on.
    pub(super) fn edits(&self) -> impl Iterator<Item = (WriteId, &BTreeSet<WriteId>)> {
        let all = self.parents.iter().filter(|(write, _)| !self.write_backs.contains(write));
        all.map(|(&write, parents)| (write, parents))
    }

    pub(super) fn parents(&self, write: WriteId) -> BTreeSet<WriteId> {
        self.parents.get(&write).cloned().unwrap_or_default()
    }

    /// The writes that nobody has overwritten who saw them.
    pub(super) fn siblings(&self) -> BTreeSet<WriteId> {
        let overwritten: BTreeSet<WriteId> = self.edits().flat_map(|(_, parents)| parents).copied().collect();
        self.edits().map(|(write, _)| write).filter(|write| !overwritten.contains(write)).collect()
    }

    /// The conflicts that somebody has seen.
    pub(super) fn joins(&self) -> BTreeSet<BTreeSet<WriteId>> {
        self.parents.values().filter(|parents| parents.len() > 1).cloned().collect()
    }

    /// Those of the writes that no other of them was made on.
    pub(super) fn latest(&self, of: &BTreeSet<WriteId>) -> BTreeSet<WriteId> {
        let mut latest: BTreeSet<WriteId> = of
            .iter()
            .flat_map(|write| {
                if self.write_backs.contains(write) { self.parents(*write) } else { BTreeSet::from([*write]) }
            })
            .collect();
        let above: BTreeSet<WriteId> = latest.iter().flat_map(|&write| above(&self.parents, write)).collect();
        latest.retain(|write| !above.contains(write));
        latest
    }

    /// The last that all of these knew.
    pub(super) fn base(&self, of: &BTreeSet<WriteId>) -> BTreeSet<WriteId> {
        let known = |&write: &WriteId| {
            let mut known = above(&self.parents, write);
            known.insert(write);
            known
        };
        let common = of.iter().map(known).reduce(|a, b| &a & &b).unwrap_or_default();
        self.latest(&common)
    }
}

/// Whether a base is the one that follows from what is nearest.
pub(super) fn is_base(base: &Base, nearest: &BTreeSet<WriteId>, said: &Said<'_>) -> bool {
    let nearest: Vec<WriteId> = nearest.iter().copied().collect();
    match (base, &nearest[..]) {
        (Base::Nothing, []) => true,
        (Base::Write(held), [one]) => *held == said.held(*one),
        (Base::Several(_), [_, _, ..]) => true,
        _ => false,
    }
}
