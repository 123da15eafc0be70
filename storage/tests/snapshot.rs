//! Snapshots between replicas: what one gives, another merges with what it has, whole or not at all.

#[macro_use]
mod support;

use bytes::Bytes;
use quire_protocol::batch::{EntryKind, LifecycleChange, MemberChange, Membership, NO_DOC};
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{ReplicaId, Seq, StreamId};
use quire_protocol::life::Life;
use quire_protocol::snapshot::{Record, SnapshotHead, SnapshotReader};
use quire_storage::sim_disk::{SimDisk, Unsynced};
use quire_storage::{
    AppendError, DerivedKey, Imported, Log, MemoryLog, NewEntry, OpenError, Position, ReadBatchesError,
    RedbLog, Retention, StoredDoc, verify,
};
use std::ops::Bound::Unbounded;
use support::{
    NOW_MS, OnDisk, STREAM, Subject, batches, create, dot, elsewhere, graph, id, lifecycle, load, options,
    put, stream, update, updates,
};

/// Reads a snapshot in small pieces.
fn export(log: &dyn Log) -> (SnapshotHead, Vec<Record>) {
    let mut export = log.export().expect("readable");
    let mut reader = SnapshotReader::default();
    let mut records = Vec::new();
    while let Some(bytes) = export.next(97).expect("readable") {
        assert!(bytes.len() <= 97);
        records.extend(reader.take(&bytes).expect("a snapshot"));
    }
    reader.finish().expect("whole");
    let Record::Head(head) = records.remove(0) else { panic!("it begins with its head") };
    (head, records)
}

/// Stages entries, a few at a time.
fn stage(log: &dyn Log, records: &[Record]) -> Result<(), AppendError> {
    log.begin_import()?;
    for few in records.chunks(2) {
        let entries = few.iter().map(|record| match record {
            Record::Entry(entry) => entry.clone(),
            Record::Head(_) => panic!("one head"),
        });
        log.stage(entries.collect())?;
    }
    Ok(())
}

fn give(from: &dyn Log, to: &dyn Log) -> Result<Imported, AppendError> {
    let (head, records) = export(from);
    stage(to, &records)?;
    to.import(&head)
}

/// A region with documents of every kind: a has a state and a tail, b is deleted, c restored.
fn eu() -> MemoryLog {
    let eu = elsewhere(2);
    let position = put(&eu, vec![create("a"), update("a", "1"), update("a", "2")]).position;
    eu.put_snapshot(id("a"), position, Bytes::from_static(b"1+2"), Some(graph("1+2"))).expect("taken");
    eu.checkpoint().expect("a checkpoint");
    put(&eu, vec![update("a", "3")]);
    put(&eu, vec![create("b"), update("b", "gone"), create("c"), update("c", "back")]);
    let delete = LifecycleChange::Delete { frontier: eu.applied() };
    put(&eu, vec![lifecycle("b", &delete), lifecycle("c", &delete)]);
    put(&eu, vec![lifecycle("c", &LifecycleChange::Restore)]);
    eu
}

/// Everything that a log shows of some documents.
fn shown(log: &dyn Log) -> Vec<Option<(Vec<String>, Life)>> {
    let of = |doc: &str| {
        let stored = log.load(id(doc)).expect("readable")?;
        let graphs = stored.fields.iter().cloned().chain(graphs(&stored).into_iter().map(|(_, graph)| graph));
        let graphs = graphs.map(|graph| String::from_utf8_lossy(&graph).into_owned());
        let state = stored.snapshot.iter().map(|state| String::from_utf8_lossy(state).into_owned());
        let content = graphs.chain(state).chain(updates(&stored)).collect();
        Some((content, stored.info.life))
    };
    ["a", "b", "c", "d"].into_iter().map(of).collect()
}

/// The graphs of fields that a document got with snapshots of others, each with its position.
fn graphs(doc: &StoredDoc) -> Vec<(Position, Bytes)> {
    let graphs = doc.tail.iter().filter(|entry| entry.kind == EntryKind::Graph);
    graphs.map(|entry| (entry.position, entry.payload.clone())).collect()
}

contract! {
    fn who_merges_a_snapshot_finds_its_documents_due_and_derives_rows_of_its_own(subject: &mut impl Subject) {
        let eu = eu();
        let at = eu.stats().position;
        let row = (DerivedKey { space: 1, key: Bytes::from_static(b"a") }, Some(Bytes::from_static(b"of eu")));
        eu.put_derived(id("a"), at, vec![row]).expect("taken");
        eu.checkpoint().expect("a checkpoint");
        put(subject.log(), vec![create("a"), create("d")]);
        let before = subject.log().stats().position;
        for doc in ["a", "d"] {
            subject.log().put_derived(id(doc), before, vec![]).expect("taken");
        }
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(subject.log().due(None, 9), Ok(vec![]));
        let imported = give(&eu, subject.log()).expect("taken");
        for _ in 0..2 {
            assert_eq!(subject.log().due(None, 9), Ok(imported.docs.clone()), "those of the snapshot");
            assert_eq!(subject.log().derived(1, (Unbounded, Unbounded), 9), Ok(vec![]));
            subject.crash();
        }
        for doc in &imported.docs {
            subject.log().put_derived(*doc, imported.positions.1, vec![]).expect("taken");
        }
        assert_eq!(subject.log().due(None, 9), Ok(vec![]));
    }

    fn the_graph_of_the_fields_is_told_before_their_state(subject: &mut impl Subject) {
        let eu = eu();
        put(subject.log(), vec![create("a"), update("a", "ours")]);
        give(&eu, subject.log()).expect("taken");
        for _ in 0..2 {
            let doc = load(subject.log(), "a");
            let state = doc.tail.iter().find(|entry| entry.payload == b"1+2"[..]).expect("told");
            assert_eq!(graphs(&doc), [(Position(state.position.0 - 1), graph("1+2"))]);
            assert_eq!((doc.fields, graphs(&load(subject.log(), "b"))), (None, vec![]));
            subject.crash();
        }
        // From there on, until its document takes it into a graph of its own, it is passed on as it came.
        subject.log().checkpoint().expect("a checkpoint");
        let taker = elsewhere(4);
        give(subject.log(), &taker).expect("taken");
        assert_eq!(graphs(&load(&taker, "a")).len(), 1);
        let position = load(subject.log(), "a").position;
        subject.log().put_snapshot(id("a"), position, Bytes::from_static(b"all"), Some(graph("all"))).expect("taken");
        subject.log().checkpoint().expect("a checkpoint");
        let doc = load(subject.log(), "a");
        assert_eq!((graphs(&doc), doc.fields), (vec![], Some(graph("all"))));
    }

    fn a_snapshot_is_merged_with_what_is_there(subject: &mut impl Subject) {
        let eu = eu();
        put(subject.log(), vec![create("a"), update("a", "ours")]);
        put(subject.log(), vec![create("d"), update("d", "only here")]);
        let imported = give(&eu, subject.log()).expect("taken");
        assert_eq!(imported.docs.len(), 3);
        assert_eq!((imported.positions.0, imported.applied.len()), (Position(4), 0));
        for _ in 0..2 {
            assert_eq!(updates(&load(subject.log(), "a")), ["ours", "1+2", "3"]);
            assert_eq!(updates(&load(subject.log(), "d")), ["only here"]);
            assert!(load(subject.log(), "b").info.life.is_deleted(DeletePolicy::Revive));
            assert!(!load(subject.log(), "c").info.life.is_deleted(DeletePolicy::Revive));
            assert_eq!(load(subject.log(), "c").info.life, load(&eu, "c").info.life);
            let names: Vec<_> = subject.log().list("", None, 9).expect("readable");
            assert_eq!(names.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
            let mut both: Frontier = eu.applied();
            both.raise(dot(1, 4));
            assert_eq!((subject.log().received(), subject.log().applied()), (both.clone(), both));
            subject.crash();
        }
        // The stream goes on from where the snapshot ended, by its hash chain.
        let known = eu.received().get(stream(2)).0;
        put(&eu, vec![update("a", "4")]);
        let next = batches(&eu, 2, known + 1);
        let committed = subject.log().commit(NOW_MS, &[], &next).expect("durable");
        assert_eq!(committed.arrivals, [Arrival::Next]);
        assert_eq!(updates(&load(subject.log(), "a")), ["ours", "1+2", "3", "4"]);
        assert_eq!(subject.log().commit(NOW_MS, &[], &batches(&eu, 2, 1)[..1]).expect("durable").arrivals, [
            Arrival::Duplicate
        ]);
        // What is written next depends on it.
        put(subject.log(), vec![update("d", "answer")]);
        let own = batches(subject.log(), 1, 5);
        assert_eq!(own[0].batch.deps, [dot(2, known + 1)].into_iter().collect());
    }

    fn a_snapshot_that_comes_twice_changes_nothing_that_is_shown(subject: &mut impl Subject) {
        let eu = eu();
        give(&eu, subject.log()).expect("taken");
        let received = subject.log().received();
        let again = subject.log().import(&export(&eu).0).expect("taken");
        assert!(again.docs.is_empty(), "what was staged has been used up");
        give(&eu, subject.log()).expect("taken");
        subject.crash();
        assert_eq!(subject.log().received(), received);
        // Updates are merged by whoever reads them: what matters is that all are there.
        assert_eq!(updates(&load(subject.log(), "a")), ["1+2", "3", "1+2", "3"]);
        assert_eq!(load(subject.log(), "b").info.life, load(&eu, "b").info.life);
    }

    fn what_waited_for_the_snapshot_is_applied_with_it(subject: &mut impl Subject) {
        let (eu, us) = (eu(), elsewhere(3));
        us.commit(NOW_MS, &[], &batches(&eu, 2, 4)).expect("durable");
        give(&eu, &us).expect("taken");
        put(&us, vec![create("d"), update("d", "reply")]);
        let replies = batches(&us, 3, 1);
        subject.log().commit(NOW_MS, &[], &replies).expect("durable");
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(subject.log().load(id("d")), Ok(None), "it waits for its cause");
        let imported = give(&eu, subject.log()).expect("taken");
        let applied = imported.applied.iter().flat_map(|batch| &batch.entries);
        let applied = applied.filter(|(_, entry)| entry.kind == EntryKind::Update);
        assert_eq!(applied.count(), 1);
        for _ in 0..2 {
            assert_eq!(updates(&load(subject.log(), "d")), ["reply"]);
            assert_eq!((subject.log().stats().waiting, subject.log().received()), (0, subject.log().applied()));
            subject.crash();
        }
    }

    fn what_waits_at_the_giver_is_no_part_of_the_snapshot(subject: &mut impl Subject) {
        let (eu, us) = (eu(), elsewhere(3));
        put(&us, vec![create("d"), update("d", "first")]);
        let first = batches(&us, 3, 1);
        give(&eu, &us).expect("taken");
        put(&us, vec![update("d", "reply")]);
        let all = batches(&us, 3, 1);
        subject.log().commit(NOW_MS, &[], &all).expect("durable");
        subject.log().checkpoint().expect("a checkpoint");
        assert_eq!(updates(&load(subject.log(), "d")), ["first"]);
        let taker = elsewhere(4);
        give(subject.log(), &taker).expect("taken");
        assert_eq!(taker.received(), [first[0].batch.last_dot()].into_iter().collect());
        // The chain is known there: what comes next follows from it.
        let arrivals = taker.commit(NOW_MS, &[], &all[1..]).expect("durable").arrivals;
        assert_eq!(arrivals, [Arrival::Next]);
    }

    fn what_is_staged_is_seen_by_nobody_and_forgotten_by_a_restart(subject: &mut impl Subject) {
        let eu = eu();
        put(subject.log(), vec![create("d"), update("d", "ours")]);
        let (head, records) = export(&eu);
        stage(subject.log(), &records).expect("staged");
        assert_eq!(subject.log().load(id("a")), Ok(None));
        assert_eq!(subject.log().received(), [dot(1, 2)].into_iter().collect());
        subject.crash();
        subject.log().import(&head).expect("taken");
        assert_eq!(subject.log().load(id("a")), Ok(None), "nothing is left of it");
        // A second begin forgets as well.
        let (_, records) = export(&eu);
        stage(subject.log(), &records).expect("staged");
        give(&eu, subject.log()).expect("taken");
        assert_eq!(updates(&load(subject.log(), "a")), ["1+2", "3"]);
    }

    fn a_snapshot_that_contradicts_what_is_known_is_refused(subject: &mut impl Subject) {
        let (eu, other) = (eu(), elsewhere(2));
        let entries = eu.received().get(stream(2)).0;
        for _ in 0..entries {
            put(&other, vec![create("d")]);
        }
        subject.log().commit(NOW_MS, &[], &batches(&other, 2, 1)).expect("durable");
        let before = shown(subject.log());
        assert!(matches!(give(&eu, subject.log()), Err(AppendError::Refused(_))), "two histories");
        // One that holds what this replica has not written yet.
        let ahead = MemoryLog::new(STREAM);
        put(&ahead, vec![create("a")]);
        assert!(matches!(give(&ahead, subject.log()), Err(AppendError::Refused(_))));
        subject.crash();
        assert_eq!(shown(subject.log()), before);
        assert_eq!(subject.log().received(), [dot(2, entries)].into_iter().collect());
        put(subject.log(), vec![create("c")]);
    }

    fn batches_before_a_snapshot_are_kept_no_more(subject: &mut impl Subject) {
        let eu = eu();
        let keep = Retention { acknowledged: Some(Frontier::new()), acknowledged_age_ms: 0, bytes_max: u64::MAX, age_ms_max: 1 << 40 };
        subject.log().truncate(keep);
        subject.log().commit(NOW_MS, &[], &batches(&eu, 2, 1)[..1]).expect("durable");
        put(subject.log(), vec![create("d")]);
        subject.log().checkpoint().expect("a checkpoint");
        give(&eu, subject.log()).expect("taken");
        let end = eu.received().get(stream(2)).0;
        let read = |from: u64| subject.log().read_batches(stream(2), Seq(from), usize::MAX);
        assert_eq!(read(1), Err(ReadBatchesError::Truncated { first_kept: Seq(end + 1) }));
        assert_eq!(read(end + 1), Ok(vec![]));
        assert_eq!(batches(subject.log(), 1, 1).len(), 1, "other streams are kept");
    }

    fn l14_who_was_removed_is_known_after_a_crash_a_checkpoint_and_a_snapshot(subject: &mut impl Subject) {
        let change = |membership| {
            let payload = MemberChange { replica: ReplicaId(7), membership }.encode();
            NewEntry { doc: NO_DOC, kind: EntryKind::Member, payload }
        };
        let removed = |log: &dyn Log| log.members().removed().collect::<Vec<_>>();
        let eu = elsewhere(2);
        put(&eu, vec![change(Membership::Removed)]);
        subject.log().commit(NOW_MS, &[], &batches(&eu, 2, 1)).expect("durable");
        for _ in 0..2 {
            assert_eq!(removed(subject.log()), [ReplicaId(7)]);
            subject.crash();
            subject.log().checkpoint().expect("a checkpoint");
        }
        let taker = MemoryLog::new(stream(5));
        give(subject.log(), &taker).expect("taken");
        assert_eq!(removed(&taker), [ReplicaId(7)]);
        give(&taker, subject.log()).expect("taken");
        assert_eq!(removed(subject.log()), [ReplicaId(7)]);
        put(subject.log(), vec![change(Membership::Member)]);
        // The older change does not come back, by whatever way it comes.
        give(&taker, subject.log()).expect("taken");
        subject.crash();
        assert_eq!(removed(subject.log()), []);
    }

    fn a_log_gives_what_it_shows(subject: &mut impl Subject) {
        give(&eu(), subject.log()).expect("taken");
        put(subject.log(), vec![update("a", "ours"), create("d"), update("d", "more")]);
        subject.log().checkpoint().expect("a checkpoint");
        let taker = MemoryLog::new(stream(5));
        give(subject.log(), &taker).expect("taken");
        assert_eq!(shown(&taker), shown(subject.log()));
        assert_eq!(taker.received(), subject.log().received());
    }
}

#[test]
fn a_snapshot_is_taken_whole_or_not_at_all_wherever_power_goes() {
    let eu = eu();
    let started = |disk: &SimDisk| {
        let log = OnDisk::open(disk);
        put(&log, vec![create("a"), update("a", "ours")]);
        log
    };
    let disk = SimDisk::new();
    let log = started(&disk);
    let before = disk.operations();
    give(&eu, &log).expect("taken");
    let after = disk.operations();
    assert!(after > before + 8, "an import is several operations");
    for cut in before..after {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn { seed: cut }] {
            let disk = SimDisk::new();
            let log = started(&disk);
            disk.cut_at(cut);
            let taken = give(&eu, &log).is_ok();
            disk.crash(unsynced);
            drop(log);
            let log = OnDisk::open(&disk);
            let got = updates(&load(&log, "a"));
            let whole = got == ["ours", "1+2", "3"];
            assert!(whole || got == ["ours"] && !taken, "cut at {cut}: {got:?}");
            assert_eq!(whole, log.received().covers_all(&eu.received()), "cut at {cut}");
            give(&eu, &log).expect("taken after the restart");
            assert!(updates(&load(&log, "a")).ends_with(&["1+2".to_owned(), "3".to_owned()]));
        }
    }
}

#[test]
fn a_directory_with_an_imported_snapshot_is_whole() -> Result<(), OpenError> {
    let directory = tempfile::tempdir().expect("a directory");
    let keep = Retention {
        acknowledged: Some(Frontier::new()),
        acknowledged_age_ms: 0,
        bytes_max: u64::MAX,
        age_ms_max: 1 << 40,
    };
    let options = quire_storage::RedbLogOptions { retention: keep, ..options() };
    let log = RedbLog::open(directory.path(), &options)?;
    let (eu, us) = (eu(), elsewhere(3));
    put(&log, vec![create("a"), update("a", "ours")]);
    log.commit(NOW_MS, &[], &batches(&eu, 2, 1)[..1]).expect("durable");
    log.checkpoint().expect("a checkpoint");
    give(&eu, &us).expect("taken");
    put(&us, vec![update("a", "reply")]);
    log.commit(NOW_MS, &[], &batches(&us, 3, 1)).expect("durable");
    give(&us, &log).expect("taken");
    put(&log, vec![update("a", "after")]);
    let shown_before = shown(&log);
    drop(log);
    let report = verify(directory.path())?;
    assert!(report.is_whole(), "{report}");
    let log = RedbLog::open(directory.path(), &options)?;
    assert_eq!(shown(&log), shown_before);
    assert_eq!(log.stream(), StreamId { ..STREAM });
    Ok(())
}
