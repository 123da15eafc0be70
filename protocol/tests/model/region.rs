//! A region of the model: its log and gate, which a crash spares, and what is on its way to the log, which a
//! crash loses.
//!
//! Beside the real gate it remembers what it has shown and whether that was wrong, by means that share nothing
//! with the gate: each batch carries the set of batches that its author had shown when it wrote it.

use super::Plant;
use quire_protocol::batch::{Batch, ChainHash, Entry, EntryKind, NO_DOC};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::{Arrival, Gate, Step};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{Dot, Incarnation, ReplicaId, Seq, StreamId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Entries of each batch: more than one, so that a batch is not mistaken for an entry.
const ENTRIES_EACH: usize = 2;

/// A batch, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Wrote {
    pub(crate) first: Dot,
    pub(crate) last: Dot,
    deps: Frontier,
    /// The first entries of all batches that its author had shown.
    causes: BTreeSet<Dot>,
}

impl Wrote {
    /// What the gate is given.
    fn batch(&self) -> Batch {
        let entry =
            Entry { doc: NO_DOC, kind: EntryKind::Canary, hlc: Hlc::default(), payload: Default::default() };
        Batch {
            stream: self.first.stream,
            first_seq: self.first.seq,
            hlc_base: Hlc::default(),
            deps: self.deps.clone(),
            prev_hash: ChainHash::START,
            entries: vec![entry; ENTRIES_EACH],
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Region {
    log: BTreeMap<StreamId, Vec<Arc<Wrote>>>,
    gate: Gate,
    /// What came over a link and is not durable yet, and the region that sent it.
    pub(crate) on_the_way: VecDeque<(usize, Arc<Wrote>)>,
    /// How often each batch was shown, by its first entry.
    shown: BTreeMap<Dot, u8>,
    /// An effect was shown before its cause.
    inverted: bool,
    /// What other regions were told that this one has.
    confirmed: Frontier,
}

pub(crate) fn id(at: usize) -> ReplicaId {
    ReplicaId(u16::try_from(at).expect("few regions"))
}

pub(crate) fn stream_of(at: usize) -> StreamId {
    StreamId { replica: id(at), incarnation: Incarnation(1) }
}

impl Region {
    pub(crate) const fn received(&self) -> &Frontier {
        self.gate.received()
    }

    /// The batch that holds an entry.
    pub(crate) fn held(&self, dot: Dot) -> &Arc<Wrote> {
        let of_stream = self.log[&dot.stream].iter();
        of_stream.into_iter().find(|wrote| wrote.last.seq >= dot.seq).expect("what was received is kept")
    }

    pub(crate) fn written(&self, at: usize) -> usize {
        self.log.get(&stream_of(at)).map_or(0, Vec::len)
    }

    /// Commits a batch of this region's own: its causes are what is shown here.
    pub(crate) fn write(&mut self, at: usize) {
        let stream = stream_of(at);
        let before = self.received().get(stream).0;
        let wrote = Arc::new(Wrote {
            first: Dot { stream, seq: Seq(before + 1) },
            last: Dot { stream, seq: Seq(before + ENTRIES_EACH as u64) },
            deps: self.gate.applied().without(stream),
            causes: self.shown.keys().copied().collect(),
        });
        self.gate.commit(wrote.last);
        self.log.entry(stream).or_default().push(Arc::clone(&wrote));
        self.show(&wrote);
    }

    /// Makes a batch durable, and applies what can be: one transaction, as in the log.
    pub(crate) fn store(&mut self, wrote: &Arc<Wrote>, plant: Plant) -> Arrival {
        let arrival = self.gate.receive(&wrote.batch());
        let again = arrival == Arrival::Duplicate && plant == Plant::TakesDuplicates;
        let holed = matches!(arrival, Arrival::Gap { .. }) && plant == Plant::TakesGaps;
        if holed {
            self.gate = Gate::new([wrote.last].into_iter().collect(), self.gate.applied().clone());
        }
        if arrival == Arrival::Next || holed {
            self.log.entry(wrote.first.stream).or_default().push(Arc::clone(wrote));
        }
        if again {
            self.show(wrote);
        }
        if plant == Plant::GateOff && arrival == Arrival::Next {
            self.gate.commit(wrote.last);
            self.show(wrote);
        }
        // A gate that was lied to about what is received finds nothing to look at.
        if plant != Plant::TakesGaps {
            self.drain();
        }
        arrival
    }

    fn drain(&mut self) {
        while let Some(step) = self.gate.next_step() {
            match step {
                Step::LookAt(first) => {
                    let batch = self.held(first).batch();
                    self.gate.look_at(&batch);
                }
                Step::Apply(first) => {
                    let wrote = Arc::clone(self.held(first));
                    self.gate.apply(first.stream).expect("a batch whose turn the gate has told");
                    self.show(&wrote);
                }
            }
        }
    }

    fn show(&mut self, wrote: &Wrote) {
        self.inverted |= wrote.causes.iter().any(|cause| !self.shown.contains_key(cause));
        *self.shown.entry(wrote.first).or_default() += 1;
    }

    /// Stops without warning and starts from what is durable.
    pub(crate) fn crash(&mut self, plant: Plant) {
        self.on_the_way.clear();
        let applied = match plant {
            Plant::ForgetsApplied => Frontier::new(),
            _ => self.gate.applied().clone(),
        };
        self.gate = Gate::new(self.gate.received().clone(), applied);
        self.drain();
    }

    /// Takes note that another region has been told that this one has so much.
    pub(crate) fn confirm(&mut self, told: &Frontier) {
        self.confirmed.merge(told);
    }

    pub(crate) fn causes_come_first(&self) -> bool {
        !self.inverted
    }

    pub(crate) fn shows_once(&self) -> bool {
        self.shown.values().all(|times| *times == 1)
    }

    /// Each stream is held from its beginning up to what is said to be received.
    pub(crate) fn is_contiguous(&self) -> bool {
        let whole = self.log.iter().all(|(stream, wrote)| {
            let end = wrote
                .iter()
                .try_fold(0, |end, wrote| (wrote.first.seq.0 == end + 1).then_some(wrote.last.seq.0));
            end == Some(self.received().get(*stream).0)
        });
        whole && self.received().len() == self.log.len()
    }

    /// What was confirmed is in the log, or on its way to it.
    pub(crate) fn keeps_its_word(&self) -> bool {
        let mut here = self.received().clone();
        for (_, wrote) in &self.on_the_way {
            here.raise(wrote.last);
        }
        here.covers_all(&self.confirmed)
    }

    pub(crate) fn confirms_what_is_durable(&self) -> bool {
        self.received().covers_all(&self.confirmed)
    }

    pub(crate) fn has_shown(&self, batches: usize) -> bool {
        self.shown.len() == batches && self.gate.waits().count() == 0
    }
}
