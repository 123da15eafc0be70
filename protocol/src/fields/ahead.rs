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
//! And an editor may give a region a write-back that this one has not heard of yet, or never will: what it is, is
//! said anew.
//!
//! Admission runs ahead of the graph, which holds what is committed: what is on its way to the disk is kept
//! here, by name alone.

use super::graph::{Graph, RegisterIx};
use super::path::PATH_KEYS_MAX;
use super::tail::{Run, is_right_of, rests_on};
use super::walk::{At, Keep, RESERVED_PREFIX, walk};
use super::write::{Mark, MarkKind, WriteBackMark, WriteId};
use crate::update::{ClientId, Clocks, Content, ItemId, ItemRef, TypeKind, Update};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// By which schema a write-back was made that an editor gives back: that of no region, so that each has a say of its own.
const UNKNOWN_SCHEMA: [u8; 16] = [0; 16];

/// A write of a field on its way.
#[derive(Clone, Copy, Debug)]
struct Coming {
    run: Run,
    register: RegisterIx,
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
    tails: BTreeMap<RegisterIx, ItemId>,
    /// Items whose key was deleted, by that key.
    deleted: BTreeSet<(RegisterIx, ItemId)>,
}

impl Names {
    fn deleted_of(&self, register: RegisterIx) -> impl Iterator<Item = WriteId> {
        let first = ItemId { client: ClientId(0), clock: 0 };
        let of_register = self.deleted.range((register, first)..).take_while(move |(of, _)| *of == register);
        of_register.map(|&(_, item)| WriteId::Deleted(item))
    }
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
        graph: &mut Graph,
        update: &Update,
        sent: Option<&Update>,
    ) -> Option<Vec<Mark>> {
        let mut admitting = Admitting { view: View { graph, ahead: self }, sets: SmallVec::new() };
        walk(update, &mut admitting);
        let (view, sets) = (admitting.view, admitting.sets);
        // Most updates write text.
        if view.is_empty() || sets.is_empty() && update.deletes().next().is_none() {
            return None;
        }
        let mut marks = Vec::new();
        let gone = Deletes::of(update);
        let all_gone = sent.map(Deletes::of);
        for Set { last, origin, register } in sets.iter().copied() {
            let mut kind = MarkKind::Edit;
            if sent.is_some() && view.is_write_back(last, register) {
                // Whether it is of nothing or somebody has deleted its key, its region knows, if any does: where that says
                // that it is of something, the deletion, which is noted as well, is somebody's.
                let absent = view.tail(register) == Some(last) && gone.holds(last);
                kind = MarkKind::WriteBack(WriteBackMark { schema: UNKNOWN_SCHEMA, absent });
            }
            let mut sees = view.deletions(last, register);
            if let (Some(origin), Some(all_gone)) = (origin, &all_gone)
                && !all_gone.holds(origin)
                && view.is_deleted(origin, register)
                && !sees.contains(&WriteId::Deleted(origin))
            {
                sees.push(WriteId::Deleted(origin));
            }
            if !sees.is_empty() || kind != MarkKind::Edit {
                marks.push(Mark { write: WriteId::Set(last), kind, sees });
            }
        }
        for (item, register) in view.deleted_by(&gone, &sets) {
            view.ahead.newer.deleted.insert((register, item));
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

/// What an update deletes, in order.
struct Deletes<'a>(SmallVec<[(ClientId, &'a [Clocks]); 4]>);

impl<'a> Deletes<'a> {
    fn of(update: &'a Update) -> Self {
        let mut all: SmallVec<[_; 4]> = update.deletes().collect();
        all.sort_unstable_by_key(|(client, _)| *client);
        Self(all)
    }

    fn holds(&self, item: ItemId) -> bool {
        let Ok(at) = self.0.binary_search_by_key(&item.client, |(client, _)| *client) else { return false };
        let ranges = self.0[at].1;
        let after = ranges.partition_point(|range| range.start <= item.clock);
        after.checked_sub(1).is_some_and(|at| item.clock < ranges[at].end)
    }

    fn ranges(&self) -> impl Iterator<Item = (ItemId, ItemId)> {
        self.0.iter().flat_map(|&(client, ranges)| {
            ranges.iter().map(move |&Clocks { start, end }| {
                (ItemId { client, clock: start }, ItemId { client, clock: end })
            })
        })
    }
}

/// The graph with what is on its way.
struct View<'a> {
    graph: &'a mut Graph,
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

    fn register_of(&self, item: ItemId) -> Option<RegisterIx> {
        let coming = self.ahead.find(item).map(|coming| coming.register);
        coming.or_else(|| Some(self.graph.find(item)?.0))
    }

    fn tail(&self, register: RegisterIx) -> Option<ItemId> {
        let coming = self.ahead.names().find_map(|names| names.tails.get(&register).copied());
        coming.or_else(|| {
            let register = self.graph.register(register);
            Some(register.write(register.tail()?).id.item())
        })
    }

    fn is_deleted(&self, item: ItemId, register: RegisterIx) -> bool {
        self.ahead.names().any(|names| names.deleted.contains(&(register, item)))
            || self.graph.register(register).is_deleted(item)
    }

    /// Whether an item of an editor is a write-back that it was shown: by the client that made it. What the region said
    /// beside it comes with its entry, or went with its disk: then it renders what it stands on.
    fn is_write_back(&self, item: ItemId, register: RegisterIx) -> bool {
        let Some(writers) = self.graph.writers() else { return false };
        let first = ItemId { clock: 0, ..item };
        self.register_of(first) == Some(writers) && self.is_field(register)
    }

    /// Whether a key, or the one that leads to it, is none of Quire's own.
    fn is_field(&self, register: RegisterIx) -> bool {
        let mut at = register;
        for _ in 0..PATH_KEYS_MAX {
            let (map, key) = self.graph.place(at);
            let Some(map) = *map else { return !key.starts_with(RESERVED_PREFIX) };
            let Some(up) = self.register_of(map) else { return false };
            at = up;
        }
        false
    }

    /// The deletions of an item's key that stand, as far as it rests on what they deleted: its writer comes after
    /// them.
    fn deletions(&self, item: ItemId, register: RegisterIx) -> Vec<WriteId> {
        let known = self.graph.register(register).deletions();
        let coming = self.ahead.names().flat_map(|names| names.deleted_of(register));
        let is_after = |deleted: &WriteId| rests_on(item, deleted.item(), |unit| self.run_of(unit));
        let mut all: Vec<WriteId> = known.chain(coming).filter(is_after).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The items that an update deletes though they were shown, and the keys of which they are.
    fn deleted_by(&self, gone: &Deletes<'_>, sets: &[Set]) -> Vec<(ItemId, RegisterIx)> {
        // What is replaced is not shown any more.
        let replaced: SmallVec<[ItemId; 4]> = sets.iter().take(4).filter_map(|set| set.origin).collect();
        let is_replaced = |from: ItemId, to: ItemId| to.clock - from.clock == 1 && replaced.contains(&from);
        let mut keys = Vec::new();
        for (from, to) in gone.ranges().filter(|&(from, to)| !is_replaced(from, to)) {
            let coming = self.ahead.names().flat_map(|names| names.items.range(from..to));
            let coming = coming.map(|(&last, coming)| (last, coming.register));
            let all = coming.chain(self.graph.within(from, to));
            keys.extend(all.filter(|(item, register)| {
                self.tail(*register) == Some(*item) && !self.is_deleted(*item, *register)
            }));
        }
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|(_, register)| self.is_map_shown(*register, gone));
        keys
    }

    /// Whether the map that a key is in is shown, and stays when the update comes.
    fn is_map_shown(&self, register: RegisterIx, gone: &Deletes<'_>) -> bool {
        let mut at = register;
        for _ in 0..PATH_KEYS_MAX {
            let (map, _) = self.graph.place(at);
            let Some(map) = *map else { return true };
            let Some(up) = self.register_of(map) else { return false };
            if self.tail(up) != Some(map) || gone.holds(map) || self.is_deleted(map, up) {
                return false;
            }
            at = up;
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
    fn come(&mut self, item: &ItemRef<'_>, register: RegisterIx) -> ItemId {
        let last = ItemId { clock: item.clocks().end - 1, ..item.id() };
        let run = Run { start: item.id(), origin: item.origin() };
        let tail = self.tail(register);
        let is_map = item.content() == Content::Type(TypeKind::Map);
        let is_next = tail.is_none() || run.origin == tail;
        let mut aside = !is_next && run.origin.is_some_and(|origin| self.is_aside(origin));
        let coming = Coming { run, register, is_map, aside };
        self.ahead.newer.items.insert(last, coming);
        if !is_next && !aside {
            let is_right = |tail| is_right_of(last, tail, |unit| self.run_of(unit));
            aside = tail.is_some_and(|tail| !is_right(tail));
            self.ahead.newer.items.insert(last, Coming { aside, ..coming });
        }
        if !aside {
            self.ahead.newer.tails.insert(register, last);
        }
        last
    }
}

/// An item that was found.
#[derive(Clone, Copy)]
struct Set {
    last: ItemId,
    /// What it replaces.
    origin: Option<ItemId>,
    register: RegisterIx,
}

struct Admitting<'a> {
    view: View<'a>,
    sets: SmallVec<[Set; 4]>,
}

impl Keep for Admitting<'_> {
    type Found = RegisterIx;

    fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    fn find(&self, item: ItemId) -> Option<RegisterIx> {
        self.view.register_of(item)
    }

    fn holds_map(&self, item: ItemId) -> bool {
        let coming = self.view.ahead.find(item);
        coming.is_some_and(|coming| coming.is_map && coming.run.start == item)
            || self.view.graph.holds_map(item)
    }

    fn keep(&mut self, item: &ItemRef<'_>, at: At<'_, RegisterIx>) {
        let register = match at {
            At::Root(key) => self.view.graph.register_at((None, key.into())),
            At::Map(map, key) => self.view.graph.register_at((Some(map), key.into())),
            At::Origin(register) => register,
        };
        let last = self.view.come(item, register);
        self.sets.push(Set { last, origin: item.origin(), register });
    }
}
