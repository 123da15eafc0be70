//! Batches of other replicas: received at once, applied when their causes have been, never lost.
//!
//! The log in memory and the one on disk are given the same, crash, and must not differ.

#[macro_use]
mod support;

use proptest::prelude::*;
use quire_protocol::batch::{BatchBuilder, EncodedBatch, EntryKind};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::hlc::SKEW_MS_MAX;
use quire_protocol::ids::{DocId, Dot, Incarnation, Seq, StreamId};
use quire_storage::{AppendError, AppendFault, Failure, FailureKind, Log, MemoryLog, Position, Retention};
use std::sync::Arc;
use support::{
    NOW_MS, OnDisk, STREAM, Subject, batches, create, dot, elsewhere, id, load, put, stream, update, updates,
};

/// What a log makes of batches: their arrivals, and the updates it applies.
fn receive(log: &dyn Log, batches: &[Arc<EncodedBatch>]) -> (Vec<Arrival>, Vec<String>) {
    let committed = log.commit(NOW_MS, &[], batches).expect("durable");
    let applied = committed.applied.iter().flat_map(|batch| &batch.entries);
    let updates = applied.filter(|(_, entry)| entry.kind == EntryKind::Update);
    let text = updates.map(|(_, entry)| String::from_utf8_lossy(&entry.payload).into_owned());
    (committed.arrivals, text.collect())
}

/// eu writes "message" to a; us, having seen it, writes "reply" to b. Their batches.
fn message_and_reply() -> (Vec<Arc<EncodedBatch>>, Vec<Arc<EncodedBatch>>) {
    let (eu, us) = (elsewhere(2), elsewhere(3));
    put(&eu, vec![create("a"), update("a", "message")]);
    let messages = batches(&eu, 2, 1);
    receive(&us, &messages);
    put(&us, vec![create("b"), update("b", "reply")]);
    let replies = batches(&us, 3, 1);
    assert_eq!(replies[0].batch.deps, [dot(2, 2)].into_iter().collect());
    (messages, replies)
}

contract! {
    fn a_batch_is_received_once_and_in_its_streams_order(subject: &mut impl Subject) {
        let eu = elsewhere(2);
        for text in ["1", "2", "3"] {
            put(&eu, vec![update("a", text)]);
        }
        put(subject.log(), vec![create("a"), update("a", "0")]);
        let all = batches(&eu, 2, 1);
        let (arrivals, applied) = receive(subject.log(), &[all[1].clone(), all[0].clone(), all[0].clone()]);
        assert_eq!(arrivals, [Arrival::Gap { from: Seq(1) }, Arrival::Next, Arrival::Duplicate]);
        assert_eq!(applied, ["1"]);
        subject.crash();
        let (arrivals, applied) = receive(subject.log(), &all);
        assert_eq!(arrivals, [Arrival::Duplicate, Arrival::Next, Arrival::Next]);
        assert_eq!(applied, ["2", "3"]);
        let doc = load(subject.log(), "a");
        assert_eq!(updates(&doc), ["0", "1", "2", "3"]);
        assert_eq!((doc.position, doc.tail[2].dot), (Position(5), dot(2, 1)));
        let both: Frontier = [dot(1, 2), dot(2, 3)].into_iter().collect();
        assert_eq!((subject.log().received(), subject.log().applied()), (both.clone(), both));
        assert_eq!(batches(subject.log(), 2, 1), all, "bytes are kept as they came");
    }

    fn own_entries_of_a_commit_come_before_those_of_others(subject: &mut impl Subject) {
        let eu = elsewhere(2);
        put(&eu, vec![create("a"), update("a", "theirs")]);
        let groups = [vec![create("a")], vec![update("a", "ours")]];
        let committed = subject.log().commit(NOW_MS, &groups, &batches(&eu, 2, 1)).expect("durable");
        let positions: Vec<_> = committed.receipts.iter().map(|receipt| receipt.position.0).collect();
        let theirs: Vec<_> =
            committed.applied[0].entries.iter().map(|(_, entry)| entry.position.0).collect();
        assert_eq!((positions, theirs), (vec![1, 2], vec![3, 4]));
        for _ in 0..2 {
            assert_eq!(updates(&load(subject.log(), "a")), ["ours", "theirs"]);
            subject.crash();
        }
        // What is written next depends on what was shown here.
        put(subject.log(), vec![update("a", "answer")]);
        let own = batches(subject.log(), 1, 3);
        assert_eq!(own[0].batch.deps, [dot(2, 2)].into_iter().collect());
    }

    fn an_effect_waits_in_the_log_for_its_cause(subject: &mut impl Subject) {
        let (messages, replies) = message_and_reply();
        assert_eq!(receive(subject.log(), &replies), (vec![Arrival::Next], vec![]));
        assert_eq!(subject.log().load(id("b")), Ok(None), "what waits is not shown");
        assert_eq!((subject.log().received().get(stream(3)).0, subject.log().applied().len()), (2, 0));
        assert_eq!(subject.log().stats().waiting, 2);
        // This region's own go on, and depend on nothing that they do not show.
        put(subject.log(), vec![create("c")]);
        assert!(batches(subject.log(), 1, 1)[0].batch.deps.is_empty());
        subject.crash();
        // There is no peer to keep batches for, and two checkpoints leave what waits.
        for _ in 0..2 {
            subject.log().checkpoint().expect("a checkpoint");
        }
        assert_eq!(receive(subject.log(), &replies), (vec![Arrival::Duplicate], vec![]));
        subject.crash();
        assert_eq!(batches(subject.log(), 3, 1), replies);
        let (arrivals, applied) = receive(subject.log(), &messages);
        assert_eq!((arrivals, applied), (vec![Arrival::Next], vec!["message".into(), "reply".into()]));
        for _ in 0..2 {
            assert_eq!(load(subject.log(), "b").position, Position(5));
            assert_eq!(subject.log().stats().waiting, 0);
            subject.crash();
        }
        for _ in 0..2 {
            subject.log().checkpoint().expect("a checkpoint");
        }
        assert!(subject.log().read_batches(stream(3), Seq(1), 1).is_err(), "nothing waits, nothing is kept");
        assert_eq!(updates(&load(subject.log(), "b")), ["reply"]);
    }

    fn what_is_not_the_stream_known_here_is_told_and_changes_nothing(subject: &mut impl Subject) {
        let [first, second, stranger] = ["1", "2", "other"].map(|text| update("a", text));
        let (eu, other) = (elsewhere(2), elsewhere(2));
        put(&eu, vec![first]);
        put(&eu, vec![second]);
        // The same stream, restored from a backup after its first entry, or before it.
        receive(&other, &[]);
        put(&other, vec![stranger.clone()]);
        put(&other, vec![stranger]);
        let (known, forked) = (batches(&eu, 2, 1), batches(&other, 2, 1));
        put(subject.log(), vec![create("a")]);
        assert_eq!(receive(subject.log(), &known[..1]).0, [Arrival::Next]);
        assert_eq!(receive(subject.log(), &forked).0, [Arrival::Astray, Arrival::Astray]);
        let ours = batches(subject.log(), 1, 1);
        let mut beyond = BatchBuilder::new(
            STREAM, Seq(2), ours[0].batch.hlc_base, Frontier::new(), ours[0].hash(),
        );
        beyond.push(ours[0].batch.entries[0].clone()).expect("room");
        let beyond = Arc::new(beyond.finish());
        let own = [ours[0].clone(), beyond];
        assert_eq!(receive(subject.log(), &own).0, [Arrival::Duplicate, Arrival::Astray]);
        subject.crash();
        assert_eq!(receive(subject.log(), &known).0, [Arrival::Duplicate, Arrival::Next]);
        assert_eq!(updates(&load(subject.log(), "a")), ["1", "2"]);
    }

    fn a_renewed_stream_begins_anew_and_takes_back_what_others_hold_of_the_old(subject: &mut impl Subject) {
        // What this replica wrote before its disk went back in time, as a peer has it.
        let before = MemoryLog::new(STREAM);
        for text in ["1", "2"] {
            put(&before, vec![update("a", text)]);
        }
        let held = batches(&before, 1, 1);
        put(subject.log(), vec![create("b")]);
        let restored = subject.log().renew_stream(Incarnation(4)).expect("renewed");
        assert_eq!(restored, StreamId { incarnation: Incarnation(5), ..STREAM });
        let receipt = put(subject.log(), vec![create("a"), update("a", "new")]);
        assert_eq!(receipt.last, Dot { stream: restored, seq: Seq(2) });
        subject.crash();
        assert_eq!(subject.log().stream(), restored);
        // The old stream's beginning was another here: that is a fork. A fresh disk has none.
        assert_eq!(receive(subject.log(), &held[..1]).0, [Arrival::Astray]);
        let receipt = put(subject.log(), vec![update("a", "newer")]);
        assert_eq!(receipt.last.seq, Seq(3));
        assert_eq!(updates(&load(subject.log(), "a")), ["new", "newer"]);
        let next = subject.log().renew_stream(Incarnation(0)).expect("renewed");
        assert_eq!(next.incarnation, Incarnation(6));
        let refused = subject.log().renew_stream(Incarnation(u16::MAX));
        assert!(matches!(refused, Err(AppendError::Invalid(_))));
    }

    fn a_lost_disk_gets_its_own_stream_back(subject: &mut impl Subject) {
        let before = MemoryLog::new(STREAM);
        put(&before, vec![create("a"), update("a", "1")]);
        put(&before, vec![update("a", "2")]);
        subject.log().renew_stream(Incarnation(1)).expect("renewed");
        put(subject.log(), vec![create("a")]);
        let (arrivals, applied) = receive(subject.log(), &batches(&before, 1, 1));
        assert_eq!((arrivals, applied), (vec![Arrival::Next; 2], vec!["1".to_owned(), "2".to_owned()]));
        subject.crash();
        assert_eq!(updates(&load(subject.log(), "a")), ["1", "2"]);
    }

    fn stamps_follow_those_of_others_as_far_as_a_clock_may_be_wrong(subject: &mut impl Subject) {
        let ahead = elsewhere(2);
        ahead.append(NOW_MS + 10_000, &[vec![update("a", "1")]]).expect("durable");
        receive(subject.log(), &batches(&ahead, 2, 1));
        assert_eq!(put(subject.log(), vec![create("a")]).hlc.ms(), NOW_MS + 10_000);
        ahead.append(NOW_MS * 2, &[vec![update("a", "2")]]).expect("durable");
        receive(subject.log(), &batches(&ahead, 2, 2));
        subject.crash();
        assert_eq!(put(subject.log(), vec![update("a", "3")]).hlc.ms(), NOW_MS + SKEW_MS_MAX);
    }
}

#[test]
fn a_refused_commit_takes_no_batch() {
    let (log, eu) = (MemoryLog::new(STREAM), elsewhere(2));
    put(&eu, vec![create("a")]);
    let failure = Failure { kind: FailureKind::Io, text: "broken".into() };
    log.fail_next_append(AppendFault::Lost(failure.clone()));
    let refused = log.commit(NOW_MS, &[], &batches(&eu, 2, 1));
    assert_eq!(refused, Err(AppendError::Failed(failure)));
    log.crash();
    assert!(log.received().is_empty());
}

#[derive(Clone, Debug)]
enum Act {
    /// A region writes to a document.
    Write(usize, u8),
    /// A region is given what it lacks of a stream: so many batches.
    Hear(usize, usize, usize),
    Crash,
    Checkpoint,
    Peers(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..4_usize, 0..3_u8).prop_map(|(who, doc)| Act::Write(who, doc)),
        9 => (0..4_usize, 0..4_usize, 1..4_usize).prop_map(|(who, of, count)| Act::Hear(who, of, count)),
        1 => Just(Act::Crash),
        1 => Just(Act::Checkpoint),
        1 => any::<bool>().prop_map(Act::Peers),
    ]
}

const DOCS: [&str; 3] = ["a", "b", "c"];

/// Per document, its entries in the order they are shown.
fn shown(log: &dyn Log) -> Vec<Vec<(Position, Dot)>> {
    let of = |doc: &str| log.load(id(doc)).expect("readable").map_or_else(Vec::new, |doc| doc.tail);
    DOCS.map(|doc| of(doc).iter().map(|entry| (entry.position, entry.dot)).collect()).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_logs_show_the_same_through_crashes_and_causes_come_first(
        acts in prop::collection::vec(act(), 1..80),
    ) {
        // Region 1 has both logs; regions 2 to 4 make causal histories around it.
        let regions: Vec<MemoryLog> = (1..=4).map(elsewhere).collect();
        let mut disk = OnDisk::fresh();
        let retention = regions[0].checkpoint().map(|_| Retention::default()).expect("a checkpoint");
        let (mut written, mut keep) = (0_u64, retention);
        let mut order: Vec<(DocId, Dot)> = vec![];
        let mut deps: std::collections::BTreeMap<Dot, Frontier> = std::collections::BTreeMap::new();
        for act in acts {
            match act {
                Act::Write(who, doc) => {
                    written += 1;
                    let doc = DOCS[usize::from(doc)];
                    let group = vec![create(doc), update(doc, &written.to_string())];
                    let receipt = put(&regions[who], group.clone());
                    if who == 0 {
                        prop_assert_eq!(put(disk.log(), group), receipt);
                    }
                    let replica = regions[who].stream().replica.0;
                    let made = batches(&regions[who], replica, receipt.last.seq.0);
                    for seq in [receipt.last.seq.0 - 1, receipt.last.seq.0] {
                        deps.insert(dot(replica, seq), made[0].batch.deps.clone());
                    }
                }
                Act::Hear(who, of, count) if who != of => {
                    let replica = u16::try_from(of).expect("few") + 1;
                    let from = regions[who].received().get(stream(replica)).0 + 1;
                    let mut fresh = batches(&regions[of], replica, from);
                    fresh.truncate(count);
                    let committed = regions[who].commit(NOW_MS, &[], &fresh).expect("durable");
                    if who == 0 {
                        let on_disk = disk.log().commit(NOW_MS, &[], &fresh).expect("durable");
                        prop_assert_eq!(&on_disk, &committed);
                        let applied = committed.applied.iter().flat_map(|batch| &batch.entries);
                        order.extend(applied.map(|(doc, entry)| (*doc, entry.dot)));
                    }
                }
                Act::Hear(..) => {}
                Act::Crash => disk.crash(),
                Act::Checkpoint => drop(disk.log().checkpoint().expect("a checkpoint")),
                Act::Peers(some) => {
                    keep.acknowledged = some.then(Frontier::new);
                    disk.log().truncate(keep.clone());
                }
            }
            prop_assert_eq!(disk.log().received(), regions[0].received());
            prop_assert_eq!(disk.log().applied(), regions[0].applied());
            prop_assert_eq!(disk.log().stats().waiting, regions[0].stats().waiting);
        }
        prop_assert_eq!(shown(disk.log()), shown(&regions[0]));
        let mut seen = Frontier::new();
        let own: Vec<Dot> = (1..=regions[0].received().get(stream(1)).0).map(|seq| dot(1, seq)).collect();
        for dot in own {
            seen.raise(dot);
        }
        for (_, dot) in order {
            prop_assert!(seen.covers_all(&deps[&dot]), "{:?} before its cause", dot);
            prop_assert_eq!(seen.get(dot.stream).0 + 1, dot.seq.0);
            seen.raise(dot);
        }
        prop_assert_eq!(seen, regions[0].applied());
    }
}
