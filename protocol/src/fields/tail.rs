//! Which of a key's items Yjs puts last: it shows that one's value.
//!
//! Yjs keeps the items that replace the same one in the order of their clients, each followed by what replaces
//! it in turn (YATA, as `Item.integrate` of Yjs applies it to map entries). Of two of one client, as a region writes
//! them for who wrote on an old version twice, the later one stands before the earlier.

use crate::update::{ClientId, ItemId};
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

/// Units of one client of which each replaces the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first unit.
    pub(super) start: ItemId,
    /// What the first unit replaces.
    pub(super) origin: Option<ItemId>,
}

/// Whether `item` stands to the right of `other`, both of one key. `run_of` tells of what run a unit is.
///
/// Climbs from both at once, so that the cost is how far they are apart and not how much was ever written.
pub(super) fn is_right_of(item: ItemId, other: ItemId, run_of: impl Fn(ItemId) -> Option<Run>) -> bool {
    let (mut way, mut other_way) = (Way::from(item), Way::from(other));
    loop {
        let (leg, other_leg) = (way.climb(&run_of), other_way.climb(&run_of));
        if let Some(at) = leg.and_then(|leg| other_way.at(leg.run)) {
            return parts_to_the_right(&way.legs, &other_way.legs[..=at]);
        }
        if let Some(at) = other_leg.and_then(|leg| way.at(leg.run)) {
            return parts_to_the_right(&way.legs[..=at], &other_way.legs);
        }
        if leg.is_none() && other_leg.is_none() {
            return rank(&way.legs) > rank(&other_way.legs);
        }
    }
}

/// Whether `item` replaces `other`, at once or through others that do. The cost is how far they are apart.
pub(super) fn rests_on(item: ItemId, other: ItemId, run_of: impl Fn(ItemId) -> Option<Run>) -> bool {
    let (mut way, mut other_way) = (Way::from(item), Way::from(other));
    loop {
        let (leg, other_leg) = (way.climb(&run_of), other_way.climb(&run_of));
        // Where the ways meet, `other` is met itself or stands beside.
        if let Some((leg, at)) = leg.and_then(|leg| Some((leg, other_way.at(leg.run)?))) {
            return at == 0 && other.clock <= leg.leaves.clock;
        }
        if let Some(at) = other_leg.and_then(|leg| way.at(leg.run)) {
            return other_way.legs.len() == 1 && other.clock <= way.legs[at].leaves.clock;
        }
        if leg.is_none() && other_leg.is_none() {
            return false;
        }
    }
}

/// Whether the first of two ways that meet in their last run stands to the right of the second.
fn parts_to_the_right(way: &[Leg], other_way: &[Leg]) -> bool {
    let ([below @ .., leg], [other_below @ .., other_leg]) = (way, other_way) else { return false };
    let client = |legs: &[Leg]| legs.last().map(|leg| leg.run.start.client);
    let own = leg.run.start.client;
    // What one client puts beside the rest of its own run came later than that.
    match leg.leaves.clock.cmp(&other_leg.leaves.clock) {
        // Where one ends, the other rests on it.
        Ordering::Equal => rank(below) > rank(other_below),
        // What leaves the run earlier stands beside the rest of it.
        Ordering::Less => client(below).is_some_and(|client| client > own),
        Ordering::Greater => client(other_below).is_none_or(|client| client <= own),
    }
}

/// The order of the last of these among what replaces the same unit.
fn rank(legs: &[Leg]) -> Option<(ClientId, Reverse<u32>)> {
    legs.last().map(|Leg { run: Run { start, .. }, .. }| (start.client, Reverse(start.clock)))
}

/// A run on the way from an item to the root, and the unit at which the way comes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leg {
    run: Run,
    leaves: ItemId,
}

/// The runs from an item up to the root, as far as it was climbed.
struct Way {
    legs: Vec<Leg>,
    places: BTreeMap<ItemId, usize>,
    next: Option<ItemId>,
}

impl Way {
    const fn from(item: ItemId) -> Self {
        Self { legs: Vec::new(), places: BTreeMap::new(), next: Some(item) }
    }

    fn climb(&mut self, run_of: impl Fn(ItemId) -> Option<Run>) -> Option<Leg> {
        let leaves = self.next.take()?;
        let leg = Leg { run: run_of(leaves)?, leaves };
        self.places.insert(leg.run.start, self.legs.len());
        self.legs.push(leg);
        self.next = leg.run.origin;
        Some(leg)
    }

    /// Where this way comes through a run.
    fn at(&self, run: Run) -> Option<usize> {
        self.places.get(&run.start).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(client: u32, clock: u32) -> ItemId {
        ItemId { client: ClientId(client), clock }
    }

    #[test]
    fn what_replaces_a_unit_stands_behind_it_and_rivals_in_the_order_of_their_clients() {
        // 5:0..3 in a run; 7:0, 3:0, 5:8 and 5:9 replace 5:0; 9:0 replaces 7:0; 5:10 replaces 5:8.
        let run_of = |item: ItemId| {
            let (start, origin) = match item.client.0 {
                5 if item.clock == 10 => (unit(5, 10), Some(unit(5, 8))),
                5 if item.clock >= 8 => (item, Some(unit(5, 0))),
                5 => (unit(5, 0), None),
                7 => (unit(7, 0), Some(unit(5, 0))),
                3 => (unit(3, 0), Some(unit(5, 0))),
                9 => (unit(9, 0), Some(unit(7, 0))),
                _ => return None,
            };
            Some(Run { start, origin })
        };
        let order = [
            unit(5, 0),
            unit(3, 0),
            unit(5, 9),
            unit(5, 8),
            unit(5, 10),
            unit(5, 1),
            unit(5, 2),
            unit(7, 0),
            unit(9, 0),
        ];
        for (i, &a) in order.iter().enumerate() {
            for (j, &b) in order.iter().enumerate() {
                assert_eq!(is_right_of(a, b, run_of), i > j, "{a} right of {b}");
            }
        }
    }
}
