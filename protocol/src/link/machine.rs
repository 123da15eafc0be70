//! One live link to one peer: what is sent and acknowledged, in both directions.
//!
//! Begins when both sides have proved who they are, and ends with the connection; what a link knew is told
//! anew by the next one. `history` sees to it that both mean the same by this replica's stream, `outflow`
//! chooses what the peer is sent, `inflow` keeps account of what it sends, `pulse` watches over the connection;
//! here they meet the messages.
//!
//! Invariant: after `Close` nothing comes out.

use super::calls::Calls;
use super::check::check_batch;
use super::event::{Found, Input, Output};
use super::history::{History, Step, Taken};
use super::inflow::Inflow;
use super::limits::READ_BYTES_MAX;
use super::message::Message;
use super::outflow::Outflow;
use super::pace::Pace;
use super::pulse::{Digest, Pulse, digest};
use super::snapshot::{Giving, Taking};
use super::{Bye, ByeReason, Role};
use crate::awareness;
use crate::batch::batch_range;
use crate::frontier::Frontier;
use crate::gate::Arrival;
use crate::ids::{Dot, ReplicaId, Seq, StreamId};
use crate::time::Time;
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The stream that this replica originates.
    pub own: StreamId,
    /// The peer.
    pub peer: ReplicaId,
    /// What the peer does in the cluster.
    pub role: Role,
    /// The version of the link's protocol that both speak.
    pub version: u8,
}

/// Figures of a link, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How long a ping and its answer take, smoothed, in milliseconds.
    pub rtt_ms: Option<u64>,
    /// By how much the peer's wall clock is ahead of this one's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Entries that are durable here and not known to be there.
    pub queue_entries: u64,
    /// Batches sent, and their bytes.
    pub batches_sent: u64,
    /// Bytes of batches and snapshots sent.
    pub bytes_sent: u64,
    /// Batches that came.
    pub batches_received: u64,
    /// Bytes of batches that came.
    pub bytes_received: u64,
    /// Batches that came and were known.
    pub duplicates: u64,
    /// How often there was more of what the peer has missed, and the pace did not allow it yet.
    pub paced: u64,
    /// Pings since the peer was last heard.
    pub pings_missed: u32,
    /// Whether the peer lacks what the log no longer has, and gets a snapshot.
    pub out_of_reach: bool,
}

/// What is being read from the log.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// What the peer is to be sent, from this entry on.
    ForPeer(Dot),
    /// What is here of this replica's stream, to compare.
    Own,
}

/// A link to a peer.
#[derive(Debug)]
pub struct Link {
    ends: Ends,
    received: Frontier,
    hears: BTreeSet<ReplicaId>,
    outflow: Outflow,
    inflow: Inflow,
    pulse: Pulse,
    pace: Pace,
    giving: Giving,
    taking: Taking,
    history: History,
    calls: Calls,
    reading: Option<Reading>,
    batches_sent: u64,
    bytes_sent: u64,
    /// The peer has been told what this replica has.
    told: bool,
    wake: Option<Time>,
    closed: bool,
}

impl Link {
    /// Begins a link: asks for what the peer has of this replica's stream, or says what this replica has, whom
    /// it hears first-hand, and how much may be sent.
    #[must_use]
    pub fn new(
        now: Time,
        ends: Ends,
        received: Frontier,
        hears: BTreeSet<ReplicaId>,
        wall_ms: u64,
        out: &mut Vec<Output>,
    ) -> Self {
        let (history, asks) = History::new(ends.own, received.get(ends.own));
        let mut link = Self {
            ends,
            received,
            hears,
            history,
            calls: Calls::new(ends.version),
            outflow: Outflow::default(),
            inflow: Inflow::default(),
            pulse: Pulse::default(),
            pace: Pace::default(),
            giving: Giving::default(),
            taking: Taking::default(),
            reading: None,
            batches_sent: 0,
            bytes_sent: 0,
            told: false,
            wake: None,
            closed: false,
        };
        if asks.is_some() {
            link.follow(asks, out);
        } else {
            link.tell_frontier(out);
            link.allow(out);
        }
        link.pulse(now, wall_ms, out);
        link
    }

    /// Takes one event and appends what the driver must now do, in order.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        if self.closed {
            return;
        }
        match input {
            Input::Frame { frame, wall_ms } => self.hear(now, frame, wall_ms, out),
            Input::Received(received) => self.now_durable(now, received),
            Input::Hears(hears) => {
                self.hears = hears;
                if self.told {
                    self.tell_frontier(out);
                }
            }
            Input::Renewed(own) => self.renewed(own, out),
            Input::Read(found) => self.read(now, found, out),
            Input::Stored(arrivals) => self.stored(now, &arrivals, out),
            Input::StoreFailed => {
                self.close(ByeReason::Disk, "this region's disk takes nothing".to_owned(), out);
            }
            Input::SnapshotRead(piece) => match self.giving.read(piece) {
                Ok(message) => message.iter().for_each(|message| send(message, out)),
                Err(bye) => self.close(bye.reason, bye.detail, out),
            },
            Input::ImportBegun(can) => {
                self.taking.begun(can).iter().for_each(|message| send(message, out));
            }
            Input::Staged => {
                let staged = self.taking.staged();
                self.inflow.answered(staged);
            }
            Input::Imported(received) => {
                self.taking.imported();
                self.now_durable(now, received);
            }
            Input::ImportRefused(reason) => self.close(ByeReason::Fork, reason, out),
            Input::Ephemeral { doc, payload } => {
                out.push(Output::SendEphemeral(Message::Ephemeral { doc, payload }.encode()));
            }
            Input::Call { call, doc, payload } => self.calls.make(call, doc, payload, out),
            Input::Return { call, payload } => self.calls.answer(call, payload, out),
            Input::Tick { wall_ms } => {
                self.wake = None;
                self.pulse(now, wall_ms, out);
            }
            Input::Stop(bye) => self.close(bye.reason, bye.detail, out),
        }
        if !self.closed {
            self.go_on(now, out);
        }
    }

    /// Says and asks for whatever is due.
    fn go_on(&mut self, now: Time, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.inflow.say(now, &self.received, self.ends.own, &mut said);
        said.iter().for_each(|message| send(message, out));
        // What has been read of a snapshot is sent, then the next piece is read: before batches, which would
        // use all credit up for as long as there are more.
        loop {
            let allowed = self.outflow.has_credit() && self.pace.due(now).is_none();
            let Some((piece, len)) = self.giving.go_on(allowed, out) else { break };
            self.outflow.send_piece(len);
            self.pace.sent(now, len, 0);
            self.pulse.moved();
            self.bytes_sent += len;
            send(&piece, out);
        }
        let later = self.pace.due(now);
        if self.reading.is_none() {
            self.read_on(later.is_none(), out);
        }
        self.meet(out);
        let due = [self.inflow.due(), later].into_iter().flatten().fold(self.pulse.due(), Time::min);
        if self.wake.is_none_or(|wake| due < wake) {
            self.wake = Some(due);
            out.push(Output::WakeAt(due));
        }
    }

    /// Tells the peer what this replica has, once it has been shown what it asked to be shown: so that it knows
    /// whether its own disk went back when it learns that there is more of its stream.
    fn meet(&mut self, out: &mut Vec<Output>) {
        if !self.told && self.pulse.has_heard() && !self.outflow.is_to_show() {
            self.tell_frontier(out);
        }
    }

    /// Reads what is to be compared or sent next; `in_pace` says whether the peer may get what it has missed.
    fn read_on(&mut self, in_pace: bool, out: &mut Vec<Output>) {
        if let Some(from) = self.history.reads() {
            self.reading = Some(Reading::Own);
            out.push(Output::Read { from, bytes_max: 1 });
        } else if let Some(from) = self.outflow.next(self.ends.own.replica, &self.received) {
            if !in_pace {
                self.pace.put_off += 1;
                return;
            }
            self.reading = Some(Reading::ForPeer(from));
            out.push(Output::Read { from, bytes_max: READ_BYTES_MAX });
        }
    }

    fn hear(&mut self, now: Time, frame: Bytes, wall_ms: u64, out: &mut Vec<Output>) {
        self.pulse.heard();
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(error) => return self.close(ByeReason::Malformed, error.to_string(), out),
        };
        match message {
            Message::Bye(bye) => self.close(bye.reason, bye.detail, out),
            Message::Frontier { received, hears } => {
                self.outflow.hear_frontier(&received, hears);
                self.look_back(out);
            }
            Message::Ack(received) => {
                self.outflow.hear_ack(&received);
                self.look_back(out);
            }
            Message::Batch(bytes) => self.take(bytes, out),
            Message::Credit(bytes) => self.outflow.hear_credit(bytes),
            Message::Need { stream, from, to } if stream.replica == self.ends.peer && from == to => {
                self.outflow.hear_show(Dot { stream, seq: from.min(self.received.get(stream)) });
            }
            Message::Need { stream, from, to } => self.outflow.hear_need(stream, from, to),
            Message::Ping { nonce, digest: theirs, .. } => {
                let ours = digest(&self.received);
                send(&Message::Pong { nonce, at_ms: wall_ms, digest: ours }, out);
                self.compare(ours, theirs, out);
            }
            Message::Pong { nonce, at_ms, .. } => self.pulse.answered(now, nonce, at_ms, wall_ms),
            Message::Ephemeral { doc, payload } => match awareness::decode(payload.clone()) {
                Ok(_) => out.push(Output::Ephemeral { doc, payload }),
                Err(error) => self.close(ByeReason::Malformed, error.to_string(), out),
            },
            Message::Call { call, doc, payload } => {
                if let Err(bye) = self.calls.hear_call(call, doc, payload, out) {
                    self.close(bye.reason, bye.detail, out);
                }
            }
            Message::Return { call, payload } => {
                if let Err(bye) = self.calls.hear_return(call, payload, out) {
                    self.close(bye.reason, bye.detail, out);
                }
            }
            Message::SnapshotOffer { snapshot, needed } => {
                let own = self.ends.own;
                let step = self.history.truncated(needed.get(own), self.received.get(own));
                self.taking.offered(snapshot, needed);
                self.follow(step, out);
                self.look_for_snapshot(out);
            }
            Message::SnapshotWant { snapshot } => self.giving.wanted(snapshot),
            Message::SnapshotChunk { snapshot, offset, bytes } => {
                self.take_piece(snapshot, offset, &bytes, out);
            }
            Message::SnapshotDone { snapshot, bytes, hash } => {
                if let Err(bye) = self.taking.done(snapshot, bytes, hash, out) {
                    self.close(bye.reason, bye.detail, out);
                }
            }
        }
    }

    /// A peer that holds more of this replica's stream than this replica does remembers what its disk
    /// has forgotten.
    fn look_back(&mut self, out: &mut Vec<Output>) {
        let own = self.ends.own;
        let step = self.history.heard(self.outflow.held().get(own), self.received.get(own));
        self.follow(step, out);
    }

    /// Does what is next to find out whether the peer holds the same of this replica's stream.
    fn follow(&mut self, step: Option<Step>, out: &mut Vec<Output>) {
        match step {
            None => {}
            Some(Step::Ask(Dot { stream, seq })) => {
                self.outflow.withhold(true);
                // What was shown before is no longer held.
                self.inflow.let_go();
                send(&Message::Need { stream, from: seq, to: seq }, out);
                send(&self.inflow.allow_one(), out);
            }
            Some(Step::Agree(shown)) => {
                match shown {
                    Some(encoded) => {
                        self.inflow.store_held(encoded.batch.last_dot());
                        out.push(Output::Store(encoded));
                    }
                    None => self.inflow.let_go(),
                }
                self.outflow.withhold(false);
                self.allow(out);
                self.look_for_snapshot(out);
            }
            Some(Step::Part(held)) => out.push(Output::WentBack { held }),
            Some(Step::Refuse(bye)) => self.close(bye.reason, bye.detail, out),
        }
    }

    fn renewed(&mut self, own: StreamId, out: &mut Vec<Output>) {
        self.ends.own = own;
        let step = self.history.renewed(own);
        self.follow(Some(step), out);
        self.look_back(out);
    }

    /// Tells the peer how much it may send: nothing before both mean the same by this replica's stream, since
    /// what else it has may rest on what it alone has of that.
    fn allow(&mut self, out: &mut Vec<Output>) {
        if self.history.is_agreed() {
            send(&self.inflow.allow(), out);
        }
    }

    fn look_for_snapshot(&mut self, out: &mut Vec<Output>) {
        if self.history.is_agreed() {
            self.taking.look(&self.received, out);
        }
    }

    fn take(&mut self, bytes: Bytes, out: &mut Vec<Output>) {
        let len = bytes.len() as u64;
        let encoded = match check_batch(bytes) {
            Ok(encoded) => encoded,
            Err(bye) => return self.close(bye.reason, bye.detail, out),
        };
        let last = encoded.batch.last_dot();
        if self.ends.role == Role::Follower && last.stream.replica == self.ends.peer {
            return self.close(ByeReason::Malformed, "a follower originates nothing".to_owned(), out);
        }
        if !self.inflow.take(len) {
            let detail = format!("{} bytes were sent, more than was allowed", self.inflow.bytes());
            return self.close(ByeReason::Credit, detail, out);
        }
        self.outflow.hear_batch(last);
        let encoded = Arc::new(encoded);
        match self.history.take(&encoded, self.received.get(self.ends.own)) {
            Taken::Held => self.inflow.hold(len),
            Taken::Dropped => self.inflow.answered(len),
            Taken::No => {
                self.inflow.store(last, len);
                out.push(Output::Store(encoded));
            }
        }
    }

    fn take_piece(&mut self, snapshot: u64, offset: u64, bytes: &Bytes, out: &mut Vec<Output>) {
        self.pulse.moved();
        if !self.inflow.take(bytes.len() as u64) {
            let detail = "more of a snapshot was sent than was allowed".to_owned();
            return self.close(ByeReason::Credit, detail, out);
        }
        match self.taking.piece(snapshot, offset, bytes, out) {
            Ok(done_with) => self.inflow.answered(done_with),
            Err(bye) => self.close(bye.reason, bye.detail, out),
        }
    }

    /// Takes note of what is durable here.
    fn now_durable(&mut self, now: Time, received: Frontier) {
        self.inflow.received(now, &received, self.ends.own);
        self.received = received;
    }

    fn stored(&mut self, now: Time, arrivals: &[Arrival], out: &mut Vec<Output>) {
        for arrival in arrivals {
            self.pulse.moved();
            if let Some(Dot { stream, seq }) = self.inflow.stored(now, *arrival) {
                let detail =
                    format!("stream {stream} differs up to seq {}: two histories have one name", seq.0);
                return self.close(ByeReason::Fork, detail, out);
            }
        }
    }

    fn read(&mut self, now: Time, found: Found, out: &mut Vec<Output>) {
        let from = match self.reading.take() {
            None => return,
            Some(Reading::ForPeer(from)) => from,
            Some(Reading::Own) => {
                let step = self.history.found(found);
                return self.follow(step, out);
            }
        };
        match found {
            Found::Batches(batches) => {
                if batches.is_empty() {
                    self.ends_before(from);
                }
                let (mut end, mut bytes_sent) = (Seq(from.seq.0 - 1), 0);
                for bytes in batches {
                    let Some((first, last)) = batch_range(&bytes) else {
                        let detail = "a batch of this region's log cannot be read".to_owned();
                        return self.close(ByeReason::Disk, detail, out);
                    };
                    // What was told meanwhile may make it needless, or use the allowance up.
                    if self.outflow.has_credit() && self.outflow.lacks(first, last) {
                        (end, bytes_sent) = (last.seq, bytes_sent + bytes.len() as u64);
                        self.send_batch(first, last.seq, bytes, out);
                    }
                }
                // What one read brings to its end is sent as it is written, or nearly.
                if end < self.received.get(from.stream) {
                    self.pace.sent(now, bytes_sent, end.0 + 1 - from.seq.0);
                }
            }
            Found::Truncated { first_kept } => {
                let stream = from.stream;
                self.outflow.cannot_show(stream);
                let last = Dot { stream, seq: Seq(first_kept.0.saturating_sub(1)) };
                if self.outflow.held().covers(last) {
                    // The peer has that, and only wants to compare: it is told that this cannot be.
                    self.giving.offer([last].into_iter().collect()).iter().for_each(|offer| send(offer, out));
                } else if self.outflow.truncated(stream, first_kept) {
                    out.push(Output::Truncated { stream, first_kept });
                    self.offer(out);
                }
            }
            Found::Failed(reason) => {
                self.close(ByeReason::Disk, format!("this region's log cannot be read: {reason}"), out);
            }
        }
    }

    /// The log has less of a stream than it had: it has parted with some of it, and will say so.
    fn ends_before(&mut self, from: Dot) {
        self.outflow.cannot_show(from.stream);
        self.received = self.received.without(from.stream);
        self.received.raise(Dot { seq: Seq(from.seq.0 - 1), ..from });
    }

    fn send_batch(&mut self, first: Dot, last: Seq, bytes: Bytes, out: &mut Vec<Output>) {
        let len = bytes.len() as u64;
        self.outflow.send(first, last, len);
        self.pulse.moved();
        self.batches_sent += 1;
        self.bytes_sent += len;
        send(&Message::Batch(bytes), out);
    }

    /// Offers the peer a snapshot, if it lacks what the log no longer has.
    fn offer(&mut self, out: &mut Vec<Output>) {
        let offer = self.giving.offer(self.outflow.out_of_reach());
        offer.iter().for_each(|message| send(message, out));
    }

    fn pulse(&mut self, now: Time, wall_ms: u64, out: &mut Vec<Output>) {
        match self.pulse.beat(now) {
            None => {}
            Some(Some(nonce)) => {
                self.inflow.ask_again(now);
                self.offer(out);
                let step = if self.pulse.has_heard() { self.history.pulse() } else { None };
                self.follow(step, out);
                if self.closed {
                    return;
                }
                self.look_for_snapshot(out);
                if let Err(bye) = self.taking.pulse() {
                    return self.close(bye.reason, bye.detail, out);
                }
                let digest = digest(&self.received);
                send(&Message::Ping { nonce, at_ms: wall_ms, digest }, out);
            }
            Some(None) => {
                let detail = format!("nothing was heard since {} pings", self.pulse.missed);
                self.close(ByeReason::Silent, detail, out);
            }
        }
    }

    /// A peer that has the same as this replica has acknowledged all of it, whatever became of its acks. When both
    /// have been quiet and do not have the same, whatever the peer has not acknowledged is sent again, and
    /// the peer told what this replica has and allows, so that it does as much.
    fn compare(&mut self, ours: Digest, theirs: Digest, out: &mut Vec<Output>) {
        if self.pulse.compare(ours, theirs) {
            self.outflow.rewind();
            self.tell_frontier(out);
            self.allow(out);
        } else if ours == theirs && self.history.is_agreed() {
            self.outflow.hear_ack(&self.received);
            self.look_back(out);
        }
    }

    fn tell_frontier(&mut self, out: &mut Vec<Output>) {
        self.told = true;
        self.inflow.told(&self.received);
        send(&Message::Frontier { received: self.received.clone(), hears: self.hears.clone() }, out);
    }

    fn close(&mut self, reason: ByeReason, detail: String, out: &mut Vec<Output>) {
        self.closed = true;
        out.push(Output::Close(Bye { reason, detail }));
    }

    /// Per stream, what the peer is known to have.
    #[must_use]
    pub const fn held(&self) -> &Frontier {
        self.outflow.held()
    }

    /// Per stream, what need not be kept for the peer. Of this replica's own nothing that has not been compared:
    /// until then the peer may mean another history by it, and what was written here must not be let go of.
    #[must_use]
    pub fn acknowledged(&self) -> Cow<'_, Frontier> {
        let held = self.outflow.held();
        if self.history.is_compared() { Cow::Borrowed(held) } else { Cow::Owned(held.without(self.ends.own)) }
    }

    /// The replicas that the peer hears first-hand, as far as it has said.
    pub fn heard_there(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.outflow.heard_there()
    }

    /// Figures for operators.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let held = self.outflow.held();
        let queue = self.received.iter().map(|dot| dot.seq.0.saturating_sub(held.get(dot.stream).0));
        Figures {
            rtt_ms: self.pulse.rtt_ms(),
            clock_offset_ms: self.pulse.offset_ms(),
            queue_entries: queue.sum(),
            batches_sent: self.batches_sent,
            bytes_sent: self.bytes_sent,
            batches_received: self.inflow.batches,
            bytes_received: self.inflow.bytes(),
            duplicates: self.inflow.duplicates,
            paced: self.pace.put_off,
            pings_missed: self.pulse.missed,
            out_of_reach: !self.outflow.out_of_reach().is_empty(),
        }
    }
}

fn send(message: &Message, out: &mut Vec<Output>) {
    out.push(Output::Send(message.encode()));
}
