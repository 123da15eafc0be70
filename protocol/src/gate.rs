//! The causal gate: which received batches may be applied, so that causes come before effects.
//!
//! A batch names what its origin had applied of the other streams when it committed it. It is applied
//! here when all of that has been. Until then it waits in the log and not here: the gate holds what
//! the first waiting batch of each stream depends on, and asks for the next one when that is applied.
//! Counting log entries makes this exact where a Yjs state vector could not, since deletions do not
//! move one. The rule is that of causal broadcast by vector clocks (Birman, Schiper and Stephenson,
//! "Lightweight causal and atomic group multicast", 1991), with one counter for each stream.
//!
//! Invariant: `applied <= received`, and what is applied is a function of what is received alone: the
//! greatest set that holds every cause of what is in it.

use crate::batch::Batch;
use crate::frontier::Frontier;
use crate::ids::{Dot, Seq, StreamId};
use std::collections::BTreeMap;

/// What a replica has received and applied, and what waits in between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    received: Frontier,
    applied: Frontier,
    /// The first waiting batch of each stream that has one.
    heads: BTreeMap<StreamId, Head>,
}

/// What the gate needs to know of a waiting batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Head {
    last: Seq,
    deps: Frontier,
}

/// What a batch is to a replica that is given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It continues its stream, and has been taken note of as received.
    Next,
    /// All of it has been received before.
    Duplicate,
    /// The entries from `from` up to it are missing.
    Gap {
        /// The first entry that is missing.
        from: Seq,
    },
    /// Its beginning has been received and its end has not: batches are never cut, so this is not the
    /// stream that is known here.
    Astray,
}

/// What to do about waiting batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Apply the stream's batch that begins here, and say so with [`Gate::apply`].
    Apply(Dot),
    /// Read the stream's batch that begins here, and give it to [`Gate::look_at`].
    LookAt(Dot),
}

impl Gate {
    /// A replica that has received and applied so much. What was received and not applied is asked
    /// for by [`Gate::next_step`].
    #[must_use]
    pub fn new(received: Frontier, applied: Frontier) -> Self {
        let mut gate = Self { received, applied, heads: BTreeMap::new() };
        gate.received.merge(&gate.applied);
        gate
    }

    /// Per stream, the last entry that is durable here.
    #[must_use]
    pub const fn received(&self) -> &Frontier {
        &self.received
    }

    /// Per stream, the last entry that documents here show.
    #[must_use]
    pub const fn applied(&self) -> &Frontier {
        &self.applied
    }

    /// Takes note of what this replica has committed itself: its own cause is whatever it has applied.
    pub fn commit(&mut self, last: Dot) {
        self.heads.remove(&last.stream);
        self.received.raise(last);
        self.applied.raise(last);
    }

    /// Takes note of what a snapshot has brought: all that its giver had applied, which holds every cause of
    /// what is in it. Entries that waited here may be part of it.
    pub fn skip_to(&mut self, applied: &Frontier) {
        for dot in applied.iter() {
            if self.applied.covers(dot) {
                continue;
            }
            self.heads.remove(&dot.stream);
            self.received.raise(dot);
            self.applied.raise(dot);
        }
    }

    /// Takes note that a stream of this replica's own ends with this entry. What was applied after it stays
    /// applied: it goes by other names.
    pub fn set_back(&mut self, last: Dot) {
        self.heads.remove(&last.stream);
        for frontier in [&mut self.received, &mut self.applied] {
            *frontier = frontier.without(last.stream);
            frontier.raise(last);
        }
    }

    /// Takes note of a batch that is received, when it is the next of its stream.
    pub fn receive(&mut self, batch: &Batch) -> Arrival {
        let last = batch.last_dot();
        let next = self.received.get(batch.stream).0.saturating_add(1);
        if last.seq.0 < next {
            return Arrival::Duplicate;
        }
        if batch.first_seq.0 > next {
            return Arrival::Gap { from: Seq(next) };
        }
        if batch.first_seq.0 < next {
            return Arrival::Astray;
        }
        self.received.raise(last);
        // Behind others of its stream it waits unseen, and is looked at in its turn.
        self.look_at(batch);
        Arrival::Next
    }

    /// Takes note of what a batch depends on, when it is the next of its stream to be applied.
    pub fn look_at(&mut self, batch: &Batch) {
        let is_next = batch.first_seq.0 == self.applied.get(batch.stream).0.saturating_add(1);
        if is_next && self.received.covers(batch.last_dot()) {
            let head = Head { last: batch.last_dot().seq, deps: batch.deps.clone() };
            self.heads.insert(batch.stream, head);
        }
    }

    /// What can be done now about batches that wait: the lowest stream that can go on. None when all
    /// that wait need something that has not been received.
    ///
    /// Every waiting stream's first batch is tested, a few comparisons for each.
    #[must_use]
    pub fn next_step(&self) -> Option<Step> {
        let waiting = self.received.iter().filter(|dot| !self.applied.covers(*dot));
        waiting.into_iter().find_map(|Dot { stream, .. }| {
            let first = Dot { stream, seq: Seq(self.applied.get(stream).0 + 1) };
            match self.heads.get(&stream) {
                None => Some(Step::LookAt(first)),
                Some(head) => self.is_open(stream, &head.deps).then_some(Step::Apply(first)),
            }
        })
    }

    /// Takes note that a stream's first waiting batch, which [`Gate::next_step`] named, is applied.
    /// Returns its last entry; none when it was not its turn.
    pub fn apply(&mut self, stream: StreamId) -> Option<Dot> {
        let head = self.heads.get(&stream)?;
        if !self.is_open(stream, &head.deps) {
            return None;
        }
        let last = Dot { stream, seq: head.last };
        self.heads.remove(&stream);
        self.applied.raise(last);
        Some(last)
    }

    /// For each stream that waits, the first entry that its next batch needs and that is not applied.
    /// Streams whose next batch has not been looked at are left out.
    pub fn waits(&self) -> impl Iterator<Item = (StreamId, Dot)> + '_ {
        self.heads.iter().filter_map(|(&stream, head)| {
            let cause = head.deps.iter().find(|dot| dot.stream != stream && !self.applied.covers(*dot))?;
            Some((stream, cause))
        })
    }

    /// Whether everything a stream's next batch depends on is applied. Its own stream's order is kept
    /// by looking at its first waiting batch alone.
    fn is_open(&self, stream: StreamId, deps: &Frontier) -> bool {
        deps.iter().all(|dot| dot.stream == stream || self.applied.covers(dot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{ChainHash, Entry, EntryKind, NO_DOC};
    use crate::hlc::Hlc;
    use crate::ids::{Incarnation, ReplicaId};
    use bytes::Bytes;
    use proptest::prelude::*;

    const REPLICAS: u16 = 4;

    fn stream(replica: u16) -> StreamId {
        StreamId { replica: ReplicaId(replica), incarnation: Incarnation(1) }
    }

    fn batch(stream: StreamId, first: u64, len: usize, deps: Frontier) -> Batch {
        let entry =
            Entry { doc: NO_DOC, kind: EntryKind::Canary, hlc: Hlc::default(), payload: Bytes::new() };
        let (hlc_base, prev_hash) = (Hlc::default(), ChainHash::START);
        Batch { stream, first_seq: Seq(first), hlc_base, deps, prev_hash, entries: vec![entry; len] }
    }

    /// A replica of the model: it keeps every batch it has received, by stream.
    #[derive(Default)]
    struct Replica {
        gate: Gate,
        log: BTreeMap<StreamId, Vec<Batch>>,
        /// The first entry of each batch, in the order in which they were applied.
        order: Vec<Dot>,
    }

    impl Replica {
        fn held(&self, first: Dot) -> &Batch {
            let of_stream = &self.log[&first.stream];
            of_stream.iter().find(|batch| batch.first_seq == first.seq).expect("what was received is kept")
        }

        fn write(&mut self, stream: StreamId, len: usize) {
            let first = self.gate.applied().get(stream).0 + 1;
            let batch = batch(stream, first, len, self.gate.applied().without(stream));
            self.gate.commit(batch.last_dot());
            self.order.push(Dot { stream, seq: Seq(first) });
            self.log.entry(stream).or_default().push(batch);
        }

        fn take(&mut self, batch: &Batch) -> Arrival {
            let arrival = self.gate.receive(batch);
            if arrival == Arrival::Next {
                self.log.entry(batch.stream).or_default().push(batch.clone());
            }
            while let Some(step) = self.gate.next_step() {
                match step {
                    Step::LookAt(first) => {
                        let held = self.held(first).clone();
                        self.gate.look_at(&held);
                    }
                    Step::Apply(first) => {
                        let deps = self.held(first).deps.clone();
                        assert!(self.gate.applied().covers_all(&deps), "an effect before its cause");
                        assert_eq!(self.gate.applied().get(first.stream).0 + 1, first.seq.0);
                        self.order.push(first);
                        self.gate.apply(first.stream).expect("its turn");
                    }
                }
            }
            arrival
        }
    }

    /// What can be applied of a set of batches, found by trying each again and again.
    fn closure(log: &BTreeMap<StreamId, Vec<Batch>>) -> Frontier {
        let mut applied = Frontier::new();
        loop {
            let open = log.values().flatten().find(|batch| {
                batch.first_seq.0 == applied.get(batch.stream).0 + 1 && applied.covers_all(&batch.deps)
            });
            let Some(batch) = open else { return applied };
            applied.raise(batch.last_dot());
        }
    }

    proptest! {
        #[test]
        fn l1_causes_come_first_and_nothing_waits_without_need(
            acts in prop::collection::vec((0..REPLICAS, 0..REPLICAS, 1_usize..4, any::<bool>()), 1..80),
            arrivals in prop::collection::vec((0..REPLICAS, any::<bool>()), 0..200),
        ) {
            let mut writers: Vec<Replica> = (0..REPLICAS).map(|_| Replica::default()).collect();
            for (who, from, len, writes) in acts {
                if writes || who == from {
                    writers[usize::from(who)].write(stream(who), len);
                } else {
                    // One batch of what the other has and this one lacks.
                    let other: Vec<Batch> = writers[usize::from(from)].log.values().flatten().cloned().collect();
                    let me = &mut writers[usize::from(who)];
                    if let Some(next) = other.iter().find(|batch| {
                        batch.first_seq.0 == me.gate.received().get(batch.stream).0 + 1
                    }) {
                        prop_assert_eq!(me.take(next), Arrival::Next);
                    }
                }
            }

            // A reader gets each stream in order, streams in any order, and some of it twice.
            let streams: Vec<_> = (0..REPLICAS)
                .map(|who| writers[usize::from(who)].log.get(&stream(who)).cloned().unwrap_or_default())
                .collect();
            let mut sent = vec![0; streams.len()];
            let mut reader = Replica::default();
            let rest = (0..REPLICAS).flat_map(|who| vec![(who, false); streams[usize::from(who)].len()]);
            for (who, again) in arrivals.into_iter().chain(rest) {
                let who = usize::from(who);
                if again && sent[who] > 0 {
                    prop_assert_eq!(reader.take(&streams[who][sent[who] - 1]), Arrival::Duplicate);
                } else if let Some(batch) = streams[who].get(sent[who]) {
                    sent[who] += 1;
                    prop_assert_eq!(reader.take(batch), Arrival::Next);
                }
                prop_assert_eq!(reader.gate.applied(), &closure(&reader.log));
                // Whoever starts anew from its log stands where it stood.
                let mut again = Gate::new(reader.gate.received().clone(), reader.gate.applied().clone());
                while let Some(Step::LookAt(first)) = again.next_step() {
                    again.look_at(reader.held(first));
                }
                prop_assert_eq!(again.next_step(), None);
            }
            prop_assert_eq!(reader.gate.applied(), reader.gate.received());
            prop_assert_eq!(reader.gate.waits().count(), 0);
            let all: usize = streams.iter().map(Vec::len).sum();
            prop_assert_eq!(reader.order.len(), all);
        }
    }

    #[test]
    fn l1_what_waits_is_told_with_its_cause() {
        let mut gate = Gate::default();
        let cause = Dot { stream: stream(1), seq: Seq(2) };
        let effect = batch(stream(2), 1, 1, [cause].into_iter().collect());
        assert_eq!(gate.receive(&effect), Arrival::Next);
        assert_eq!(gate.next_step(), None);
        assert_eq!(gate.apply(stream(2)), None);
        assert_eq!(gate.waits().collect::<Vec<_>>(), [(stream(2), cause)]);
        assert_eq!(gate.receive(&batch(stream(1), 1, 2, Frontier::new())), Arrival::Next);
        let first = |replica| Some(Step::Apply(Dot { stream: stream(replica), seq: Seq(1) }));
        assert_eq!(gate.next_step(), first(1));
        assert_eq!(gate.apply(stream(1)), Some(cause));
        assert_eq!(gate.next_step(), first(2));
    }

    #[test]
    fn l1_a_stream_is_received_without_gaps_and_in_its_own_batches() {
        let mut gate = Gate::default();
        let of = |first, len| batch(stream(1), first, len, Frontier::new());
        assert_eq!(gate.receive(&of(3, 2)), Arrival::Gap { from: Seq(1) });
        assert_eq!(gate.receive(&of(1, 2)), Arrival::Next);
        assert_eq!(gate.receive(&of(2, 1)), Arrival::Duplicate);
        assert_eq!(gate.receive(&of(2, 2)), Arrival::Astray);
        assert_eq!(gate.received().get(stream(1)), Seq(2));
    }
}
