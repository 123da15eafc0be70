//! Sets of clocks, as ranges in order.

use super::block::Clocks;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// A set of clocks of one client.
///
/// Invariant: ranges are not empty and do not touch each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    /// Adds clocks, in logarithmic time for each range that is swallowed.
    pub(super) fn insert(&mut self, clocks: Clocks) {
        let Clocks { mut start, mut end } = clocks;
        if start >= end {
            return;
        }
        while let Some((&at, &at_end)) = self.0.range(..=end).next_back() {
            if at_end < start {
                break;
            }
            if at <= start && at_end >= end {
                return;
            }
            self.0.remove(&at);
            start = start.min(at);
            end = end.max(at_end);
        }
        self.0.insert(start, end);
    }

    /// Adds ranges: many at once when there were none, the quicker the better they are in order.
    pub(super) fn extend(&mut self, ranges: impl IntoIterator<Item = Clocks>) {
        if !self.0.is_empty() {
            return ranges.into_iter().for_each(|range| self.insert(range));
        }
        let mut ranges: SmallVec<[Clocks; 2]> =
            ranges.into_iter().filter(|range| range.start < range.end).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        self.0.extend(ranges.into_iter().map(|range| (range.start, range.end)));
    }

    pub(super) fn contains(&self, clock: u32) -> bool {
        self.0.range(..=clock).next_back().is_some_and(|(_, &end)| end > clock)
    }

    /// Calls `each` with every part of the clocks that is not in the set, in order.
    pub(super) fn gaps(&self, clocks: Clocks, mut each: impl FnMut(Clocks)) {
        let mut from = clocks.start;
        if let Some((_, &end)) = self.0.range(..=clocks.start).next_back() {
            from = from.max(end);
        }
        while from < clocks.end {
            let (next, next_end) = match self.0.range(from..clocks.end).next() {
                Some((&start, &end)) => (start, end),
                None => (clocks.end, clocks.end),
            };
            if next > from {
                each(Clocks { start: from, end: next });
            }
            from = next_end;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Clocks> + '_ {
        self.0.iter().map(|(&start, &end)| Clocks { start, end })
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Clocks> for Ranges {
    fn from_iter<I: IntoIterator<Item = Clocks>>(clocks: I) -> Self {
        let mut ranges = Self::default();
        ranges.extend(clocks);
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_what_was_inserted(
            inserted in prop::collection::vec((0_u32..60, 0_u32..9), 0..30),
            asked in (0_u32..60, 0_u32..30),
        ) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (start, len) in &inserted {
                ranges.insert(Clocks { start: *start, end: start + len });
                set.extend(*start..start + len);
            }
            let at_once: Ranges =
                inserted.iter().map(|&(start, len)| Clocks { start, end: start + len }).collect();
            prop_assert_eq!(&at_once, &ranges);
            let listed: Vec<Clocks> = ranges.iter().collect();
            prop_assert!(listed.windows(2).all(|pair| pair[0].end < pair[1].start));
            let held: BTreeSet<u32> = listed.iter().flat_map(|range| range.start..range.end).collect();
            prop_assert_eq!(&held, &set);
            prop_assert!((0..80).all(|clock| ranges.contains(clock) == set.contains(&clock)));

            let asked = Clocks { start: asked.0, end: asked.0 + asked.1 };
            let mut missing = BTreeSet::new();
            ranges.gaps(asked, |gap| missing.extend(gap.start..gap.end));
            let expected = (asked.start..asked.end).filter(|clock| !set.contains(clock)).collect();
            prop_assert_eq!(missing, expected);
        }
    }
}
