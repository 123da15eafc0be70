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
pub(super) enum At<'a, F> {
    /// Under this key of the root map.
    Root(&'a str),
    /// Under this key of the map that an item holds.
    Map(ItemId, &'a str),
    /// Where the item is that it replaces, as it was found.
    Origin(F),
}

/// Who keeps what is found.
pub(super) trait Keep {
    /// What is known of a write that was found.
    type Found;
    /// Whether nothing is known, so that only an item that names the root map can be a field's.
    fn is_empty(&self) -> bool;
    /// Looks for an item among the writes of fields.
    fn find(&self, item: ItemId) -> Option<Self::Found>;
    /// Whether an item is a write of a field and holds a map.
    fn holds_map(&self, item: ItemId) -> bool;
    /// Takes a write of a field.
    fn keep(&mut self, item: &ItemRef<'_>, at: At<'_, Self::Found>);
}

/// Hands every item of the update that is a field's to `keep`, each after those it rests on.
pub(super) fn walk(update: &Update, keep: &mut impl Keep) {
    let names_root = |item: ItemRef<'_>| item.parent() == Some(ParentRef::Root(FIELDS_ROOT));
    if keep.is_empty() && !update.items().any(names_root) {
        return;
    }
    let mut sections = update.clients();
    // What one client wrote comes in order: nothing of it waits for another section.
    let to_come = match (sections.next(), sections.next()) {
        (Some(_), Some(_)) => update.clients().collect(),
        _ => BTreeMap::new(),
    };
    let mut walk = Walk { to_come, waiting: BTreeMap::new(), held_back: Units::default() };
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
    /// The sections that are not passed, where there are several.
    to_come: BTreeMap<ClientId, Clocks>,
    waiting: BTreeMap<ItemId, Vec<ItemRef<'a>>>,
    /// The units of the items that wait.
    held_back: Units,
}

impl<'a> Walk<'a> {
    fn look_at(&mut self, item: ItemRef<'a>, keep: &mut impl Keep) {
        if !self.pass(item, keep) || self.waiting.is_empty() {
            return;
        }
        let mut open = self.waiters(&item);
        while let Some(item) = open.pop() {
            if self.pass(item, keep) {
                open.extend(self.waiters(&item));
            }
        }
    }

    /// Hands an item on if it is a field's and does not wait. Tells whether it was.
    fn pass<K: Keep>(&mut self, item: ItemRef<'a>, keep: &mut K) -> bool {
        let at = self.place(&item, keep);
        at.map(|at| keep.keep(&item, at)).is_some()
    }

    /// Takes the items that wait for units of this one.
    fn waiters(&mut self, item: &ItemRef<'a>) -> Vec<ItemRef<'a>> {
        let (start, end) = (item.id(), ItemId { clock: item.clocks().end, ..item.id() });
        let on: Vec<ItemId> = self.waiting.range(start..end).map(|(&on, _)| on).collect();
        on.iter().filter_map(|on| self.waiting.remove(on)).flatten().collect()
    }

    /// Where a field's item is; none when it is no field's, or waits.
    fn place<K: Keep>(&mut self, item: &ItemRef<'a>, keep: &K) -> Option<At<'a, K::Found>> {
        let (on, at) = match (item.origin(), item.parent(), item.key()) {
            (Some(origin), ..) => (origin, keep.find(origin).filter(|_| origin != item.id()).map(At::Origin)),
            (None, Some(ParentRef::Root(FIELDS_ROOT)), Some(key)) => {
                return Some(At::Root(key));
            }
            (None, Some(ParentRef::Item(map)), Some(key)) => {
                (map, (map != item.id() && keep.holds_map(map)).then_some(At::Map(map, key)))
            }
            _ => return None,
        };
        if at.is_some() {
            return at;
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
