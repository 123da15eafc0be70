//! In which order documents show what other regions wrote.
//!
//! Each document shows it in a task of its own. So that no outbox has a reply before the message that it replies to, a
//! document waits with a batch until whatever the batch's origin had applied before it is in the outboxes of those
//! who are to see it: the causal gate's rule once more, for what is shown instead of what is stored.
//!
//! That is promised to a connection with several documents. A document whose connections have no other waits too,
//! so that people who have two beside each other seldom see it otherwise, but not while much is under way: then one
//! frame for many batches matters more.
//!
//! Invariant: what is counted as shown has its causes shown.

use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{Dot, ReplicaId, Seq, StreamId};
use std::collections::{BTreeMap, VecDeque};

/// A batch that is not shown yet.
#[derive(Debug)]
struct Unshown {
    last: Seq,
    causes: Frontier,
    /// No document shows it any more, or none ever did.
    over: bool,
}

/// What is being shown, and what is shown.
#[derive(Debug)]
pub(super) struct Order {
    /// The replica whose own entries are shown by its commits.
    me: ReplicaId,
    /// Per stream, oldest first.
    unshown: BTreeMap<StreamId, VecDeque<Unshown>>,
    shown: Frontier,
}

impl Order {
    /// All that is applied now is read by whoever opens a document.
    pub(super) const fn new(me: ReplicaId, applied: Frontier) -> Self {
        Self { me, unshown: BTreeMap::new(), shown: applied }
    }

    /// Takes note of a batch that is applied, in the order in which it is. Returns what must be shown before it.
    pub(super) fn push(&mut self, first: Dot, last: Seq, deps: &Frontier) -> Frontier {
        let mut causes: Frontier = deps.iter().filter(|dot| dot.stream.replica != self.me).collect();
        let before = Dot { seq: Seq(first.seq.0 - 1), ..first };
        causes.raise(before);
        if !self.unshown.contains_key(&first.stream) {
            // Whatever came of the stream before is shown, or came in another way: by a commit of this replica's
            // own, before it gave the stream up, or by a snapshot.
            self.shown.raise(before);
        }
        let unshown = Unshown { last, causes: causes.clone(), over: false };
        self.unshown.entry(first.stream).or_default().push_back(unshown);
        causes
    }

    /// No document shows the batch with this last entry any more.
    pub(super) fn over(&mut self, last: Dot) {
        let batches = self.unshown.get_mut(&last.stream);
        let found = batches.and_then(|batches| {
            let at = batches.binary_search_by_key(&last.seq, |batch| batch.last).ok()?;
            batches.get_mut(at)
        });
        if let Some(batch) = found {
            batch.over = true;
            while self.settle() {}
        }
    }

    /// Counts what is over and has its causes shown. True when that may let something else be counted.
    fn settle(&mut self) -> bool {
        let Self { unshown, shown, .. } = self;
        let mut moved = false;
        for (&stream, batches) in unshown.iter_mut() {
            while let Some(batch) =
                batches.pop_front_if(|batch| batch.over && shown.covers_all(&batch.causes))
            {
                shown.raise(Dot { stream, seq: batch.last });
                moved = true;
            }
        }
        unshown.retain(|_, batches| !batches.is_empty());
        moved
    }

    /// A snapshot has brought all of this; its documents show it in no order.
    pub(super) fn skip_to(&mut self, applied: &Frontier) {
        self.shown.merge(applied);
        while self.settle() {}
    }

    /// How many batches are not shown.
    pub(super) fn under_way(&self) -> usize {
        self.unshown.values().map(VecDeque::len).sum()
    }

    /// Per stream, up to where all is in the outboxes of those who are to see it.
    pub(super) const fn shown(&self) -> &Frontier {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ReplicaId = ReplicaId(9);

    const fn dot(replica: u32, seq: u64) -> Dot {
        Dot { stream: StreamId::from_u32(replica << 16 | 1), seq: Seq(seq) }
    }

    fn upto(dots: &[Dot]) -> Frontier {
        dots.iter().copied().collect()
    }

    #[test]
    fn an_effect_is_shown_after_its_cause_and_others_meanwhile() {
        let mut order = Order::new(ME, upto(&[dot(1, 4)]));
        let mut push = |first: Dot, last, deps: &[Dot]| order.push(first, Seq(last), &upto(deps));
        push(dot(1, 5), 6, &[]);
        let elsewhere = push(dot(2, 1), 1, &[dot(1, 4), dot(9, 7)]);
        let reply = push(dot(3, 1), 1, &[dot(1, 6), dot(9, 8)]);
        assert!(order.shown().covers_all(&elsewhere), "what this replica wrote is shown already");
        assert!(!order.shown().covers_all(&reply));
        order.over(dot(2, 1));
        assert_eq!(*order.shown(), upto(&[dot(1, 4), dot(2, 1)]));
        order.over(dot(1, 6));
        assert!(order.shown().covers_all(&reply));
    }

    #[test]
    fn what_nobody_shows_stands_for_its_causes_too() {
        let mut order = Order::new(ME, Frontier::new());
        order.push(dot(1, 1), Seq(1), &upto(&[]));
        order.push(dot(2, 1), Seq(1), &upto(&[dot(1, 1)]));
        let second = order.push(dot(2, 2), Seq(3), &upto(&[dot(1, 1)]));
        order.over(dot(2, 1));
        order.over(dot(2, 3));
        assert_eq!(*order.shown(), Frontier::new());
        assert!(!order.shown().covers_all(&second));
        order.over(dot(1, 1));
        assert_eq!(*order.shown(), upto(&[dot(1, 1), dot(2, 3)]));
    }

    #[test]
    fn what_came_in_another_way_is_not_waited_for() {
        let mut order = Order::new(ME, upto(&[dot(9, 3)]));
        // This replica wrote its stream up to 7, was told that its disk had gone back, and gets the rest of it.
        let rest = order.push(dot(9, 8), Seq(8), &upto(&[]));
        assert!(order.shown().covers_all(&rest));
        let more = order.push(dot(9, 9), Seq(9), &upto(&[]));
        assert!(!order.shown().covers_all(&more));
    }

    #[test]
    fn a_snapshot_stands_for_all_that_is_in_it() {
        let mut order = Order::new(ME, Frontier::new());
        order.push(dot(1, 1), Seq(1), &upto(&[]));
        let reply = order.push(dot(3, 1), Seq(1), &upto(&[dot(1, 1), dot(2, 8)]));
        order.skip_to(&upto(&[dot(1, 1), dot(2, 8)]));
        assert!(order.shown().covers_all(&reply));
        order.over(dot(1, 1));
        order.over(dot(3, 1));
        assert_eq!(*order.shown(), upto(&[dot(1, 1), dot(2, 8), dot(3, 1)]));
    }
}
