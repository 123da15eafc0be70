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
use tokio::sync::oneshot;

/// While more batches than this are being shown, a document that no connection has beside others does not wait
/// for them.
const IN_ORDER_MAX: usize = 32;

/// A batch that is not shown yet.
#[derive(Debug)]
struct Unshown {
    last: Seq,
    causes: Frontier,
    /// No document shows it any more, or none ever did.
    over: bool,
}

/// A document that waits for its turn.
#[derive(Debug)]
struct Waiting {
    causes: Frontier,
    is_shared: bool,
    turn: oneshot::Sender<()>,
}

/// What is being shown, and what is shown.
#[derive(Debug)]
pub(super) struct Order {
    /// The replica whose own entries are shown by its commits.
    me: ReplicaId,
    /// Per stream, oldest first.
    unshown: BTreeMap<StreamId, VecDeque<Unshown>>,
    /// Per stream of other regions, up to where all is in the outboxes of those who are to see it.
    shown: Frontier,
    /// By an entry that is not shown and that they wait for, so that nobody is woken in vain. A document waits
    /// with one batch at a time.
    waiting: BTreeMap<Dot, Vec<Waiting>>,
}

impl Order {
    /// All that is applied now is read by whoever opens a document.
    pub(super) const fn new(me: ReplicaId, applied: Frontier) -> Self {
        Self { me, unshown: BTreeMap::new(), shown: applied, waiting: BTreeMap::new() }
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
            self.tell();
        }
        let unshown = Unshown { last, causes: causes.clone(), over: false };
        self.unshown.entry(first.stream).or_default().push_back(unshown);
        if self.under_way() == IN_ORDER_MAX + 1 {
            let all = std::mem::take(&mut self.waiting);
            all.into_values().flatten().for_each(|waiting| self.wait(waiting));
        }
        causes
    }

    /// Whether a batch with these causes may be shown: they are shown, or a document that no connection has beside
    /// others would hold up too much. `is_shared` says that some connection does.
    pub(super) fn has_turn(&self, causes: &Frontier, is_shared: bool) -> bool {
        self.shown.covers_all(causes) || !is_shared && self.under_way() > IN_ORDER_MAX
    }

    /// Tells when a batch with these causes may be shown.
    pub(super) fn turn(&mut self, causes: Frontier, is_shared: bool) -> oneshot::Receiver<()> {
        let (turn, told) = oneshot::channel();
        self.wait(Waiting { causes, is_shared, turn });
        told
    }

    fn wait(&mut self, waiting: Waiting) {
        let missing = waiting.causes.iter().find(|&dot| !self.shown.covers(dot));
        match missing.filter(|_| !self.has_turn(&waiting.causes, waiting.is_shared)) {
            Some(missing) => self.waiting.entry(missing).or_default().push(waiting),
            // Where the document is gone nobody waits.
            None => drop(waiting.turn.send(())),
        }
    }

    /// Tells those whose turn it is, now that more is shown.
    fn tell(&mut self) {
        let shown: Vec<Dot> = self.waiting.keys().copied().filter(|&dot| self.shown.covers(dot)).collect();
        let freed: Vec<_> = shown.iter().filter_map(|dot| self.waiting.remove(dot)).collect();
        freed.into_iter().flatten().for_each(|waiting| self.wait(waiting));
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
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        while self.settle() {}
        self.tell();
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
        self.settle_all();
    }

    /// How many batches are not shown.
    fn under_way(&self) -> usize {
        self.unshown.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert!(order.shown.covers_all(&elsewhere), "what this replica wrote is shown already");
        assert!(!order.shown.covers_all(&reply));
        order.over(dot(2, 1));
        assert_eq!(order.shown, upto(&[dot(1, 4), dot(2, 1)]));
        order.over(dot(1, 6));
        assert!(order.shown.covers_all(&reply));
    }

    #[test]
    fn what_nobody_shows_stands_for_its_causes_too() {
        let mut order = Order::new(ME, Frontier::new());
        order.push(dot(1, 1), Seq(1), &upto(&[]));
        order.push(dot(2, 1), Seq(1), &upto(&[dot(1, 1)]));
        let second = order.push(dot(2, 2), Seq(3), &upto(&[dot(1, 1)]));
        order.over(dot(2, 1));
        order.over(dot(2, 3));
        assert_eq!(order.shown, Frontier::new());
        assert!(!order.shown.covers_all(&second));
        order.over(dot(1, 1));
        assert_eq!(order.shown, upto(&[dot(1, 1), dot(2, 3)]));
    }

    #[test]
    fn what_came_in_another_way_is_not_waited_for() {
        let mut order = Order::new(ME, upto(&[dot(9, 3)]));
        // This replica wrote its stream up to 7, was told that its disk had gone back, and gets the rest of it.
        let rest = order.push(dot(9, 8), Seq(8), &upto(&[]));
        assert!(order.shown.covers_all(&rest));
        let more = order.push(dot(9, 9), Seq(9), &upto(&[]));
        assert!(!order.shown.covers_all(&more));
    }

    #[test]
    fn a_snapshot_stands_for_all_that_is_in_it() {
        let mut order = Order::new(ME, Frontier::new());
        order.push(dot(1, 1), Seq(1), &upto(&[]));
        let reply = order.push(dot(3, 1), Seq(1), &upto(&[dot(1, 1), dot(2, 8)]));
        order.skip_to(&upto(&[dot(1, 1), dot(2, 8)]));
        assert!(order.shown.covers_all(&reply));
        order.over(dot(1, 1));
        order.over(dot(3, 1));
        assert_eq!(order.shown, upto(&[dot(1, 1), dot(2, 8), dot(3, 1)]));
    }

    #[test]
    fn only_the_documents_whose_turn_it_is_are_woken() {
        let mut order = Order::new(ME, Frontier::new());
        order.push(dot(1, 1), Seq(1), &upto(&[]));
        order.push(dot(2, 1), Seq(1), &upto(&[]));
        let both = order.push(dot(3, 1), Seq(1), &upto(&[dot(1, 1), dot(2, 1)]));
        let one = order.push(dot(4, 1), Seq(1), &upto(&[dot(2, 1)]));
        let mut both = order.turn(both, false);
        let mut one = order.turn(one, true);
        let mut none = order.turn(Frontier::new(), true);
        assert!(none.try_recv().is_ok());
        order.over(dot(1, 1));
        assert!(both.try_recv().is_err() && one.try_recv().is_err());
        assert_eq!(order.waiting.keys().copied().collect::<Vec<_>>(), [dot(2, 1)]);
        order.over(dot(2, 1));
        assert!(both.try_recv().is_ok() && one.try_recv().is_ok());
        assert!(order.waiting.is_empty());
    }

    #[test]
    fn with_much_under_way_only_who_shares_a_connection_waits() {
        let mut order = Order::new(ME, Frontier::new());
        order.push(dot(1, 1), Seq(1), &upto(&[]));
        let causes = order.push(dot(2, 1), Seq(1), &upto(&[dot(1, 1)]));
        let mut shared = order.turn(causes.clone(), true);
        let mut alone = order.turn(causes.clone(), false);
        for seq in 2..IN_ORDER_MAX as u64 {
            order.push(dot(1, seq), Seq(seq), &upto(&[]));
            assert!(alone.try_recv().is_err() && !order.has_turn(&causes, false));
        }
        order.push(dot(1, 100), Seq(100), &upto(&[]));
        assert!(alone.try_recv().is_ok() && order.has_turn(&causes, false));
        assert!(shared.try_recv().is_err() && !order.has_turn(&causes, true));
        order.over(dot(1, 1));
        assert!(shared.try_recv().is_ok());
    }

    proptest! {
        #[test]
        fn nobody_is_told_early_and_nobody_is_forgotten(
            batches in prop::collection::vec((1..4_u32, 0..4_u64, 0..4_u64, 0..4_u64, any::<bool>()), 1..60),
            ends in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut order = Order::new(ME, Frontier::new());
            let mut under_way = Vec::new();
            let mut turns = Vec::new();
            let mut lengths = [0_u64; 4];
            for ((replica, back1, back2, back3, is_shared), end) in batches.into_iter().zip(&ends) {
                // What had come before, less some: as far as a region elsewhere may have been.
                let seen = [back1, back2, back3].into_iter().zip(1..).map(|(back, other)| {
                    dot(other, lengths[other as usize].saturating_sub(back))
                });
                let seen = upto(&seen.filter(|dot| dot.seq.0 > 0).collect::<Vec<_>>());
                lengths[replica as usize] += 1;
                let own = dot(replica, lengths[replica as usize]);
                let causes = order.push(own, own.seq, &seen);
                under_way.push(own);
                turns.push((order.turn(causes.clone(), is_shared), causes, is_shared));
                if end.index(3) == 0 {
                    order.over(under_way.swap_remove(end.index(under_way.len())));
                }
                check(&order, &mut turns)?;
            }
            while !under_way.is_empty() {
                let end = &ends[under_way.len()];
                order.over(under_way.swap_remove(end.index(under_way.len())));
                check(&order, &mut turns)?;
            }
            prop_assert!(turns.is_empty() && order.waiting.is_empty());
        }
    }

    type Turn = (oneshot::Receiver<()>, Frontier, bool);

    /// Lets go of those who were told; whoever is not must have no turn.
    fn check(order: &Order, turns: &mut Vec<Turn>) -> Result<(), TestCaseError> {
        let mut left = Vec::new();
        for (mut told, causes, is_shared) in turns.drain(..) {
            if told.try_recv().is_ok() {
                prop_assert!(order.shown.covers_all(&causes) || !is_shared);
            } else {
                prop_assert!(!order.has_turn(&causes, is_shared));
                left.push((told, causes, is_shared));
            }
        }
        *turns = left;
        Ok(())
    }
}
