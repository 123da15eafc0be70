//! The base of siblings: the nearest writes that all of them knew.

use super::{NodeIx, Register};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

impl Register {
    /// The nearest writes that each of these groups has seen or is part of, in order; none above another.
    ///
    /// Paints the groups down the writes they were made on, those with the longest way first, until all that is
    /// left to paint lies above what was found: as `git merge-base` does by generation numbers.
    pub(in crate::fields) fn nearest_common(&self, groups: &[&[NodeIx]]) -> Vec<NodeIx> {
        let mut open: BTreeMap<(u64, NodeIx), Paint> = BTreeMap::new();
        let mut fresh = 0_usize;
        let key = |ix: NodeIx| (self.nodes[ix].level, ix);
        for (group, writes) in groups.iter().enumerate() {
            for &ix in *writes {
                let paint = open.entry(key(ix)).or_insert_with(|| {
                    fresh += 1;
                    Paint::new(groups.len())
                });
                paint.groups[group / 64] |= 1 << (group % 64);
            }
        }
        let mut found = Vec::new();
        while fresh > 0 {
            let Some(((_, ix), mut paint)) = open.pop_last() else { break };
            if !paint.above_found {
                fresh -= 1;
                if paint.is_full(groups.len()) {
                    found.push(ix);
                    paint.above_found = true;
                }
            }
            for &parent in &self.nodes[ix].parents {
                match open.entry(key(parent)) {
                    Entry::Vacant(vacant) => {
                        fresh += usize::from(!paint.above_found);
                        vacant.insert(paint.clone());
                    }
                    Entry::Occupied(mut known) => {
                        let known = known.get_mut();
                        fresh -= usize::from(paint.above_found && !known.above_found);
                        known.add(&paint);
                    }
                }
            }
        }
        found.sort_unstable();
        found
    }
}

/// Which groups have seen a write.
#[derive(Clone, Debug)]
struct Paint {
    groups: Box<[u64]>,
    /// It lies above a write that all of them have seen.
    above_found: bool,
}

impl Paint {
    fn new(groups: usize) -> Self {
        Self { groups: vec![0; groups.div_ceil(64)].into(), above_found: false }
    }

    fn add(&mut self, other: &Self) {
        self.groups.iter_mut().zip(&other.groups).for_each(|(mine, theirs)| *mine |= theirs);
        self.above_found |= other.above_found;
    }

    fn is_full(&self, groups: usize) -> bool {
        self.groups.iter().map(|some| some.count_ones() as usize).sum::<usize>() == groups
    }
}
