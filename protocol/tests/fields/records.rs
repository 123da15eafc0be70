//! What is on record of a document's conflicts: in every region, and derived anew, from random histories.

use crate::knowledge::{another_order, history};
use crate::world::{Act, KEYS, Logged, World};
use proptest::prelude::*;
use quire_protocol::document::{
    DERIVE_CALM_INTERVAL_MS, DERIVE_INTERVAL_MS, Document, Input, Kept, Limits, Output, Stored, Write,
};
use quire_protocol::fields::schema::{Collection, Field, FieldType, Policy, Schema};
use quire_protocol::fields::{ConflictId, Edit, Path, Record, Rules, Status, Value};
use quire_protocol::ids::DocName;
use quire_protocol::time::Time;
use std::collections::BTreeMap;

type OnRecord = BTreeMap<ConflictId, Record>;

/// A field of each way to go: one that stays in conflict, one that is always merged, one that may be.
fn rules() -> Rules {
    let mut collection = Collection::new("all", "**").unwrap();
    let policies = [Policy::Siblings, Policy::Lww, Policy::Max];
    for (key, policy) in KEYS.into_iter().zip(policies) {
        let ty = if policy == Policy::Max { FieldType::Number } else { FieldType::Any };
        collection.fields.insert(key.to_owned(), Field::new(ty, policy));
    }
    Rules::of(&Schema::new(vec![collection]).unwrap(), &DocName::new("any").unwrap())
}

/// A document as one region has it open, and what it has put on record.
struct Owner {
    machine: Document,
    now: Time,
    position: u64,
    on_record: OnRecord,
    /// The positions up to which was told what is on record.
    told: Vec<u64>,
}

impl Owner {
    fn open(now: Time, stored: Stored) -> Self {
        let (mut out, position) = (Vec::new(), stored.position);
        let on_record = stored.records.iter().map(|(id, row)| (*id, Record::decode(row.clone()).unwrap()));
        let on_record = on_record.collect();
        let stored = Stored { rules: rules(), exists: true, ..stored };
        let machine = Document::load(now, Limits::default(), stored, &mut out).unwrap();
        let mut owner = Self { machine, now, position, on_record, told: Vec::new() };
        owner.take(out);
        owner
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(self.now, input, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            let Output::Derived(derived) = output else { continue };
            self.told.push(derived.position);
            for (id, record) in derived.records {
                match record {
                    Some(record) => drop(self.on_record.insert(id, record)),
                    None => drop(self.on_record.remove(&id)),
                }
            }
        }
    }

    fn applies(&mut self, logged: &Logged) {
        self.position += 1;
        let write = match &logged.fields {
            Some(fields) => Write::Fields(fields.encode()),
            None => Write::Update(logged.update.encoded().clone()),
        };
        self.handle(Input::Applied { write, position: self.position, stamp: logged.by.stamp });
    }

    /// Nothing more comes for so long that what may have changed has been looked at.
    fn rests(&mut self) {
        self.rests_for(DERIVE_INTERVAL_MS);
    }

    fn rests_for(&mut self, ms: u64) {
        self.handle(Input::Quiet);
        self.now = self.now.after(ms);
        self.handle(Input::Tick);
        self.handle(Input::Quiet);
    }

    fn rows(&self) -> Vec<(ConflictId, bytes::Bytes)> {
        self.on_record.iter().map(|(id, record)| (*id, record.encode())).collect()
    }
}

fn kept(log: &[Logged]) -> Vec<Kept> {
    let kept = log.iter().map(|logged| match &logged.fields {
        Some(fields) => Kept::Fields(fields.encode(), logged.by.stamp),
        None => Kept::Update(logged.update.encoded().clone()),
    });
    kept.collect()
}

/// What is on record where the entries come one by one, with a rest behind some of them, and the server is killed
/// after some of them and forgets nothing but what it has not derived yet.
fn told_one_by_one(log: &[Logged], rests: &[bool], killed_at: usize) -> OnRecord {
    let mut owner = Owner::open(Time(1), Stored::default());
    for (at, logged) in log.iter().enumerate() {
        if at == killed_at {
            let stored = Stored {
                tail: kept(&log[..at]),
                position: at as u64,
                records: owner.rows(),
                is_due: true,
                ..Stored::default()
            };
            owner = Owner::open(owner.now, stored);
        }
        owner.applies(logged);
        if rests[at % rests.len()] {
            owner.rests();
        }
    }
    owner.rests();
    owner.on_record
}

/// What is on record where all is read at once.
fn derived_anew(stored: Stored) -> OnRecord {
    let mut owner = Owner::open(Time(1), Stored { is_due: true, ..stored });
    owner.rests();
    owner.on_record
}

fn world(acts: &[Act]) -> World {
    let mut world = World::new(3, 4);
    world.rules = rules();
    acts.iter().for_each(|&act| world.act(act));
    world.settle();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn f10_regions_have_the_same_on_record_whatever_came_first(
        acts in history(),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 8),
        rests in proptest::collection::vec(any::<bool>(), 1..7),
        killed_at in 0..60_usize,
    ) {
        let world = world(&acts);
        let log = &world.regions[0].log;
        let tail = || Stored { tail: kept(log), position: log.len() as u64, ..Stored::default() };
        let expected = derived_anew(tail());
        for region in &world.regions {
            let told = told_one_by_one(&region.log, &rests, killed_at);
            prop_assert_eq!(&told, &expected, "told one by one");
        }
        let told = told_one_by_one(&another_order(&world, &picks), &rests, killed_at);
        prop_assert_eq!(&told, &expected, "told in another order");
        let graph = Stored { fields: Some(world.regions[1].tracker.graph().encode()), ..Stored::default() };
        prop_assert_eq!(&derived_anew(graph), &expected, "from a stored graph");
        for (id, record) in &expected {
            prop_assert_eq!(*id, record.id);
            prop_assert_eq!(&Record::decode(record.encode()).unwrap(), record);
        }
        let current = |record: &&Record| record.resolved.is_none();
        for record in expected.values().filter(current) {
            let path = record.path().unwrap();
            let state = world.regions[2].tracker.state(path, world.rules.policy(path)).unwrap();
            prop_assert_eq!(state.conflict_id(path), record.id, "what is not over are the siblings");
            prop_assert_eq!(state.conflict.is_some(), record.status() == Status::Open);
        }
    }
}

#[test]
fn f10_a_conflict_that_is_over_has_the_least_stamps_of_its_writes_wherever_they_came_first() {
    let mut world = World::new(2, 2);
    world.rules = rules();
    let set = |client| Act::Set { client, key: 0, nested: false };
    let push = |client| Act::Push { client, whole: false };
    // One write reaches both regions from its editor, first one and then the other.
    for act in [set(0), push(0), set(1), push(1), Act::Move { client: 0, region: 1 }] {
        world.act(act);
    }
    world.act(Act::Push { client: 0, whole: true });
    // There the conflict is over before the first region is heard of.
    for act in [Act::WriteBack { region: 1 }, Act::Pull { client: 1 }, set(1), push(1)] {
        world.act(act);
    }
    world.settle();
    let here = told_one_by_one(&world.regions[0].log, &[true], usize::MAX);
    let there = told_one_by_one(&world.regions[1].log, &[true], usize::MAX);
    assert_eq!(here.len(), 1);
    assert_eq!(here, there);
}

#[test]
fn f10_what_was_a_conflict_only_until_it_was_known_what_a_write_back_renders_is_off_the_record() {
    let mut world = World::new(2, 2);
    world.rules = rules();
    let set = |client| Act::Set { client, key: 0, nested: false };
    let push = |client| Act::Push { client, whole: false };
    for act in [set(0), push(0), set(1), push(1), Act::Exchange { from: 1, to: 0 }] {
        world.act(act);
    }
    // An editor takes the write-back of one region, and what it wrote on it, to the other before that region does: there
    // it is not known that it renders both.
    for act in [Act::WriteBack { region: 0 }, Act::Pull { client: 0 }, Act::Move { client: 0, region: 1 }] {
        world.act(act);
    }
    world.act(set(0));
    world.act(Act::Push { client: 0, whole: true });
    world.edit_at(1, &[Edit { path: Path::of(KEYS[0]), value: Some(Value::from(10.0)), on: None }]);
    let before = told_one_by_one(&world.regions[1].log, &[true], usize::MAX);
    assert_eq!(before.len(), 1);
    world.settle();
    let here = told_one_by_one(&world.regions[0].log, &[true], usize::MAX);
    let there = told_one_by_one(&world.regions[1].log, &[true], usize::MAX);
    assert_eq!(here.len(), 1);
    assert_ne!(here.keys().next(), before.keys().next());
    assert_eq!(here, there);
}

#[test]
fn f10_while_fields_are_written_by_one_after_the_other_it_is_told_seldom_how_far_that_is_known() {
    let mut world = World::new(2, 2);
    world.rules = rules();
    let set = |client| Act::Set { client, key: 0, nested: false };
    let push = |client| Act::Push { client, whole: false };
    (0..4).for_each(|_| [set(0), push(0)].into_iter().for_each(|act| world.act(act)));
    let calm = world.regions[0].log.len();
    let mut owner = Owner::open(Time(1), Stored::default());
    for logged in &world.regions[0].log[..calm] {
        owner.applies(logged);
        owner.rests();
    }
    assert_eq!(owner.told, [1], "the first at once, the others within the calm interval");
    owner.rests_for(DERIVE_CALM_INTERVAL_MS);
    assert_eq!(owner.told, [1, calm as u64]);
    // Somebody who has seen none of it: what is on record changes.
    [set(1), push(1)].into_iter().for_each(|act| world.act(act));
    world.settle();
    for logged in &world.regions[0].log[calm..] {
        owner.applies(logged);
        owner.rests();
    }
    assert_eq!(owner.told.last(), Some(&owner.position), "no later than where there are conflicts");
    assert_eq!(owner.on_record.len(), 1);
}
