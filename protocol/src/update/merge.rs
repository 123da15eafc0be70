//! Joins updates without yrs: each client's blocks in clock order, deletions united.

use super::Update;
use super::block::{ClientId, Clocks, Content};
use super::ranges::Ranges;
use super::write::{Piece, Pieces, write_update};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Joins updates into one that has the effect of all.
///
/// Units that several of them carry are taken from the one that starts first; clocks that none carries
/// become a skip.
pub fn merge<'a>(updates: impl IntoIterator<Item = &'a Update>) -> Update {
    let mut updates = updates.into_iter();
    let Some(first) = updates.next() else { return write_update(Vec::new(), Vec::new()) };
    let Some(second) = updates.next() else { return first.clone() };
    let mut pieces: BTreeMap<ClientId, SmallVec<[Piece<'a>; 4]>> = BTreeMap::new();
    let mut deleted: BTreeMap<ClientId, Ranges> = BTreeMap::new();
    for update in [first, second].into_iter().chain(updates) {
        let parts = &*update.0;
        for section in &parts.sections {
            let blocks = section.blocks(parts).iter().filter(|block| block.content != Content::Skip);
            let new = blocks.map(|block| Piece { bytes: &parts.bytes, block, from: 0, collected: false });
            pieces.entry(section.client).or_default().extend(new);
        }
        for (client, ranges) in update.deletes() {
            let all = deleted.entry(client).or_default();
            ranges.iter().for_each(|&range| all.insert(range));
        }
    }
    let sections = pieces.into_iter().map(|(client, pieces)| Pieces { client, pieces: in_order(pieces) });
    let deletes =
        deleted.into_iter().map(|(client, ranges)| (client, ranges.iter().collect::<Vec<Clocks>>()));
    write_update(sections.collect(), deletes.collect())
}

/// Sorts pieces by clock and cuts off what an earlier one carries.
fn in_order(mut pieces: SmallVec<[Piece<'_>; 4]>) -> SmallVec<[Piece<'_>; 4]> {
    if !pieces.is_sorted_by_key(Piece::start) {
        pieces.sort_by_key(Piece::start);
    }
    let mut clock = 0;
    pieces.retain(|piece| {
        let end = piece.block.end();
        if end <= clock {
            return false;
        }
        piece.from = clock.saturating_sub(piece.block.clock);
        clock = end;
        true
    });
    pieces
}
