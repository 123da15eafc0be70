//! A disk that was set back to an old backup and written to: its log parts with the stream of which others hold
//! another history, and loses nothing of either.

#[macro_use]
mod support;

use quire_protocol::batch::{EncodedBatch, EntryKind, LifecycleChange, MemberChange, Membership, NO_DOC};
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{Dot, Incarnation, ReplicaId, Seq, StreamId};
use quire_storage::sim_disk::{SimDisk, Unsynced};
use quire_storage::{
    AppendError, Log, MemoryLog, NewEntry, OpenError, RedbLog, RedbLogOptions, Retention, verify,
};
use std::sync::Arc;
use support::{
    NOW_MS, OnDisk, STREAM, Subject, batches, create, dot, elsewhere, lifecycle, load, options, put, update,
    updates,
};

const NEXT: StreamId = StreamId { incarnation: Incarnation(2), ..STREAM };

fn everything() -> Retention {
    Retention {
        acknowledged: Some(Frontier::new()),
        acknowledged_age_ms: 0,
        bytes_max: u64::MAX,
        age_ms_max: 1 << 40,
    }
}

/// What was written before the backup: the same batches in whatever log of this replica.
fn before_the_backup(log: &dyn Log) {
    log.truncate(everything());
    put(log, vec![create("a"), update("a", "1")]);
    put(log, vec![update("a", "2")]);
}

/// This replica as its peers remember it: it went on after the backup.
fn remembered() -> MemoryLog {
    let log = elsewhere(1);
    before_the_backup(&log);
    put(&log, vec![update("a", "lost 4")]);
    put(&log, vec![create("c"), update("c", "lost 6")]);
    log
}

/// What was written on the restored disk, before a peer was met.
fn on_the_restored_disk(log: &dyn Log) {
    put(log, vec![update("a", "mine 4"), create("b")]);
    put(log, vec![update("b", "mine 6"), canary()]);
}

fn canary() -> NewEntry {
    NewEntry { doc: NO_DOC, kind: EntryKind::Canary, payload: vec![7].into() }
}

fn of(log: &dyn Log, stream: StreamId) -> Vec<Arc<EncodedBatch>> {
    let read = log.read_batches(stream, Seq(1), usize::MAX).expect("all are kept");
    read.into_iter().map(|bytes| Arc::new(EncodedBatch::decode(bytes).expect("a batch"))).collect()
}

fn receive(log: &dyn Log, batches: &[Arc<EncodedBatch>]) -> Vec<Arrival> {
    log.commit(NOW_MS, &[], batches).expect("durable").arrivals
}

fn restart(subject: &mut impl Subject) {
    subject.crash();
    subject.log().truncate(everything());
}

contract! {
    fn what_was_written_after_the_point_of_parting_gets_new_names(subject: &mut impl Subject) {
        before_the_backup(subject.log());
        let shared = batches(subject.log(), 1, 1);
        on_the_restored_disk(subject.log());
        let renewal = subject.log().part_stream(Seq(3), Incarnation(1)).expect("parted");
        assert_eq!((renewal.stream, renewal.moved), (NEXT, 4));
        for _ in 0..2 {
            assert_eq!(subject.log().stream(), NEXT);
            // The canary told when it was written; written again it would lie.
            let ends: Frontier = [dot(1, 3), Dot { stream: NEXT, seq: Seq(3) }].into_iter().collect();
            assert_eq!((subject.log().received(), subject.log().applied()), (ends.clone(), ends));
            assert_eq!(batches(subject.log(), 1, 1), shared, "what both hold stays as it is");
            let again = of(subject.log(), NEXT);
            assert_eq!(again[0].batch.deps, [dot(1, 3)].into_iter().collect(), "its causes are what both hold");
            assert_eq!(updates(&load(subject.log(), "b"))[0], "mine 6");
            restart(subject);
            subject.log().checkpoint().expect("a checkpoint");
        }
        // A region that has what both hold shows it from the new stream alone.
        let us = elsewhere(3);
        receive(&us, &shared);
        assert_eq!(receive(&us, &of(subject.log(), NEXT)), [Arrival::Next]);
        assert_eq!(updates(&load(&us, "a")), ["1", "2", "mine 4"]);
        assert_eq!(updates(&load(&us, "b")), ["mine 6"]);
        // What comes next follows.
        let receipt = put(subject.log(), vec![update("a", "next")]);
        assert_eq!(receipt.last, Dot { stream: NEXT, seq: Seq(4) });
        assert_eq!(receive(&us, &of(subject.log(), NEXT)), [Arrival::Duplicate, Arrival::Next]);
    }

    fn what_others_remember_is_taken_back_and_both_have_all(subject: &mut impl Subject) {
        let before = remembered();
        before_the_backup(subject.log());
        on_the_restored_disk(subject.log());
        let refused = receive(subject.log(), &batches(&before, 1, 4));
        assert!(!refused.contains(&Arrival::Next), "{refused:?}");
        subject.log().part_stream(Seq(3), Incarnation(1)).expect("parted");
        // One that ended links before it could be sent the rest.
        restart(subject);
        assert_eq!(receive(subject.log(), &batches(&before, 1, 4)), [Arrival::Next, Arrival::Next]);
        receive(&before, &of(subject.log(), NEXT));
        for _ in 0..2 {
            for doc in ["a", "b", "c"] {
                let sorted = |log: &dyn Log| {
                    let mut shown = updates(&load(log, doc));
                    shown.sort();
                    shown.dedup();
                    shown
                };
                assert_eq!(sorted(subject.log()), sorted(&before), "{doc}");
            }
            assert_eq!(subject.log().received(), before.received());
            restart(subject);
        }
        // Positions have no gap: what is read after a snapshot is what came after it.
        let doc = load(subject.log(), "a");
        assert!(doc.tail.windows(2).all(|pair| pair[0].position < pair[1].position));
    }

    fn what_waited_for_what_was_lost_still_waits_for_it(subject: &mut impl Subject) {
        let (before, eu) = (remembered(), elsewhere(2));
        receive(&eu, &batches(&before, 1, 1));
        put(&eu, vec![update("c", "reply")]);
        before_the_backup(subject.log());
        put(subject.log(), vec![update("a", "mine 4")]);
        assert_eq!(receive(subject.log(), &batches(&eu, 2, 1)), [Arrival::Next]);
        assert_eq!(subject.log().stats().waiting, 1);
        subject.log().part_stream(Seq(3), Incarnation(1)).expect("parted");
        restart(subject);
        assert_eq!(subject.log().stats().waiting, 1);
        receive(subject.log(), &batches(&before, 1, 4));
        assert_eq!(updates(&load(subject.log(), "c")), ["lost 6", "reply"]);
        assert_eq!(subject.log().stats().waiting, 0);
    }

    fn changes_keep_their_stamps_so_that_the_later_one_stands(subject: &mut impl Subject) {
        before_the_backup(subject.log());
        let delete = LifecycleChange::Delete { frontier: Frontier::new() };
        let member = MemberChange { replica: ReplicaId(9), membership: Membership::Removed };
        let removal = NewEntry { doc: NO_DOC, kind: EntryKind::Member, payload: member.encode() };
        put(subject.log(), vec![lifecycle("a", &delete), removal]);
        let us = elsewhere(3);
        receive(&us, &of(subject.log(), STREAM));
        let later = us.append(NOW_MS + 10, &[vec![lifecycle("a", &LifecycleChange::Restore)]]);
        later.expect("durable");
        receive(subject.log(), &batches(&us, 3, 1));
        let expected = load(subject.log(), "a").info.life.turned();
        subject.log().part_stream(Seq(3), Incarnation(1)).expect("parted");
        for _ in 0..2 {
            let doc = load(subject.log(), "a");
            assert_eq!(doc.info.life.turned(), expected);
            assert!(!doc.info.life.is_deleted(DeletePolicy::DeleteWins));
            assert!(subject.log().members().is_removed(ReplicaId(9)));
            restart(subject);
        }
    }

    fn a_deletion_has_seen_what_it_saw_under_its_new_name_and_nothing_that_others_wrote(subject: &mut impl Subject) {
        let before = remembered();
        before_the_backup(subject.log());
        put(subject.log(), vec![update("a", "mine 4"), update("a", "mine 5")]);
        let delete = LifecycleChange::Delete { frontier: subject.log().applied() };
        put(subject.log(), vec![lifecycle("a", &delete)]);
        assert!(load(subject.log(), "a").info.life.is_deleted(DeletePolicy::Revive));
        subject.log().part_stream(Seq(3), Incarnation(1)).expect("parted");
        restart(subject);
        assert!(load(subject.log(), "a").info.life.is_deleted(DeletePolicy::Revive), "its own edits it had seen");
        receive(subject.log(), &batches(&before, 1, 4));
        receive(&before, &of(subject.log(), NEXT));
        for log in [subject.log(), &before] {
            let life = load(log, "a").info.life;
            let unseen: Vec<_> = life.unseen().map(|of| (of.after, of.last)).collect();
            assert_eq!(unseen, [(dot(1, 3), dot(1, 4))], "what was lost was written before it, and not seen");
        }
        assert_eq!(load(subject.log(), "a").info.life, load(&before, "a").info.life);
    }

    fn what_is_not_known_to_be_shared_is_written_again_too(subject: &mut impl Subject) {
        before_the_backup(subject.log());
        on_the_restored_disk(subject.log());
        // In the middle of a batch: it ends before that batch.
        let renewal = subject.log().part_stream(Seq(1), Incarnation(1)).expect("parted");
        assert_eq!((renewal.moved, subject.log().received().get(STREAM)), (7, Seq(0)));
        restart(subject);
        let before = remembered();
        assert!(receive(subject.log(), &batches(&before, 1, 1)).iter().all(|it| *it == Arrival::Next));
        let texts = updates(&load(subject.log(), "a"));
        assert_eq!(texts, ["1", "2", "mine 4", "1", "2", "mine 4", "1", "2", "lost 4"]);
    }

    fn where_nothing_was_written_the_stream_is_renewed_and_stays_whole(subject: &mut impl Subject) {
        before_the_backup(subject.log());
        let renewal = subject.log().part_stream(Seq(3), Incarnation(6)).expect("renewed");
        assert_eq!((renewal.stream.incarnation, renewal.moved), (Incarnation(7), 0));
        assert_eq!(subject.log().received().get(STREAM), Seq(3));
        assert_eq!(receive(subject.log(), &batches(&remembered(), 1, 4)), [Arrival::Next, Arrival::Next]);
        let refused = subject.log().part_stream(Seq(0), Incarnation(u16::MAX));
        assert!(matches!(refused, Err(AppendError::Invalid(_))));
        assert_eq!(updates(&load(subject.log(), "a")), ["1", "2", "lost 4"]);
    }

    fn more_than_fits_a_batch_is_written_again_in_order(subject: &mut impl Subject) {
        before_the_backup(subject.log());
        let long = "x".repeat(30_000);
        let texts: Vec<String> = (0..90).map(|number| format!("{number} {long}")).collect();
        for text in &texts {
            put(subject.log(), vec![update("a", text)]);
        }
        let renewal = subject.log().part_stream(Seq(3), Incarnation(1)).expect("parted");
        assert_eq!(renewal.moved, 90);
        restart(subject);
        let us = elsewhere(3);
        receive(&us, &batches(subject.log(), 1, 1));
        receive(&us, &of(subject.log(), NEXT));
        assert_eq!(updates(&load(&us, "a"))[2..], texts);
        assert_eq!(of(subject.log(), NEXT), of(&us, NEXT));
    }
}

#[test]
fn what_no_peer_has_is_written_again_before_it_is_let_go_of() {
    // What peers acknowledged under these names was another history.
    let acknowledged = Some([dot(1, 99)].into_iter().collect());
    for retention in [Retention { bytes_max: 1, ..everything() }, Retention { acknowledged, ..everything() }]
    {
        let disk = SimDisk::new();
        let log = OnDisk::open(&disk);
        before_the_backup(&log);
        log.checkpoint().expect("a checkpoint");
        on_the_restored_disk(&log);
        log.truncate(retention);
        assert_eq!(log.part_stream(Seq(3), Incarnation(1)).expect("parted").moved, 4);
        assert_eq!(of(&log, NEXT).len(), 1);
    }
}

#[test]
fn a_stream_is_parted_with_wholly_or_not_at_all_wherever_power_goes() {
    let before = remembered();
    let kept = RedbLogOptions { retention: everything(), ..options() };
    let open =
        |disk: &SimDisk| RedbLog::open_backends(disk.journal(), disk.store(), &kept).expect("the log opens");
    let restored = |disk: &SimDisk| {
        let log = open(disk);
        before_the_backup(&log);
        log.checkpoint().expect("a checkpoint");
        on_the_restored_disk(&log);
        log
    };
    let disk = SimDisk::new();
    let log = restored(&disk);
    let start = disk.operations();
    log.part_stream(Seq(3), Incarnation(1)).expect("parted");
    let end = disk.operations();
    assert!(end > start + 4, "it is several operations");
    for cut in start..end {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn { seed: cut }] {
            let disk = SimDisk::new();
            let log = restored(&disk);
            disk.cut_at(cut);
            let parted = log.part_stream(Seq(3), Incarnation(1)).is_ok();
            disk.crash(unsynced);
            drop(log);
            let log = open(&disk);
            let (stream, end) = (log.stream(), log.received().get(STREAM));
            assert!(
                (stream, end) == (NEXT, Seq(3)) || (stream, end) == (STREAM, Seq(7)) && !parted,
                "cut at {cut}: {stream} after {end:?}"
            );
            assert_eq!(updates(&load(&log, "a"))[..3], ["1", "2", "mine 4"], "cut at {cut}");
            // The next link finds what is to be done, and it is done.
            if stream == STREAM {
                log.part_stream(Seq(3), Incarnation(1)).expect("parted after the restart");
            }
            put(&log, vec![update("b", "later")]);
            assert_eq!(receive(&log, &batches(&before, 1, 4)), [Arrival::Next, Arrival::Next]);
            drop(log);
            let log = open(&disk);
            let us = elsewhere(3);
            receive(&us, &batches(&log, 1, 1));
            receive(&us, &of(&log, NEXT));
            assert_eq!(updates(&load(&us, "a")), ["1", "2", "lost 4", "mine 4"]);
            assert_eq!(updates(&load(&us, "b")), ["mine 6", "later"]);
        }
    }
}

#[test]
fn a_directory_that_has_parted_with_a_stream_is_whole() -> Result<(), OpenError> {
    let directory = tempfile::tempdir().expect("a directory");
    let options = RedbLogOptions { retention: everything(), ..options() };
    let log = RedbLog::open(directory.path(), &options)?;
    before_the_backup(&log);
    on_the_restored_disk(&log);
    log.part_stream(Seq(3), Incarnation(1)).expect("parted");
    put(&log, vec![update("a", "next")]);
    receive(&log, &batches(&remembered(), 1, 4));
    drop(log);
    let report = verify(directory.path())?;
    assert!(report.is_whole(), "{report}");
    assert_eq!(RedbLog::open(directory.path(), &options)?.stream(), NEXT);
    Ok(())
}
