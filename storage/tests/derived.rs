//! Derived rows and the documents that are due, in both logs, and power cut at every operation.

#[macro_use]
mod support;

use bytes::Bytes;
use proptest::prelude::*;
use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::DocId;
use quire_storage::limits::{DERIVED_KEY_BYTES_MAX, DERIVED_READ_BYTES_MAX};
use quire_storage::sim_disk::{SimDisk, Unsynced};
use quire_storage::{
    DerivedError, DerivedKey, Health, KeyRange, LoadError, Log, MemoryLog, NewEntry, Position, RedbLog,
    RedbLogOptions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use support::{OnDisk, Subject, create, fields, id, lifecycle, load, options, put, update};

const ALL: KeyRange<'_> = (Unbounded, Unbounded);
const MIB: usize = 1024 * 1024;

fn key(space: u8, key: &str) -> DerivedKey {
    DerivedKey { space, key: Bytes::copy_from_slice(key.as_bytes()) }
}

fn row(space: u8, at: &str, value: &str) -> (DerivedKey, Option<Bytes>) {
    (key(space, at), Some(Bytes::copy_from_slice(value.as_bytes())))
}

fn gone(space: u8, at: &str) -> (DerivedKey, Option<Bytes>) {
    (key(space, at), None)
}

fn read(log: &dyn Log, space: u8, range: KeyRange<'_>, limit: usize) -> Vec<(String, String)> {
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let rows = log.derived(space, range, limit).expect("readable");
    rows.into_iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn keys(log: &dyn Log, space: u8, range: KeyRange<'_>, limit: usize) -> String {
    read(log, space, range, limit).into_iter().map(|(key, _)| key).collect::<Vec<_>>().join(" ")
}

fn checkpoint(log: &dyn Log) {
    log.checkpoint().expect("a checkpoint");
}

fn due(log: &dyn Log) -> Vec<DocId> {
    log.due(None, usize::MAX).expect("readable")
}

fn is_due(log: &dyn Log, doc: &str) -> bool {
    due(log).contains(&id(doc))
}

contract! {
    fn rows_are_read_in_the_order_of_their_keys_wherever_they_are(subject: &mut impl Subject) {
        let at = put(subject.log(), vec![create("a"), create("b")]).position;
        let stored = ["b", "d", "f", "h", ""].map(|key| row(1, key, "stored")).to_vec();
        subject.log().put_derived(id("a"), at, stored).expect("taken");
        let others = vec![row(0, "z", "0"), row(2, "", "2"), row(255, "x", "255")];
        subject.log().put_derived(id("b"), at, others).expect("taken");
        checkpoint(subject.log());
        let put = vec![row(1, "a", "put"), row(1, "d", "put"), gone(1, "f"), row(1, "i", "put"), gone(1, "x")];
        subject.log().put_derived(id("a"), at, put).expect("taken");
        for round in 0..3 {
            let log = subject.log();
            assert_eq!(keys(log, 1, ALL, 9), " a b d h i", "round {round}");
            assert_eq!(read(log, 1, (Included(b"d"), Included(b"d")), 9), [("d".to_owned(), "put".to_owned())]);
            assert_eq!(keys(log, 1, (Included(b"b"), Excluded(b"h")), 9), "b d");
            assert_eq!(keys(log, 1, (Excluded(b"b"), Included(b"h")), 9), "d h");
            assert_eq!(keys(log, 1, (Excluded(b"d"), Unbounded), 9), "h i");
            assert_eq!(keys(log, 1, ALL, 4), " a b d");
            // One of those that a piece of this length begins with is gone.
            assert_eq!(keys(log, 1, (Excluded(b"d"), Unbounded), 1), "h");
            assert_eq!(keys(log, 1, ALL, 0), "");
            for (from, to) in [(Included("d"), Excluded("d")), (Excluded("d"), Excluded("d")), (Included("e"), Included("d"))] {
                let range = (from.map(str::as_bytes), to.map(str::as_bytes));
                assert_eq!(read(log, 1, range, 9), [], "{range:?}");
            }
            assert_eq!((keys(log, 0, ALL, 9), keys(log, 255, ALL, 9)), ("z".to_owned(), "x".to_owned()));
            assert_eq!(read(log, 2, ALL, 9), [(String::new(), "2".to_owned())]);
            match round {
                0 => checkpoint(log),
                _ => subject.crash(),
            }
        }
    }

    fn reading_ends_where_many_bytes_are_passed_and_goes_on_from_there(subject: &mut impl Subject) {
        let at = put(subject.log(), vec![create("a")]).position;
        let value = Bytes::from(vec![7; DERIVED_READ_BYTES_MAX / 2]);
        for half in [["a", "c"], ["b", "d"]] {
            let rows = half.map(|at| (key(1, at), Some(value.clone()))).to_vec();
            subject.log().put_derived(id("a"), at, rows).expect("taken");
            checkpoint(subject.log());
        }
        assert_eq!(subject.log().derived(1, ALL, 9).expect("readable").len(), 2);
        assert_eq!(subject.log().derived(1, (Excluded(b"b"), Unbounded), 9).expect("readable").len(), 2);
        assert_eq!(subject.log().derived(1, (Excluded(b"d"), Unbounded), 9), Ok(vec![]));
    }

    fn a_document_is_due_while_it_has_entries_to_derive_from(subject: &mut impl Subject) {
        put(subject.log(), vec![create("a"), update("a", "1")]);
        assert!(!is_due(subject.log(), "a"), "nothing is derived from a creation");
        put(subject.log(), vec![fields("a", "1")]);
        assert!(is_due(subject.log(), "a"));
        assert!(load(subject.log(), "a").is_due);
        let derive = |log: &dyn Log, at| log.put_derived(id("a"), at, vec![]).expect("taken");
        let at = load(subject.log(), "a").position;
        derive(subject.log(), at);
        assert!(!is_due(subject.log(), "a"));
        subject.crash();
        assert!(is_due(subject.log(), "a"), "what was put is gone");
        derive(subject.log(), at);
        checkpoint(subject.log());
        put(subject.log(), vec![update("a", "2")]);
        for _ in 0..3 {
            assert!(!is_due(subject.log(), "a"), "nothing is derived from an update without fields");
            subject.crash();
            checkpoint(subject.log());
        }
        let others = [
            fields("a", "3"),
            lifecycle("a", &LifecycleChange::Restore),
            NewEntry { kind: EntryKind::Graph, ..update("a", "graph") },
        ];
        for entry in others {
            let kind = entry.kind;
            let at = put(subject.log(), vec![entry, update("a", "after")]).position;
            for round in 0..4 {
                assert!(is_due(subject.log(), "a"), "{kind:?} {round}");
                if round % 2 == 0 { subject.crash() } else { checkpoint(subject.log()) }
            }
            // The entry itself is the last but one.
            derive(subject.log(), Position(at.0 - 1));
            assert!(!is_due(subject.log(), "a"), "{kind:?}");
            checkpoint(subject.log());
            subject.crash();
            assert!(!is_due(subject.log(), "a"), "{kind:?}");
        }
    }

    fn an_edit_of_a_deleted_document_makes_it_due_at_the_next_checkpoint(subject: &mut impl Subject) {
        let delete = LifecycleChange::Delete { frontier: Frontier::new() };
        let at = put(subject.log(), vec![create("a"), lifecycle("a", &delete)]).position;
        subject.log().put_derived(id("a"), at, vec![]).expect("taken");
        checkpoint(subject.log());
        assert!(!is_due(subject.log(), "a"));
        put(subject.log(), vec![update("a", "1")]);
        checkpoint(subject.log());
        assert!(is_due(subject.log(), "a"));
        subject.crash();
        assert!(is_due(subject.log(), "a"));
    }

    fn what_was_derived_up_to_before_an_entry_leaves_its_document_due(subject: &mut impl Subject) {
        let first = put(subject.log(), vec![create("a"), fields("a", "1")]).position;
        let second = put(subject.log(), vec![fields("a", "2")]).position;
        checkpoint(subject.log());
        subject.log().put_derived(id("a"), first, vec![row(1, "a", "1")]).expect("taken");
        for round in 0..4 {
            assert!(is_due(subject.log(), "a"), "round {round}");
            assert_eq!(read(subject.log(), 1, ALL, 9).len(), 1);
            if round % 2 == 0 { checkpoint(subject.log()) } else { subject.crash() }
        }
        // An entry that comes between the put and its checkpoint.
        subject.log().put_derived(id("a"), second, vec![row(1, "a", "2")]).expect("taken");
        put(subject.log(), vec![fields("a", "3")]);
        assert!(is_due(subject.log(), "a"));
        checkpoint(subject.log());
        subject.crash();
        assert!(is_due(subject.log(), "a"));
        assert_eq!(read(subject.log(), 1, ALL, 9), [("a".to_owned(), "2".to_owned())]);
    }

    fn an_older_put_changes_nothing(subject: &mut impl Subject) {
        let first = put(subject.log(), vec![create("a"), fields("a", "1")]).position;
        let second = put(subject.log(), vec![fields("a", "2")]).position;
        let give = |log: &dyn Log, at, text: &str| {
            log.put_derived(id("a"), at, vec![row(1, text, text)]).expect("taken");
        };
        give(subject.log(), second, "2");
        give(subject.log(), first, "1");
        assert_eq!(keys(subject.log(), 1, ALL, 9), "2");
        checkpoint(subject.log());
        give(subject.log(), first, "1");
        checkpoint(subject.log());
        assert_eq!(keys(subject.log(), 1, ALL, 9), "2");
        // One that stands where the last one does is not older.
        give(subject.log(), second, "2 again");
        checkpoint(subject.log());
        assert_eq!(keys(subject.log(), 1, ALL, 9), "2 2 again");
        assert_eq!(due(subject.log()), []);
        put(subject.log(), vec![fields("a", "3")]);
        give(subject.log(), first, "1");
        for _ in 0..2 {
            assert!(is_due(subject.log(), "a"));
            checkpoint(subject.log());
        }
    }

    fn of_a_document_without_entries_nothing_is_kept(subject: &mut impl Subject) {
        let at = put(subject.log(), vec![create("a"), fields("a", "1")]).position;
        subject.log().put_derived(id("b"), at, vec![row(1, "b", "b")]).expect("taken");
        checkpoint(subject.log());
        assert_eq!((keys(subject.log(), 1, ALL, 9), subject.log().load(id("b"))), (String::new(), Ok(None)));
        assert_eq!(due(subject.log()), [id("a")]);
    }

    fn what_cannot_be_taken_is_refused_and_changes_nothing(subject: &mut impl Subject) {
        let at = put(subject.log(), vec![create("a"), fields("a", "1")]).position;
        let log = subject.log();
        let give = |position, changes| log.put_derived(id("a"), position, changes);
        assert_eq!(
            give(Position(3), vec![row(1, "a", "1")]),
            Err(DerivedError::Beyond { given: Position(3), head: Position(2) })
        );
        let long = "k".repeat(DERIVED_KEY_BYTES_MAX);
        let longer = format!("{long}k");
        assert_eq!(give(at, vec![row(1, "a", "1"), gone(1, &longer)]), Err(DerivedError::KeyTooLong(longer.len())));
        let large = |bytes: usize| vec![(key(1, &long), Some(Bytes::from(vec![7; bytes])))];
        assert!(matches!(give(at, large(257 * MIB)), Err(DerivedError::TooLong(_))));
        assert_eq!((keys(log, 1, ALL, 9), due(log)), (String::new(), vec![id("a")]));
        give(at, large(31 * MIB)).expect("taken");
        assert_eq!(give(at, large(34 * MIB)), Err(DerivedError::Busy));
        checkpoint(log);
        give(at, large(34 * MIB)).expect("taken");
        assert_eq!(log.derived(1, ALL, 9).expect("readable")[0].1.len(), 34 * MIB);
    }

    fn due_documents_are_listed_page_by_page_wherever_they_are(subject: &mut impl Subject) {
        let names: Vec<String> = (0..60).map(|n| format!("doc {n}")).collect();
        let mut expected = BTreeSet::new();
        for (n, some) in names.chunks(20).enumerate() {
            put(subject.log(), some.iter().flat_map(|name| [create(name), fields(name, "1")]).collect());
            let at = subject.log().stats().position;
            for (i, name) in some.iter().enumerate() {
                if i % 3 == n {
                    subject.log().put_derived(id(name), at, vec![]).expect("taken");
                } else {
                    expected.insert(id(name));
                }
            }
            if n < 2 {
                checkpoint(subject.log());
            }
        }
        // Of some, what is in the store is due, and in memory it was derived.
        let at = subject.log().stats().position;
        for name in names.iter().take(30).step_by(2) {
            subject.log().put_derived(id(name), at, vec![]).expect("taken");
            expected.remove(&id(name));
        }
        let expected: Vec<DocId> = expected.into_iter().collect();
        for limit in [1, 3, 7, 1000] {
            let (mut listed, mut after) = (Vec::new(), None);
            loop {
                let page = subject.log().due(after, limit).expect("readable");
                after = page.last().copied().or(after);
                listed.extend_from_slice(&page);
                if page.len() < limit {
                    break;
                }
            }
            assert_eq!(listed, expected, "{limit} at once");
        }
        assert_eq!(subject.log().due(None, 0), Ok(vec![]));
        checkpoint(subject.log());
        subject.crash();
        assert_eq!(due(subject.log()), expected);
    }
}

#[test]
fn rows_that_wait_hasten_a_checkpoint_and_hold_commits_up() {
    let disk = SimDisk::new();
    let options = RedbLogOptions { checkpoint_bytes: MIB, memory_bytes_max: 2 * MIB, ..options() };
    let log = RedbLog::open_backends(disk.journal(), disk.store(), &options).expect("opens");
    let at = put(&log, vec![create("a")]).position;
    let rows = (0..20).map(|n| (key(1, &n.to_string()), Some(Bytes::from(vec![7; MIB / 8]))));
    log.put_derived(id("a"), at, rows.collect()).expect("taken");
    put(&log, vec![update("a", "1")]);
    assert!(log.stats().checkpoints > 0, "the commit had to wait for it");
    assert!(log.stats().memory_bytes < MIB as u64);
}

#[test]
fn a_log_that_is_closed_in_order_keeps_what_was_put_last() {
    let disk = SimDisk::new();
    let log = OnDisk::open(&disk);
    let at = put(&log, vec![create("a")]).position;
    checkpoint(&log);
    log.put_derived(id("a"), at, vec![row(1, "a", "1")]).expect("taken");
    drop(log);
    let log = OnDisk::open(&disk);
    assert_eq!((keys(&log, 1, ALL, 9), due(&log)), ("a".to_owned(), vec![]));
}

const DOCS: [&str; 3] = ["a", "b/ü", "c"];

/// A document's owner, as a server has one: derives rows from all entries, and puts what differs from those that
/// are there.
fn derive(log: &dyn Log, doc: &str) {
    derive_up_to(log, doc, load(log, doc).position);
}

fn derive_up_to(log: &dyn Log, doc: &str, position: Position) {
    let target = derived_from(log, doc, position);
    let there = rows_of(log, doc);
    let new = target.iter().filter(|(key, value)| there.get(*key) != Some(value));
    let old = there.keys().filter(|key| !target.contains_key(*key));
    let changes = new.map(|(key, value)| row(1, key, value)).chain(old.map(|key| gone(1, key))).collect();
    log.put_derived(id(doc), position, changes).expect("taken");
}

/// A row for each of the last two entries that write fields up to a position, and one that tells how many there
/// are: each step adds a row, removes one and changes one.
fn derived_from(log: &dyn Log, doc: &str, up_to: Position) -> BTreeMap<String, String> {
    let tail = load(log, doc).tail;
    let wrote: Vec<String> = tail
        .iter()
        .filter(|entry| entry.kind == EntryKind::Fields && entry.position <= up_to)
        .map(|entry| String::from_utf8_lossy(&entry.payload).into_owned())
        .collect();
    let last = wrote.iter().rev().take(2).map(|text| (format!("{doc} row {text}"), text.clone()));
    let count = (!wrote.is_empty()).then(|| (format!("{doc} count"), wrote.len().to_string()));
    last.chain(count).collect()
}

fn rows_of(log: &dyn Log, doc: &str) -> BTreeMap<String, String> {
    let of = format!("{doc} ");
    read(log, 1, (Included(of.as_bytes()), Unbounded), 99)
        .into_iter()
        .filter(|(key, _)| key.starts_with(&of))
        .collect()
}

/// The rows of each document are what was derived up to one of its entries, and it is due if there are later ones.
fn check(log: &dyn Log, story: &str) {
    let due = due(log);
    for doc in DOCS {
        match log.load(id(doc)) {
            Ok(None) => {
                assert!(
                    !due.contains(&id(doc)) && rows_of(log, doc).is_empty(),
                    "{story}: {doc} is not there"
                );
                continue;
            }
            Err(LoadError::Nameless(_)) => continue,
            stored => drop(stored.expect(story)),
        }
        let tail = load(log, doc).tail;
        let rows = rows_of(log, doc);
        let all = derived_from(log, doc, Position(u64::MAX));
        let ends = tail.iter().map(|entry| entry.position).chain([Position(0)]);
        assert!(
            ends.into_iter().any(|end| derived_from(log, doc, end) == rows),
            "{story}: {doc} has {rows:?}"
        );
        assert!(rows == all || due.contains(&id(doc)), "{story}: {doc} has {rows:?}, and is not due");
    }
}

/// What a server does at its start.
fn derive_all_due(log: &dyn Log, story: &str) {
    for doc in DOCS {
        if is_due(log, doc) {
            derive(log, doc);
        }
    }
    assert_eq!(due(log), [], "{story}");
    check(log, story);
}

/// Documents whose fields are written, owners that derive from them now and then, and checkpoints between.
fn run(log: &dyn Log) {
    for step in 0..12 {
        for (i, doc) in DOCS.iter().enumerate() {
            let first = (step == 0).then(|| create(doc));
            let entry =
                if (step + i) % 3 == 2 { update(doc, "text") } else { fields(doc, &step.to_string()) };
            if log.append(support::NOW_MS, &[first.into_iter().chain([entry]).collect()]).is_err() {
                return;
            }
            if log.health() == Health::Serving && (step + i) % 4 != 1 {
                // An owner may be behind the log.
                let behind = usize::from((step + i) % 4 == 0);
                let seen = load(log, doc).tail.into_iter().nth_back(behind);
                seen.into_iter().for_each(|entry| derive_up_to(log, doc, entry.position));
            }
            if (2 * step + i) % 7 == 6 && log.checkpoint().is_err() {
                return;
            }
        }
    }
}

#[test]
fn rows_are_derived_up_to_one_entry_wherever_power_goes() {
    let disk = SimDisk::new();
    let log = OnDisk::open(&disk);
    run(&log);
    assert_eq!(rows_of(&log, "a").len(), 3);
    drop(log);
    let operations = disk.operations();
    assert!(operations > 100, "{operations} operations are too few to mean anything");
    let mut due_again = 0;
    for cut in 0..=operations {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn { seed: cut }] {
            let story = format!("cut at operation {cut}, {unsynced:?}");
            let disk = SimDisk::new();
            disk.cut_at(cut);
            let log = RedbLog::open_backends(disk.journal(), disk.store(), &options());
            log.iter().for_each(|log| run(log));
            disk.crash(unsynced);
            drop(log);
            let log = OnDisk::open(&disk);
            check(&log, &story);
            due_again += due(&log).len();
            derive_all_due(&log, &story);
            log.checkpoint().expect(&story);
            disk.crash(Unsynced::Lost);
            drop(log);
            let log = OnDisk::open(&disk);
            assert_eq!(due(&log), [], "{story}");
            check(&log, &story);
        }
    }
    assert!(due_again > 0, "no cut left a document due");
}

/// One thing that happens to a log.
#[derive(Clone, Debug)]
enum Event {
    Write { doc: usize, kind: EntryKind },
    Derive { doc: usize },
    Late { doc: usize },
    Checkpoint,
    Crash,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kinds = prop_oneof![Just(EntryKind::Fields), Just(EntryKind::Update), Just(EntryKind::Graph)];
    let event = prop_oneof![
        5 => (0..3_usize, kinds).prop_map(|(doc, kind)| Event::Write { doc, kind }),
        4 => (0..3_usize).prop_map(|doc| Event::Derive { doc }),
        1 => (0..3_usize).prop_map(|doc| Event::Late { doc }),
        2 => Just(Event::Checkpoint),
        1 => Just(Event::Crash),
    ];
    proptest::collection::vec(event, 1..60)
}

/// Whatever happens in whatever order, both logs show the same rows and the same documents are due.
fn same_in_both(events: Vec<Event>) -> Result<(), TestCaseError> {
    let (mut memory, mut on_disk) = (MemoryLog::fresh(), OnDisk::fresh());
    for (n, event) in events.into_iter().enumerate() {
        for subject in [&mut memory as &mut dyn Crashes, &mut on_disk] {
            let log = subject.at();
            match event {
                Event::Write { doc, kind } => {
                    let entry = NewEntry { kind, ..update(DOCS[doc], &n.to_string()) };
                    put(log, vec![create(DOCS[doc]), entry]);
                }
                Event::Derive { doc } if log.load(id(DOCS[doc])).expect("readable").is_some() => {
                    derive(log, DOCS[doc]);
                }
                Event::Late { doc } => log.put_derived(id(DOCS[doc]), Position(0), vec![]).expect("taken"),
                Event::Derive { .. } => {}
                Event::Checkpoint => checkpoint(log),
                Event::Crash => subject.power_goes(),
            }
            check(subject.at(), "a history");
        }
        prop_assert_eq!(due(memory.log()), due(on_disk.log()));
        prop_assert_eq!(read(memory.log(), 1, ALL, 99), read(on_disk.log(), 1, ALL, 99));
    }
    Ok(())
}

/// [`Subject`] without what keeps it from standing behind a reference.
trait Crashes {
    fn at(&self) -> &dyn Log;
    fn power_goes(&mut self);
}

impl<S: Subject> Crashes for S {
    fn at(&self) -> &dyn Log {
        self.log()
    }

    fn power_goes(&mut self) {
        self.crash();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_gives_the_same_rows_and_due_documents_in_both_logs(events in events()) {
        same_in_both(events)?;
    }
}
