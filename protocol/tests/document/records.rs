//! What an open document tells of its conflicts: when it has changed, over restarts, and up to a bound.

use quire_protocol::document::{HISTORY_LEN_MAX, Input, Limits, Request};
use quire_protocol::fields::{ConflictId, Conflicting, Edit, FieldVersion, Path, Status, Value};

use super::world::World;

/// Long after all that is due has been looked at.
const A_WHILE_MS: u64 = 1_000;

/// A write over HTTP: on what is there, or on nothing, so that it comes beside it.
fn write(path: &str, value: f64, beside: bool) -> Edit {
    let on = beside.then(FieldVersion::default);
    Edit { path: Path::of(path), value: Some(Value::from(value)), on }
}

fn edits(world: &mut World, edits: Vec<Edit>) {
    world.request(Request::EditFields { edits, is_exact: false, author: None });
    asks_and_commits(world);
}

fn asks_and_commits(world: &mut World) {
    world.handle(Input::Quiet);
    while world.commits() {}
    world.handle(Input::Quiet);
}

/// Two values of one field, of which none has seen the other.
fn conflict(path: &str) -> World {
    let mut world = World::new(Limits::default());
    edits(&mut world, vec![write(path, 1.0, false)]);
    edits(&mut world, vec![write(path, 2.0, true)]);
    world.passes(A_WHILE_MS);
    world
}

fn only(world: &World) -> (ConflictId, Status) {
    let [(id, record)] = &world.records.iter().collect::<Vec<_>>()[..] else {
        panic!("one conflict is on record: {:?}", world.records)
    };
    (**id, record.status())
}

#[test]
fn f11_what_is_on_record_outlives_a_restart_and_is_told_when_it_has_changed() {
    let mut world = conflict("title");
    let (id, status) = only(&world);
    assert_eq!(status, Status::Open);
    // Nothing has come since: nothing is told.
    let told = world.told.len();
    world.opens_with_its_records(false);
    world.passes(A_WHILE_MS);
    assert_eq!(world.told.len(), told);
    // Whether it has is not known: how far it goes is told, and no conflict.
    let before = world.records.clone();
    world.opens_with_its_records(true);
    world.passes(A_WHILE_MS);
    assert_eq!(world.told[told..], [0]);
    assert_eq!(world.records, before);
    // What is lost is derived again.
    world.records.clear();
    world.opens_with_its_records(true);
    assert_eq!(world.records, before);

    edits(&mut world, vec![write("title", 3.0, false)]);
    world.passes(A_WHILE_MS);
    assert_eq!(only(&world), (id, Status::Resolved));
    let over = world.records.clone();
    for is_due in [false, true] {
        world.opens_with_its_records(is_due);
        world.passes(A_WHILE_MS);
        assert_eq!(world.records, over);
    }
    // A conflict that was resolved before anything was told of it is told of as one that is over.
    world.records.clear();
    world.opens_with_its_records(true);
    assert_eq!(world.records, over);
}

#[test]
fn f11_a_conflict_that_grows_is_on_record_once() {
    let mut world = conflict("title");
    let (first, _) = only(&world);
    for value in 3..=16 {
        edits(&mut world, vec![write("title", f64::from(value), true)]);
        world.passes(A_WHILE_MS);
    }
    let (last, status) = only(&world);
    assert_ne!(first, last);
    assert_eq!(status, Status::Open);
    let Conflicting::Writes(writes) = &world.records[&last].of else { panic!("it is of a field") };
    assert_eq!(writes.versions.len(), 16);
}

#[test]
fn f11_a_restoration_ends_the_conflict_between_a_deletion_and_an_edit() {
    let mut world = conflict("title");
    let fields = world.records.clone();
    // Another region deletes the document and has seen nothing of it.
    world.applies(quire_protocol::document::Write::Delete { seen: Default::default() }, 500);
    world.handle(Input::Quiet);
    world.passes(A_WHILE_MS);
    let deletion = |world: &World| {
        let of = |record: &&_| matches!(of_record(record), Conflicting::Deletion(_));
        world.records.values().find(of).cloned()
    };
    let open = deletion(&world).expect("it is on record");
    assert_eq!(open.status(), Status::Open);
    world.opens_with_its_records(true);
    assert_eq!(deletion(&world), Some(open.clone()));
    world.request(Request::Restore);
    asks_and_commits(&mut world);
    world.passes(A_WHILE_MS);
    let over = deletion(&world).expect("it stays on record");
    assert_eq!((over.id, over.status()), (open.id, Status::Resolved));
    assert_eq!(world.records.len(), fields.len() + 1, "what is on record of fields is not touched");
}

const fn of_record(record: &quire_protocol::fields::Record) -> &Conflicting {
    &record.of
}

#[test]
fn f11_so_many_conflicts_that_are_over_stay_on_record_the_oldest_go_and_do_not_come_back() {
    const FIELDS: usize = 32;
    let all =
        |value: f64, beside| (0..FIELDS).map(move |i| write(&format!("field {i}"), value, beside)).collect();
    let mut world = World::new(Limits::default());
    // In each round every field is in conflict once, and is resolved.
    let round = |world: &mut World, value: f64| {
        edits(world, all(value, true));
        edits(world, all(value + 0.5, false));
        world.passes(A_WHILE_MS);
    };
    let rounds = HISTORY_LEN_MAX / FIELDS;
    edits(&mut world, all(0.0, false));
    (1..=rounds).for_each(|value| round(&mut world, value as f64));
    assert_eq!(world.records.len(), HISTORY_LEN_MAX);
    let oldest: Vec<ConflictId> = of_round(&world, 1);
    assert_eq!(oldest.len(), FIELDS);
    // It is full: for whatever comes, the oldest goes.
    world.opens_with_its_records(true);
    assert_eq!(world.records.len(), HISTORY_LEN_MAX);
    round(&mut world, 1_000.0);
    assert_eq!(world.records.len(), HISTORY_LEN_MAX);
    assert!(oldest.iter().all(|id| !world.records.contains_key(id)), "those of the first round have gone");
    assert_eq!(of_round(&world, 2).len(), FIELDS, "and no others");
    // All fields are looked at again.
    for is_due in [true, false] {
        let (before, told) = (world.records.clone(), world.told.len());
        world.opens_with_its_records(is_due);
        edits(&mut world, all(2_000.0, false));
        world.passes(A_WHILE_MS);
        assert_eq!(world.records, before);
        assert!(world.told[told..].iter().all(|changed| *changed == 0), "none comes back only to go again");
    }
}

/// The conflicts that the values of a round ended.
fn of_round(world: &World, round: usize) -> Vec<ConflictId> {
    let left = Some(quire_protocol::fields::Held::Value(Value::from(round as f64 + 0.5)));
    let of = world
        .records
        .values()
        .filter(|record| record.resolved.as_ref().is_some_and(|resolved| resolved.left == left));
    of.map(|record| record.id).collect()
}
