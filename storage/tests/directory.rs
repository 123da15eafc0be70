//! The log in a real directory: what `verify` finds, and what a damaged or borrowed one does.

mod support;

use bytes::Bytes;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::ReplicaId;
use quire_storage::sim_disk::SimDisk;
use quire_storage::{
    Health, LoadError, Log, OpenError, RedbLog, RedbLogOptions, Retention, StoredDoc, verify,
};
use std::path::Path;
use support::{NOW_MS, create, graph, id, load, options, put, update, updates};

const PAGE_BYTES: usize = 4096;
const FILES: [&str; 3] = ["journal.0", "journal.1", "store.redb"];
const STORE: usize = 2;

fn with_peers() -> RedbLogOptions {
    let retention = Retention {
        acknowledged: Some(Frontier::new()),
        acknowledged_age_ms: 0,
        bytes_max: 1 << 30,
        age_ms_max: 1 << 40,
    };
    RedbLogOptions { retention, ..options() }
}

/// Documents with snapshots, tails, kept batches, and entries that only the journal holds.
fn fill(dir: &Path) -> RedbLog {
    let log = RedbLog::open(dir, &with_peers()).expect("opens");
    for i in 0..40 {
        let doc = format!("doc {i}");
        let receipt = put(&log, vec![create(&doc), update(&doc, &"first ".repeat(100))]);
        if i % 2 == 0 {
            log.put_snapshot(
                id(&doc),
                receipt.position,
                Bytes::from(vec![9; 3000]),
                (i % 4 == 0).then(|| graph(&doc)),
            )
            .expect("taken");
        }
    }
    log.checkpoint().expect("a checkpoint");
    for i in 0..40 {
        put(&log, vec![update(&format!("doc {i}"), "second")]);
    }
    log.checkpoint().expect("a checkpoint");
    put(&log, vec![update("doc 1", "third")]);
    log
}

/// Copies the files as they are, as a kill would leave them.
fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a directory");
    for file in FILES {
        std::fs::copy(from.join(file), to.path().join(file)).expect("copied");
    }
    to
}

fn bytes_of(dir: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|file| std::fs::read(dir.join(file)).expect("readable")).collect()
}

#[test]
fn a_whole_directory_is_found_whole_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = fill(dir.path());
    assert_eq!(verify(dir.path()), Err(OpenError::InUse));
    let killed = copied(dir.path());
    drop(log);
    for dir in [dir.path(), killed.path()] {
        let before = bytes_of(dir);
        let report = verify(dir).expect("readable");
        assert!(report.is_whole(), "{report}");
        assert_eq!((report.documents, report.entries), (40, 121), "{report}");
        assert!(before == bytes_of(dir), "a check changes nothing");
    }
    let log = RedbLog::open(killed.path(), &with_peers()).expect("opens");
    let doc = load(&log, "doc 1");
    assert_eq!(updates(&doc)[1..], ["second", "third"]);
}

#[test]
fn a_directory_in_use_by_another_is_refused_and_a_missing_one_is_not_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = fill(dir.path());
    assert_eq!(RedbLog::open(dir.path(), &options()).err(), Some(OpenError::InUse));
    drop(log);
    assert!(RedbLog::open(dir.path(), &options()).is_ok());

    let missing = dir.path().join("missing");
    let refused = RedbLog::open(&missing, &options()).expect_err("nothing is there");
    assert!(refused.to_string().contains("missing"), "{refused}");
    assert!(!missing.exists());
    assert!(matches!(verify(&missing), Err(OpenError::Directory { .. })));
}

#[test]
fn files_that_do_not_belong_together_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(fill(dir.path()));
    let other = tempfile::tempdir().expect("a directory");
    drop(fill(other.path()));

    let stranger = RedbLogOptions { replica: ReplicaId(2), ..options() };
    assert!(matches!(RedbLog::open(dir.path(), &stranger), Err(OpenError::Foreign(_))));

    let mixed = copied(dir.path());
    std::fs::copy(other.path().join("store.redb"), mixed.path().join("store.redb")).expect("copied");
    assert!(matches!(RedbLog::open(mixed.path(), &options()), Err(OpenError::Foreign(_))));
    assert!(!verify(mixed.path()).expect("readable").is_whole());

    for file in FILES {
        let half = copied(dir.path());
        std::fs::remove_file(half.path().join(file)).expect("removed");
        let refused = RedbLog::open(half.path(), &options()).expect_err("a file is missing");
        assert!(refused.to_string().contains(file), "{refused}");
        assert!(!half.path().join(file).exists(), "an empty file in its place would hide the loss");

        std::fs::write(half.path().join(file), b"").expect("written");
        let refused = RedbLog::open(half.path(), &options()).expect_err("a file is empty");
        assert!(refused.to_string().contains(file), "{refused}");

        std::fs::write(half.path().join(file), [7; 9000]).expect("written");
        let refused = RedbLog::open(half.path(), &options()).expect_err("no file of a log");
        assert!(matches!(refused, OpenError::Damaged(_)), "{refused:?}");
        assert_eq!(std::fs::read(half.path().join(file)).expect("readable"), [7; 9000]);
    }
}

#[test]
fn a_newer_format_is_refused_and_named() {
    for file in FILES {
        let dir = tempfile::tempdir().expect("a directory");
        drop(fill(dir.path()));
        let path = dir.path().join(file);
        if file == "store.redb" {
            let db = redb::Database::create(path).expect("opens");
            let txn = db.begin_write().expect("one writer");
            let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
            txn.open_table(meta).expect("a table").insert("format", &2_u32.to_le_bytes()[..]).expect("room");
            txn.commit().expect("a working disk");
        } else {
            let mut bytes = std::fs::read(&path).expect("readable");
            bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
            std::fs::write(&path, bytes).expect("written");
        }
        let refused = RedbLog::open(dir.path(), &options()).expect_err("a newer format").to_string();
        assert!(refused.contains(file) && refused.contains("format 2"), "{refused}");
        assert!(refused.contains("reads format 1"), "{refused}");
        assert!(!verify(dir.path()).expect("readable").is_whole());
    }
}

/// What the documents of `fill` are, as long as nothing is damaged.
fn documents(log: &RedbLog) -> Vec<StoredDoc> {
    (0..40).map(|i| load(log, &format!("doc {i}"))).collect()
}

/// Reads every document. Each is what was written or an error; returns how many are errors.
fn refused_documents(log: &RedbLog, whole: &[StoredDoc], story: &str) -> usize {
    let mut refused = 0;
    for (i, whole) in whole.iter().enumerate() {
        match log.load(id(&format!("doc {i}"))) {
            Ok(Some(read)) => assert_eq!(&read, whole, "{story}"),
            Ok(None) => panic!("{story}: a document is gone without an error"),
            Err(LoadError::Corrupt(_)) => refused += 1,
            Err(error) => panic!("{story}: {error:?}"),
        }
    }
    refused
}

/// A file's pages that hold something, but for its first.
fn pages(file: &[u8]) -> Vec<usize> {
    (1..file.len() / PAGE_BYTES)
        .filter(|page| file[page * PAGE_BYTES..][..PAGE_BYTES].iter().any(|b| *b != 0))
        .collect()
}

/// As a pointer to another page, what is written is far past the end of the file.
fn overwritten(store: &[u8], page: usize, from: usize, len: usize) -> Vec<u8> {
    let mut bytes = store.to_vec();
    bytes[page * PAGE_BYTES + from..][..len].fill(0x05);
    bytes
}

#[test]
fn a_damaged_page_is_an_error_and_never_an_empty_or_a_wrong_document() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = fill(dir.path());
    let whole = documents(&log);
    drop(log);
    let [first, second, store] = bytes_of(dir.path()).try_into().expect("three files");
    let mut refused = 0;
    for page in pages(&store).into_iter().step_by(2) {
        for (from, len) in [(0, 64), (64, 2000), (2000, 40)] {
            let story = format!("page {page}, {len} bytes from {from}");
            let disk =
                SimDisk::holding([first.clone(), second.clone(), overwritten(&store, page, from, len)]);
            match RedbLog::open_backends(disk.journal(), disk.store(), &with_peers()) {
                Ok(log) => refused += refused_documents(&log, &whole, &story),
                Err(OpenError::Damaged(_)) => refused += 1,
                Err(error) => panic!("{story}: {error:?}"),
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn a_check_tells_of_every_damaged_page_that_keeps_something_from_being_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = fill(dir.path());
    let whole = documents(&log);
    drop(log);
    let store = bytes_of(dir.path()).remove(STORE);
    let (mut told, mut places) = (0, 0);
    for page in pages(&store).into_iter().step_by(5) {
        let bytes = overwritten(&store, page, 64, 2000);
        std::fs::write(dir.path().join("store.redb"), &bytes).expect("written");
        let report = verify(dir.path()).expect("readable");
        assert!(
            std::fs::read(dir.path().join("store.redb")).expect("readable") == bytes,
            "a check changes nothing"
        );
        told += usize::from(!report.is_whole());
        // Not only that a page is damaged, but whose.
        places += usize::from(report.problems.iter().any(|problem| problem.contains(" of document \"doc ")));
        let [first, second, _] = bytes_of(dir.path()).try_into().expect("three files");
        let disk = SimDisk::holding([first, second, bytes]);
        let opened = RedbLog::open_backends(disk.journal(), disk.store(), &with_peers());
        let refused = opened.map_or(1, |log| refused_documents(&log, &whole, "after a check"));
        assert!(refused == 0 || !report.is_whole(), "page {page}: {refused} documents cannot be read");
    }
    assert!(told > 3 && places > 1, "{told}, {places}");
}

#[test]
fn no_row_of_a_tail_is_missed_without_an_error() {
    let tails = redb::TableDefinition::<(u128, u64), &[u8]>::new("tails");
    let dir = tempfile::tempdir().expect("a directory");
    let log = RedbLog::open(dir.path(), &options()).expect("opens");
    let long = "0".repeat(20_000);
    put(&log, vec![create("a")]);
    for _ in 0..2 {
        put(&log, (0..10).map(|_| update("a", &long)).collect());
        log.checkpoint().expect("a checkpoint");
    }
    drop(log);
    let rows = |path: &Path| {
        let db = redb::Database::open(path).expect("opens");
        let txn = redb::ReadableDatabase::begin_read(&db).expect("begins");
        let table = txn.open_table(tails).expect("opens");
        let rows = redb::ReadableTable::iter(&table).expect("begins");
        rows.map(|row| row.expect("readable").0.value()).collect::<Vec<_>>()
    };
    let rows = rows(&dir.path().join("store.redb"));
    assert!(rows.len() > 6, "two checkpoints of several rows each: {rows:?}");
    for row in rows {
        let damaged = copied(dir.path());
        let db = redb::Database::open(damaged.path().join("store.redb")).expect("opens");
        let txn = db.begin_write().expect("begins");
        txn.open_table(tails).expect("opens").remove(row).expect("removed");
        txn.commit().expect("durable");
        drop(db);
        assert!(!verify(damaged.path()).expect("readable").is_whole(), "{row:?}");
        let log = RedbLog::open(damaged.path(), &options()).expect("opens");
        assert!(matches!(log.load(id("a")), Err(LoadError::Corrupt(_))), "{row:?}");
    }
}

#[test]
fn a_log_whose_store_is_damaged_takes_writes_until_it_meets_the_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(fill(dir.path()));
    let path = dir.path().join("store.redb");
    let mut bytes = std::fs::read(&path).expect("readable");
    // Every document's row: the checkpointer must read one to go on.
    let needle = b"doc 1";
    let hits: Vec<_> =
        bytes.windows(needle.len()).enumerate().filter(|(_, w)| w == needle).map(|(at, _)| at).collect();
    hits.iter().for_each(|at| bytes[*at] ^= 0x20);
    std::fs::write(&path, &bytes).expect("written");
    let log = RedbLog::open(dir.path(), &with_peers()).expect("opens");
    put(&log, vec![update("doc 1", "fourth")]);
    assert!(log.checkpoint().is_err());
    assert!(matches!(log.health(), Health::Failed(_)));
    assert!(log.append(NOW_MS, &[vec![update("doc 1", "fifth")]]).is_err());
}

/// A directory whose journal holds commits that the store does not, of one block and of several.
fn killed_before_its_checkpoint() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let log = fill(dir.path());
    for i in 0..12 {
        put(&log, vec![update("doc 2", &format!("{i} {}", "long ".repeat(i * 150)))]);
    }
    copied(dir.path())
}

#[test]
fn damage_to_a_commit_that_others_follow_is_never_taken_for_the_journals_end() {
    let killed = killed_before_its_checkpoint();
    let whole = updates(&load(&RedbLog::open(killed.path(), &with_peers()).expect("opens"), "doc 2"));
    let killed = killed_before_its_checkpoint();
    let mut refused = 0;
    for file in ["journal.0", "journal.1"] {
        let path = killed.path().join(file);
        let stored = std::fs::read(&path).expect("readable");
        // A byte in each page: of a header's every field, and of what comes after it.
        let within = [0, 5, 9, 13, 17, 30].into_iter().cycle();
        let places = pages(&stored).into_iter().zip(within).map(|(page, at)| page * PAGE_BYTES + at);
        for at in places {
            let mut bytes = stored.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).expect("written");
            let [first, second, store] = bytes_of(killed.path()).try_into().expect("three files");
            let disk = SimDisk::holding([first, second, store]);
            let report = verify(killed.path()).expect("readable");
            match RedbLog::open_backends(disk.journal(), disk.store(), &with_peers()) {
                Ok(log) => {
                    let read = updates(&load(&log, "doc 2"));
                    // Damage to the very last commit cannot be told from one that was cut short.
                    let cut = whole.len() - read.len();
                    assert!(cut <= 1 && read[..] == whole[..read.len()], "{file} at {at}: {cut} are missing");
                    assert!(report.is_whole(), "{file} at {at}: {report}");
                }
                Err(OpenError::Damaged(text)) => {
                    assert!(text.contains("journal"), "{text}");
                    assert!(!report.is_whole(), "{file} at {at}");
                    refused += 1;
                }
                Err(error) => panic!("{file} at {at}: {error:?}"),
            }
        }
        std::fs::write(&path, &stored).expect("written");
    }
    assert!(refused > 8, "{refused}");
}
