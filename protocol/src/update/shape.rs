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
        let resolution = Resolution::of_admitted(self, parts);
        let verdicts = resolution.verdicts;
        for section in &parts.sections {
            let verdicts = &verdicts[section.first as usize..section.end as usize];
            if verdicts.iter().all(|verdict| verdict.take == Take::Nothing) {
                continue;
            }
            let known = self.clients.entry(section.client).or_default();
            for (block, verdict) in section.blocks(parts).iter().zip(verdicts) {
                let (Take::From(from) | Take::Collected(from)) = verdict.take else { continue };
                let (start, end) = (block.clock + from, block.end());
                known.marks.push(start, end, verdict.mark);
                known.next = end;
                if matches!(block.content, Content::Gc | Content::Deleted) {
                    known.deleted.insert(Clocks { start, end });
                }
            }
        }
        for (client, ranges) in update.deletes() {
            if let Some(known) = self.clients.get_mut(&client) {
                for range in ranges {
                    known.deleted.insert(Clocks { start: range.start, end: range.end.min(known.next) });
                }
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

    /// The mark of an item, and whether it is known to be deleted.
    pub(super) fn look_up(&self, id: ItemId) -> (Mark, bool) {
        match self.clients.get(&id.client) {
            Some(known) => (known.marks.get(id.clock), known.deleted.contains(id.clock)),
            None => (Mark::default(), false),
        }
    }
}
