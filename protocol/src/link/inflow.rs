//! What comes from one peer: which batches are on their way to the log, what the peer is told that this
//! replica has, and how much it may send.
//!
//! Invariant: nothing is acknowledged before it is durable, and no more than the window and one batch is
//! held for a peer that keeps to its credit.

use super::limits::{ACK_AFTER_BYTES, ACK_AFTER_MS, CREDIT_WINDOW_BYTES};
use super::message::Message;
use crate::frontier::Frontier;
use crate::gate::Arrival;
use crate::ids::{Dot, Seq, StreamId};
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};

/// A batch on its way to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OnTheWay {
    stream: StreamId,
    last: Seq,
    bytes: u64,
    /// The peer was asked to show it, whether it is known or not.
    shown: bool,
}

/// What comes from one peer, since the link began.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    on_the_way: VecDeque<OnTheWay>,
    /// Bytes of batches that came, that the log has answered for, and that may come.
    came: u64,
    answered: u64,
    granted: u64,
    /// Bytes of a batch that is held to be compared.
    held: u64,
    /// What the peer was told that this replica has.
    acked: Frontier,
    /// Bytes stored since then.
    unacked: u64,
    ack_due: Option<Time>,
    /// Ranges that are missing before what came, and up to where they were asked for.
    gaps: BTreeMap<StreamId, (Seq, Seq)>,
    asked: BTreeMap<StreamId, Seq>,
    pub(super) batches: u64,
    pub(super) duplicates: u64,
}

impl Inflow {
    /// What the peer may send, as it stands.
    pub(super) fn allow(&mut self) -> Message {
        self.granted = self.granted.max(self.answered + CREDIT_WINDOW_BYTES);
        Message::Credit(self.granted)
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.came
    }

    /// Lets one batch come, whatever its length. Nothing was allowed before that.
    pub(super) fn allow_one(&mut self) -> Message {
        self.granted = self.granted.max(self.came + 1);
        Message::Credit(self.granted)
    }

    /// Takes note of what came. False when it begins beyond what the peer was allowed.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let allowed = self.came < self.granted;
        self.came += bytes;
        allowed
    }

    /// Takes note of a batch that goes to the log, by its last entry.
    pub(super) fn store(&mut self, last: Dot, bytes: u64) {
        self.batches += 1;
        self.on_the_way.push_back(OnTheWay { stream: last.stream, last: last.seq, bytes, shown: false });
    }

    /// Takes note of a batch that is held to be compared.
    pub(super) fn hold(&mut self, bytes: u64) {
        self.held += bytes;
    }

    /// Takes note that it is held no longer.
    pub(super) fn let_go(&mut self) {
        self.answered += std::mem::take(&mut self.held);
    }

    /// Takes note that it goes to the log, by its last entry.
    pub(super) fn store_held(&mut self, last: Dot) {
        let bytes = std::mem::take(&mut self.held);
        self.on_the_way.push_back(OnTheWay { stream: last.stream, last: last.seq, bytes, shown: true });
    }

    /// Takes note of so many bytes that are held for the peer no longer, and are on their way to no log.
    pub(super) fn answered(&mut self, bytes: u64) {
        self.answered += bytes;
    }

    /// Takes note of what the oldest batch was to the log. Returns its stream when it is a fork of what
    /// is known here.
    pub(super) fn stored(&mut self, now: Time, arrival: Arrival) -> Option<Dot> {
        let OnTheWay { stream, last, bytes, shown } = self.on_the_way.pop_front()?;
        self.answered += bytes;
        match arrival {
            Arrival::Next => {
                self.unacked += bytes;
                self.ack_by(now);
            }
            Arrival::Duplicate => self.duplicates += u64::from(!shown),
            Arrival::Gap { from } => {
                let gap = self.gaps.entry(stream).or_insert((from, last));
                *gap = (from, gap.1.max(last));
                self.ack_by(now);
            }
            Arrival::Astray => return Some(Dot { stream, seq: last }),
        }
        None
    }

    fn ack_by(&mut self, now: Time) {
        self.ack_due.get_or_insert(now.after(ACK_AFTER_MS));
    }

    /// Takes note of what is durable here.
    pub(super) fn received(&mut self, now: Time, received: &Frontier, own: StreamId) {
        let news = received.iter().any(|dot| dot.stream != own && !self.acked.covers(dot));
        if news {
            self.ack_by(now);
        }
        self.gaps.retain(|stream, (from, to)| {
            *from = (*from).max(Seq(received.get(*stream).0 + 1));
            from <= to
        });
        let gaps = &self.gaps;
        self.asked.retain(|stream, _| gaps.contains_key(stream));
    }

    /// Takes note that the peer was told all that this replica has.
    pub(super) fn told(&mut self, received: &Frontier) {
        self.acked = received.clone();
        self.unacked = 0;
    }

    pub(super) const fn due(&self) -> Option<Time> {
        self.ack_due
    }

    /// What is to be said now: what this replica has, what it lacks, and how much may be sent.
    pub(super) fn say(&mut self, now: Time, received: &Frontier, own: StreamId, out: &mut Vec<Message>) {
        let is_open = self.granted >= CREDIT_WINDOW_BYTES;
        if is_open && self.answered + CREDIT_WINDOW_BYTES >= self.granted + CREDIT_WINDOW_BYTES / 4 {
            out.push(self.allow());
        }
        if self.unacked < ACK_AFTER_BYTES && self.ack_due.is_none_or(|due| due > now) {
            return;
        }
        self.ack_due = None;
        self.unacked = 0;
        // The peer knows what this replica originated from what it is sent of it.
        let news = received.iter().filter(|dot| dot.stream != own && !self.acked.covers(*dot));
        let news: Frontier = news.collect();
        if !news.is_empty() {
            self.acked.merge(&news);
            out.push(Message::Ack(news));
        }
        for (&stream, &(from, to)) in &self.gaps {
            if self.asked.get(&stream).is_none_or(|asked| *asked < to) {
                self.asked.insert(stream, to);
                out.push(Message::Need { stream, from, to });
            }
        }
    }

    /// Has what is missing asked for anew.
    pub(super) fn ask_again(&mut self, now: Time) {
        self.asked.clear();
        if !self.gaps.is_empty() {
            self.ack_by(now);
        }
    }
}
