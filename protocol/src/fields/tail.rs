//! Which of a key's items Yjs puts last: it shows that one's value.
//!
//! Yjs keeps the items that replace the same one in the order of their clients, each followed by what replaces
//! it in turn (YATA, as `Item.integrate` of Yjs applies it to map entries).

use crate::update::ItemId;

/// Units of one client of which each replaces the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first unit.
    pub(super) start: ItemId,
    /// What the first unit replaces.
    pub(super) origin: Option<ItemId>,
}

/// Whether `item` stands to the right of `other`, both of one key. `run_of` tells of what run a unit is.
pub(super) fn is_right_of(item: ItemId, other: ItemId, run_of: impl Fn(ItemId) -> Option<Run>) -> bool {
    let (way, other_way) = (way_to(item, &run_of), way_to(other, &run_of));
    // Both ways from the root, while they are one.
    let mut pairs = way.iter().rev().zip(other_way.iter().rev());
    let parting = pairs.position(|(a, b)| a != b);
    let Some(at) = parting else { return way.len() > other_way.len() };
    let (a, b) = (way[way.len() - 1 - at], other_way[other_way.len() - 1 - at]);
    if a.run.start != b.run.start {
        return a.run.start.client > b.run.start.client;
    }
    // One leaves the run earlier: what it goes on with stands beside the rest of the run.
    let next = |way: &[Leg]| way.len().checked_sub(at + 2).map(|next| way[next].run.start.client);
    let client = a.run.start.client;
    if a.leaves.clock < b.leaves.clock {
        next(&way).is_some_and(|next| next > client)
    } else {
        next(&other_way).is_none_or(|next| next < client)
    }
}

/// A run on the way from the root to an item, and the unit at which the way leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leg {
    run: Run,
    leaves: ItemId,
}

/// The runs from an item up to the root.
fn way_to(item: ItemId, run_of: impl Fn(ItemId) -> Option<Run>) -> Vec<Leg> {
    let mut way = Vec::new();
    let mut at = Some(item);
    while let Some(leaves) = at {
        let Some(run) = run_of(leaves) else { break };
        way.push(Leg { run, leaves });
        at = run.origin;
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::ClientId;

    fn unit(client: u32, clock: u32) -> ItemId {
        ItemId { client: ClientId(client), clock }
    }

    #[test]
    fn what_replaces_a_unit_stands_behind_it_and_rivals_in_the_order_of_their_clients() {
        // 5:0..3 in a run; 7:0 and 3:0 replace 5:0; 9:0 replaces 7:0.
        let run_of = |item: ItemId| {
            let (start, origin) = match item.client.0 {
                5 => (unit(5, 0), None),
                7 => (unit(7, 0), Some(unit(5, 0))),
                3 => (unit(3, 0), Some(unit(5, 0))),
                9 => (unit(9, 0), Some(unit(7, 0))),
                _ => return None,
            };
            Some(Run { start, origin })
        };
        let order = [unit(5, 0), unit(3, 0), unit(5, 1), unit(5, 2), unit(7, 0), unit(9, 0)];
        for (i, &a) in order.iter().enumerate() {
            for (j, &b) in order.iter().enumerate() {
                assert_eq!(is_right_of(a, b, run_of), i > j, "{a} right of {b}");
            }
        }
    }
}
