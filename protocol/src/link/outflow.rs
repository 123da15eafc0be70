//! What one peer is to be sent: a cursor over each stream of the log.
//!
//! The forwarding rule, by which any connected set of links brings everything everywhere, and a full
//! mesh brings each batch to each region once: a batch goes to a peer that is not known to have it, at
//! once when this replica originated it or when the peer does not hear its origin first-hand, and
//! otherwise when the peer asks. A peer that loses its link to an origin says so, and gets that
//! origin's batches from whoever else has them.
//!
//! Live batches and those of a long absence are the same to it: the cursor is merely further back. So
//! a slow peer costs two frontiers and no memory for what it has yet to get.
//!
//! Invariant: on one link an entry is sent once, unless the peer asks for it again.

use crate::frontier::Frontier;
use crate::ids::{Dot, ReplicaId, Seq, StreamId};
use std::collections::{BTreeMap, BTreeSet};

/// What one peer has, has been sent, and may be sent, since the link began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outflow {
    /// What the peer is known to have: it said so, or sent it.
    held: Frontier,
    /// What was sent, or need not be.
    sent: Frontier,
    /// The replicas whose streams reach the peer without another in between; none until it has said
    /// what it has, and nothing is sent before.
    hears: Option<BTreeSet<ReplicaId>>,
    /// What the peer has asked for: the next entry, and the last.
    needs: BTreeMap<StreamId, (Seq, Seq)>,
    /// Entries of its own that the peer wants to be shown, to compare them with what it holds.
    shown: BTreeMap<StreamId, Seq>,
    /// Whether what this replica originated is kept back.
    withheld: bool,
    /// Bytes that may have been sent, and that were.
    credit: u64,
    spent: u64,
    /// The stream that was served last: the others come before it is served again.
    served: Option<StreamId>,
    /// Streams of which the log no longer has what comes next for the peer, and where it begins.
    truncated: BTreeMap<StreamId, Seq>,
}

impl Outflow {
    /// Takes note of what the peer says it has, and of whom it hears first-hand.
    pub fn hear_frontier(&mut self, received: &Frontier, hears: BTreeSet<ReplicaId>) {
        self.hear_ack(received);
        self.hears = Some(hears);
    }

    /// Takes note of what the peer says it has received.
    pub fn hear_ack(&mut self, received: &Frontier) {
        self.held.merge(received);
        self.sent.merge(received);
        let held = &self.held;
        self.truncated.retain(|&stream, first_kept| held.get(stream).0.saturating_add(1) < first_kept.0);
        self.needs.retain(|&stream, (from, to)| {
            from.0 = from.0.max(held.get(stream).0.saturating_add(1));
            from <= to
        });
    }

    /// Takes note of a batch that came from the peer, by its last entry.
    pub fn hear_batch(&mut self, last: Dot) {
        self.held.raise(last);
        self.sent.raise(last);
    }

    /// Keeps what this replica originated back, or lets it go.
    pub fn withhold(&mut self, withheld: bool) {
        self.withheld = withheld;
    }

    /// Takes note of an entry of its own that the peer wants to be shown, whether it holds it or not.
    pub fn hear_show(&mut self, dot: Dot) {
        if dot.seq > Seq(0) {
            self.shown.insert(dot.stream, dot.seq);
        }
    }

    /// Whether something is still to be shown.
    #[must_use]
    pub fn is_to_show(&self) -> bool {
        !self.shown.is_empty()
    }

    /// Takes note of entries that the peer lacks. A second range of a stream is joined with the first.
    pub fn hear_need(&mut self, stream: StreamId, from: Seq, to: Seq) {
        let need = self.needs.entry(stream).or_insert((from, to));
        *need = (need.0.min(from), need.1.max(to));
    }

    /// Takes note of how many bytes the peer allows in all. It never takes back what it allowed.
    pub fn hear_credit(&mut self, bytes: u64) {
        self.credit = self.credit.max(bytes);
    }

    /// Takes note that the log does not have what was to be shown of a stream.
    pub fn cannot_show(&mut self, stream: StreamId) {
        self.shown.remove(&stream);
    }

    /// Takes note that the log begins at an entry behind what the peer has of a stream: of that nothing is
    /// sent until the peer has it from elsewhere. True when that is news.
    pub fn truncated(&mut self, stream: StreamId, first_kept: Seq) -> bool {
        self.needs.remove(&stream);
        self.truncated.insert(stream, first_kept).is_none()
    }

    /// What the peer must have for the log to serve it: of the streams that begin later in the log than the
    /// peer ends, the last entry before that.
    #[must_use]
    pub fn out_of_reach(&self) -> Frontier {
        let last = |(&stream, first_kept): (&StreamId, &Seq)| Dot { stream, seq: Seq(first_kept.0 - 1) };
        self.truncated.iter().map(last).collect()
    }

    /// Takes note of a piece of a snapshot that was sent.
    pub fn send_piece(&mut self, bytes: u64) {
        self.spent = self.spent.saturating_add(bytes);
    }

    /// Whether a batch, by its first and last entry, is still to be sent: the peer is not known to have
    /// it and was not sent it, or has asked for it.
    #[must_use]
    pub fn lacks(&self, first: Dot, last: Dot) -> bool {
        let asked = self.needs.get(&first.stream);
        let shown = self.shown.get(&first.stream).is_some_and(|seq| first.seq <= *seq && last.seq >= *seq);
        shown
            || !self.sent.covers(last)
            || asked.is_some_and(|(from, to)| first.seq <= *to && last.seq >= *from)
    }

    /// Has all that the peer is not known to have sent again.
    pub fn rewind(&mut self) {
        self.sent = self.held.clone();
        self.truncated.clear();
    }

    /// The replicas that the peer hears first-hand, as far as it has said.
    pub fn heard_there(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.hears.iter().flatten().copied()
    }

    /// What the peer is known to have.
    #[must_use]
    pub const fn held(&self) -> &Frontier {
        &self.held
    }

    /// Whether the peer allows another batch. One may begin below the allowance and end above it, so
    /// that no batch is too long to be sent.
    #[must_use]
    pub const fn has_credit(&self) -> bool {
        self.spent < self.credit
    }

    /// The entry from which to read the next batch for the peer, of what this replica, `me`, has
    /// received. What was asked for comes first; then streams take turns. None when there is nothing
    /// that the peer is to be sent, or it allows no more.
    #[must_use]
    pub fn next(&self, me: ReplicaId, received: &Frontier) -> Option<Dot> {
        if !self.has_credit() {
            return None;
        }
        if let Some((&stream, &seq)) = self.shown.first_key_value() {
            return Some(Dot { stream, seq });
        }
        let hears = self.hears.as_ref()?;
        let asked = self.needs.iter().map(|(&stream, &(from, _))| Dot { stream, seq: from });
        if let Some(dot) = asked.into_iter().find(|dot| received.covers(*dot)) {
            return Some(dot);
        }
        let due = |dot: &Dot| {
            let origin = dot.stream.replica;
            let known = self.sent.get(dot.stream) >= dot.seq || self.truncated.contains_key(&dot.stream);
            (if origin == me { !self.withheld } else { !hears.contains(&origin) }) && !known
        };
        let mut streams = received.iter().filter(due).map(|dot| dot.stream);
        let first = streams.next()?;
        let after = |stream: &StreamId| Some(*stream) > self.served;
        let stream = if after(&first) { first } else { streams.find(after).unwrap_or(first) };
        Some(Dot { stream, seq: Seq(self.sent.get(stream).0 + 1) })
    }

    /// Takes note of a batch that was sent, by its first and last entry and its length.
    pub fn send(&mut self, first: Dot, last: Seq, bytes: u64) {
        let stream = first.stream;
        self.spent = self.spent.saturating_add(bytes);
        // A batch that was asked for may lie beyond what was sent of its stream: the entries before it
        // are still to be sent.
        if first.seq.0 <= self.sent.get(stream).0.saturating_add(1) {
            self.sent.raise(Dot { stream, seq: last });
        }
        self.shown.retain(|of, seq| *of != stream || *seq < first.seq || *seq > last);
        if let Some((from, to)) = self.needs.get_mut(&stream) {
            if first.seq <= *from {
                from.0 = from.0.max(last.0.saturating_add(1));
            }
            if *from > *to {
                self.needs.remove(&stream);
            }
        }
        self.served = Some(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Incarnation;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const fn stream(replica: u16) -> StreamId {
        StreamId { replica: ReplicaId(replica), incarnation: Incarnation(1) }
    }

    const fn dot(replica: u16, seq: u64) -> Dot {
        Dot { stream: stream(replica), seq: Seq(seq) }
    }

    fn hearing(replicas: &[u16]) -> BTreeSet<ReplicaId> {
        replicas.iter().copied().map(ReplicaId).collect()
    }

    #[derive(Clone)]
    enum Said {
        Frontier(Frontier, BTreeSet<ReplicaId>),
        Ack(Frontier),
        Batch(Dot, Seq),
        Need(StreamId, Seq, Seq),
    }

    /// Replicas that hold batches by their bounds only, and links that lose nothing until they are cut.
    struct World {
        replicas: usize,
        /// Per replica and stream, the last entry of each batch.
        logs: Vec<BTreeMap<StreamId, Vec<u64>>>,
        /// Per link and direction: how far its sender is, and what is on the way.
        links: BTreeMap<(usize, usize), (Outflow, VecDeque<Said>)>,
        duplicates: usize,
        sent: usize,
    }

    impl World {
        fn new(replicas: usize) -> Self {
            let logs = vec![BTreeMap::new(); replicas];
            Self { replicas, logs, links: BTreeMap::new(), duplicates: 0, sent: 0 }
        }

        fn received(&self, at: usize) -> Frontier {
            let last =
                |(&stream, batches): (&StreamId, &Vec<u64>)| Some(Dot { stream, seq: Seq(*batches.last()?) });
            self.logs[at].iter().filter_map(last).collect()
        }

        fn tell_hears(&mut self, at: usize) {
            let heard: Vec<_> = (0..self.replicas).filter(|&to| self.links.contains_key(&(at, to))).collect();
            let hears: BTreeSet<_> = heard.iter().map(|&to| id(to)).collect();
            for to in heard {
                let said = Said::Frontier(self.received(at), hears.clone());
                self.links.get_mut(&(at, to)).expect("a link").1.push_back(said);
            }
        }

        fn set(&mut self, (a, b): (usize, usize), up: bool) {
            if a == b || self.links.contains_key(&(a, b)) == up {
                return;
            }
            for ends in [(a, b), (b, a)] {
                if up {
                    let mut outflow = Outflow::default();
                    outflow.hear_credit(u64::MAX);
                    self.links.insert(ends, (outflow, VecDeque::new()));
                } else {
                    self.links.remove(&ends);
                }
            }
            self.tell_hears(a);
            self.tell_hears(b);
        }

        fn write(&mut self, at: usize, len: u64) {
            let log = self.logs[at].entry(stream_of(at)).or_default();
            log.push(log.last().unwrap_or(&0) + len);
        }

        /// Sends the next batch over a link, as its sender has it.
        fn send(&mut self, ends: (usize, usize)) -> bool {
            let received = self.received(ends.0);
            let Some((outflow, way)) = self.links.get_mut(&ends) else { return false };
            let Some(next) = outflow.next(id(ends.0), &received) else { return false };
            let batches = &self.logs[ends.0][&next.stream];
            let at = batches.partition_point(|last| *last < next.seq.0);
            let first = Dot { seq: Seq(if at == 0 { 1 } else { batches[at - 1] + 1 }), ..next };
            let last = Seq(batches[at]);
            outflow.send(first, last, 1);
            way.push_back(Said::Batch(first, last));
            self.sent += 1;
            true
        }

        /// Delivers what is next on a link.
        fn deliver(&mut self, ends: (usize, usize)) -> bool {
            let Some(said) = self.links.get_mut(&ends).and_then(|(_, way)| way.pop_front()) else {
                return false;
            };
            let (from, at) = ends;
            let back = (at, from);
            match said {
                Said::Frontier(received, hears) => self.outflow(back).hear_frontier(&received, hears),
                Said::Ack(received) => self.outflow(back).hear_ack(&received),
                Said::Need(stream, from, to) => self.outflow(back).hear_need(stream, from, to),
                Said::Batch(first, last) => {
                    self.outflow(back).hear_batch(Dot { seq: last, ..first });
                    self.take(back, first, last);
                }
            }
            true
        }

        fn outflow(&mut self, ends: (usize, usize)) -> &mut Outflow {
            &mut self.links.get_mut(&ends).expect("links have two directions").0
        }

        fn take(&mut self, back: (usize, usize), first: Dot, last: Seq) {
            let log = self.logs[back.0].entry(first.stream).or_default();
            let next = log.last().unwrap_or(&0) + 1;
            if last.0 < next {
                self.duplicates += 1;
            } else if first.seq.0 > next {
                let need = Said::Need(first.stream, Seq(next), Seq(first.seq.0 - 1));
                self.links.get_mut(&back).expect("a link").1.push_back(need);
            } else {
                log.push(last.0);
                let ack: Frontier = [Dot { seq: last, ..first }].into_iter().collect();
                for (ends, (_, way)) in &mut self.links {
                    if ends.0 == back.0 {
                        way.push_back(Said::Ack(ack.clone()));
                    }
                }
            }
        }

        /// Lets everything happen that still can, link by link.
        fn settle(&mut self) {
            loop {
                let all: Vec<_> = self.links.keys().copied().collect();
                let moved = all.into_iter().fold(false, |moved, ends| {
                    let sent = self.send(ends);
                    self.deliver(ends) || sent || moved
                });
                if !moved {
                    return;
                }
            }
        }
    }

    fn id(at: usize) -> ReplicaId {
        stream_of(at).replica
    }

    fn stream_of(at: usize) -> StreamId {
        stream(u16::try_from(at).expect("few replicas"))
    }

    #[derive(Clone, Debug)]
    enum Act {
        Write(usize, u64),
        Send(usize, usize),
        Deliver(usize, usize),
        Cut(usize, usize),
        Heal(usize, usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let ends = || (0..4_usize, 0..4_usize);
        prop_oneof![
            4 => (0..4_usize, 1..5_u64).prop_map(|(at, len)| Act::Write(at, len)),
            6 => ends().prop_map(|(a, b)| Act::Send(a, b)),
            6 => ends().prop_map(|(a, b)| Act::Deliver(a, b)),
            1 => ends().prop_map(|(a, b)| Act::Cut(a, b)),
            1 => ends().prop_map(|(a, b)| Act::Heal(a, b)),
        ]
    }

    proptest! {
        #[test]
        fn l4_whatever_links_connect_all_regions_bring_all_to_all(
            acts in prop::collection::vec(act(), 0..200),
            // Each region but the first is linked to one before it; and some links more.
            tree in [0..1_usize, 0..2, 0..3],
            more in prop::collection::vec((0..4_usize, 0..4_usize), 0..4),
        ) {
            let mut world = World::new(4);
            let links = tree.iter().enumerate().map(|(at, &to)| (at + 1, to)).chain(more);
            let links: Vec<(usize, usize)> = links.collect();
            for &ends in &links {
                world.set(ends, true);
            }
            for act in acts {
                match act {
                    Act::Write(at, len) => world.write(at, len),
                    Act::Send(a, b) => drop(world.send((a, b))),
                    Act::Deliver(a, b) => drop(world.deliver((a, b))),
                    Act::Cut(a, b) => world.set((a, b), false),
                    Act::Heal(a, b) if links.contains(&(a, b)) => world.set((a, b), true),
                    Act::Heal(..) => {}
                }
            }
            for ends in links {
                world.set(ends, true);
            }
            world.settle();
            for at in 1..world.replicas {
                prop_assert_eq!(&world.logs[at], &world.logs[0]);
            }
        }

        #[test]
        fn l4_a_mesh_sends_each_batch_to_each_region_once(
            acts in prop::collection::vec(act(), 0..200),
        ) {
            let mut world = World::new(4);
            for a in 0..4 {
                for b in 0..a {
                    world.set((a, b), true);
                }
            }
            // Once all have said whom they hear.
            world.settle();
            for act in acts {
                match act {
                    Act::Write(at, len) => world.write(at, len),
                    Act::Send(a, b) => drop(world.send((a, b))),
                    Act::Deliver(a, b) => drop(world.deliver((a, b))),
                    Act::Cut(..) | Act::Heal(..) => {}
                }
            }
            world.settle();
            let batches: usize = world.logs[0].values().map(Vec::len).sum();
            prop_assert_eq!((world.duplicates, world.sent), (0, 3 * batches));
        }
    }

    fn started(received: &[Dot], hears: &[u16]) -> Outflow {
        let mut outflow = Outflow::default();
        outflow.hear_credit(1000);
        outflow.hear_frontier(&received.iter().copied().collect(), hearing(hears));
        outflow
    }

    #[test]
    fn l4_nothing_is_sent_before_the_peer_has_said_what_it_has() {
        let received: Frontier = [dot(1, 5)].into_iter().collect();
        let mut outflow = Outflow::default();
        outflow.hear_credit(1000);
        assert_eq!(outflow.next(ReplicaId(1), &received), None);
        outflow.hear_frontier(&[dot(1, 3)].into_iter().collect(), hearing(&[1]));
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(1, 4)));
    }

    #[test]
    fn l4_a_peer_that_loses_an_origin_gets_its_batches_from_another() {
        let received: Frontier = [dot(1, 5), dot(2, 9)].into_iter().collect();
        let mut outflow = started(&[dot(1, 5), dot(2, 6)], &[1, 2]);
        assert_eq!(outflow.next(ReplicaId(1), &received), None);
        outflow.hear_frontier(&[dot(2, 7)].into_iter().collect(), hearing(&[1]));
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(2, 8)));
    }

    #[test]
    fn l4_what_is_asked_for_comes_first_and_once() {
        let received: Frontier = [dot(1, 9), dot(2, 9)].into_iter().collect();
        let mut outflow = started(&[], &[1, 2]);
        outflow.hear_need(stream(2), Seq(4), Seq(6));
        outflow.hear_need(stream(3), Seq(1), Seq(1));
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(2, 4)));
        outflow.send(dot(2, 3), Seq(5), 10);
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(2, 6)));
        outflow.send(dot(2, 6), Seq(8), 10);
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(1, 1)));
        // What the peer has got elsewhere it needs no more.
        outflow.hear_need(stream(2), Seq(9), Seq(9));
        outflow.hear_ack(&[dot(2, 9)].into_iter().collect());
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(1, 1)));
    }

    #[test]
    fn l5_no_batch_begins_beyond_what_the_peer_allows() {
        let received: Frontier = [dot(1, 9)].into_iter().collect();
        let mut outflow = started(&[], &[1]);
        outflow.send(dot(1, 1), Seq(1), 999);
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(1, 2)));
        outflow.send(dot(1, 2), Seq(2), 5000);
        assert_eq!(outflow.next(ReplicaId(1), &received), None);
        outflow.hear_credit(5999);
        assert_eq!(outflow.next(ReplicaId(1), &received), None);
        outflow.hear_credit(6000);
        outflow.hear_credit(10);
        assert_eq!(outflow.next(ReplicaId(1), &received), Some(dot(1, 3)));
    }

    #[test]
    fn l4_streams_take_turns() {
        let received: Frontier = [dot(1, 9), dot(2, 9), dot(3, 9)].into_iter().collect();
        let mut outflow = started(&[], &[]);
        let turns: Vec<_> = (0..5)
            .map(|_| {
                let next = outflow.next(ReplicaId(1), &received).expect("more");
                outflow.send(next, next.seq, 1);
                next
            })
            .collect();
        assert_eq!(turns, [dot(1, 1), dot(2, 1), dot(3, 1), dot(1, 2), dot(2, 2)]);
    }
}
