//! Who knew what when they wrote a field: what the simulator has delivered to them, and never what Yjs or a
//! tracker makes of it.
//!
//! What a writer was shown follows from what its editor held: of the items that replace the same one Yjs shows
//! that of the greatest client, and what replaces that one in turn.

use quire_protocol::fields::{FIELDS_ROOT, Mark, WriteId};
use quire_protocol::update::{ItemId, ItemRef, ParentRef, StateVector, Update};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A field: the map it is in, if not the root, and its key.
pub(super) type Place = (Option<ItemId>, Arc<str>);

/// One unit that was set.
pub(super) struct Made {
    pub(super) place: Place,
    /// What its writer was shown there: the item in whose place it stands.
    pub(super) shown: Option<ItemId>,
    /// What the editor that made it held; none for what a region wrote.
    pub(super) held: Option<Arc<StateVector>>,
    /// A region wrote it back: it is nobody's opinion.
    write_back: bool,
}

/// Every write of the fields of one document, whatever became of it.
#[derive(Default)]
pub(super) struct Truth {
    made: BTreeMap<ItemId, Made>,
    places: BTreeMap<Place, Vec<ItemId>>,
    /// What stands in the place of what.
    after: BTreeMap<(Place, Option<ItemId>), Vec<ItemId>>,
}

impl Truth {
    pub(super) fn made(&self, item: ItemId) -> Option<&Made> {
        self.made.get(&item)
    }

    pub(super) fn place_of(&self, item: ItemId) -> Option<&Place> {
        self.made.get(&item).map(|made| &made.place)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.keys()
    }

    /// All that was ever set in a field.
    pub(super) fn items(&self, place: &Place) -> &[ItemId] {
        self.places.get(place).map_or(&[], Vec::as_slice)
    }

    /// Whether a region wrote an item back.
    pub(super) fn is_write_back(&self, item: ItemId) -> bool {
        self.made.get(&item).is_some_and(|made| made.write_back)
    }

    /// Whether the editor that made an item held another one.
    pub(super) fn holds(&self, by: ItemId, other: ItemId) -> bool {
        let held = self.made.get(&by).and_then(|made| made.held.as_ref());
        held.is_some_and(|held| {
            if other.client == by.client {
                other.clock < by.clock
            } else {
                other.clock < held.get(other.client)
            }
        })
    }

    /// Whether whoever made a write may have seen what it took the place of: of an editor it is known what it held.
    pub(super) fn has_seen(&self, write: WriteId, other: WriteId) -> bool {
        match (write, other) {
            (WriteId::Set(by), WriteId::Set(other)) => {
                self.made.get(&by).is_none_or(|made| made.held.is_none()) || self.holds(by, other)
            }
            // Deletions are put in order by regions.
            _ => true,
        }
    }

    /// Takes note of what a region writes back.
    pub(super) fn written_back(&mut self, marks: &[Mark]) {
        for mark in marks {
            if let Some(made) = self.made.get_mut(&mark.write.item()) {
                made.write_back = true;
            }
        }
    }

    /// Whether an item stands in the place of another one, or of what stands there.
    pub(super) fn rests_on(&self, item: ItemId, other: ItemId) -> bool {
        let mut at = Some(item);
        while let Some(item) = at.filter(|item| *item != other) {
            at = self.made.get(&item).and_then(|made| made.shown);
        }
        at.is_some()
    }

    /// The item whose value Yjs shows in a field to whoever holds these.
    pub(super) fn tail(&self, place: &Place, holds: impl Fn(ItemId) -> bool) -> Option<ItemId> {
        let mut tail = None;
        loop {
            let next = self.after.get(&(place.clone(), tail)).into_iter().flatten();
            let next = next.copied().filter(|&item| holds(item));
            // Of two that one client puts in the same place, the later one stands before the earlier.
            match next.max_by_key(|item| (item.client, Reverse(item.clock))) {
                Some(next) => tail = Some(next),
                None => return tail,
            }
        }
    }

    /// Takes note of what an editor has written that held this before and what it wrote since.
    ///
    /// # Errors
    /// When Yjs says of a write that it stands in the place of something else than what was shown.
    pub(super) fn edited(&mut self, update: &Update, held: &StateVector) -> Result<(), String> {
        let held = Arc::new(held.clone());
        for item in update.items() {
            let Some(place) = self.place(&item) else { continue };
            let own = item.id();
            let holds = |it: ItemId| {
                if it.client == own.client { it.clock < own.clock } else { it.clock < held.get(it.client) }
            };
            let shown = self.tail(&place, holds);
            if item.origin() != shown {
                return Err(format!(
                    "{own} is said to take the place of {:?} in {place:?}, where {shown:?} was shown",
                    item.origin()
                ));
            }
            self.make(&item, &place, shown, Some(&held));
        }
        Ok(())
    }

    /// Takes note of what a region is about to write. It may be known: every region makes one map of conflicts.
    pub(super) fn drafted(&mut self, update: &Update) {
        for item in update.items() {
            if let Some(place) = self.place(&item).filter(|_| !self.made.contains_key(&item.id())) {
                self.make(&item, &place, item.origin(), None);
            }
        }
    }

    /// The field that an item is in, if it is one's.
    fn place(&self, item: &ItemRef<'_>) -> Option<Place> {
        match (item.origin(), item.parent(), item.key()) {
            (Some(origin), ..) => self.place_of(origin).cloned(),
            (None, Some(ParentRef::Root(FIELDS_ROOT)), Some(key)) => Some((None, key.into())),
            (None, Some(ParentRef::Item(map)), Some(key)) => {
                self.made.contains_key(&map).then(|| (Some(map), key.into()))
            }
            _ => None,
        }
    }

    fn make(
        &mut self,
        item: &ItemRef<'_>,
        place: &Place,
        shown: Option<ItemId>,
        held: Option<&Arc<StateVector>>,
    ) {
        let mut shown = shown;
        for clock in item.clocks().start..item.clocks().end {
            let unit = ItemId { clock, ..item.id() };
            self.made
                .insert(unit, Made { place: place.clone(), shown, held: held.cloned(), write_back: false });
            self.places.entry(place.clone()).or_default().push(unit);
            self.after.entry((place.clone(), shown)).or_default().push(unit);
            shown = Some(unit);
        }
    }
}
