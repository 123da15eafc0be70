//! Random histories of yrs documents, exchanged by regions in any order, against the oracle.

use crate::oracle::Values;
use crate::world::{Act, KEYS, Logged, Region, World};
use proptest::prelude::*;
use quire_protocol::fields::policy::Policy;
use quire_protocol::fields::{
    FieldState, Graph, Held, Path, RESERVED_PREFIX, Shown, Tracker, Value, Version, WriteId,
};
use std::collections::BTreeSet;
use yrs::{Any, Map, Out, Transact};

const REGIONS: usize = 3;
const CLIENTS: usize = 4;

fn act() -> impl Strategy<Value = Act> {
    let (client, key, region) = (0..CLIENTS, 0..KEYS.len(), 0..REGIONS);
    prop_oneof![
        8 => (client.clone(), key.clone(), prop::bool::weighted(0.25))
            .prop_map(|(client, key, nested)| Act::Set { client, key, nested }),
        1 => client.clone().prop_map(|client| Act::SetTwo { client }),
        2 => (client.clone(), key.clone(), prop::bool::weighted(0.25))
            .prop_map(|(client, key, nested)| Act::Delete { client, key, nested }),
        1 => (client.clone(), key).prop_map(|(client, key)| Act::Nest { client, key }),
        5 => (client.clone(), prop::bool::weighted(0.3)).prop_map(|(client, whole)| Act::Push { client, whole }),
        5 => client.clone().prop_map(|client| Act::Pull { client }),
        1 => (client, region.clone()).prop_map(|(client, region)| Act::Move { client, region }),
        4 => (region.clone(), region.clone()).prop_map(|(from, to)| Act::Exchange { from, to }),
        2 => region.prop_map(|region| Act::WriteBack { region }),
    ]
}

/// Some things that clients and regions do.
pub(crate) fn history() -> impl Strategy<Value = Vec<Act>> {
    proptest::collection::vec(act(), 1..80)
}

fn tell(acts: &[Act]) -> World {
    let mut world = World::new(REGIONS, CLIENTS);
    acts.iter().for_each(|&act| world.act(act));
    world
}

/// What a tracker says of every field: siblings and base must be the oracle's.
fn check(
    world: &World,
    tracker: &Tracker,
    known: &BTreeSet<WriteId>,
    region: &Region,
) -> Result<(), TestCaseError> {
    let oracle = &world.oracle;
    let mut found = BTreeSet::new();
    for path in tracker.paths() {
        let FieldState { versions, base, .. } = state(tracker, &path);
        let siblings: BTreeSet<WriteId> = versions.iter().map(|version| version.write).collect();
        let first = versions.first().expect("a field has a version").write;
        let place = oracle.place_of(first.item()).expect("the oracle knows every write").clone();
        let expected = oracle.siblings(&place, known, &region.said);
        prop_assert_eq!(&siblings, &expected, "siblings of {}", path);
        for version in &versions {
            prop_assert_eq!(&version.held, &held(&region.values, version), "value in {}", path);
        }
        if let Some(expected) =
            oracle.base(&siblings, &region.values, &region.said).filter(|_| siblings.len() > 1)
        {
            prop_assert_eq!(base, expected, "base of {}", path);
        }
        found.insert(place);
    }
    for place in
        oracle.places().into_iter().filter(|(map, key)| map.is_none() && !key.starts_with(RESERVED_PREFIX))
    {
        let is_known = !oracle.siblings(place, known, &region.said).is_empty();
        prop_assert_eq!(found.contains(place), is_known, "field {:?}", place);
    }
    Ok(())
}

fn state(tracker: &Tracker, path: &Path) -> FieldState {
    tracker.state(path, &Policy::Siblings).expect("it is one of its paths")
}

fn held(values: &Values, version: &Version) -> Held {
    match version.write {
        WriteId::Deleted(_) => Held::Deleted,
        WriteId::Set(item) => values.get(&item).cloned().unwrap_or(Held::Unknown),
    }
}

/// Entries of all streams in another order that keeps causes before effects: each stream in its own order, and
/// each entry when all that its region had before it are there.
pub(crate) fn another_order(world: &World, picks: &[prop::sample::Index]) -> Vec<Logged> {
    let logs: Vec<&[Logged]> = world.regions.iter().map(|region| &region.log[..]).collect();
    let mut at = vec![0; logs.len()];
    let mut order = Vec::new();
    let mut taken = BTreeSet::new();
    let mut picks = picks.iter().cycle();
    loop {
        // Each region's log is such an order; what is taken from it next has all its causes.
        let open: Vec<usize> = (0..logs.len()).filter(|&i| at[i] < logs[i].len()).collect();
        if open.is_empty() {
            return order;
        }
        let from = open[picks.next().expect("there are picks").index(open.len())];
        let logged = &logs[from][at[from]];
        at[from] += 1;
        // Some come twice.
        if taken.insert(logged.by.stamp.1) || order.len() % 3 == 0 {
            order.push(logged.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn f1_siblings_and_base_are_what_the_writers_knew(
        acts in history(),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 8),
    ) {
        let mut world = tell(&acts);
        for region in 0..REGIONS {
            let known = world.known_writes(region);
            let region = &world.regions[region];
            check(&world, &region.tracker, &known, region)?;
        }
        world.settle();
        let known = world.known_writes(0);
        for region in &world.regions {
            check(&world, &region.tracker, &known, region)?;
        }
        let mut late = Tracker::default();
        for logged in another_order(&world, &picks) {
            if let Some(fields) = &logged.fields {
                late.take(&logged.update, &fields.marks, &logged.by);
            }
        }
        check(&world, &late, &known, &world.regions[0])?;
        for path in late.paths() {
            for region in &world.regions {
                prop_assert_eq!(state(&late, &path), state(&region.tracker, &path));
            }
        }
        stored_graphs_merge(&world, &late)?;
        yjs_shows_the_tail(&mut world)?;
        a_write_back_shows_everybody_the_same(&mut world)?;
    }
}

/// Graphs that regions stored at different times are together what all their entries are.
fn stored_graphs_merge(world: &World, all: &Tracker) -> Result<(), TestCaseError> {
    let half = |region: &Region| {
        let mut tracker = Tracker::default();
        for logged in region.log.iter().take(region.log.len() / 2) {
            if let Some(fields) = &logged.fields {
                tracker.take(&logged.update, &fields.marks, &logged.by);
            }
        }
        tracker.graph().encode()
    };
    let mut merged = Graph::new();
    for region in &world.regions {
        merged.merge(half(region)).expect("it is a stored graph");
    }
    merged.merge(all.graph().encode()).expect("it is a stored graph");
    let merged = Tracker::new(merged);
    for path in all.paths() {
        prop_assert_eq!(state(&merged, &path), state(all, &path));
        prop_assert_eq!(merged.shows(&path), all.shows(&path));
    }
    Ok(())
}

fn yjs_shows_the_tail(world: &mut World) -> Result<(), TestCaseError> {
    world.act(Act::Pull { client: 0 });
    let doc = &world.clients[0].doc;
    let root = doc.get_or_insert_map(quire_protocol::fields::FIELDS_ROOT);
    let tracker = &world.regions[0].tracker;
    for key in KEYS {
        let shown = match root.get(&doc.transact(), key) {
            None => Held::Deleted,
            Some(Out::Any(any @ Any::Number(_))) => {
                Held::Value(Value::from(any.to_string().parse::<f64>().unwrap()))
            }
            Some(Out::YMap(_)) => Held::Shared(quire_protocol::update::TypeKind::Map),
            other => panic!("nobody wrote {other:?}"),
        };
        if let Some(held) = tracker.shows(&Path::of(key)) {
            prop_assert_eq!(held, shown, "{}", key);
        }
    }
    Ok(())
}

/// Once a region has written back, nobody is shown anything else, and nothing is left to write.
fn a_write_back_shows_everybody_the_same(world: &mut World) -> Result<(), TestCaseError> {
    world.act(Act::WriteBack { region: 1 });
    world.act(Act::WriteBack { region: 2 });
    world.settle();
    for region in &world.regions {
        for path in region.tracker.paths() {
            let state = state(&region.tracker, &path);
            let shows = region.tracker.shows(&path);
            match state.shown {
                Shown::Value(Some(value)) => prop_assert_eq!(shows, Some(Held::Value(value)), "{}", path),
                Shown::Value(None) => prop_assert_eq!(shows, Some(Held::Deleted), "{}", path),
                Shown::AsYjs => {}
            }
        }
    }
    let before = world.regions[0].log.len();
    world.act(Act::WriteBack { region: 0 });
    prop_assert_eq!(world.regions[0].log.len(), before, "nothing is left to write back");
    yjs_shows_the_tail(world)
}
