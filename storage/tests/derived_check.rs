//! Derived rows in a real directory: what `verify` counts and finds, and a directory from before there were any.

mod support;

use bytes::Bytes;
use quire_storage::{DerivedKey, Log, RedbLog, Report, verify};
use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use std::collections::BTreeMap;
use std::ops::Bound::Unbounded;
use std::path::Path;
use support::{create, fields, id, options, put, update};

const DERIVED: TableDefinition<'_, (u8, &[u8]), &[u8]> = TableDefinition::new("derived");
const DUE: TableDefinition<'_, u128, u64> = TableDefinition::new("due");

/// Documents of which some are due, with rows in two spaces.
fn fill(dir: &Path) {
    let log = RedbLog::open(dir, &options()).expect("opens");
    for n in 0..6 {
        let doc = format!("doc {n}");
        let at = put(&log, vec![create(&doc), fields(&doc, "1")]).position;
        let space = 1 + n % 2;
        let row = (DerivedKey { space, key: Bytes::from(doc.clone()) }, Some(Bytes::from_static(b"value")));
        log.put_derived(id(&doc), at, vec![row]).expect("taken");
        put(&log, vec![if n < 2 { fields(&doc, "2") } else { update(&doc, "2") }]);
    }
}

/// Changes the store behind the log's back.
fn change(dir: &Path, change: impl FnOnce(&WriteTransaction)) {
    let db = redb::Database::open(dir.join("store.redb")).expect("opens");
    let mut txn = db.begin_write().expect("one writer");
    txn.set_quick_repair(true);
    change(&txn);
    txn.commit().expect("durable");
}

fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fill(dir.path());
    dir
}

/// What a check says after a change to the store.
fn told(changed: impl FnOnce(&WriteTransaction)) -> Report {
    let dir = filled();
    change(dir.path(), changed);
    verify(dir.path()).expect("readable")
}

#[test]
fn a_check_counts_derived_rows_by_their_space_and_documents_that_are_due() {
    let report = verify(filled().path()).expect("readable");
    assert!(report.is_whole(), "{report}");
    assert_eq!((report.derived.clone(), report.due), (BTreeMap::from([(1, 3), (2, 3)]), 2));
    assert!(report.to_string().contains("3 in space 1, 3 in space 2, 2 documents due"), "{report}");
}

#[test]
fn a_check_tells_what_is_wrong_with_derived_rows_and_marks() {
    let key = vec![b'k'; quire_storage::limits::DERIVED_KEY_BYTES_MAX + 1];
    let long = told(|txn| {
        let mut table = txn.open_table(DERIVED).expect("opens");
        table.insert((1, &key[..]), &b"\0\0\0\0"[..]).expect("room");
    });
    let moved = told(|txn| {
        let mut table = txn.open_table(DERIVED).expect("opens");
        let row = table.remove((1, &b"doc 0"[..])).expect("readable").expect("there").value().to_vec();
        table.insert((1, &b"doc 9"[..]), &row[..]).expect("room");
    });
    let mark = |doc: u128, mark: Option<u64>| {
        told(|txn| {
            let mut table = txn.open_table(DUE).expect("opens");
            let _known = match mark {
                Some(mark) => table.insert(doc, mark).expect("room"),
                None => table.remove(doc).expect("readable"),
            };
        })
    };
    let due = id("doc 1").0;
    for (report, problem) in [
        (long, "has a key of 2049 bytes"),
        (moved, "doc 9 in space 1: a derived row is damaged: its checksum"),
        (mark(7, Some(1)), "is due, and there is no such document"),
        (mark(id("doc 5").0, Some(1)), "document \"doc 5\" is due for its entry at position 1, which is not"),
        (mark(due, Some(1000)), "document \"doc 1\" is due for its entry at position 1000, which is not"),
        (
            mark(due, None),
            "of document \"doc 1\" that ends at position 6 holds what nothing was derived from",
        ),
    ] {
        assert!(report.problems.iter().any(|text| text.contains(problem)), "{problem}: {report}");
    }
}

#[test]
fn all_documents_of_a_directory_from_before_derived_rows_are_due_once() {
    let dir = filled();
    change(dir.path(), |txn| {
        assert!(txn.delete_table(DERIVED).expect("deleted") && txn.delete_table(DUE).expect("deleted"));
    });
    let report = verify(dir.path()).expect("readable");
    assert!(report.is_whole(), "{report}");
    let log = RedbLog::open(dir.path(), &options()).expect("opens");
    assert_eq!(log.due(None, 99).expect("readable").len(), 6);
    assert_eq!(log.derived(1, (Unbounded, Unbounded), 9), Ok(vec![]));
    let at = log.stats().position;
    (0..6).for_each(|n| log.put_derived(id(&format!("doc {n}")), at, vec![]).expect("taken"));
    drop(log);
    let log = RedbLog::open(dir.path(), &options()).expect("opens");
    assert_eq!(log.due(None, 99), Ok(vec![]));
    drop(log);
    assert!(verify(dir.path()).expect("readable").is_whole());
}

#[test]
fn a_document_to_derive_nothing_from_has_no_mark() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = RedbLog::open(dir.path(), &options()).expect("opens");
    let at = put(&log, vec![create("a")]).position;
    log.put_derived(id("a"), at, vec![]).expect("taken");
    put(&log, (0..100).map(|n| update("a", &n.to_string())).collect());
    drop(log);
    let db = redb::Database::open(dir.path().join("store.redb")).expect("opens");
    let txn = db.begin_read().expect("begins");
    assert_eq!(txn.open_table(DUE).expect("opens").iter().expect("begins").count(), 0);
    assert_eq!(txn.open_table(DERIVED).expect("opens").iter().expect("begins").count(), 0);
}
