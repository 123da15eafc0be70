//! Crash tests: the log on a simulated disk that loses power or fails at every single operation.
//!
//! After each cut the log is opened again and everything that was acknowledged must be there, once,
//! in order and whole; then it goes on.

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use quire_protocol::batch::EncodedBatch;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{ReplicaId, Seq, StreamId};
use quire_storage::sim_disk::{SimDisk, Unsynced};
use quire_storage::{AppendError, FailureKind, Health, Log, Position, RedbLog, RedbLogOptions, Retention};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use support::{NOW_MS, STREAM, batches, create, elsewhere, graph, id, load, options, put, stream, update};

const DOCS: [&str; 3] = ["a", "b/ü", "c"];

/// What a run did before its end: per document the updates that were acknowledged, and those that
/// were given to an append that did not succeed.
#[derive(Default)]
struct Acknowledged {
    updates: BTreeMap<&'static str, Vec<String>>,
    in_doubt: Vec<(&'static str, String)>,
    last_seq: u64,
    /// What was acknowledged as received of other replicas.
    received: Frontier,
}

/// Batches of two other replicas: those of the second have theirs of the first for a cause, and come first.
fn of_others() -> Vec<Arc<EncodedBatch>> {
    let (eu, us) = (elsewhere(2), elsewhere(3));
    let mut all = vec![];
    for round in 0..4 {
        let text = format!("{round} {}", "y".repeat(round * 900));
        put(&eu, vec![create("of eu"), update("of eu", &text)]);
        let messages = batches(&eu, 2, 2 * round as u64 + 1);
        us.commit(NOW_MS, &[], &messages).expect("durable");
        put(&us, vec![create("of us"), update("of us", &text)]);
        all.extend(batches(&us, 3, 2 * round as u64 + 1).into_iter().chain(messages));
    }
    // A region that is far behind: one stream ends before the other's causes come.
    all.sort_by_key(|encoded| encoded.batch.stream.replica < ReplicaId(3));
    all
}

fn with_peers() -> RedbLogOptions {
    let retention = Retention {
        acknowledged: Some(Frontier::new()),
        acknowledged_age_ms: 0,
        bytes_max: 3000,
        age_ms_max: 1 << 40,
    };
    RedbLogOptions { retention, ..options() }
}

/// Groups of updates, snapshots that stand for what was acknowledged, and checkpoints, until the
/// disk refuses. Every payload is unique.
fn run(log: &RedbLog, done: &mut Acknowledged) -> Result<(), AppendError> {
    let others = of_others();
    for step in 0..14 {
        let theirs = others.get(step - step.min(2)..(step - step.min(2) + 1).min(others.len()));
        let theirs = theirs.unwrap_or_default();
        let mut groups = vec![];
        let mut fresh = vec![];
        for (i, doc) in DOCS.iter().enumerate().filter(|(i, _)| (step + i) % 2 == 0 || step == 0) {
            let payload = format!("{doc} {step} {}", "x".repeat(if step == 5 { 9000 } else { i * 40 }));
            let first = (step == 0).then(|| create(doc));
            groups.push(first.into_iter().chain([update(doc, &payload)]).collect());
            fresh.push((*doc, payload));
        }
        done.in_doubt.clone_from(&fresh);
        let receipts = log.commit(NOW_MS + step as u64, &groups, theirs)?.receipts;
        done.in_doubt.clear();
        theirs.iter().for_each(|encoded| done.received.raise(encoded.batch.last_dot()));
        for (doc, payload) in fresh {
            done.updates.entry(doc).or_default().push(payload);
        }
        let last = receipts.last().expect("a receipt for each group");
        done.last_seq = last.last.seq.0;
        if step % 5 == 4 {
            let state = done.updates["a"].join("\n");
            let fields = Some(graph(&state));
            let _ = log.put_snapshot(id("a"), last.position, Bytes::from(state), fields);
        }
        if step % 4 == 3 && log.checkpoint().is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What a document holds, snapshot first, as the updates it was made of.
fn contents(log: &dyn Log, doc: &str) -> Vec<String> {
    let Some(stored) = log.load(id(doc)).expect("a document is whole") else { return vec![] };
    let snapshot = stored.snapshot.as_ref().map(|state| String::from_utf8_lossy(state).into_owned());
    assert_eq!(stored.fields, snapshot.as_deref().map(graph), "a state and its graph come together");
    let mut held: Vec<String> =
        snapshot.iter().flat_map(|state| state.split('\n').map(str::to_owned)).collect();
    held.extend(support::updates(&stored));
    let positions: Vec<_> = stored.tail.iter().map(|entry| entry.position).collect();
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "no entry twice, and in order");
    held
}

fn check(log: &RedbLog, done: &Acknowledged, story: &str) {
    let mut survived_doubt = 0;
    for doc in DOCS {
        let mut held = contents(log, doc);
        let mut expected = done.updates.get(doc).cloned().unwrap_or_default();
        if held.len() > expected.len() {
            // An append that was not acknowledged may have become durable all the same.
            let (of, payload) = done.in_doubt.iter().find(|(of, _)| *of == doc).expect(story);
            assert_eq!(*of, doc, "{story}");
            expected.push(payload.clone());
            survived_doubt += 1;
        }
        assert_eq!(held.len(), expected.len(), "{story}: {doc}");
        assert!(held == expected, "{story}: {doc} is not what was acknowledged");
        held.clear();
    }
    let all_or_none = survived_doubt == 0 || survived_doubt == done.in_doubt.len();
    assert!(all_or_none, "{story}: a group commit came back in part");
    for replica in [1, 2, 3] {
        chain_is_whole(log, stream(replica), story);
    }
    others_are_whole(log, done, story);
    let head = log.received().get(STREAM).0;
    assert!(head >= done.last_seq, "{story}: the frontier went back");
}

/// What was received is there, what could be applied is shown, and the rest waits.
fn others_are_whole(log: &RedbLog, done: &Acknowledged, story: &str) {
    let (received, applied) = (log.received(), log.applied());
    assert!(received.covers_all(&done.received), "{story}: what was received is gone");
    let expected = received.get(stream(3)).min(received.get(stream(2)));
    assert_eq!(
        (applied.get(stream(2)), applied.get(stream(3))),
        (received.get(stream(2)), expected),
        "{story}"
    );
    for (doc, replica) in [("of eu", 2), ("of us", 3)] {
        let shown = contents(log, doc).len() as u64;
        assert_eq!(shown * 2, applied.get(stream(replica)).0, "{story}: {doc}");
    }
}

fn chain_is_whole(log: &RedbLog, of: StreamId, story: &str) {
    let head = log.received().get(of);
    let from = match log.read_batches(of, Seq(1), usize::MAX) {
        Err(quire_storage::ReadBatchesError::Truncated { first_kept }) => first_kept,
        _ => Seq(1),
    };
    let mut last: Option<EncodedBatch> = None;
    let mut end = Seq(from.0 - 1);
    for bytes in log.read_batches(of, from, usize::MAX).expect(story) {
        let batch = EncodedBatch::decode(bytes).expect(story);
        assert_eq!(batch.batch.first_seq.0, end.0 + 1, "{story}: a gap in the stream");
        if let Some(last) = last {
            assert_eq!(batch.batch.prev_hash, last.hash(), "{story}: the chain is broken");
        }
        end = batch.batch.last_dot().seq;
        last = Some(batch);
    }
    assert_eq!(end, head, "{story}: the log does not end at its frontier");
}

/// Opens the log after a crash, checks it, and has it go on through another restart.
fn recover(disk: &SimDisk, mut done: Acknowledged, story: &str) {
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &with_peers());
    let log = log.unwrap_or_else(|error| panic!("{story}: {error}"));
    check(&log, &done, story);
    for doc in DOCS {
        done.updates.insert(doc, contents(&log, doc));
    }
    done.in_doubt.clear();
    let again = put(&log, vec![create("a"), update("a", "after")]);
    done.updates.entry("a").or_default().push("after".to_owned());
    done.last_seq = again.last.seq.0;
    log.checkpoint().expect(story);
    check(&log, &done, story);
    drop(log);
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &with_peers()).expect(story);
    check(&log, &done, story);
}

/// Runs the workload on a fresh disk; `prepare` arms a fault. Opening may already meet it.
fn faulty_run(prepare: impl FnOnce(&SimDisk)) -> (SimDisk, Acknowledged, Option<RedbLog>) {
    let disk = SimDisk::new();
    prepare(&disk);
    let mut done = Acknowledged::default();
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &with_peers()).ok();
    if let Some(log) = &log {
        let _ = run(log, &mut done);
    }
    (disk, done, log)
}

fn operations_of_a_whole_run() -> u64 {
    let (disk, done, log) = faulty_run(|_| {});
    assert_eq!(done.updates.len(), DOCS.len());
    drop(log);
    disk.operations()
}

fn cut_everywhere(unsynced: impl Fn(u64) -> Unsynced) {
    let operations = operations_of_a_whole_run();
    assert!(operations > 150, "{operations} operations are too few to mean anything");
    for cut in 0..=operations {
        let (disk, done, log) = faulty_run(|disk| disk.cut_at(cut));
        drop(log);
        let unsynced = unsynced(cut);
        disk.crash(unsynced);
        recover(&disk, done, &format!("cut at operation {cut}, {unsynced:?}"));
    }
}

#[test]
fn power_goes_at_any_operation_and_what_was_not_synced_is_lost() {
    cut_everywhere(|_| Unsynced::Lost);
}

#[test]
fn power_goes_at_any_operation_and_what_was_not_synced_is_kept() {
    cut_everywhere(|_| Unsynced::Kept);
}

#[test]
fn power_goes_at_any_operation_and_what_was_not_synced_is_torn() {
    for seed in 0..3 {
        cut_everywhere(|cut| Unsynced::Torn { seed: cut * 3 + seed });
    }
}

#[test]
fn the_process_alone_is_killed_at_any_operation() {
    let operations = operations_of_a_whole_run();
    for cut in 0..=operations {
        let (disk, done, log) = faulty_run(|disk| disk.cut_at(cut));
        // The files keep what was written; a restart in the same power cycle sees all of it.
        disk.crash(Unsynced::Kept);
        drop(log);
        recover(&disk, done, &format!("killed at operation {cut}"));
    }
}

#[test]
fn an_error_at_any_operation_latches_and_nothing_acknowledged_is_lost() {
    let operations = operations_of_a_whole_run();
    for at in 0..operations {
        let kind = if at.is_multiple_of(2) { ErrorKind::StorageFull } else { ErrorKind::Other };
        let (disk, done, log) = faulty_run(|disk| disk.fail_at(at, kind));
        let story = format!("{kind} at operation {at}");
        if let Some(log) = log {
            refuses_for_good(&log, &disk, &done, at, &story);
        }
        disk.crash(Unsynced::Torn { seed: at });
        recover(&disk, done, &story);
    }
}

/// What a restart after `fault` found, and what it then took, is there after power is lost too.
fn restarted_then_cut(fault: impl FnOnce(&SimDisk), story: &str) {
    let (disk, done, log) = faulty_run(fault);
    disk.kill();
    drop(log);
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &with_peers()).expect(story);
    check(&log, &done, story);
    put(&log, vec![create("a"), update("a", "after")]);
    let seen: Vec<_> = DOCS.iter().map(|doc| contents(&log, doc)).collect();
    disk.crash(Unsynced::Lost);
    drop(log);
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &with_peers()).expect(story);
    let held: Vec<_> = DOCS.iter().map(|doc| contents(&log, doc)).collect();
    assert!(held == seen, "{story}: what was shown is gone");
    chain_is_whole(&log, STREAM, story);
}

#[test]
fn what_is_shown_after_a_kill_or_a_failed_sync_survives_power() {
    let operations = operations_of_a_whole_run();
    for at in 0..operations {
        restarted_then_cut(|disk| disk.cut_at(at), &format!("killed at operation {at}, then cut"));
        let story = format!("an error at operation {at}, a restart, then cut");
        restarted_then_cut(|disk| disk.fail_at(at, ErrorKind::Other), &story);
    }
}

/// A failed log takes no write, says why, and still reads what is stored.
fn refuses_for_good(log: &RedbLog, disk: &SimDisk, done: &Acknowledged, at: u64, story: &str) {
    let Health::Failed(failure) = log.health() else {
        // The operation failed while the log was being closed, or never came.
        assert!(done.in_doubt.is_empty(), "{story}: an append failed and the log is well");
        return;
    };
    let expected = if at.is_multiple_of(2) { FailureKind::DiskFull } else { FailureKind::Io };
    assert_eq!(failure.kind, expected, "{story}: {failure}");
    let before = disk.operations();
    for _ in 0..2 {
        let refused = log.append(NOW_MS, &[vec![update("a", "more")]]);
        assert_eq!(refused, Err(AppendError::Failed(failure.clone())), "{story}");
    }
    assert!(log.checkpoint().is_err(), "{story}");
    assert!(log.put_snapshot(id("a"), Position(1), Bytes::new(), None).is_err(), "{story}");
    assert!(log.put_derived(id("a"), Position(1), vec![]).is_err(), "{story}");
    assert_eq!(disk.operations(), before, "{story}: something was written after a failure");
    for doc in DOCS {
        if let Ok(Some(stored)) = log.load(id(doc)) {
            let held = stored.tail.len() + stored.snapshot.map_or(0, |state| state.len());
            assert!(held >= done.updates.get(doc).map_or(0, Vec::len), "{story}: {doc}");
        }
    }
}

#[test]
fn a_log_that_failed_while_closing_or_checkpointing_loses_nothing_at_a_clean_start() {
    let operations = operations_of_a_whole_run();
    for at in (0..operations).step_by(7) {
        let (disk, done, log) = faulty_run(|disk| disk.fail_at(at, ErrorKind::Other));
        // Closed and opened without a crash: what was written stays as it is.
        drop(log);
        disk.crash(Unsynced::Kept);
        recover(&disk, done, &format!("an error at operation {at}, then an orderly restart"));
    }
}

/// One thing that happens to a log.
#[derive(Clone, Debug)]
enum Event {
    Append { doc: usize, updates: usize },
    Snapshot { doc: usize },
    Checkpoint,
    Crash { seed: u64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..3_usize, 1..4_usize).prop_map(|(doc, updates)| Event::Append { doc, updates }),
        2 => (0..3_usize).prop_map(|doc| Event::Snapshot { doc }),
        2 => Just(Event::Checkpoint),
        1 => any::<u64>().prop_map(|seed| Event::Crash { seed }),
    ];
    proptest::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, a document is what was acknowledged.
    #[test]
    fn any_history_gives_back_what_was_acknowledged(events in events()) {
        let disk = SimDisk::new();
        let mut log = Some(RedbLog::open_backends(disk.journal(), disk.store(), &options()).expect("opens"));
        let mut held: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut count = 0;
        for event in events {
            let open = log.as_ref().expect("open between crashes");
            match event {
                Event::Append { doc, updates } => {
                    let doc = DOCS[doc];
                    let fresh: Vec<String> = (0..updates).map(|i| format!("{doc} {}", count + i)).collect();
                    count += updates;
                    let group = std::iter::once(create(doc)).chain(fresh.iter().map(|text| update(doc, text)));
                    put(open, group.collect());
                    held.entry(doc).or_default().extend(fresh);
                }
                Event::Snapshot { doc } => {
                    if let Some(updates) = held.get(DOCS[doc]) {
                        let position = load(open, DOCS[doc]).position;
                        let state = updates.join("\n");
                        let fields = Some(graph(&state));
                        open.put_snapshot(id(DOCS[doc]), position, Bytes::from(state), fields).expect("taken");
                    }
                }
                Event::Checkpoint => drop(open.checkpoint().expect("a checkpoint")),
                Event::Crash { seed } => {
                    disk.crash(Unsynced::Torn { seed });
                    drop(log.take());
                    log = Some(RedbLog::open_backends(disk.journal(), disk.store(), &options()).expect("opens"));
                }
            }
            let open = log.as_ref().expect("open between crashes");
            for doc in DOCS {
                prop_assert_eq!(contents(open, doc), held.get(doc).cloned().unwrap_or_default());
            }
        }
    }
}
