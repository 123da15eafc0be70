//! Whether an update stands on what a state vector holds: no clock, item or deletion beyond it.

use super::block::{Anchor, Content, ItemId, Parent};
use super::{StateVector, Update};

impl Update {
    /// Whether everything the update names lies within a state vector or in the update itself. One look at
    /// each block; which of its own parts rest on each other is not asked.
    #[must_use]
    pub fn rests_within(&self, held: &StateVector) -> bool {
        let parts = &*self.0;
        let end = |client| {
            let own = parts.section_of(client).map(|at| &parts.sections[at]);
            let own = own.and_then(|section| section.blocks(parts).last()).map_or(0, |block| block.end());
            held.get(client).max(own)
        };
        let known = |id: ItemId| id.clock < end(id.client);
        let whole = parts.sections.iter().all(|section| {
            let mut next = held.get(section.client);
            section.blocks(parts).iter().all(|block| {
                let follows = block.clock <= next && (block.content != Content::Skip || block.end() <= next);
                next = next.max(block.end());
                let named = match block.anchor {
                    Anchor::Nowhere | Anchor::In { parent: Parent::Root(_), .. } => [None, None],
                    Anchor::Beside { left, right } => [left, right],
                    Anchor::In { parent: Parent::Item(id), .. } => [Some(id), None],
                };
                follows && named.into_iter().flatten().all(known)
            })
        });
        whole && self.deletes().all(|(client, ranges)| ranges.iter().all(|range| range.end <= end(client)))
    }
}
