//! One link at a time, by hand.

use super::world::{World, stream};
use bytes::Bytes;
use quire_protocol::batch::{
    BatchBuilder, ChainHash, EncodedBatch, Entry, EntryKind, LifecycleChange, NO_DOC,
};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, DocName, Dot, ReplicaId, Seq, StreamId};
use quire_protocol::link::limits::{
    ACK_AFTER_BYTES, CATCH_UP_AHEAD_MS, CATCH_UP_BYTES_PER_MS, CREDIT_WINDOW_BYTES, ENTRY_COST_BYTES,
};
use quire_protocol::link::{Bye, ByeReason, Ends, Found, Input, Link, Message, Output, Role};
use quire_protocol::time::Time;
use std::collections::BTreeSet;

/// A link of replica 1 to replica 2, driven by hand.
pub(super) struct Table {
    pub(super) link: Link,
    now: Time,
    pub(super) out: Vec<Output>,
}

impl Table {
    pub(super) fn with(received: Frontier, role: Role) -> Self {
        Self::between(Ends { own: stream(1), peer: ReplicaId(2), role, version: 2 }, received)
    }

    /// A link of which both ends speak this version.
    pub(super) fn of_version(version: u8) -> Self {
        let ends = Ends { own: stream(1), peer: ReplicaId(2), role: Role::Leader, version };
        Self::between(ends, Frontier::new())
    }

    fn between(ends: Ends, received: Frontier) -> Self {
        let mut out = Vec::new();
        let link = Link::new(Time(0), ends, received, [ReplicaId(2)].into(), 0, &mut out);
        let mut table = Self { link, now: Time(0), out };
        table.out.clear();
        table
    }

    pub(super) fn new() -> Self {
        Self::with(Frontier::new(), Role::Leader)
    }

    pub(super) fn handle(&mut self, input: Input) {
        self.link.handle(self.now, input, &mut self.out);
    }

    pub(super) fn hear(&mut self, message: &Message) {
        self.handle(Input::Frame { frame: message.encode(), wall_ms: self.now.0 });
    }

    pub(super) fn tick(&mut self, at: u64) {
        self.now = Time(at);
        self.handle(Input::Tick { wall_ms: at });
    }

    /// What the peer was told since it was last asked, without pings.
    pub(super) fn said(&mut self) -> Vec<Message> {
        let sent = self.out.drain(..).filter_map(|output| match output {
            Output::Send(frame) => Some(Message::decode(frame).expect("what is sent can be read")),
            _ => None,
        });
        sent.filter(|message| !matches!(message, Message::Ping { .. } | Message::Pong { .. })).collect()
    }

    pub(super) fn closed(&self) -> Option<&Bye> {
        self.out.iter().find_map(|output| match output {
            Output::Close(bye) => Some(bye),
            _ => None,
        })
    }

    pub(super) fn reason(&self) -> Option<ByeReason> {
        self.closed().map(|bye| bye.reason)
    }

    pub(super) fn reads(&self) -> Vec<Dot> {
        let read = |output: &Output| match output {
            Output::Read { from, .. } => Some(*from),
            _ => None,
        };
        self.out.iter().filter_map(read).collect()
    }

    pub(super) fn stores(&self) -> usize {
        self.out.iter().filter(|output| matches!(output, Output::Store(_))).count()
    }
}

pub(super) fn dot(replica: usize, seq: u64) -> Dot {
    Dot { stream: stream(replica), seq: Seq(seq) }
}

pub(super) fn upto(dots: &[Dot]) -> Frontier {
    dots.iter().copied().collect()
}

fn batch_of(stream: StreamId, first: u64, entries: Vec<Entry>) -> EncodedBatch {
    let mut builder = BatchBuilder::new(stream, Seq(first), Hlc(0), Frontier::new(), ChainHash::START);
    entries.into_iter().for_each(|entry| builder.push(entry).expect("it fits"));
    builder.finish()
}

fn opaque(len: usize) -> Entry {
    Entry { doc: NO_DOC, kind: EntryKind::Unknown(200), hlc: Hlc(0), payload: vec![7; len].into() }
}

fn batch(replica: usize, first: u64, len: usize) -> Message {
    Message::Batch(batch_of(stream(replica), first, vec![opaque(len)]).bytes)
}

pub(super) fn frontier(received: &[Dot], hears: &[u16]) -> Message {
    let hears: BTreeSet<_> = hears.iter().copied().map(ReplicaId).collect();
    Message::Frontier { received: upto(received), hears }
}

#[test]
fn l7_nothing_is_acknowledged_before_it_is_durable_and_then_soon() {
    let mut table = Table::new();
    table.hear(&batch(2, 1, 10));
    assert_eq!(table.stores(), 1);
    table.tick(500);
    assert_eq!(table.said(), []);
    table.handle(Input::Stored(vec![Arrival::Next]));
    table.handle(Input::Received(upto(&[dot(1, 3), dot(2, 1)])));
    assert_eq!(table.said(), []);
    table.tick(519);
    assert_eq!(table.said(), []);
    table.tick(520);
    // Its own stream the peer knows from what it is sent.
    assert_eq!(table.said(), [Message::Ack(upto(&[dot(2, 1)]))]);
    table.tick(900);
    assert_eq!(table.said(), []);
    // What comes from a third region is told too, and much is told at once.
    table.handle(Input::Received(upto(&[dot(1, 3), dot(2, 1), dot(3, 7)])));
    table.tick(920);
    assert_eq!(table.said(), [Message::Ack(upto(&[dot(3, 7)]))]);
    table.hear(&batch(2, 2, usize::try_from(ACK_AFTER_BYTES).expect("small")));
    table.out.clear();
    table.handle(Input::Received(upto(&[dot(2, 2), dot(3, 7)])));
    assert_eq!(table.said(), []);
    table.handle(Input::Stored(vec![Arrival::Next]));
    assert_eq!(table.said(), [Message::Ack(upto(&[dot(2, 2)]))]);
}

#[test]
fn l5_a_peer_is_allowed_a_window_beyond_what_is_stored_and_not_more() {
    let mut out = Vec::new();
    let ends = Ends { own: stream(1), peer: ReplicaId(2), role: Role::Leader, version: 2 };
    let _link = Link::new(Time(0), ends, Frontier::new(), BTreeSet::new(), 0, &mut out);
    let credit = Output::Send(Message::Credit(CREDIT_WINDOW_BYTES).encode());
    assert!(out.contains(&credit), "a window is allowed at once");

    let mut table = Table::new();
    let piece = usize::try_from(CREDIT_WINDOW_BYTES / 4).expect("small");
    let mut bytes = 0;
    for first in 1..=4 {
        let message = batch(2, first, piece);
        bytes += message.encode().len() as u64 - 1;
        table.hear(&message);
    }
    assert_eq!((table.stores(), table.reason()), (4, None));
    table.handle(Input::Stored(vec![Arrival::Duplicate; 4]));
    assert_eq!(table.said(), [Message::Credit(bytes + CREDIT_WINDOW_BYTES)]);
    for first in 5..=8 {
        table.hear(&batch(2, first, piece));
    }
    assert_eq!(table.reason(), None, "the last one begins within what is allowed");
    table.hear(&batch(2, 9, 1));
    assert_eq!(table.reason(), Some(ByeReason::Credit));
}

#[test]
fn l8_what_is_missing_is_asked_for_once_and_again_if_it_does_not_come() {
    let mut table = Table::new();
    table.hear(&batch(2, 5, 1));
    table.hear(&batch(2, 6, 1));
    table.handle(Input::Stored(vec![Arrival::Gap { from: Seq(2) }, Arrival::Gap { from: Seq(2) }]));
    table.tick(20);
    let need = |from, to| Message::Need { stream: stream(2), from: Seq(from), to: Seq(to) };
    assert_eq!(table.said(), [need(2, 6)]);
    table.hear(&batch(2, 7, 1));
    table.handle(Input::Stored(vec![Arrival::Gap { from: Seq(2) }]));
    table.tick(40);
    assert_eq!(table.said(), [need(2, 7)]);
    table.handle(Input::Received(upto(&[dot(2, 4)])));
    table.tick(900);
    assert_eq!(table.said(), [Message::Ack(upto(&[dot(2, 4)]))]);
    table.tick(1000);
    table.tick(1020);
    assert_eq!(table.said(), [need(5, 7)]);
    table.handle(Input::Received(upto(&[dot(2, 7)])));
    table.tick(2000);
    table.tick(2100);
    assert_eq!(table.said(), [Message::Ack(upto(&[dot(2, 7)]))]);
}

#[test]
fn l8_a_lost_frame_heals_by_the_pulse() {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.pass(100);
    // A frame that vanishes in the middle of a connection, as none should.
    world.lose = 1;
    world.write(0, 3);
    world.pass(300);
    assert!(!world.is_equal());
    world.pass(5000);
    assert!(world.is_equal());
    assert_eq!(world.received(1).get(stream(0)), Seq(3));
}

#[test]
fn l8_a_lost_ack_heals_by_the_pulse() {
    let mut world = World::new(2);
    world.connect(0, 1);
    world.pass(100);
    world.write(0, 3);
    world.pass(10);
    // What is said next is the ack.
    world.lose = 1;
    world.pass(100);
    let queued = |world: &World| world.ends[&(0, 1)].link.figures().queue_entries;
    assert_eq!((world.lose, world.is_equal(), queued(&world)), (0, true, 3));
    world.pass(1000);
    assert_eq!(queued(&world), 0);
}

#[test]
fn l8_a_peer_that_has_the_same_has_acknowledged_it_once_histories_are_compared() {
    let here = upto(&[dot(1, 3), dot(3, 7)]);
    let mut table = Table::with(here.clone(), Role::Leader);
    table.tick(1000);
    let digest = table.out.drain(..).find_map(|output| match output {
        Output::Send(frame) => match Message::decode(frame).expect("what is sent can be read") {
            Message::Ping { digest, .. } => Some(digest),
            _ => None,
        },
        _ => None,
    });
    let ping = |digest| Message::Ping { nonce: 1, at_ms: 0, digest };
    let same = ping(digest.expect("a ping"));
    // Until then the peer may mean another history of this region's stream.
    table.hear(&same);
    assert_eq!(table.link.held(), &Frontier::new());
    table.hear(&frontier(&[], &[1]));
    table.hear(&ping([0; 16]));
    assert_eq!(table.link.held(), &Frontier::new());
    table.hear(&same);
    assert_eq!(*table.link.acknowledged(), here);
    assert_eq!(table.link.figures().queue_entries, 0);
}

#[test]
fn l9_a_peer_that_says_nothing_is_gone() {
    let mut table = Table::new();
    for at in [1000, 2000] {
        table.tick(at);
    }
    table.tick(2999);
    assert_eq!(table.reason(), None);
    table.tick(3000);
    assert_eq!(table.reason(), Some(ByeReason::Silent));
    table.out.clear();
    table.tick(9000);
    table.hear(&batch(2, 1, 1));
    assert_eq!(table.out, [], "a closed link says nothing");
}

#[test]
fn l9_round_trip_and_clock_are_told() {
    let mut table = Table::new();
    table.now = Time(80);
    table.handle(Input::Frame {
        frame: Message::Pong { nonce: 1, at_ms: 5040, digest: [0; 16] }.encode(),
        wall_ms: 80,
    });
    let figures = table.link.figures();
    assert_eq!((figures.rtt_ms, figures.clock_offset_ms), (Some(80), Some(5000)));
}

#[test]
fn l10_what_cannot_be_taken_ends_the_link_and_is_not_stored() {
    let refused = |message: &[u8]| {
        let mut table = Table::new();
        table.handle(Input::Frame { frame: Bytes::copy_from_slice(message), wall_ms: 0 });
        assert_eq!(table.stores(), 0);
        let bye = table.closed().expect("it ends").clone();
        assert_eq!(bye.reason, ByeReason::Malformed);
        bye.detail
    };
    assert_eq!(refused(&[99]), "message kind 99 is unknown");
    let mut damaged = batch(2, 1, 5).encode().to_vec();
    *damaged.last_mut().expect("a byte") ^= 1;
    assert_eq!(refused(&damaged), "a batch's checksum does not match its bytes");

    let with = |kind, doc, payload: Bytes| {
        let entry = Entry { doc, kind, hlc: Hlc(0), payload };
        Message::Batch(batch_of(stream(2), 1, vec![opaque(1), entry]).bytes).encode()
    };
    let update = with(EntryKind::Update, DocId(1), Bytes::from_static(&[1, 1, 1]));
    assert!(refused(&update).starts_with("entry 2 of stream "), "{}", refused(&update));
    let name = DocName::new("notes").expect("a name");
    let create = LifecycleChange::Create { name }.encode();
    let stranger = with(EntryKind::Lifecycle, DocId(1), create);
    assert!(refused(&stranger).ends_with("a document's id is not that of its name"));
    let awareness = Message::Ephemeral { doc: DocId(1), payload: Bytes::from_static(&[9, 9]) };
    assert!(!refused(&awareness.encode()).is_empty());
}

#[test]
fn l10_a_follower_originates_nothing() {
    let mut table = Table::with(Frontier::new(), Role::Follower);
    table.hear(&batch(3, 1, 1));
    assert_eq!((table.stores(), table.reason()), (1, None));
    table.hear(&batch(2, 1, 1));
    assert_eq!((table.stores(), table.reason()), (1, Some(ByeReason::Malformed)));
}

#[test]
fn l11_two_histories_of_one_stream_end_the_link() {
    let mut table = Table::new();
    table.hear(&batch(3, 4, 1));
    table.handle(Input::Stored(vec![Arrival::Astray]));
    let bye = table.closed().expect("it ends");
    assert_eq!(bye.reason, ByeReason::Fork);
    assert_eq!(bye.detail, format!("stream {} differs up to seq 4: two histories have one name", stream(3)));
}

#[test]
fn l4_a_link_reads_one_range_at_a_time_and_skips_what_was_told_meanwhile() {
    let mut table = Table::with(upto(&[dot(1, 3)]), Role::Leader);
    table.hear(&frontier(&[], &[1]));
    assert_eq!(table.reads(), []);
    table.hear(&Message::Credit(1000));
    table.handle(Input::Received(upto(&[dot(1, 4)])));
    assert_eq!(table.reads(), [dot(1, 1)]);
    table.hear(&Message::Ack(upto(&[dot(1, 2)])));
    table.out.clear();
    let all: Vec<_> = (1..=4).map(|first| batch_of(stream(1), first, vec![opaque(1)]).bytes).collect();
    table.handle(Input::Read(Found::Batches(all)));
    let batches = |messages: Vec<Message>| messages.len();
    assert_eq!(table.reads(), []);
    assert_eq!(batches(table.said()), 2);
    table.handle(Input::Received(upto(&[dot(1, 5)])));
    assert_eq!(table.reads(), [dot(1, 5)]);
}

#[test]
fn l15_what_was_missed_comes_at_its_pace_and_what_is_written_now_at_once() {
    let mut table = Table::with(upto(&[dot(1, 3)]), Role::Leader);
    table.hear(&frontier(&[], &[1]));
    table.hear(&Message::Credit(CREDIT_WINDOW_BYTES));
    assert_eq!(table.reads(), [dot(1, 1)]);
    table.out.clear();
    let long = batch_of(stream(1), 1, vec![opaque(100_000)]).bytes;
    let pause = (long.len() as u64 + ENTRY_COST_BYTES).div_ceil(CATCH_UP_BYTES_PER_MS) - CATCH_UP_AHEAD_MS;
    table.handle(Input::Read(Found::Batches(vec![long])));
    assert_eq!(table.said().len(), 1);
    table.tick(pause - 1);
    assert_eq!(table.reads(), []);
    table.tick(pause);
    assert_eq!(table.reads(), [dot(1, 2)]);
    table.out.clear();
    // These are all there is.
    let rest = [2, 3].map(|first| batch_of(stream(1), first, vec![opaque(100_000)]).bytes);
    table.handle(Input::Read(Found::Batches(rest.to_vec())));
    table.handle(Input::Received(upto(&[dot(1, 4)])));
    assert_eq!(table.reads(), [dot(1, 4)]);
}

#[test]
fn l12_what_the_log_no_longer_has_is_told_and_the_rest_goes_on() {
    let mut table = Table::with(upto(&[dot(1, 9), dot(3, 2)]), Role::Leader);
    table.hear(&frontier(&[], &[1]));
    table.hear(&Message::Credit(1000));
    assert_eq!(table.reads(), [dot(1, 1)]);
    table.out.clear();
    table.handle(Input::Read(Found::Truncated { first_kept: Seq(6) }));
    let truncated = Output::Truncated { stream: stream(1), first_kept: Seq(6) };
    assert!(table.out.contains(&truncated));
    assert_eq!(table.reads(), [dot(3, 1)]);
    table.handle(Input::Read(Found::Batches(vec![batch_of(stream(3), 1, vec![opaque(1), opaque(1)]).bytes])));
    table.out.clear();
    table.handle(Input::Received(upto(&[dot(1, 10), dot(3, 2)])));
    assert_eq!(table.out, [], "it does not read in vain");
    // The peer has got it in another way.
    table.hear(&Message::Ack(upto(&[dot(1, 5)])));
    assert_eq!(table.reads(), [dot(1, 6)]);
}
