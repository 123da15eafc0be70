//! Admission: what of an update is new to a document and rests on nothing that it lacks.
//!
//! yrs cannot be asked. It applies blocks past a hole and says that nothing is missing, and stores what it
//! cannot apply for ever; so nothing that would be pending ever reaches it.

use super::block::{ClientId, Clocks, Content};
use super::dropped::dropped;
use super::limits::Limits;
use super::resolve::{Resolution, Take};
use super::write::{Piece, Pieces, write_update};
use super::{Refusal, Shape, Update};
use smallvec::SmallVec;

/// Units that an update carries although they were known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Whose they are.
    pub client: ClientId,
    /// Which.
    pub clocks: Clocks,
}

/// What a document may take of an update.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The part that is new and rests on nothing unknown. None when there is nothing new.
    pub fresh: Option<Update>,
    /// Something rests on what is not known here: a hole. Whoever sent it may have the rest.
    pub missing: bool,
    /// What was known already, client by client in clock order. It should hold the same content.
    pub overlap: SmallVec<[Overlap; 1]>,
    /// Deletes what of the fresh part stands in something that is deleted, where that does not itself. None when there
    /// is nothing of the kind. Documents delete it when they take it; who wrote it may show it all the same.
    pub dropped: Option<Update>,
}

impl Shape {
    /// Looks at what of an update is new, without taking it in.
    ///
    /// # Errors
    /// When taking it would harm the document.
    pub fn admit(&self, update: Update) -> Result<Admission, Refusal> {
        self.admit_within(update, &Limits::OUTSIDE)
    }

    /// Looks at what of an update is new, within given limits, without taking it in.
    ///
    /// # Errors
    /// When taking it would harm the document.
    pub fn admit_within(&self, update: Update, limits: &Limits) -> Result<Admission, Refusal> {
        let resolution = Resolution::of(self, &update.0, limits.lookups)?;
        let deletions = self.new_deletions(&update, &resolution);
        let whole = deletions.whole && is_whole(&update, &resolution);
        let missing = resolution.missing || deletions.missing;
        let overlap = overlaps(&update, &resolution);
        let dropped = dropped(&update, &resolution);
        let fresh = if whole {
            (!update.is_empty()).then_some(update)
        } else {
            let cut =
                write_update(new_pieces(&update, &resolution), deletions.list(self, &update, &resolution));
            (!cut.is_empty()).then_some(cut)
        };
        Ok(Admission { fresh, missing, overlap, dropped })
    }

    /// Finds out whether all deletions are new and within what is known.
    fn new_deletions(&self, update: &Update, resolution: &Resolution<'_>) -> Deletions {
        let mut deletions = Deletions { whole: true, missing: false };
        for (client, ranges) in update.deletes() {
            let clock = resolution.clock(client);
            let last = ranges.last().map_or(0, |range| range.end);
            if last > clock {
                deletions.missing = true;
                deletions.whole = false;
            }
            if deletions.whole {
                deletions.whole = ranges.iter().all(|range| self.is_new(client, *range));
            }
        }
        deletions
    }

    fn is_new(&self, client: ClientId, range: Clocks) -> bool {
        let mut whole = false;
        match self.known(client) {
            Some(known) => known.deleted.gaps(range, |gap| whole |= gap == range),
            None => whole = true,
        }
        whole
    }
}

/// What is known of an update's deletions.
struct Deletions {
    whole: bool,
    missing: bool,
}

impl Deletions {
    /// The deletions that are new and within what is known.
    fn list(
        &self,
        shape: &Shape,
        update: &Update,
        resolution: &Resolution<'_>,
    ) -> Vec<(ClientId, Vec<Clocks>)> {
        let mut list = Vec::new();
        for (client, ranges) in update.deletes() {
            let clock = resolution.clock(client);
            let mut new = Vec::new();
            for range in ranges {
                let range = Clocks { start: range.start, end: range.end.min(clock) };
                match shape.known(client) {
                    Some(known) => known.deleted.gaps(range, |gap| new.push(gap)),
                    None if range.start < range.end => new.push(range),
                    None => {}
                }
            }
            list.push((client, new));
        }
        list
    }
}

/// True when every block is taken as it is.
fn is_whole(update: &Update, resolution: &Resolution<'_>) -> bool {
    resolution.takes.iter().all(|take| *take == Take::From(0))
        && update.0.blocks.len() == resolution.takes.len()
}

fn new_pieces<'a>(update: &'a Update, resolution: &Resolution<'_>) -> Vec<Pieces<'a>> {
    let parts = &*update.0;
    let sections = parts.sections.iter().map(|section| {
        let takes = &resolution.takes[section.first as usize..section.end as usize];
        let taken = section.blocks(parts).iter().zip(takes).filter_map(|(block, take)| {
            let (from, collected) = match *take {
                Take::Nothing => return None,
                Take::From(from) => (from, false),
                Take::Collected(from) => (from, true),
            };
            Some(Piece { bytes: &parts.bytes, block, from, collected })
        });
        Pieces { client: section.client, pieces: taken.collect() }
    });
    sections.collect()
}

fn overlaps(update: &Update, resolution: &Resolution<'_>) -> SmallVec<[Overlap; 1]> {
    let parts = &*update.0;
    let mut overlaps: SmallVec<[Overlap; 1]> = SmallVec::new();
    for (at, section) in parts.sections.iter().enumerate() {
        let known = resolution.known(at);
        let mut open: Option<Clocks> = None;
        for block in section.blocks(parts) {
            if block.clock >= known {
                break;
            }
            if block.content == Content::Skip {
                continue;
            }
            let clocks = Clocks { start: block.clock, end: block.end().min(known) };
            open = match open {
                Some(open) if open.end == clocks.start => Some(Clocks { end: clocks.end, ..open }),
                Some(done) => {
                    overlaps.push(Overlap { client: section.client, clocks: done });
                    Some(clocks)
                }
                None => Some(clocks),
            };
        }
        overlaps.extend(open.map(|clocks| Overlap { client: section.client, clocks }));
    }
    overlaps
}
