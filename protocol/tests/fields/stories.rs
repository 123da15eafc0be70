//! What people do to a field in two regions, told in a few lines.

use crate::world::{Act, World};
use quire_protocol::fields::policy::Policy;
use quire_protocol::fields::{
    Base, CONFLICTS_KEY, Edit, FIELDS_ROOT, FieldVersion, Graph, Held, Mark, MarkKind, Path, Shown, Tracker,
    Value, WriteId,
};
use quire_protocol::lib0::{put_var_bytes, put_var_u64};
use quire_protocol::update::{ClientId, ItemId, Update};
use yrs::types::ToJson;
use yrs::{Any, Map, Out, Transact};

const TITLE: usize = 0;

fn number(value: f64) -> Option<Value> {
    Some(Value::from(value))
}

/// Clients 0 and 1 in regions 0 and 1 have both seen the title 1.
fn both_have_seen_a_title() -> World {
    let mut world = World::new(2, 2);
    set(&mut world, 0);
    world.settle();
    pull(&mut world);
    world
}

fn set(world: &mut World, client: usize) {
    world.act(Act::Set { client, key: TITLE, nested: false });
    world.act(Act::Push { client, whole: false });
}

fn pull(world: &mut World) {
    (0..world.clients.len()).for_each(|client| world.act(Act::Pull { client }));
}

fn conflict() -> World {
    let mut world = both_have_seen_a_title();
    set(&mut world, 0);
    set(&mut world, 1);
    world.settle();
    world
}

/// The editors' map of conflicts, as a client sees it.
fn conflicts_shown(world: &World, client: usize) -> Option<Any> {
    let doc = &world.clients[client].doc;
    let root = doc.get_or_insert_map(quire_protocol::fields::FIELDS_ROOT);
    let txn = doc.transact();
    match root.get(&txn, CONFLICTS_KEY) {
        Some(Out::YMap(map)) => Some(map.get(&txn, "title")?.to_json(&txn)),
        _ => None,
    }
}

#[test]
fn f2_a_key_is_deleted_when_what_was_shown_is_and_nothing_replaces_it() {
    let mut world = both_have_seen_a_title();
    world.act(Act::Delete { client: 0, key: TITLE, nested: false });
    world.act(Act::Push { client: 0, whole: false });
    set(&mut world, 1);
    world.settle();
    // The deletion in one region and the write in the other are siblings.
    for region in 0..2 {
        let state = world.state(region, "title");
        let held: Vec<&Held> = state.versions.iter().map(|version| &version.held).collect();
        assert_eq!(held, [&Held::Deleted, &Held::Value(Value::from(2.0))]);
    }
    // A rival that lost was deleted by Yjs: nobody deleted the key.
    let mut world = conflict();
    pull(&mut world);
    world.act(Act::Push { client: 0, whole: true });
    let writes: Vec<WriteId> = world.state(0, "title").versions.iter().map(|version| version.write).collect();
    assert!(writes.iter().all(|write| matches!(write, WriteId::Set(_))), "{writes:?}");
}

#[test]
fn f2_who_has_not_seen_what_was_deleted_does_not_come_after_the_deletion() {
    for rival in [0, 1] {
        let mut world = both_have_seen_a_title();
        // Of rivals Yjs shows that of the greater client, here the second one's or the first one's.
        let writer = 1 - rival;
        set(&mut world, rival);
        world.act(Act::Delete { client: rival, key: TITLE, nested: false });
        world.act(Act::Push { client: rival, whole: false });
        world.settle();
        set(&mut world, writer);
        world.settle();
        let state = world.state(0, "title");
        let held: Vec<&Held> = state.versions.iter().map(|version| &version.held).collect();
        assert_eq!(held, [&Held::Deleted, &Held::Value(Value::from(3.0))]);
        assert_eq!(state.base, Base::Write(Held::Value(Value::from(1.0))));
    }
}

#[test]
fn f2_who_replaces_a_deleted_key_without_deleting_anything_knew_of_the_deletion() {
    for knows in [true, false] {
        let mut world = both_have_seen_a_title();
        world.act(Act::Delete { client: 0, key: TITLE, nested: false });
        world.act(Act::Push { client: 0, whole: false });
        world.settle();
        if knows {
            pull(&mut world);
        }
        // The first write comes after the deletion in any case, and leaves it no longer standing.
        set(&mut world, 0);
        world.settle();
        set(&mut world, 1);
        world.settle();
        for region in 0..2 {
            let state = world.state(region, "title");
            assert_eq!(state.versions.len(), 2);
            let base = if knows { Held::Deleted } else { Held::Value(Value::from(1.0)) };
            assert_eq!(state.base, Base::Write(base), "the second writer knew of the deletion: {knows}");
        }
    }
}

#[test]
fn f3_an_edit_of_a_write_back_resolves_the_conflict_in_every_region() {
    let mut world = conflict();
    world.act(Act::WriteBack { region: 1 });
    world.settle();
    pull(&mut world);
    assert_eq!(world.state(0, "title").versions.len(), 2);
    assert!(conflicts_shown(&world, 0).is_some());
    set(&mut world, 0);
    world.settle();
    for region in 0..2 {
        let state = world.state(region, "title");
        assert_eq!(state.versions.len(), 1);
        assert_eq!(state.shown, Shown::Value(number(4.0)));
        assert_eq!(state.conflict, None);
    }
    // The next write-back takes the conflict off the editors' map.
    world.act(Act::WriteBack { region: 0 });
    world.settle();
    pull(&mut world);
    assert_eq!(conflicts_shown(&world, 1), None);
}

#[test]
fn f15_a_write_back_that_was_lost_with_its_region_is_given_back_as_one() {
    let mut world = conflict();
    world.act(Act::WriteBack { region: 0 });
    world.act(Act::Pull { client: 0 });
    // Its region's disk goes before the other region has it, and an editor that was shown it goes there.
    world.regions[0] = crate::world::Region::default();
    world.act(Act::Move { client: 0, region: 1 });
    let before = world.state(1, "title").versions;
    world.act(Act::Push { client: 0, whole: true });
    assert_eq!(world.state(1, "title").versions, before);
    // What somebody writes on it takes the place of what it is known to stand on. The other sibling stays.
    set(&mut world, 0);
    let after: Vec<Held> = world.state(1, "title").versions.into_iter().map(|version| version.held).collect();
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(after.contains(&Held::Value(Value::from(4.0))), "{after:?}");
}

#[test]
fn f3_what_editors_are_told_of_a_field_is_looked_at_again_when_another_region_tells_it() {
    let mut world = both_have_seen_a_title();
    // A map cannot be written back: only what is told of the conflict is.
    set(&mut world, 0);
    world.act(Act::Nest { client: 1, key: TITLE });
    world.act(Act::Push { client: 1, whole: false });
    world.settle();
    world.act(Act::WriteBack { region: 1 });
    world.regions[0].touched.clear();
    world.settle();
    assert!(conflicts_shown(&world, 0).is_none());
    assert!(world.regions[0].touched.contains(&Path::of("title")));
    pull(&mut world);
    assert!(conflicts_shown(&world, 0).is_some());
}

#[test]
fn f3_regions_that_write_back_at_once_write_the_same() {
    let mut world = conflict();
    world.act(Act::WriteBack { region: 0 });
    world.act(Act::WriteBack { region: 1 });
    world.settle();
    pull(&mut world);
    assert_eq!(world.state(0, "title").versions.len(), 2);
    // Whoever saw either of them has seen both versions.
    set(&mut world, 0);
    set(&mut world, 1);
    world.settle();
    let state = world.state(1, "title");
    assert_eq!(state.versions.len(), 2);
    assert_eq!(state.base, quire_protocol::fields::Base::Several(Some(Held::Value(Value::from(3.0)))));
}

#[test]
fn f4_different_resolutions_make_a_new_conflict_of_themselves_alone() {
    let mut world = conflict();
    let id = world.state(0, "title").conflict_id(&Path::of("title"));
    let seen = world.regions[0].tracker.conflict(&Path::of("title"), id).unwrap();
    for (region, value) in [(0, 10.0), (1, 20.0)] {
        let edit = Edit { path: Path::of("title"), value: number(value), on: Some(seen.clone()) };
        world.edit_at(region, &[edit]);
        assert_eq!(world.state(region, "title").versions.len(), 1);
    }
    world.settle();
    for region in 0..2 {
        let held: Vec<Held> =
            world.state(region, "title").versions.into_iter().map(|version| version.held).collect();
        assert_eq!(held, [Held::Value(Value::from(10.0)), Held::Value(Value::from(20.0))]);
        assert!(world.regions[region].tracker.conflict(&Path::of("title"), id).is_some(), "it is remembered");
    }
}

#[test]
fn f4_a_resolution_leaves_siblings_that_it_has_not_seen() {
    let mut world = World::new(3, 3);
    (0..3).for_each(|client| set(&mut world, client));
    world.act(Act::Exchange { from: 1, to: 0 });
    world.edit_at(0, &[Edit { path: Path::of("title"), value: number(10.0), on: None }]);
    world.settle();
    let held: Vec<Held> = world.state(1, "title").versions.into_iter().map(|version| version.held).collect();
    assert_eq!(held, [Held::Value(Value::from(3.0)), Held::Value(Value::from(10.0))]);
}

#[test]
fn f5_a_write_on_an_old_version_becomes_a_sibling_on_the_right_base() {
    let mut world = both_have_seen_a_title();
    let old = world.state(0, "title").version();
    set(&mut world, 0);
    let edit = |value, on| Edit { path: Path::of("title"), value, on };
    world.edit_at(0, &[edit(number(10.0), Some(old.clone()))]);
    let state = world.state(0, "title");
    let held: Vec<&Held> = state.versions.iter().map(|version| &version.held).collect();
    assert_eq!(held, [&Held::Value(Value::from(2.0)), &Held::Value(Value::from(10.0))]);
    assert_eq!(state.base, quire_protocol::fields::Base::Write(Held::Value(Value::from(1.0))));
    // So does a deletion, which finds nothing to delete any more.
    world.edit_at(0, &[edit(None, Some(old))]);
    assert_eq!(world.state(0, "title").versions.len(), 3);
    // On the current version it replaces all of them.
    let current = world.state(0, "title").version();
    world.edit_at(0, &[edit(number(11.0), Some(current.to_string().parse().unwrap()))]);
    assert_eq!(world.state(0, "title").versions.len(), 1);
    assert_eq!(world.regions[0].tracker.shows(&Path::of("title")), Some(Held::Value(Value::from(11.0))));
    // Who has never read it has seen nothing.
    world.edit_at(1, &[edit(number(12.0), Some(FieldVersion::default()))]);
    assert_eq!(world.state(1, "title").versions.len(), 2);
}

#[test]
fn f5_two_writes_of_a_region_on_one_old_version_stand_as_in_yjs_however_they_come() {
    let mut world = both_have_seen_a_title();
    let old = world.state(0, "title").version();
    set(&mut world, 0);
    for value in [10.0, 11.0] {
        let edit = Edit { path: Path::of("title"), value: number(value), on: Some(old.clone()) };
        world.edit_at(0, &[edit]);
    }
    // An editor that has all of it gives it to a region that has nothing, at once.
    pull(&mut world);
    let root = world.clients[0].doc.get_or_insert_map(quire_protocol::fields::FIELDS_ROOT);
    let shown = root.get(&world.clients[0].doc.transact(), "title");
    world.regions[1] = crate::world::Region::default();
    world.act(Act::Move { client: 0, region: 1 });
    world.act(Act::Push { client: 0, whole: true });
    for region in 0..2 {
        let held = world.regions[region].tracker.shows(&Path::of("title"));
        assert_eq!(held, Some(Held::Value(Value::from(10.0))), "region {region}");
    }
    assert_eq!(shown, Some(Out::Any(Any::from(10.0))));
}

#[test]
fn f7_deletions_that_a_broken_region_puts_in_a_circle_part_no_write_from_what_it_replaced() {
    let mut world = World::new(2, 3);
    for client in [1, 2] {
        world.act(Act::Set { client, key: TITLE, nested: false });
        world.act(Act::Push { client, whole: false });
        world.act(Act::Delete { client, key: TITLE, nested: false });
        world.act(Act::Push { client, whole: false });
    }
    world.settle();
    world.act(Act::Pull { client: 0 });
    set(&mut world, 0);
    world.settle();
    let item = |client| ItemId { client: ClientId(client), clock: 0 };
    let circle = [(101, 102), (102, 101)].map(|(set, deleted)| {
        let sees = vec![WriteId::Deleted(item(deleted))];
        Mark { write: WriteId::Set(item(set)), kind: MarkKind::Edit, sees }
    });
    for region in &mut world.regions {
        let by = region.log[0].by.clone();
        region.tracker.take(&Update::empty(), &circle, &by);
    }
    // It stands right of what client 0 wrote in the same place, whose client is less.
    world.act(Act::Set { client: 2, key: TITLE, nested: false });
    world.act(Act::Push { client: 2, whole: false });
    world.settle();
    for region in 0..2 {
        let shows = world.regions[region].tracker.shows(&Path::of("title"));
        assert_eq!(shows, Some(Held::Value(Value::from(4.0))), "region {region}");
    }
}

#[test]
fn f1_a_write_that_was_replaced_at_once_is_one_in_stored_graphs_too() {
    let mut world = World::new(2, 1);
    // What an editor replaced before anybody saw it has no value any more: the first region hears of one such write,
    // the second of two as one.
    for region in 0..2 {
        world.act(Act::Set { client: 0, key: TITLE, nested: false });
        world.act(Act::Set { client: 0, key: TITLE, nested: false });
        world.act(Act::Move { client: 0, region });
        world.act(Act::Push { client: 0, whole: true });
    }
    let stored = [0, 1].map(|region: usize| world.regions[region].tracker.graph().encode());
    let merged = [[0, 1], [1, 0]].map(|order| {
        let mut graph = Graph::new();
        order.into_iter().for_each(|of: usize| graph.merge(stored[of].clone()).unwrap());
        graph.encode().len()
    });
    // They may say of what was let go that it came with the one entry or with the other, and nothing else.
    assert_eq!(merged[0], merged[1]);
}

#[test]
fn f6_sixteen_siblings_are_written_back_once_each_time_one_more_comes() {
    let mut world = World::new(16, 16);
    (0..16).for_each(|client| set(&mut world, client));
    for from in 1..16 {
        world.act(Act::Exchange { from, to: 0 });
        world.act(Act::WriteBack { region: 0 });
        let before = world.regions[0].log.len();
        world.act(Act::WriteBack { region: 0 });
        assert_eq!(world.regions[0].log.len(), before);
    }
    world.settle();
    let state = world.state(7, "title");
    assert_eq!(state.versions.len(), 16);
    let bytes = world.regions[7].tracker.graph().encode().len();
    assert!(bytes < 16 << 10, "{bytes} bytes of graph");
    pull(&mut world);
    set(&mut world, 7);
    world.settle();
    assert_eq!(world.state(0, "title").versions.len(), 1);
}

/// An update of one item of the title: so many units that were set at once, the last of them to its clock.
fn units(client: u32, clock: u32, origin: Option<(u32, u32)>, count: u32) -> Update {
    let mut out = vec![1, 1];
    for number in [client, clock] {
        put_var_u64(&mut out, number.into());
    }
    match origin {
        Some((client, clock)) => {
            out.push(0x88);
            put_var_u64(&mut out, client.into());
            put_var_u64(&mut out, clock.into());
        }
        None => {
            out.extend([0x28, 1]);
            put_var_bytes(&mut out, FIELDS_ROOT.as_bytes());
            put_var_bytes(&mut out, b"title");
        }
    }
    put_var_u64(&mut out, count.into());
    (clock..clock + count).for_each(|value| Value::from(f64::from(value)).encode(&mut out));
    out.push(0);
    Update::decode(out.into()).unwrap()
}

#[test]
fn f1_what_is_let_go_is_the_same_however_writes_came_together() {
    let by = conflict().regions[0].log[0].by.clone();
    let bases = |runs: [u32; 2]| -> Vec<Base> {
        let mut tracker = Tracker::default();
        let mut clock = 0_u32;
        // Many writes of one client, and then some that came as one item or as two.
        for count in std::iter::repeat_n(1, 900).chain(runs).filter(|count| *count > 0) {
            let origin = clock.checked_sub(1).map(|before| (7, before));
            tracker.take(&units(7, clock, origin, count), &[], &by);
            clock += count;
        }
        // Who was offline since one of the first of them.
        let late = (50..90).map(|seen| {
            let mut tracker = Tracker::new({
                let mut graph = Graph::new();
                graph.merge(tracker.graph().encode()).unwrap();
                graph
            });
            tracker.take(&units(9, 0, Some((7, seen)), 1), &[], &by);
            tracker.state(&Path::of("title"), &Policy::Siblings).unwrap().base
        });
        late.collect()
    };
    let whole = bases([200, 0]);
    assert_eq!(bases([195, 5]), whole);
    assert_eq!(bases([3, 197]), whole);
    assert!(whole.contains(&Base::Write(Held::Unknown)), "{whole:?}");
    assert!(whole.iter().any(|base| matches!(base, Base::Write(Held::Value(_)))), "{whole:?}");
}
