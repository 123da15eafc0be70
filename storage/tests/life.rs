//! Deletions against edits that they had not seen, in both logs: what is told of a document's life depends on what
//! was written, not on the order in which it came or on how much of it came by snapshot.

#[macro_use]
mod support;

use proptest::prelude::*;
use quire_protocol::batch::{EntryKind, LifecycleChange, NO_DOC, NumberLease};
use quire_protocol::fields::schema::DeletePolicy::{DeleteWins, Revive};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::ReplicaId;
use quire_protocol::life::Life;
use quire_protocol::snapshot::{Record, SnapshotReader};
use quire_storage::{Log, MemoryLog, NewEntry, Position};
use std::cell::RefCell;
use support::{NOW_MS, Subject, batches, create, dot, elsewhere, id, lifecycle, load, put, update};

fn life(log: &dyn Log) -> Life {
    load(log, "a").info.life
}

fn delete(seen: Frontier) -> NewEntry {
    lifecycle("a", &LifecycleChange::Delete { frontier: seen })
}

fn receive(log: &dyn Log, from: &dyn Log, replica: u16) {
    let first = log.received().get(support::stream(replica)).0 + 1;
    log.commit(NOW_MS, &[], &batches(from, replica, first)).expect("durable");
}

/// Has a log take all that another shows, as a snapshot.
fn give(from: &dyn Log, to: &dyn Log) {
    from.checkpoint().expect("a checkpoint");
    let (mut reader, mut records) = (SnapshotReader::default(), Vec::new());
    let mut export = from.export().expect("readable");
    while let Some(piece) = export.next(1000).expect("readable") {
        records.extend(reader.take(&piece).expect("a snapshot"));
    }
    let Record::Head(head) = records.remove(0) else { panic!("it begins with its head") };
    let entries = records.into_iter().filter_map(|record| match record {
        Record::Entry(entry) => Some(entry),
        Record::Head(_) => None,
    });
    to.begin_import().expect("durable");
    to.stage(entries.collect()).expect("durable");
    to.import(&head).expect("taken");
}

contract! {
    fn an_edit_that_the_deletion_had_not_seen_is_told_whichever_comes_first(subject: &mut impl Subject) {
        let (eu, us) = (elsewhere(2), elsewhere(3));
        put(&eu, vec![create("a"), update("a", "1")]);
        receive(&us, &eu, 2);
        let seen = us.applied();
        put(&eu, vec![update("a", "2")]);
        put(&eu, vec![update("a", "3")]);
        put(&us, vec![update("a", "last"), delete(seen)]);
        receive(subject.log(), &eu, 2);
        receive(subject.log(), &us, 3);
        receive(&us, &eu, 2);
        for _ in 0..2 {
            for log in [subject.log(), &us] {
                let told: Vec<_> = life(log).unseen().map(|of| (of.after, of.last)).collect();
                // What the deleting region wrote before it had seen.
                assert_eq!(told, [(dot(2, 2), dot(2, 4))]);
                assert!(life(log).is_revived(Revive) && life(log).is_deleted(DeleteWins));
            }
            // A state in the place of its entries tells the same, and so does a row that was read again.
            let position = load(subject.log(), "a").position;
            subject.log().put_snapshot(id("a"), position, "state".into(), None).expect("taken");
            subject.log().checkpoint().expect("a checkpoint");
            subject.crash();
        }
        let seen = subject.log().applied();
        put(subject.log(), vec![delete(seen)]);
        assert!(life(subject.log()).is_deleted(Revive), "a deletion that has seen them settles it");
        put(subject.log(), vec![update("a", "after"), lifecycle("a", &LifecycleChange::Restore)]);
        assert!(!life(subject.log()).is_revived(Revive) && !life(subject.log()).is_deleted(DeleteWins));
    }

    fn a_snapshot_tells_of_edits_that_its_state_has_taken_in(subject: &mut impl Subject) {
        let (eu, us) = (elsewhere(2), elsewhere(3));
        put(&eu, vec![create("a"), update("a", "1")]);
        receive(&us, &eu, 2);
        let seen = us.applied();
        put(&us, vec![delete(seen)]);
        put(&eu, vec![update("a", "2")]);
        put(&eu, vec![update("a", "3")]);
        eu.put_snapshot(id("a"), Position(4), "1+2+3".into(), None).expect("taken");
        give(&eu, subject.log());
        assert_eq!(life(subject.log()), life(&eu));
        receive(subject.log(), &us, 3);
        receive(&eu, &us, 3);
        for _ in 0..2 {
            assert_eq!(life(subject.log()), life(&eu));
            assert!(life(subject.log()).is_revived(Revive));
            subject.crash();
        }
    }

    fn a_snapshot_tells_of_numbers_that_were_taken(subject: &mut impl Subject) {
        let eu = elsewhere(2);
        let payload = NumberLease { replica: ReplicaId(2), below: 40 }.encode();
        put(&eu, vec![create("a"), NewEntry { doc: NO_DOC, kind: EntryKind::Lease, payload }]);
        give(&eu, subject.log());
        for _ in 0..2 {
            assert_eq!(subject.log().numbers_below(ReplicaId(2)), 40);
            subject.crash();
        }
    }

    fn a_documents_home_is_who_was_named_last_else_who_made_it_first(subject: &mut impl Subject) {
        let (eu, us) = (elsewhere(2), elsewhere(3));
        us.append(NOW_MS - 5, &[vec![create("a")]]).expect("durable");
        put(&eu, vec![create("a"), update("a", "1")]);
        put(subject.log(), vec![create("a")]);
        let home = |log: &dyn Log| log.info(id("a")).expect("readable").expect("stored").home;
        assert_eq!(home(subject.log()), Some(ReplicaId(1)));
        receive(subject.log(), &eu, 2);
        give(&us, subject.log());
        for _ in 0..2 {
            assert_eq!(home(subject.log()), Some(ReplicaId(3)));
            subject.crash();
        }
        eu.append(NOW_MS + 5, &[vec![lifecycle("a", &LifecycleChange::Home { replica: ReplicaId(2) })]])
            .expect("durable");
        put(subject.log(), vec![lifecycle("a", &LifecycleChange::Home { replica: ReplicaId(9) })]);
        receive(subject.log(), &eu, 2);
        assert_eq!(home(subject.log()), Some(ReplicaId(2)), "the greatest stamp stands");
    }
}

/// What a region does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(u8),
    /// Takes all that another has: as batches, or as a snapshot.
    Batches(u16),
    Snapshot(u16),
    /// Puts a state in the place of what it has.
    State,
}

fn acts() -> impl Strategy<Value = Vec<(u16, u64, Act)>> {
    let act = prop_oneof![
        6 => (0..5_u8).prop_map(Act::Write),
        3 => (1..4_u16).prop_map(Act::Batches),
        1 => (1..4_u16).prop_map(Act::Snapshot),
        1 => Just(Act::State),
    ];
    proptest::collection::vec((1..4_u16, 0..3_u64, act), 1..30)
}

fn act(regions: &[MemoryLog], clocks: &RefCell<Vec<u64>>, (at, later, act): (u16, u64, Act)) {
    let log = &regions[usize::from(at) - 1];
    match act {
        Act::Write(what) => {
            clocks.borrow_mut()[usize::from(at)] += later;
            let now = NOW_MS + clocks.borrow()[usize::from(at)];
            let entry = match what {
                0 | 1 => update("a", "."),
                2 | 3 => delete(log.applied()),
                _ => lifecycle("a", &LifecycleChange::Restore),
            };
            log.append(now, &[vec![create("a"), entry]]).expect("durable");
        }
        Act::Batches(from) if from != at => exchange(&regions[usize::from(from) - 1], log),
        Act::Snapshot(from) if from != at => give(&regions[usize::from(from) - 1], log),
        Act::State => {
            if let Some(stored) = log.load(id("a")).expect("readable") {
                log.put_snapshot(id("a"), stored.position, "state".into(), None).expect("taken");
                log.checkpoint().expect("a checkpoint");
            }
        }
        Act::Batches(_) | Act::Snapshot(_) => {}
    }
}

/// Gives a log the batches that it lacks, as far as they are kept.
fn exchange(from: &MemoryLog, to: &MemoryLog) {
    for replica in 1..4 {
        let first = to.received().get(support::stream(replica)).0 + 1;
        let Ok(read) =
            from.read_batches(support::stream(replica), quire_protocol::ids::Seq(first), usize::MAX)
        else {
            give(from, to);
            continue;
        };
        let decoded =
            |bytes| std::sync::Arc::new(quire_protocol::batch::EncodedBatch::decode(bytes).expect("a batch"));
        let read: Vec<_> = read.into_iter().map(decoded).collect();
        to.commit(NOW_MS, &[], &read).expect("durable");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn t4_any_order_and_any_split_by_snapshots_make_the_same_life(acts in acts()) {
        let regions = [elsewhere(1), elsewhere(2), elsewhere(3)];
        let clocks = RefCell::new(vec![0; 4]);
        acts.into_iter().for_each(|one| act(&regions, &clocks, one));
        for _ in 0..2 {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
                exchange(&regions[from], &regions[to]);
            }
        }
        let told: Vec<_> = regions.iter().map(|log| log.info(id("a")).expect("readable")).collect();
        let told: Vec<_> = told.into_iter().map(|info| info.map(|info| (info.life, info.home, info.created))).collect();
        prop_assert_eq!(&told[0], &told[1]);
        prop_assert_eq!(&told[1], &told[2]);
    }
}
