//! Whether a peer holds the same history of this replica's own stream.
//!
//! A disk that was set back to an old backup and written to has another one than its peers remember. So before
//! anything else is taken from a peer, or given to it of this stream, the peer is asked to show a batch: the
//! first that only the peer holds, or its last one. Where that does not follow from what is here, it is asked
//! for earlier ones, each time twice as far back, but for none before the first that this replica's log still
//! has: that one names the hash of the batch before it. From the first that does follow this replica knows
//! where the two histories part: it begins a new stream, writes there again what it wrote after that point,
//! and takes the peer's history like any other stream.
//!
//! The log's answers and the peer's batches go in, [`Step`]s come out. Only the stream that this replica
//! appends to is looked at: of an ended one nobody knows which history is the right one.
//!
//! Invariant: while it is not agreed, at most one batch of the peer's is held.

use super::event::Found;
use super::{Bye, ByeReason};
use crate::batch::{ChainHash, EncodedBatch};
use crate::ids::{Dot, Seq, StreamId};
use std::sync::Arc;

/// A batch that was not shown after so many pings is not waited for.
const SHOW_PINGS_MAX: u32 = 3;

/// How often a peer's word may have the stream renewed on one link: once for a disk that went back, and once
/// more for one that had done so before.
const RENEWALS_MAX: u32 = 2;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the peer for the batch that holds this entry of the stream, and allow it that.
    Ask(Dot),
    /// Both hold the same, or it cannot be told: the link goes on. What was shown goes to the log like any batch.
    Agree(Option<Arc<EncodedBatch>>),
    /// Both hold the same up to here, and the peer goes on otherwise.
    Part(Dot),
    /// The link ends.
    Refuse(Bye),
}

/// What becomes of a batch that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is none that counts here: it goes to the log.
    No,
    /// It is held until it has been compared.
    Held,
    /// It comes again when there is a new stream.
    Dropped,
}

#[derive(Debug)]
enum Phase {
    /// The peer was asked for the batch that holds this entry, or the last before it.
    Asked(Seq),
    /// It has shown one, which is compared with what the log has at this entry.
    Shown {
        theirs: Arc<EncodedBatch>,
        at: Seq,
    },
    /// The log is beginning a new stream. What was shown belongs to the old one, and is stored then.
    Parting(Option<Arc<EncodedBatch>>),
    Agreed,
}

/// What is known of the peer's copy of this replica's stream.
#[derive(Debug)]
pub(super) struct History {
    stream: StreamId,
    phase: Phase,
    /// The peer has said what it holds.
    heard: bool,
    /// Nothing was written here when the link began, and what the peer holds is not known yet.
    unwritten: bool,
    /// The peer showed nothing, and the link went on without a comparison.
    blind: bool,
    /// The peer holds more of it than this replica.
    beyond: bool,
    /// A batch was shown that does not follow from what is here.
    differs: bool,
    /// How many entries further back the next batch is asked for.
    back: u64,
    /// The peer was asked for the batch in the place of the first that the log here has: what it holds before
    /// that cannot be compared.
    at_first: bool,
    pings: u32,
    renewals: u32,
}

impl History {
    /// Of a stream in which this replica has written nothing there is nothing to compare, unless it writes
    /// before the peer says what it holds.
    pub(super) fn new(stream: StreamId, ours: Seq) -> (Self, Option<Step>) {
        let phase = Phase::Agreed;
        let mut history = Self {
            stream,
            phase,
            heard: false,
            unwritten: ours == Seq(0),
            blind: false,
            beyond: false,
            differs: false,
            back: 1,
            at_first: false,
            pings: 0,
            renewals: 0,
        };
        let asks = (ours > Seq(0)).then(|| history.ask(Seq(ours.0 + 1)));
        (history, asks)
    }

    pub(super) const fn is_agreed(&self) -> bool {
        matches!(self.phase, Phase::Agreed)
    }

    /// Whether what the peer says it holds of the stream is what was written here.
    pub(super) const fn is_compared(&self) -> bool {
        self.is_agreed() && !self.blind
    }

    /// The peer says how much of the stream it holds, and so much is held here.
    pub(super) fn heard(&mut self, theirs: Seq, ours: Seq) -> Option<Step> {
        let first = !std::mem::replace(&mut self.heard, true);
        match self.phase {
            Phase::Asked(_) if first && theirs == Seq(0) => return Some(self.agree(None)),
            // It shows a batch before it says so, unless it is of an older release.
            Phase::Asked(_) if first && !self.differs => {}
            Phase::Agreed if theirs == Seq(0) => {
                self.unwritten = false;
                return None;
            }
            Phase::Agreed if theirs <= ours && !self.unwritten => return None,
            Phase::Agreed if ours == Seq(0) => {
                return Some(self.part(Dot { stream: self.stream, seq: Seq(0) }, None));
            }
            Phase::Agreed => {}
            Phase::Asked(_) | Phase::Shown { .. } | Phase::Parting(_) => return None,
        }
        // What it holds of a stream in which nothing was written when the link began is not from here.
        self.beyond = theirs > ours || self.unwritten;
        self.begin_anew();
        self.pings = 0;
        Some(self.ask(theirs.min(Seq(ours.0 + 1))))
    }

    /// Takes a batch that came. Whatever goes beyond what is held here of the stream shows the peer's history.
    pub(super) fn take(&mut self, theirs: &Arc<EncodedBatch>, ours: Seq) -> Taken {
        let (first, last) = (theirs.batch.first_seq, theirs.batch.last_dot());
        match self.phase {
            _ if last.stream != self.stream => return Taken::No,
            Phase::Asked(at) if first <= at => {}
            Phase::Agreed if last.seq <= ours => return Taken::No,
            Phase::Agreed => self.begin_anew(),
            Phase::Asked(_) | Phase::Shown { .. } | Phase::Parting(_) => return Taken::Dropped,
        }
        self.pings = 0;
        self.beyond |= last.seq > ours;
        self.phase = Phase::Shown { theirs: Arc::clone(theirs), at: first };
        Taken::Held
    }

    /// The entry at which the log is to be read.
    pub(super) fn reads(&self) -> Option<Dot> {
        match self.phase {
            Phase::Shown { at, .. } => Some(Dot { stream: self.stream, seq: at }),
            _ => None,
        }
    }

    /// The log says what it has there.
    pub(super) fn found(&mut self, found: Found) -> Option<Step> {
        let Phase::Shown { theirs, at } = &self.phase else { return None };
        let (theirs, at) = (Arc::clone(theirs), *at);
        match found {
            Found::Batches(batches) => match batches.into_iter().next().map(EncodedBatch::decode) {
                Some(Ok(ours)) => Some(self.compare(&ours, theirs, at)),
                Some(Err(error)) => {
                    Some(refuse(ByeReason::Disk, format!("a batch of this region's log: {error}")))
                }
                None => self.beyond_the_end(theirs, at),
            },
            Found::Truncated { first_kept } => Some(self.cannot_compare(theirs, first_kept)),
            Found::Failed(reason) => {
                Some(refuse(ByeReason::Disk, format!("this region's log cannot be read: {reason}")))
            }
        }
    }

    /// Compares what was shown with the batch here that holds the entry `at`: the one in its place, or the one
    /// before that.
    fn compare(&mut self, ours: &EncodedBatch, theirs: Arc<EncodedBatch>, at: Seq) -> Step {
        let first = theirs.batch.first_seq;
        let before = Dot { stream: self.stream, seq: Seq(first.0 - 1) };
        if ours.bytes == theirs.bytes {
            let last = theirs.batch.last_dot();
            return if self.differs { self.part(last, Some(theirs)) } else { self.agree(Some(theirs)) };
        }
        let follows = if at == first {
            ours.batch.first_seq == first && ours.batch.prev_hash == theirs.batch.prev_hash
        } else {
            ours.batch.last_dot() == before && ours.hash() == theirs.batch.prev_hash
        };
        if follows { self.part(before, Some(theirs)) } else { self.earlier(first) }
    }

    /// The log ends before the entry `at`: what counts is the batch before the one that was shown.
    fn beyond_the_end(&mut self, theirs: Arc<EncodedBatch>, at: Seq) -> Option<Step> {
        let first = theirs.batch.first_seq;
        if at == first && first > Seq(1) {
            self.phase = Phase::Shown { theirs, at: Seq(first.0 - 1) };
            return None;
        }
        if first == Seq(1) && theirs.batch.prev_hash == ChainHash::START {
            return Some(self.part(Dot { stream: self.stream, seq: Seq(0) }, Some(theirs)));
        }
        Some(self.earlier(first))
    }

    /// The log begins after the batch that was shown.
    fn cannot_compare(&mut self, theirs: Arc<EncodedBatch>, first_kept: Seq) -> Step {
        let (first, last) = (theirs.batch.first_seq, theirs.batch.last_dot().seq);
        let before = Dot { stream: self.stream, seq: Seq(first.0 - 1) };
        match (self.differs, self.beyond) {
            // A batch ends here where one there goes on.
            _ if first < first_kept && first_kept <= last => self.out_of_reach(),
            (true, _) if self.at_first => self.out_of_reach(),
            // The way back goes in leaps, and this one was too far.
            (true, _) => {
                self.at_first = true;
                self.ask(first_kept)
            }
            // Whether it follows is found when it is stored.
            (false, true) => self.part(before, Some(theirs)),
            (false, false) => self.agree(Some(theirs)),
        }
    }

    /// Asks for a batch before the one that begins here.
    fn earlier(&mut self, first: Seq) -> Step {
        if self.at_first {
            return self.out_of_reach();
        }
        self.differs = true;
        if first <= Seq(1) {
            return self.unhealable("they have not even the beginning in common");
        }
        let at = Seq(first.0.saturating_sub(self.back).max(1));
        self.back = self.back.saturating_mul(2);
        self.ask(at)
    }

    /// Nothing that was shown counts any more.
    const fn begin_anew(&mut self) {
        (self.differs, self.at_first, self.back) = (false, false, 1);
    }

    fn ask(&mut self, at: Seq) -> Step {
        self.phase = Phase::Asked(at);
        Step::Ask(Dot { stream: self.stream, seq: at })
    }

    fn agree(&mut self, theirs: Option<Arc<EncodedBatch>>) -> Step {
        (self.phase, self.unwritten, self.blind) = (Phase::Agreed, false, false);
        Step::Agree(theirs)
    }

    fn part(&mut self, last: Dot, theirs: Option<Arc<EncodedBatch>>) -> Step {
        self.renewals += 1;
        if self.renewals > RENEWALS_MAX {
            return self.unhealable("this link has had it renewed already");
        }
        self.phase = Phase::Parting(theirs);
        Step::Part(last)
    }

    fn out_of_reach(&self) -> Step {
        self.unhealable(
            "this region's log no longer has the point where they part; save what was written here, and start \
             the region on an empty disk",
        )
    }

    fn unhealable(&self, why: &str) -> Step {
        refuse(ByeReason::Fork, format!("stream {} has two histories: {why}", self.stream))
    }

    /// A ping later.
    pub(super) fn pulse(&mut self) -> Option<Step> {
        let Phase::Asked(at) = self.phase else { return None };
        self.pings += 1;
        if self.pings < SHOW_PINGS_MAX {
            return Some(self.ask(at));
        }
        if self.beyond || self.differs {
            let detail = format!("the peer does not show what it holds of stream {}", self.stream);
            return Some(refuse(ByeReason::Silent, detail));
        }
        let step = self.agree(None);
        self.blind = true;
        Some(step)
    }

    /// The peer's log begins after this entry of the stream, and so much is held here. Where it is known to hold
    /// another history, or more, nothing is known to be the same.
    pub(super) fn truncated(&mut self, last: Seq, ours: Seq) -> Option<Step> {
        match self.phase {
            // It has come to hold more, by way of another region, before it could say so.
            Phase::Agreed if last > ours => Some(self.part(Dot { stream: self.stream, seq: Seq(0) }, None)),
            Phase::Asked(at) if at > last => None,
            // It has had more than is here, or what it shows is not the same.
            Phase::Asked(_) if !self.heard || self.beyond || self.differs => {
                Some(self.part(Dot { stream: self.stream, seq: Seq(0) }, None))
            }
            Phase::Asked(_) => Some(self.agree(None)),
            _ => None,
        }
    }

    /// This replica appends to another stream from now on.
    pub(super) fn renewed(&mut self, stream: StreamId) -> Step {
        self.stream = stream;
        let theirs = match std::mem::replace(&mut self.phase, Phase::Agreed) {
            Phase::Parting(theirs) => theirs,
            Phase::Shown { theirs, .. } => Some(theirs),
            Phase::Asked(_) | Phase::Agreed => None,
        };
        self.agree(theirs)
    }
}

fn refuse(reason: ByeReason, detail: String) -> Step {
    Step::Refuse(Bye { reason, detail })
}
