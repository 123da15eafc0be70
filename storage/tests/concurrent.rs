//! The log under several threads: readers beside the writer and the checkpointer, a second writer,
//! and a checkpointer that is behind.

mod support;

use quire_storage::sim_disk::SimDisk;
use quire_storage::{AppendError, Log, RedbLog, RedbLogOptions};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{NOW_MS, create, id, load, options, put, update, updates};

/// Checkpoints follow each other without a pause.
fn restless() -> RedbLogOptions {
    RedbLogOptions { checkpoint_bytes: 1, memory_bytes_max: 20_000, ..options() }
}

/// Is set when the writer ends, by a panic too.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_reader_sees_everything_that_was_acknowledged_before_it_asked() {
    let disk = SimDisk::new();
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &restless()).expect("opens");
    put(&log, vec![create("a"), create("b")]);
    let acknowledged = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = SetAtEnd(&over);
            for i in 0..400_u64 {
                put(&log, vec![update("a", &i.to_string()), update("b", "noise")]);
                acknowledged.store(i + 1, Ordering::Release);
                if i % 50 == 49 {
                    let doc = load(&log, "a");
                    let whole =
                        doc.snapshot.as_ref().map(|state| String::from_utf8_lossy(state).into_owned());
                    let state = whole.into_iter().chain(updates(&doc)).collect::<Vec<_>>().join(" ");
                    log.put_snapshot(id("a"), doc.position, state.into(), None).expect("taken");
                }
            }
        });
        let read = || {
            while !over.load(Ordering::Acquire) {
                let least = acknowledged.load(Ordering::Acquire);
                let doc = load(&log, "a");
                let whole = doc.snapshot.as_ref().map(|state| String::from_utf8_lossy(state).into_owned());
                let text = whole.into_iter().chain(updates(&doc)).collect::<Vec<_>>().join(" ");
                let seen: Vec<u64> = text
                    .split(' ')
                    .filter(|it| !it.is_empty())
                    .map(|it| it.parse().expect("a number"))
                    .collect();
                let expected: Vec<u64> = (0..seen.len() as u64).collect();
                assert_eq!(seen, expected, "each once, in order");
                assert!(seen.len() as u64 >= least, "{} of {least}", seen.len());
                assert_eq!(doc.info.entries, seen.len() as u64 + 1);
            }
        };
        scope.spawn(read);
        scope.spawn(read);
    });
    assert_eq!(acknowledged.into_inner(), 400);
}

#[test]
fn appends_wait_for_a_checkpointer_that_is_behind_and_memory_stays_bounded() {
    let disk = SimDisk::new();
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &restless()).expect("opens");
    put(&log, vec![create("a")]);
    let large = "x".repeat(15_000);
    for _ in 0..30 {
        put(&log, vec![update("a", &large)]);
        assert!(log.stats().memory_bytes < 20_000 + 2 * 15_200, "the bound, and the append that passed it");
    }
    assert!(log.stats().checkpoints > 1);
    assert_eq!(updates(&load(&log, "a")).len(), 30);
}

#[test]
fn a_second_writer_is_refused_and_harms_nothing() {
    let disk = SimDisk::new();
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &options()).expect("opens");
    put(&log, vec![create("a")]);
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    match log.append(NOW_MS, &[vec![update("a", "1")]]) {
                        Ok(_) => drop(written.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert_eq!(error, AppendError::SecondWriter),
                    }
                }
            });
        }
    });
    assert_eq!(updates(&load(&log, "a")).len() as u64, written.into_inner());
}
