//! The writes of a register in causal order.

use super::{NodeIx, Register};
use crate::fields::write::WriteId;
use smallvec::SmallVec;
use std::collections::VecDeque;

impl Register {
    /// Every write after those it names. Marks that name each other in a circle come from a region that is
    /// broken: the circle is opened at the least name, but never between a write and the one that it replaced.
    pub(super) fn in_causal_order(&self) -> Vec<NodeIx> {
        let count = self.nodes.len();
        if self.is_chain() {
            return (0..).take(count).collect();
        }
        let mut missing = vec![0_u32; count];
        let mut below = Below::new(count);
        // Backwards, so that those below one write are found in the order of their names.
        for ix in self.by_name().rev() {
            let named = self.write(ix).named().filter_map(|id| self.find(id));
            let mut named: SmallVec<[NodeIx; 4]> = named.filter(|&named| named != ix).collect();
            named.sort_unstable();
            named.dedup();
            for named in named {
                missing[ix as usize] += 1;
                below.add(named, ix);
            }
        }
        let all = || self.by_name();
        let mut ready: VecDeque<NodeIx> = all().filter(|&ix| missing[ix as usize] == 0).collect();
        let mut order = Vec::with_capacity(count);
        let mut ordered = vec![false; count];
        let (mut rest, mut way) = (all(), Vec::new());
        while let Some(ix) = ready.pop_front().or_else(|| self.out_of_circle(&ordered, &mut rest, &mut way)) {
            if std::mem::replace(&mut ordered[ix as usize], true) {
                continue;
            }
            order.push(ix);
            for ix in below.of(ix) {
                let missing = &mut missing[ix as usize];
                *missing -= 1;
                if *missing == 0 {
                    ready.push_back(ix);
                }
            }
        }
        order
    }

    /// The next of those that go round in circles, what it replaced before it; `way` is from the next of the rest up
    /// to there.
    fn out_of_circle(
        &self,
        ordered: &[bool],
        rest: &mut impl Iterator<Item = NodeIx>,
        way: &mut Vec<NodeIx>,
    ) -> Option<NodeIx> {
        if way.is_empty() {
            let mut next = rest.find(|&ix| !ordered[ix as usize]);
            while let Some(ix) = next.filter(|&ix| !ordered[ix as usize]) {
                way.push(ix);
                let origin = self.write(ix).origin;
                next =
                    origin.and_then(|origin| self.find(WriteId::Set(origin))).filter(|&origin| origin != ix);
            }
        }
        way.pop()
    }
}

/// For each write those that name it: lists in one vector, since a snapshot goes through all writes.
struct Below {
    /// By the named write, the head of its list.
    heads: Vec<usize>,
    /// A write, and where its list goes on.
    links: Vec<(NodeIx, usize)>,
}

impl Below {
    /// No link has this number.
    const END: usize = usize::MAX;

    fn new(count: usize) -> Self {
        Self { heads: vec![Self::END; count], links: Vec::with_capacity(count) }
    }

    fn add(&mut self, named: NodeIx, by: NodeIx) {
        let head = &mut self.heads[named as usize];
        self.links.push((by, std::mem::replace(head, self.links.len())));
    }

    fn of(&self, named: NodeIx) -> impl Iterator<Item = NodeIx> + '_ {
        let link = |at: usize| self.links.get(at);
        let first = link(self.heads[named as usize]);
        std::iter::successors(first, move |(_, next)| link(*next)).map(|&(ix, _)| ix)
    }
}
