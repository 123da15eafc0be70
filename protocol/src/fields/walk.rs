//! Finds the items of an update that are writes of fields.
//!
//! An item that replaces another says only which one: it is a field's when that one is. Items of one update may
//! rest on each other in any order of its sections, so one whose origin comes later waits for it: each item is
//! looked at twice at most, whatever the order.

use crate::update::{ClientId, Clocks, ItemId, ItemRef, ParentRef, Update};
use std::collections::BTreeMap;

/// The root map that holds a document's fields.
pub const FIELDS_ROOT: &str = "fields";

/// Keys of the root map that begin so are Quire's own: they are followed, and are no fields.
pub const RESERVED_PREFIX: &str = "__";

/// Where an item says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At<'a> {
    /// Under this key of the root map.
    Root(&'a str),
    /// Under this key of the map that an item holds.
    Map(ItemId, &'a str),
    /// Where the item is that it replaces.
    Origin(ItemId),
}

/// Who keeps what is found.
pub(super) trait Keep {
    /// Whether nothing is known, so that only an item that names the root map can be a field's.
    fn is_empty(&self) -> bool;
    /// Whether an item is a write of a field.
    fn holds(&self, item: ItemId) -> bool;
    /// Whether an item is a write of a field and holds a map.
    fn holds_map(&self, item: ItemId) -> bool;
    /// Takes a write of a field.
    fn keep(&mut self, item: &ItemRef<'_>, at: At<'_>);
}

/// Hands every item of the update that is a field's to `keep`, each after those it rests on.
pub(super) fn walk(update: &Update, keep: &mut impl Keep) {
    let names_root = |item: ItemRef<'_>| item.parent() == Some(ParentRef::Root(FIELDS_ROOT));
    if keep.is_empty() && !update.items().any(names_root) {
        return;
    }
    let mut walk =
        Walk { to_come: update.clients().collect(), waiting: BTreeMap::new(), held_back: Units::default() };
    let mut client = None;
    for item in update.items() {
        let id = item.id();
        if client.is_some_and(|client| client != id.client) {
            client.and_then(|client| walk.to_come.remove(&client));
        }
        client = Some(id.client);
        walk.look_at(item, keep);
    }
}

struct Walk<'a> {
    /// The sections that are not passed.
    to_come: BTreeMap<ClientId, Clocks>,
    waiting: BTreeMap<ItemId, Vec<ItemRef<'a>>>,
    /// The units of the items that wait.
    held_back: Units,
}

impl<'a> Walk<'a> {
    fn look_at(&mut self, item: ItemRef<'a>, keep: &mut impl Keep) {
        let mut open = vec![item];
        while let Some(item) = open.pop() {
            match self.place(&item, keep) {
                Some(at) => keep.keep(&item, at),
                None => continue,
            }
            let (start, end) = (item.id(), ItemId { clock: item.clocks().end, ..item.id() });
            let waiters: Vec<ItemId> = self.waiting.range(start..end).map(|(&on, _)| on).collect();
            open.extend(waiters.iter().filter_map(|on| self.waiting.remove(on)).flatten());
        }
    }

    /// Where a field's item is; none when it is no field's, or waits.
    fn place(&mut self, item: &ItemRef<'a>, keep: &impl Keep) -> Option<At<'a>> {
        let (on, at) = match (item.origin(), item.parent(), item.key()) {
            (Some(origin), ..) => (origin, At::Origin(origin)),
            (None, Some(ParentRef::Root(FIELDS_ROOT)), Some(key)) => {
                return Some(At::Root(key));
            }
            (None, Some(ParentRef::Item(map)), Some(key)) => (map, At::Map(map, key)),
            _ => return None,
        };
        let is_there = if on == item.id() {
            false
        } else if matches!(at, At::Origin(_)) {
            keep.holds(on)
        } else {
            keep.holds_map(on)
        };
        if is_there {
            return Some(at);
        }
        // Items of one client come in order: what has not come of its own waits itself, or never comes.
        let comes = |clocks: &Clocks| (clocks.start..clocks.end).contains(&on.clock);
        let other = on.client != item.id().client;
        if other && self.to_come.get(&on.client).is_some_and(comes) || self.held_back.holds(on) {
            self.held_back.add(item);
            self.waiting.entry(on).or_default().push(*item);
        }
        None
    }
}

/// The units of items.
#[derive(Default)]
struct Units(BTreeMap<ItemId, u32>);

impl Units {
    fn add(&mut self, item: &ItemRef<'_>) {
        let clocks = item.clocks();
        self.0.insert(ItemId { clock: clocks.end - 1, ..item.id() }, clocks.start);
    }

    fn holds(&self, item: ItemId) -> bool {
        let last = self.0.range(item..).next();
        last.is_some_and(|(last, &start)| last.client == item.client && start <= item.clock)
    }
}
