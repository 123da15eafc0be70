//! What a document holds, as far as admission must know: clocks, deleted ranges, and what items are to those
//! that name them. Never the content.
//!
//! Invariant: for each client every clock below `next` is known, none at or above it.

use super::block::{ClientId, Clocks, Content, ItemId};
use super::marks::{Mark, Marks};
use super::ranges::Ranges;
use super::resolve::{Resolution, Take};
use super::{StateVector, Update};
use std::collections::BTreeMap;

/// What a document holds. Empty, it owns no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    clients: BTreeMap<ClientId, Known>,
}

/// What is known of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The first clock that is not known.
    pub(super) next: u32,
    pub(super) deleted: Ranges,
    pub(super) marks: Marks,
}

impl Shape {
    /// An empty document.
    #[must_use]
    pub const fn new() -> Self {
        Self { clients: BTreeMap::new() }
    }

    /// Takes in an update that was admitted: here, by another region, or before it was stored.
    ///
    /// What it holds twice or what rests on something unknown is left out.
    pub fn record(&mut self, update: &Update) {
        let parts = &*update.0;
        let (takes, marks) = Resolution::of_admitted(self, parts).into_taken();
        for (section, marks) in parts.sections.iter().zip(marks) {
            let takes = &takes[section.first as usize..section.end as usize];
            let taken = section.blocks(parts).iter().zip(takes).filter_map(|(block, take)| match take {
                Take::Nothing => None,
                Take::From(from) | Take::Collected(from) => Some((block.clock + from, block)),
            });
            let Some((_, last)) = taken.clone().next_back() else { continue };
            let known = self.clients.entry(section.client).or_default();
            known.next = last.end();
            known.marks.append(marks);
            known.deleted.extend(taken.filter_map(|(start, block)| {
                let is_deleted = matches!(block.content, Content::Gc | Content::Deleted);
                is_deleted.then(|| Clocks { start, end: block.end() })
            }));
        }
        for (client, ranges) in update.deletes() {
            if let Some(known) = self.clients.get_mut(&client) {
                let known_part =
                    |range: &Clocks| Clocks { start: range.start, end: range.end.min(known.next) };
                known.deleted.extend(ranges.iter().map(known_part));
            }
        }
    }

    /// Per client, how many units are known.
    #[must_use]
    pub fn state_vector(&self) -> StateVector {
        self.clients.iter().map(|(&client, known)| (client, known.next)).collect()
    }

    /// True when every unit that the state vector knows is known here.
    #[must_use]
    pub fn covers(&self, state_vector: &StateVector) -> bool {
        state_vector.iter().all(|(client, clock)| clock <= self.next_clock(client))
    }

    /// True when every unit known here is known to the state vector. It says nothing of deletions.
    #[must_use]
    pub fn is_covered_by(&self, state_vector: &StateVector) -> bool {
        self.clients.iter().all(|(&client, known)| known.next <= state_vector.get(client))
    }

    /// The first clock of a client that is not known.
    #[must_use]
    pub fn next_clock(&self, client: ClientId) -> u32 {
        self.clients.get(&client).map_or(0, |known| known.next)
    }

    /// True when nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The deleted ranges that are known, clients in rising order.
    pub fn deletes(&self) -> impl Iterator<Item = (ClientId, Vec<Clocks>)> + '_ {
        let deleting = self.clients.iter().filter(|(_, known)| known.deleted.len() > 0);
        deleting.map(|(&client, known)| (client, known.deleted.iter().collect()))
    }

    pub(super) fn known(&self, client: ClientId) -> Option<&Known> {
        self.clients.get(&client)
    }

    /// The mark of an item; that of plain text where it is not known.
    pub(super) fn mark(&self, id: ItemId) -> Mark {
        self.clients.get(&id.client).map_or_else(Mark::default, |known| known.marks.get(id.clock))
    }

    /// Whether an item is known to be deleted.
    pub(super) fn is_deleted(&self, id: ItemId) -> bool {
        self.clients.get(&id.client).is_some_and(|known| known.deleted.contains(id.clock))
    }
}
