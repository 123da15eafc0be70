//! What a region says about an update when it admits it: which keys it deletes, and which deletions its
//! writer comes after.
//!
//! A deletion has no item that a later one could name. While nothing has replaced it, it comes before whatever is
//! written on what was shown when the key was deleted; who has not even seen that has not seen its deletion. And
//! whoever replaces what is shown deletes it: an update that does not has come after the deletion, whatever was
//! written since.
//!
//! Yjs deletes for several reasons: what an item replaces, what lost against a rival, what stood in a map that
//! went. A key is deleted only when the item whose value was shown is, with nothing in its place.
//!
//! Admission runs ahead of the graph, which holds what is committed: what is on its way to the disk is kept
//! here, by name alone.

use super::graph::{Graph, Place};
use super::path::PATH_KEYS_MAX;
use super::tail::{Run, is_right_of, rests_on};
use super::walk::{At, Keep, walk};
use super::write::{Mark, MarkKind, WriteId};
use crate::update::{Clocks, Content, ItemId, ItemRef, TypeKind, Update};
use std::collections::{BTreeMap, BTreeSet};

/// A write of a field on its way.
#[derive(Clone, Debug)]
struct Coming {
    run: Run,
    place: Place,
    is_map: bool,
    /// It stands to the left of the tail, which does not rest on it: nor does what rests on it stand right.
    aside: bool,
}

/// Names of writes that are admitted and not yet in the graph.
#[derive(Debug, Default)]
struct Names {
    /// By their last unit.
    items: BTreeMap<ItemId, Coming>,
    /// The last item of each key that something came for.
    tails: BTreeMap<Place, ItemId>,
    /// Items whose key was deleted.
    deleted: BTreeSet<ItemId>,
}

/// The writes of fields on their way to the disk.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// What was admitted before `until` was.
    older: Names,
    /// How many writes had been admitted when `older` was closed.
    until: u64,
    newer: Names,
}

impl Ahead {
    /// What this region says about an update that it admits; none when it writes no field. `sent` is all of what an
    /// editor sent, of which the update is what is new.
    pub(super) fn admit(
        &mut self,
        graph: &Graph,
        update: &Update,
        sent: Option<&Update>,
    ) -> Option<Vec<Mark>> {
        let mut admitting = Admitting { view: View { graph, ahead: self }, sets: Vec::new() };
        walk(update, &mut admitting);
        let (view, sets) = (admitting.view, admitting.sets);
        if view.is_empty() {
            return None;
        }
        let mut marks = Vec::new();
        for (last, origin) in sets.iter().copied() {
            let mut sees = view.deletions(last);
            let replaced = origin.filter(|&origin| view.is_deleted(origin));
            if let (Some(origin), Some(sent)) = (replaced, sent)
                && !deletes(sent, origin)
                && !sees.contains(&WriteId::Deleted(origin))
            {
                sees.push(WriteId::Deleted(origin));
            }
            if !sees.is_empty() {
                marks.push(Mark { write: WriteId::Set(last), kind: MarkKind::Edit, sees });
            }
        }
        for item in view.deleted_by(update) {
            view.ahead.newer.deleted.insert(item);
            marks.push(Mark { write: WriteId::Deleted(item), kind: MarkKind::Edit, sees: Vec::new() });
        }
        (!sets.is_empty() || !marks.is_empty()).then_some(marks)
    }

    /// Forgets what is in the graph: of all the writes `admitted` so far, so many are `committed`.
    pub(super) fn committed(&mut self, admitted: u64, committed: u64) {
        if committed >= self.until {
            self.older = std::mem::take(&mut self.newer);
            self.until = admitted;
            if committed >= admitted {
                self.older = Names::default();
            }
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.names().all(|names| names.items.is_empty() && names.deleted.is_empty())
    }

    fn names(&self) -> impl Iterator<Item = &Names> {
        [&self.newer, &self.older].into_iter()
    }

    fn find(&self, item: ItemId) -> Option<&Coming> {
        self.names().find_map(|names| {
            let (last, coming) = names.items.range(item..).next()?;
            (last.client == item.client && coming.run.start.clock <= item.clock).then_some(coming)
        })
    }
}

fn deletes(update: &Update, item: ItemId) -> bool {
    let holds = |&Clocks { start, end }: &Clocks| (start..end).contains(&item.clock);
    update.deletes().any(|(client, ranges)| client == item.client && ranges.iter().any(holds))
}

/// The graph with what is on its way.
struct View<'a> {
    graph: &'a Graph,
    ahead: &'a mut Ahead,
}

impl View<'_> {
    fn is_empty(&self) -> bool {
        self.graph.is_empty() && self.ahead.names().all(|names| names.items.is_empty())
    }

    fn run_of(&self, item: ItemId) -> Option<Run> {
        self.ahead.find(item).map(|coming| coming.run).or_else(|| {
            let (register, node) = self.graph.find(item)?;
            Some(self.graph.register(register).run(node))
        })
    }

    fn place_of(&self, item: ItemId) -> Option<Place> {
        let coming = self.ahead.find(item).map(|coming| coming.place.clone());
        coming.or_else(|| Some(self.graph.place(self.graph.find(item)?.0).clone()))
    }

    fn tail(&self, place: &Place) -> Option<ItemId> {
        let coming = self.ahead.names().find_map(|names| names.tails.get(place).copied());
        coming.or_else(|| self.graph.tail(place))
    }

    fn is_deleted(&self, item: ItemId) -> bool {
        let known = self.graph.find(item);
        let known =
            known.and_then(|(register, _)| self.graph.register(register).find(WriteId::Deleted(item)));
        known.is_some() || self.ahead.names().any(|names| names.deleted.contains(&item))
    }

    /// The deletions of an item's key that stand, as far as it rests on what they deleted: its writer comes after
    /// them.
    fn deletions(&self, item: ItemId) -> Vec<WriteId> {
        let Some(place) = self.place_of(item) else { return Vec::new() };
        let register = self.graph.register_of(&place);
        let known = register
            .into_iter()
            .flat_map(|register| register.siblings().into_iter().map(|ix| register.write(ix).id));
        let known = known.filter(|write| matches!(write, WriteId::Deleted(_)));
        let coming = self.ahead.names().flat_map(|names| &names.deleted).copied();
        let coming = coming.filter(|&item| self.place_of(item).as_ref() == Some(&place));
        let all: BTreeSet<WriteId> = known.chain(coming.map(WriteId::Deleted)).collect();
        let is_after = |deleted: &WriteId| rests_on(item, deleted.item(), |unit| self.run_of(unit));
        all.into_iter().filter(is_after).collect()
    }

    /// The items that an update deletes though they were shown.
    fn deleted_by(&self, update: &Update) -> Vec<ItemId> {
        let mut deleted = BTreeSet::new();
        for (client, ranges) in update.deletes() {
            for &Clocks { start, end } in ranges {
                let (from, to) = (ItemId { client, clock: start }, ItemId { client, clock: end });
                let coming = self.ahead.names().flat_map(|names| names.items.range(from..to));
                deleted.extend(coming.map(|(&last, _)| last));
                deleted.extend(self.graph.within(from, to));
            }
        }
        let is_shown = |item: ItemId| self.tail(&self.place_of(item)?).filter(|&tail| tail == item);
        let mut keys: Vec<ItemId> = Vec::new();
        for &item in &deleted {
            if is_shown(item).is_some() && !self.is_deleted(item) && self.is_map_shown(item, &deleted) {
                keys.push(item);
            }
        }
        keys
    }

    /// Whether the map that an item is in is shown, and stays.
    fn is_map_shown(&self, item: ItemId, deleted: &BTreeSet<ItemId>) -> bool {
        let mut at = item;
        for _ in 0..PATH_KEYS_MAX {
            let Some((map, _)) = self.place_of(at) else { return false };
            let Some(map) = map else { return true };
            let is_shown = self.place_of(map).is_some_and(|place| self.tail(&place) == Some(map));
            if !is_shown || deleted.contains(&map) || self.is_deleted(map) {
                return false;
            }
            at = map;
        }
        false
    }

    /// Whether an item stands to the left of the tail, which does not rest on it.
    fn is_aside(&self, item: ItemId) -> bool {
        self.ahead.find(item).map(|coming| coming.aside).unwrap_or_else(|| {
            let known = self.graph.find(item);
            known.is_some_and(|(register, node)| self.graph.register(register).is_aside(node))
        })
    }

    /// Takes note of an item and of whether it is the last of its key from now on.
    fn come(&mut self, item: &ItemRef<'_>, place: Place) {
        let last = ItemId { clock: item.clocks().end - 1, ..item.id() };
        let run = Run { start: item.id(), origin: item.origin() };
        let tail = self.tail(&place);
        let is_map = item.content() == Content::Type(TypeKind::Map);
        let aside = run.origin != tail && run.origin.is_some_and(|origin| self.is_aside(origin));
        let mut coming = Coming { run, place: place.clone(), is_map, aside };
        self.ahead.newer.items.insert(last, coming.clone());
        if aside {
            return;
        }
        let is_last = tail
            .is_none_or(|tail| run.origin == Some(tail) || is_right_of(last, tail, |unit| self.run_of(unit)));
        if is_last {
            self.ahead.newer.tails.insert(place, last);
        } else {
            coming.aside = true;
            self.ahead.newer.items.insert(last, coming);
        }
    }
}

struct Admitting<'a> {
    view: View<'a>,
    /// The last unit of each item that was found, and what the item replaces.
    sets: Vec<(ItemId, Option<ItemId>)>,
}

impl Keep for Admitting<'_> {
    fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    fn holds(&self, item: ItemId) -> bool {
        self.view.run_of(item).is_some()
    }

    fn holds_map(&self, item: ItemId) -> bool {
        let coming = self.view.ahead.find(item);
        coming.is_some_and(|coming| coming.is_map && coming.run.start == item)
            || self.view.graph.holds_map(item)
    }

    fn keep(&mut self, item: &ItemRef<'_>, at: At<'_>) {
        let place = match at {
            At::Root(key) => Some((None, key.into())),
            At::Map(map, key) => Some((Some(map), key.into())),
            At::Origin(origin) => self.view.place_of(origin),
        };
        let Some(place) = place else { return };
        self.view.come(item, place);
        self.sets.push((ItemId { clock: item.clocks().end - 1, ..item.id() }, item.origin()));
    }
}
