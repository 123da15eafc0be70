//! What of an update stands in something that is deleted: it is deleted with it, without anybody saying so.
//!
//! Whoever wrote it may not know. Yjs before 13.6.31, and yrs, undo the replacement of a map by a map of their own, and
//! show an entry in it that says to everybody else that it stands in the old one: what an item replaces tells where
//! it is. It is deleted everywhere but where it was written.

use super::Update;
use super::block::{Block, ClientId, Clocks, Content, ItemId};
use super::marks::{Mark, Role};
use super::ranges::Ranges;
use super::resolve::Resolution;
use super::write::write_update;
use std::collections::BTreeMap;

/// Looks for what stands in something that is deleted.
struct Dropping<'a> {
    resolution: &'a Resolution<'a>,
    /// What the update says is deleted.
    said: BTreeMap<ClientId, &'a [Clocks]>,
    /// Containers that were looked at, and whether they are deleted.
    gone: BTreeMap<ItemId, bool>,
}

/// What can be taken of an update, stands in something that is deleted, and is not deleted by the update itself: an
/// update that deletes it, or none.
pub(super) fn dropped(update: &Update, resolution: &Resolution<'_>) -> Option<Update> {
    let parts = &*update.0;
    // Most updates are text in a root type, which nobody can delete.
    if (0..parts.sections.len()).all(|at| resolution.brings_plain(at)) {
        return None;
    }
    let mut dropping = Dropping { resolution, said: update.deletes().collect(), gone: BTreeMap::new() };
    let mut all = Vec::new();
    for (at, section) in parts.sections.iter().enumerate() {
        if !resolution.brings_plain(at) {
            let ranges = dropping.of_section(section.client, section.blocks(parts), resolution.known(at));
            all.push((section.client, ranges));
        }
    }
    let dropped = write_update(Vec::new(), all);
    (!dropped.is_empty()).then_some(dropped)
}

impl Dropping<'_> {
    fn of_section(&mut self, client: ClientId, blocks: &[Block], known: u32) -> Vec<Clocks> {
        let taken = self.resolution.clock(client);
        let mut ranges = Ranges::default();
        for block in blocks {
            if matches!(block.content, Content::Skip | Content::Gc | Content::Deleted) {
                continue;
            }
            let clocks = Clocks { start: block.clock.max(known), end: block.end().min(taken) };
            if clocks.start < clocks.end && self.is_dropped(ItemId { client, clock: clocks.start }) {
                ranges.insert(clocks);
            }
        }
        let said: Ranges = self.said.get(&client).into_iter().flat_map(|said| said.iter().copied()).collect();
        let mut unsaid = Vec::new();
        ranges.iter().for_each(|clocks| said.gaps(clocks, |gap| unsaid.push(gap)));
        unsaid
    }

    fn is_dropped(&mut self, item: ItemId) -> bool {
        match self.resolution.mark(item) {
            Mark { role: Role::Gone, .. } => true,
            mark => mark.container.is_some_and(|container| self.is_gone(container)),
        }
    }

    /// Whether a container is deleted, or stands in one that is. Containers are nested to a depth that is limited.
    fn is_gone(&mut self, container: ItemId) -> bool {
        if let Some(&is_gone) = self.gone.get(&container) {
            return is_gone;
        }
        let is_gone =
            self.resolution.is_deleted(container) || self.says(container) || self.is_dropped(container);
        self.gone.insert(container, is_gone);
        is_gone
    }

    /// Whether the update says that an item is deleted.
    fn says(&self, item: ItemId) -> bool {
        let Some(ranges) = self.said.get(&item.client) else { return false };
        let after = ranges.partition_point(|range| range.start <= item.clock);
        after.checked_sub(1).is_some_and(|at| item.clock < ranges[at].end)
    }
}
