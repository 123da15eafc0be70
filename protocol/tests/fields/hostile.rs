//! Bytes of a region that is broken: stored graphs that were changed, and marks that say what cannot be.

use crate::world::{Act, World};
use proptest::prelude::*;
use quire_protocol::fields::policy::Policy;
use quire_protocol::fields::{
    FieldsEntry, Graph, Mark, MarkKind, Rules, Tracker, WriteBackMark, WriteId, Writer,
};
use quire_protocol::update::{ClientId, ItemId};

const WRITER: Writer = Writer { client: ClientId(77), schema: [7; 16] };

/// Everything that reads a graph.
fn look_at_all(tracker: &Tracker) {
    for path in tracker.paths() {
        for policy in [Policy::Siblings, Policy::Set, Policy::Counter, Policy::Text3, Policy::Map] {
            let state = tracker.state(&path, &policy);
            assert!(state.is_none_or(|state| !state.versions.is_empty()));
        }
        let _ = tracker.shows(&path);
        let _ = tracker.last_left(&path, |value| value.is_none());
    }
    let _ = tracker.write_back(&tracker.contested(), &Rules::default(), WRITER, &|_| 0);
    let again = tracker.graph().encode();
    Graph::new().merge(again).expect("what a graph writes it reads");
}

/// Two regions in conflict, resolved once, in conflict again, with a write-back and a deletion.
fn busy() -> World {
    let mut world = World::new(2, 2);
    let set = |client| Act::Set { client, key: 0, nested: false };
    let push = |client| Act::Push { client, whole: false };
    for act in [set(0), push(0), set(1), push(1), Act::Nest { client: 0, key: 1 }, push(0)] {
        world.act(act);
    }
    world.settle();
    world.act(Act::WriteBack { region: 0 });
    world.settle();
    for act in [Act::Pull { client: 0 }, set(0), push(0), set(1), push(1)] {
        world.act(act);
    }
    for act in [
        Act::Delete { client: 1, key: 0, nested: false },
        push(1),
        Act::Set { client: 0, key: 2, nested: true },
    ] {
        world.act(act);
    }
    world.settle();
    world
}

fn writes() -> impl Strategy<Value = WriteId> {
    let clients = prop_oneof![Just(100_u32), Just(101), Just(900), Just(1), Just(5)];
    (any::<bool>(), clients, 0..5_u32).prop_map(|(set, client, clock)| {
        let item = ItemId { client: ClientId(client), clock };
        if set { WriteId::Set(item) } else { WriteId::Deleted(item) }
    })
}

fn marks() -> impl Strategy<Value = Mark> {
    let kind = prop_oneof![
        Just(MarkKind::Edit),
        any::<bool>().prop_map(|absent| MarkKind::WriteBack(WriteBackMark { schema: [7; 16], absent })),
    ];
    let sees = proptest::collection::vec(writes(), 0..4);
    (writes(), kind, sees).prop_map(|(write, kind, sees)| Mark { write, kind, sees })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn f7_a_stored_graph_that_was_changed_is_refused_or_read(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let world = busy();
        let mut bytes = world.regions[0].tracker.graph().encode().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut alone = Tracker::default();
        if alone.merge(bytes.clone().into()).is_ok() {
            look_at_all(&alone);
        }
        let mut beside = Tracker::default();
        beside.merge(world.regions[0].tracker.graph().encode()).expect("it is a stored graph");
        if beside.merge(bytes.into()).is_ok() {
            look_at_all(&beside);
        }
    }

    #[test]
    fn f7_marks_that_say_what_cannot_be_harm_nothing(
        said in proptest::collection::vec((any::<prop::sample::Index>(), marks()), 1..12),
    ) {
        let world = busy();
        let log = &world.regions[0].log;
        let mut tracker = Tracker::default();
        for (at, logged) in log.iter().enumerate() {
            let Some(FieldsEntry { marks, .. }) = &logged.fields else { continue };
            let others = said.iter().filter(|(index, _)| index.index(log.len()) == at).map(|(_, mark)| mark.clone());
            let all: Vec<Mark> = marks.iter().cloned().chain(others).collect();
            tracker.take(&logged.update, &all, &logged.by);
        }
        look_at_all(&tracker);
    }
}
