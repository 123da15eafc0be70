//! Disks that were set back to an old backup: which history of a stream is meant, over one link by hand and in
//! clusters.

use super::stories::{Table, dot, frontier, upto};
use super::world::{World, stream};
use bytes::Bytes;
use proptest::prelude::*;
use quire_protocol::batch::{BatchBuilder, ChainHash, EncodedBatch, Entry, EntryKind, NO_DOC};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_protocol::link::limits::CREDIT_WINDOW_BYTES;
use quire_protocol::link::{ByeReason, Ends, Found, Input, Link, Message, Output, Role};
use quire_protocol::time::Time;
use std::collections::BTreeSet;

/// Replica 1's stream in batches of one entry; `texts` are what they hold.
fn chain(texts: &[&str]) -> Vec<EncodedBatch> {
    chain_of(1, texts)
}

fn chain_of(replica: usize, texts: &[&str]) -> Vec<EncodedBatch> {
    let mut hash = ChainHash::START;
    let mut batches = Vec::new();
    for (text, seq) in texts.iter().zip(1..) {
        let mut builder = BatchBuilder::new(stream(replica), Seq(seq), Hlc(0), Frontier::new(), hash);
        let payload = Bytes::copy_from_slice(text.as_bytes());
        let entry = Entry { doc: NO_DOC, kind: EntryKind::Unknown(200), hlc: Hlc(0), payload };
        builder.push(entry).expect("it fits");
        let encoded = builder.finish();
        hash = encoded.hash();
        batches.push(encoded);
    }
    batches
}

fn ask(seq: u64) -> Message {
    Message::Need { stream: stream(1), from: Seq(seq), to: Seq(seq) }
}

/// A link of replica 1, which has this history of its stream, to a peer of an older release, which says how
/// much it has of it before it shows any.
struct Comparing {
    table: Table,
    ours: Vec<EncodedBatch>,
    /// So many of these the log has let go of.
    gone: u64,
    came: u64,
}

impl Comparing {
    fn new(ours: &[&str], held: u64) -> Self {
        let ours = chain(ours);
        let table = Table::with(upto(&[dot(1, ours.len() as u64)]), Role::Leader);
        let mut comparing = Self { table, ours, gone: 0, came: 0 };
        comparing.table.hear(&frontier(&[dot(1, held)], &[1]));
        comparing
    }

    /// The peer is asked for an entry and allowed one batch.
    fn is_asked(&mut self, seq: u64) {
        assert_eq!(self.said(), [ask(seq), Message::Credit(self.came + 1)]);
    }

    /// What it was told beside what this replica has.
    fn said(&mut self) -> Vec<Message> {
        let said = self.table.said().into_iter();
        said.filter(|message| !matches!(message, Message::Frontier { .. })).collect()
    }

    /// The peer shows a batch, and what is read here is what the log has.
    fn shows(&mut self, theirs: &EncodedBatch) {
        self.came += theirs.bytes.len() as u64;
        self.table.hear(&Message::Batch(theirs.bytes.clone()));
        while let [from] = self.table.reads()[..] {
            self.table.out.retain(|output| !matches!(output, Output::Read { .. }));
            let at = usize::try_from(from.seq.0).expect("small") - 1;
            let found = self.ours.get(at).map(|encoded| encoded.bytes.clone());
            self.table.handle(Input::Read(match from.seq.0 > self.gone {
                true => Found::Batches(found.into_iter().collect()),
                false => Found::Truncated { first_kept: Seq(self.gone + 1) },
            }));
        }
    }

    fn went_back(&self) -> Vec<Dot> {
        let went_back = |output: &Output| match output {
            Output::WentBack { held } => Some(*held),
            _ => None,
        };
        self.table.out.iter().filter_map(went_back).collect()
    }
}

#[test]
fn l11_nothing_else_is_taken_or_given_before_both_mean_the_same_by_this_stream() {
    let mut link = Comparing::new(&["1", "2", "3"], 2);
    link.is_asked(2);
    // Whatever the peer allows, it is not sent what may be another history.
    link.table.hear(&Message::Credit(1 << 20));
    link.table.handle(Input::Received(upto(&[dot(1, 4)])));
    assert_eq!(link.table.reads(), []);
    let same = link.ours[1].clone();
    link.came += same.bytes.len() as u64;
    link.table.hear(&Message::Batch(same.bytes.clone()));
    assert_eq!(link.table.reads(), [dot(1, 2)]);
    link.table.out.clear();
    link.table.handle(Input::Read(Found::Batches(vec![same.bytes.clone()])));
    assert_eq!(link.table.reads(), [dot(1, 3)], "from now on it is sent what it lacks");
    assert_eq!(link.table.stores(), 1, "what was shown is a batch like any other");
    assert_eq!(link.said(), [Message::Credit(CREDIT_WINDOW_BYTES)]);
    link.table.handle(Input::Stored(vec![Arrival::Duplicate]));
    assert_eq!(link.table.link.figures().duplicates, 0, "it was asked for");
    // Once is enough.
    link.table.hear(&frontier(&[dot(1, 2)], &[1]));
    assert_eq!(link.said(), []);
    // A peer that sends unasked and unallowed is cut off.
    let mut link = Comparing::new(&["1", "2", "3"], 2);
    for _ in 0..2 {
        link.table.hear(&Message::Batch(same.bytes.clone()));
    }
    assert_eq!(link.table.reason(), Some(ByeReason::Credit));
}

#[test]
fn l11_a_peer_is_shown_its_stream_before_it_is_told_how_much_there_is() {
    let mut out = Vec::new();
    let ends = Ends { own: stream(1), peer: ReplicaId(2), role: Role::Leader, version: 2 };
    let received = upto(&[dot(1, 5), dot(2, 9)]);
    let mut link = Link::new(Time(0), ends, received.clone(), BTreeSet::new(), 0, &mut out);
    let said = |out: &mut Vec<Output>| {
        let frames = out.drain(..).filter_map(|output| match output {
            Output::Send(frame) => Message::decode(frame).ok(),
            _ => None,
        });
        frames.filter(|message| !matches!(message, Message::Ping { .. })).collect::<Vec<_>>()
    };
    assert_eq!(said(&mut out), [ask(6), Message::Credit(1)]);
    let mut hear = |message: &Message, out: &mut Vec<Output>| {
        link.handle(Time(0), Input::Frame { frame: message.encode(), wall_ms: 0 }, out);
    };
    // The peer has written less of it than is remembered here.
    hear(&Message::Need { stream: stream(2), from: Seq(4), to: Seq(4) }, &mut out);
    assert_eq!(said(&mut out), [], "it allows nothing yet");
    hear(&Message::Credit(1), &mut out);
    assert!(matches!(out[..], [Output::Read { from, .. }] if from == dot(2, 4)));
    out.clear();
    let fourth = Message::Batch(chain_of(2, &["1", "2", "3", "4"])[3].bytes.clone());
    let Message::Batch(bytes) = fourth.clone() else { unreachable!() };
    link.handle(Time(0), Input::Read(Found::Batches(vec![bytes])), &mut out);
    let told = Message::Frontier { received, hears: BTreeSet::new() };
    assert_eq!(said(&mut out), [fourth, told]);
}

#[test]
fn l11_what_a_peer_holds_of_this_stream_counts_once_it_has_been_compared() {
    let mut link = Comparing::new(&["1", "2", "a"], 3);
    link.table.hear(&frontier(&[dot(1, 3), dot(2, 7)], &[1, 2]));
    assert_eq!(link.table.link.held(), &upto(&[dot(1, 3), dot(2, 7)]));
    // It may be another history: a log that let go of this one could not write it again.
    assert_eq!(*link.table.link.acknowledged(), upto(&[dot(2, 7)]));
    link.shows(&chain(&["1", "2", "3"])[2]);
    assert_eq!(link.went_back(), [dot(1, 2)]);
    assert_eq!(*link.table.link.acknowledged(), upto(&[dot(2, 7)]));
    let mut link = Comparing::new(&["1", "2", "3"], 3);
    let same = link.ours[2].clone();
    link.shows(&same);
    assert_eq!(*link.table.link.acknowledged(), upto(&[dot(1, 3)]));
}

#[test]
fn l11_a_peer_that_remembers_more_of_this_stream_has_it_renewed() {
    let before = chain(&["1", "2", "3", "4"]);
    let mut link = Comparing::new(&["1", "2"], 4);
    link.is_asked(3);
    link.shows(&before[2]);
    assert_eq!(link.went_back(), [dot(1, 2)]);
    link.table.hear(&Message::Ack(upto(&[dot(1, 4)])));
    assert_eq!(link.went_back().len(), 1, "it is told of once");
    link.table.out.clear();
    // Once it has a new stream, the old one is like those of others.
    let renewed = StreamId { incarnation: Incarnation(2), ..stream(1) };
    link.table.handle(Input::Renewed(renewed));
    assert_eq!(link.table.stores(), 1, "what was shown");
    assert_eq!(link.said(), [Message::Credit(CREDIT_WINDOW_BYTES)]);
    link.table.hear(&Message::Batch(before[3].bytes.clone()));
    assert_eq!((link.table.stores(), link.table.reason()), (1, None));
}

#[test]
fn l11_what_the_log_has_parted_with_is_not_read_again_and_again() {
    let mut link = Comparing::new(&["1", "2", "a", "b"], 2);
    link.shows(&chain(&["1", "other"])[1]);
    assert_eq!(link.went_back(), [dot(1, 1)]);
    link.table.hear(&Message::Credit(1 << 20));
    link.table.out.clear();
    // That there is less of the old stream may be told after there is a new one.
    let renewed = StreamId { incarnation: Incarnation(2), ..stream(1) };
    link.table.handle(Input::Renewed(renewed));
    assert_eq!(link.table.reads(), [dot(1, 3)]);
    link.table.out.clear();
    link.table.handle(Input::Read(Found::Batches(vec![])));
    assert_eq!(link.table.reads(), []);
    link.table.handle(Input::Received(upto(&[dot(1, 1), Dot { stream: renewed, seq: Seq(3) }])));
    assert_eq!(link.table.reads(), [Dot { stream: renewed, seq: Seq(1) }]);
}

#[test]
fn l11_a_long_way_back_is_not_silence_and_is_gone_once() {
    let texts: Vec<String> = (1..=200).map(|seq| seq.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let theirs = chain(&texts);
    let ours: Vec<&str> = texts[..3].iter().copied().chain(vec!["x"; 190]).collect();
    let ours = chain(&ours);
    let mut table = Table::with(upto(&[dot(1, ours.len() as u64)]), Role::Leader);
    let (mut asked, mut at, mut next) = (Vec::new(), 0, 194);
    loop {
        asked.push(next);
        table.hear(&Message::Batch(theirs[next - 1].bytes.clone()));
        while let [from] = table.reads()[..] {
            table.out.retain(|output| !matches!(output, Output::Read { .. }));
            let found = ours.get(usize::try_from(from.seq.0).expect("small") - 1);
            let found = found.map(|encoded| encoded.bytes.clone());
            table.handle(Input::Read(Found::Batches(found.into_iter().collect())));
        }
        // What the peer holds is told in the middle of it, and each answer takes almost two pings.
        table.hear(&frontier(&[dot(1, 200)], &[1]));
        if table.out.iter().any(|output| matches!(output, Output::WentBack { .. })) {
            break;
        }
        let needs = table.said().into_iter().filter_map(|message| match message {
            Message::Need { from, .. } => Some(usize::try_from(from.0).expect("small")),
            _ => None,
        });
        let needs: Vec<_> = needs.collect();
        assert_eq!(needs.len(), 1, "it is asked for one at a time");
        next = needs[0];
        for _ in 0..2 {
            at += 1000;
            table.hear(&Message::Ack(Frontier::new()));
            table.tick(at);
        }
        table.said();
        assert_eq!(table.reason(), None);
    }
    assert_eq!(asked, [194, 193, 191, 187, 179, 163, 131, 67, 1]);
    assert!(table.out.contains(&Output::WentBack { held: dot(1, 1) }));
}

#[test]
fn l11_an_empty_disk_has_nothing_to_compare() {
    let mut table = Table::new();
    table.hear(&frontier(&[dot(1, 9)], &[]));
    table.hear(&Message::Ack(upto(&[dot(1, 10)])));
    let went_back = table.out.iter().filter(|output| matches!(output, Output::WentBack { .. }));
    assert_eq!(went_back.collect::<Vec<_>>(), [&Output::WentBack { held: dot(1, 0) }]);
}

#[test]
fn l11_what_is_written_before_the_peer_says_what_it_holds_is_compared() {
    let (ours, theirs) = (chain(&["a", "b"]), chain(&["1"]));
    // The disk held nothing of its stream when the link began.
    for (shown, same) in [(&theirs[0], false), (&ours[0], true)] {
        let mut table = Table::new();
        table.handle(Input::Received(upto(&[dot(1, 2)])));
        table.hear(&Message::Credit(1 << 20));
        table.said();
        table.hear(&frontier(&[dot(1, 1)], &[]));
        assert_eq!(table.said().first(), Some(&ask(1)));
        assert_eq!(table.reads(), [], "it is given nothing of the stream");
        table.hear(&Message::Batch(shown.bytes.clone()));
        assert_eq!(table.reads(), [dot(1, 1)]);
        table.out.clear();
        table.handle(Input::Read(Found::Batches(vec![ours[0].bytes.clone()])));
        let parts = table.out.contains(&Output::WentBack { held: dot(1, 0) });
        assert_eq!((parts, table.reads()), (!same, if same { vec![dot(1, 2)] } else { vec![] }));
    }
}

#[test]
fn l11_two_histories_are_followed_back_to_where_they_part() {
    let theirs = chain(&["1", "2", "3", "4", "5", "6", "7", "8"]);
    // Whoever wrote more. In the first the fifth batch follows from the fourth; in the second the fourth is one
    // that both hold.
    let longer = &["1", "2", "3", "4", "e", "f", "g", "h", "i", "j"][..];
    let shorter = &["1", "2", "3", "4", "e", "f"][..];
    for (ours, asked) in [(longer, [8_usize, 7, 5]), (shorter, [7, 6, 4])] {
        let mut link = Comparing::new(ours, 8);
        for seq in asked {
            assert_eq!(link.went_back(), []);
            link.is_asked(seq as u64);
            link.shows(&theirs[seq - 1]);
        }
        assert_eq!((link.went_back(), link.table.reason()), (vec![dot(1, 4)], None));
    }
    let mut link = Comparing::new(&["a", "b"], 8);
    for seq in [3, 2, 1] {
        assert_eq!(link.went_back(), []);
        link.is_asked(seq);
        link.shows(&theirs[usize::try_from(seq).expect("small") - 1]);
    }
    assert_eq!(link.went_back(), [dot(1, 0)], "they have not even the first in common");
}

#[test]
fn l11_the_way_back_ends_where_this_regions_log_begins() {
    let theirs = chain(&["1", "2", "3", "4", "5", "6", "7", "8"]);
    // The log has let go of what both hold. A batch that it still has names the hash of the one before it.
    let ours = &["1", "2", "c", "d", "e", "f", "g", "h"];
    let mut link = Comparing::new(ours, 8);
    link.gone = 2;
    for seq in [8_usize, 7, 5, 1, 3] {
        assert_eq!((link.went_back(), link.table.reason()), (vec![], None));
        link.is_asked(seq as u64);
        link.shows(&theirs[seq - 1]);
    }
    assert_eq!((link.went_back(), link.table.reason()), (vec![dot(1, 2)], None));

    // It has let go of more than that: nobody can tell where they part.
    let mut link = Comparing::new(ours, 8);
    link.gone = 3;
    for seq in [8_usize, 7, 5, 1, 4] {
        assert_eq!((link.went_back(), link.table.reason()), (vec![], None));
        link.is_asked(seq as u64);
        link.shows(&theirs[seq - 1]);
    }
    assert_eq!((link.went_back(), link.table.reason()), (vec![], Some(ByeReason::Fork)));
    let Some(bye) = link.table.closed() else { unreachable!() };
    let what = "has two histories: this region's log no longer has the point where they part; save what was \
                written here, and start the region on an empty disk";
    assert_eq!(bye.detail, format!("stream {} {what}", stream(1)));

    // So it is where a batch of the peer's begins before this log does, and ends behind that.
    let mut builder = BatchBuilder::new(stream(1), Seq(3), Hlc(0), Frontier::new(), theirs[1].hash());
    theirs[2..6].iter().for_each(|of| builder.push(of.batch.entries[0].clone()).expect("it fits"));
    let long = builder.finish();
    for (held, asked) in [(6, 6), (9, 9)] {
        let mut link = Comparing::new(ours, held);
        link.gone = 4;
        link.is_asked(asked);
        link.shows(&long);
        assert_eq!((link.went_back(), link.table.reason()), (vec![], Some(ByeReason::Fork)));
    }
}

#[test]
fn l11_a_restored_region_whose_log_let_go_of_what_all_have_heals() {
    const RESTORED: usize = 1;
    for (lost, alone) in (1..10).flat_map(|lost| (1..10).map(move |alone| (lost, alone))) {
        let mut world = World::new(2);
        world.connect(0, RESTORED);
        (0..4).for_each(|_| world.write(RESTORED, 1));
        world.pass(3000);
        let backup = world.replicas[RESTORED].clone();
        (0..lost).for_each(|_| world.write(RESTORED, 1));
        world.pass(3000);
        world.cut(0, RESTORED);
        world.replicas[RESTORED] = backup;
        (0..alone).for_each(|_| world.write(RESTORED, 1));
        // All that is left in its log is what it wrote since.
        world.replicas[RESTORED].forget(alone);
        for _ in 0..2 {
            world.connect(0, RESTORED);
            world.pass(3000);
        }
        let of = format!("{lost} lost, {alone} written since");
        assert_eq!(
            (&world.parted[..], &world.ended[..]),
            (&[(RESTORED, dot(RESTORED, 4))][..], &[][..]),
            "{of}"
        );
        assert_eq!(world.received(0), world.received(RESTORED), "{of}");
        assert_eq!(world.replicas[0].payloads().len(), 4 + lost + alone, "nothing is lost: {of}");
    }
}

#[test]
fn l11_what_a_peer_does_not_show_is_not_waited_for() {
    let mut link = Comparing::new(&["1", "2", "3"], 2);
    link.is_asked(2);
    for at in [1000, 2000] {
        link.table.hear(&frontier(&[dot(1, 2)], &[1]));
        link.table.tick(at);
        link.is_asked(2);
    }
    link.table.hear(&frontier(&[dot(1, 2)], &[1]));
    link.table.tick(3000);
    assert_eq!(link.said(), [Message::Credit(CREDIT_WINDOW_BYTES)], "it goes on as it can");
    // The log must still have what the next link may compare.
    assert_eq!(*link.table.link.acknowledged(), Frontier::new());
    // One that has more and does not show it cannot be believed.
    let mut link = Comparing::new(&["1", "2", "3"], 5);
    for at in [1000, 2000, 3000] {
        link.table.hear(&frontier(&[dot(1, 5)], &[1]));
        link.table.tick(at);
    }
    assert_eq!((link.table.reason(), link.went_back()), (Some(ByeReason::Silent), vec![]));
}

#[test]
fn l11_a_peer_whose_log_begins_later_leaves_nothing_that_is_known_to_be_shared() {
    let offer = |upto: Frontier| Message::SnapshotOffer { snapshot: 1, needed: upto };
    let mut link = Comparing::new(&["1", "2"], 9);
    link.is_asked(3);
    link.table.hear(&offer(upto(&[dot(1, 7)])));
    assert_eq!(link.went_back(), [dot(1, 0)]);
    assert!(!link.table.out.contains(&Output::BeginImport), "not before there is a new stream");
    // Where nothing speaks for another history, there is none.
    let mut link = Comparing::new(&["1", "2"], 2);
    link.is_asked(2);
    link.table.hear(&offer(upto(&[dot(1, 2)])));
    assert_eq!((link.went_back(), link.said().len()), (vec![], 1));

    // And so it is told by the other side.
    let mut table = Table::with(upto(&[dot(2, 9)]), Role::Leader);
    table.hear(&frontier(&[dot(2, 9)], &[1, 2]));
    table.hear(&Message::Credit(1));
    table.hear(&Message::Need { stream: stream(2), from: Seq(9), to: Seq(9) });
    assert_eq!(table.reads(), [dot(2, 9)], "what the peer holds is shown all the same");
    table.out.clear();
    table.handle(Input::Read(Found::Truncated { first_kept: Seq(10) }));
    assert_eq!(table.said(), [offer(upto(&[dot(2, 9)]))]);
    assert!(!table.link.figures().out_of_reach, "it lacks nothing");
}

#[test]
fn l11_no_peer_can_have_a_stream_renewed_without_end() {
    let theirs = chain(&["1", "2", "3", "4"]);
    let mut link = Comparing::new(&["1", "2"], 4);
    link.shows(&theirs[2]);
    for renewed in 2..5 {
        link.table.out.clear();
        let renewed = StreamId { incarnation: Incarnation(renewed), ..stream(1) };
        link.table.handle(Input::Renewed(renewed));
        link.table.hear(&frontier(&[Dot { stream: renewed, seq: Seq(7) }], &[1]));
        if link.table.reason().is_some() {
            assert_eq!((renewed.incarnation, link.table.reason()), (Incarnation(3), Some(ByeReason::Fork)));
            return;
        }
        assert_eq!(link.went_back().len(), 1);
    }
    panic!("it goes on without end");
}

#[test]
fn l11_a_history_that_begins_with_nothing_ends_the_link() {
    let theirs = chain(&["1", "2", "3", "4"]);
    let mut builder = BatchBuilder::new(stream(1), Seq(1), Hlc(0), Frontier::new(), theirs[0].hash());
    builder.push(theirs[0].batch.entries[0].clone()).expect("it fits");
    let mut link = Comparing::new(&["1"], 1);
    link.shows(&builder.finish());
    assert_eq!((link.table.reason(), link.went_back()), (Some(ByeReason::Fork), vec![]));
}

#[test]
fn l11_a_region_that_took_a_history_that_others_have_given_up_is_cut_off_and_the_others_heal() {
    const REMEMBERS: usize = 0;
    const RESTORED: usize = 1;
    const TOOK: usize = 2;
    let mut world = World::new(3);
    world.connect(REMEMBERS, RESTORED);
    world.write(RESTORED, 2);
    world.pass(3000);
    let backup = world.replicas[RESTORED].clone();
    world.write(RESTORED, 2);
    world.pass(3000);
    world.cut(REMEMBERS, RESTORED);
    world.replicas[RESTORED] = backup;
    world.write(RESTORED, 1);
    // It meets a new region first, which has no reason to doubt it.
    world.connect(RESTORED, TOOK);
    world.pass(3000);
    assert_eq!((world.received(TOOK).get(stream(RESTORED)), &world.parted[..]), (Seq(3), &[][..]));
    for _ in 0..3 {
        world.connect(REMEMBERS, RESTORED);
        world.connect(RESTORED, TOOK);
        world.connect(TOOK, REMEMBERS);
        world.pass(3000);
    }
    assert_eq!(world.parted, [(RESTORED, dot(RESTORED, 2))]);
    assert_eq!(world.received(REMEMBERS), world.received(RESTORED));
    assert_eq!(world.replicas[REMEMBERS].payloads(), world.replicas[RESTORED].payloads());
    assert_eq!(world.replicas[RESTORED].payloads().len(), 5, "nothing is lost");
    let written = world.replicas[TOOK].payloads();
    assert!(written.is_subset(&world.replicas[REMEMBERS].payloads()), "nor what the third was given");
    assert!(!world.ended.is_empty() && world.ended.iter().all(|reason| *reason == ByeReason::Fork));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn l11_a_restored_region_that_wrote_before_it_met_anybody_heals_and_nothing_is_lost(
        before in prop::collection::vec((0..3_usize, 1..4_usize), 0..8),
        after in prop::collection::vec((0..3_usize, 1..4_usize), 0..8),
        alone in prop::collection::vec(1..4_usize, 0..8),
        elsewhere in prop::collection::vec((0..2_usize, 1..4_usize), 0..4),
        later in prop::collection::vec((0..3_usize, 1..4_usize), 0..4),
        delays in prop::collection::vec(1..200_u64, 6),
    ) {
        const RESTORED: usize = 2;
        let mut world = World::new(3);
        let pairs = [(0, 1), (0, 2), (1, 2)];
        for (&(a, b), delays) in pairs.iter().zip(delays.chunks(2)) {
            world.delays.extend([((a, b), delays[0]), ((b, a), delays[1])]);
        }
        let link = |world: &mut World| pairs.iter().for_each(|&(a, b)| world.connect(a, b));
        let settle = |world: &mut World| {
            for _ in 0..4 {
                link(world);
                world.pass(3000);
            }
        };
        link(&mut world);
        before.iter().for_each(|&(at, entries)| world.write(at, entries));
        settle(&mut world);
        let backup = world.replicas[RESTORED].clone();
        after.iter().for_each(|&(at, entries)| world.write(at, entries));
        settle(&mut world);
        prop_assert!(world.is_equal());

        world.cut(0, RESTORED);
        world.cut(1, RESTORED);
        world.replicas[RESTORED] = backup;
        alone.iter().for_each(|&entries| world.write(RESTORED, entries));
        elsewhere.iter().for_each(|&(at, entries)| world.write(at, entries));
        let written: BTreeSet<_> = world.replicas.iter().flat_map(|replica| replica.payloads()).collect();
        settle(&mut world);
        later.iter().for_each(|&(at, entries)| world.write(at, entries));
        settle(&mut world);
        prop_assert!(world.is_equal());
        prop_assert_eq!(&world.ended, &[]);
        for replica in &world.replicas {
            prop_assert_eq!(&replica.log, &world.replicas[0].log);
            prop_assert!(written.is_subset(&replica.payloads()), "something was lost");
        }
        let lost = after.iter().any(|(at, _)| *at == RESTORED);
        prop_assert_eq!(!world.parted.is_empty(), lost, "{:?}", world.parted);
        prop_assert!(world.parted.len() <= 1);
    }
}
