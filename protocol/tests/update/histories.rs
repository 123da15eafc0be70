//! Random histories of yrs documents, delivered in pieces, against a model that knows sets of units and
//! nothing else.

use crate::support::{apply, decode, deleted_units, doc, state_of};
use proptest::prelude::*;
use quire_protocol::update::{ClientId, Content, ItemId, ItemRef, ParentRef, Shape, Update, merge, reused};
use std::collections::{BTreeMap, BTreeSet};
use yrs::types::ToJson;
use yrs::updates::decoder::Decode;
use yrs::{Any, Array, Doc, GetString, Map, MapPrelim, Out, ReadTxn, Text, TextPrelim, Transact};

/// What one of the people does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Insert {
        at: usize,
        word: usize,
    },
    Remove {
        at: usize,
        len: usize,
    },
    Push {
        value: usize,
    },
    Pull {
        at: usize,
    },
    Set {
        key: usize,
        value: usize,
    },
    Unset {
        key: usize,
    },
    Nest {
        key: usize,
    },
    InNest {
        key: usize,
        at: usize,
    },
    /// Takes over what another has.
    Sync {
        from: usize,
    },
}

const PEOPLE: usize = 3;
const WORDS: [&str; 6] = ["a", "bc", "😀", "é女", "x😀y", "a longer word"];
const KEYS: [&str; 3] = ["one", "two", "three"];

fn act() -> impl Strategy<Value = Act> {
    let small = 0_usize..40;
    prop_oneof![
        5 => (small.clone(), 0..WORDS.len()).prop_map(|(at, word)| Act::Insert { at, word }),
        3 => (small.clone(), 1_usize..6).prop_map(|(at, len)| Act::Remove { at, len }),
        1 => small.clone().prop_map(|value| Act::Push { value }),
        1 => small.clone().prop_map(|at| Act::Pull { at }),
        2 => (0..KEYS.len(), small.clone()).prop_map(|(key, value)| Act::Set { key, value }),
        1 => (0..KEYS.len()).prop_map(|key| Act::Unset { key }),
        1 => (0..KEYS.len()).prop_map(|key| Act::Nest { key }),
        2 => (0..KEYS.len(), small).prop_map(|(key, at)| Act::InNest { key, at }),
        2 => (0..PEOPLE).prop_map(|from| Act::Sync { from }),
    ]
}

/// Does it and gives the update that it makes.
fn perform(people: &[Doc], who: usize, act: Act) -> Vec<u8> {
    let me = &people[who];
    if let Act::Sync { from } = act {
        let other = people[from].transact();
        let state = me.transact().state_vector();
        let update = other.encode_state_as_update_v1(&state);
        drop(other);
        me.transact_mut().apply_update(yrs::Update::decode_v1(&update).unwrap()).unwrap();
        return update;
    }
    let (text, list) = (me.get_or_insert_text("text"), me.get_or_insert_array("list"));
    let map = me.get_or_insert_map("map");
    let mut txn = me.transact_mut();
    match act {
        Act::Insert { at, word } => {
            let at = u32::try_from(at).unwrap() % (text.len(&txn) + 1);
            text.insert(&mut txn, at, WORDS[word]);
        }
        Act::Remove { at, len } => {
            let whole = text.len(&txn);
            let at = u32::try_from(at).unwrap() % (whole + 1);
            text.remove_range(&mut txn, at, u32::try_from(len).unwrap().min(whole - at));
        }
        Act::Push { value } => drop(list.push_back(&mut txn, Any::from(u32::try_from(value).unwrap()))),
        Act::Pull { at } => {
            let len = list.len(&txn);
            if len > 0 {
                list.remove(&mut txn, u32::try_from(at).unwrap() % len);
            }
        }
        Act::Set { key, value } => {
            map.insert(&mut txn, KEYS[key], Any::from(u32::try_from(value).unwrap()));
        }
        Act::Unset { key } => drop(map.remove(&mut txn, KEYS[key])),
        Act::Nest { key } => {
            let inner = map.insert(&mut txn, KEYS[key], MapPrelim::default());
            inner.insert(&mut txn, "text", TextPrelim::new("in"));
        }
        Act::InNest { key, at } => {
            if let Some(Out::YMap(inner)) = map.get(&txn, KEYS[key])
                && let Some(Out::YText(text)) = inner.get(&txn, "text")
            {
                let at = u32::try_from(at).unwrap() % (text.len(&txn) + 1);
                text.insert(&mut txn, at, "z");
                inner.insert(&mut txn, "last", Any::from(at));
            }
        }
        Act::Sync { .. } => {}
    }
    txn.encode_update_v1()
}

fn tell(acts: &[(usize, Act)]) -> (Vec<Doc>, Vec<Update>) {
    let people: Vec<Doc> = (1..=PEOPLE as u64).map(doc).collect();
    let updates = acts.iter().map(|&(who, act)| decode(perform(&people, who, act))).collect();
    (people, updates)
}

/// What a document holds in the eyes of the model.
#[derive(Default)]
struct Model {
    next: BTreeMap<ClientId, u32>,
    deleted: BTreeSet<(ClientId, u32)>,
}

/// What the model says of an update.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    units: BTreeSet<(ClientId, u32)>,
    deleted: BTreeSet<(ClientId, u32)>,
    missing: bool,
}

impl Model {
    fn next(&self, client: ClientId) -> u32 {
        self.next.get(&client).copied().unwrap_or(0)
    }

    fn knows(&self, id: ItemId) -> bool {
        id.clock < self.next(id.client)
    }

    fn takes(&self, item: &ItemRef<'_>) -> bool {
        let parent = match item.parent() {
            Some(ParentRef::Item(id)) => Some(id),
            _ => None,
        };
        let named = [item.origin(), item.right_origin(), parent];
        item.clocks().start <= self.next(item.id().client)
            && named.into_iter().flatten().all(|id| self.knows(id))
    }

    /// Takes what it can of an update, by trying again and again.
    fn take(&mut self, update: &Update) -> Said {
        let mut units = BTreeSet::new();
        loop {
            let before = units.len();
            for item in update.items() {
                if self.takes(&item) {
                    let client = item.id().client;
                    let clocks = item.clocks();
                    units.extend((self.next(client)..clocks.end).map(|clock| (client, clock)));
                    let next = self.next.entry(client).or_default();
                    *next = clocks.end.max(*next);
                }
            }
            if units.len() == before {
                break;
            }
        }
        let named = deleted_units(update);
        let known = |&(client, clock): &(ClientId, u32)| self.knows(ItemId { client, clock });
        let deleted: BTreeSet<_> = named.iter().copied().filter(known).collect();
        let missing = deleted.len() < named.len()
            || update.items().any(|item| item.clocks().end > self.next(item.id().client));
        let deleted = deleted.difference(&self.deleted).copied().collect::<BTreeSet<_>>();
        self.deleted.extend(&deleted);
        Said { units, deleted, missing }
    }
}

fn units(update: &Update) -> BTreeSet<(ClientId, u32)> {
    let item = |item: ItemRef<'_>| {
        let (client, clocks) = (item.id().client, item.clocks());
        (clocks.start..clocks.end).map(move |clock| (client, clock))
    };
    update.items().flat_map(item).collect()
}

/// What can be seen of a document.
fn seen(doc: &Doc) -> (String, Any, Any, BTreeSet<(ClientId, u32)>) {
    let (text, list) = (doc.get_or_insert_text("text"), doc.get_or_insert_array("list"));
    let map = doc.get_or_insert_map("map");
    let deleted = deleted_units(&decode(state_of(doc)));
    let txn = doc.transact();
    assert!(!txn.has_missing_updates());
    (text.get_string(&txn), list.to_json(&txn), map.to_json(&txn), deleted)
}

/// Gives a new document everything, in the order given, until nothing is missing.
fn deliver(updates: &[Update], order: &[usize]) -> Result<(Doc, Vec<Update>), TestCaseError> {
    let mut shape = Shape::new();
    let mut model = Model::default();
    let reader = doc(90);
    let mut admitted = Vec::new();
    let mut pool: Vec<&Update> = order.iter().map(|&at| &updates[at % updates.len()]).collect();
    pool.extend(updates);
    for _ in 0..=pool.len() {
        let mut held_back = Vec::new();
        for update in pool {
            let before = shape.clone();
            let admission = shape.admit(update.clone()).unwrap();
            let said = model.take(update);
            let fresh = admission.fresh.as_ref();
            let found = Said {
                units: fresh.map(units).unwrap_or_default(),
                deleted: fresh.map(deleted_units).unwrap_or_default(),
                missing: admission.missing,
            };
            prop_assert_eq!(&found, &said);
            prop_assert_eq!(&shape, &before);
            if let Some(fresh) = fresh {
                prop_assert_eq!(Update::decode(fresh.encoded().clone()), Ok(fresh.clone()));
                shape.record(fresh);
                apply(&reader, fresh);
                admitted.push(fresh.clone());
                let again = shape.admit(update.clone()).unwrap();
                prop_assert!(again.fresh.is_none());
            }
            // Items that come deleted count as deleted, and so do those that are taken as collected because
            // what they were attached to has been: only the admitted part shows them so.
            for item in fresh.into_iter().flat_map(Update::items) {
                if matches!(item.content(), Content::Gc | Content::Deleted) {
                    let (client, clocks) = (item.id().client, item.clocks());
                    model.deleted.extend((clocks.start..clocks.end).map(|clock| (client, clock)));
                }
            }
            if admission.missing {
                held_back.push(update);
            }
        }
        if held_back.is_empty() {
            return Ok((reader, admitted));
        }
        pool = held_back;
    }
    Err(TestCaseError::fail("something stays missing"))
}

proptest! {
    #[test]
    fn u5_pieces_in_any_order_are_admitted_as_the_model_says(
        acts in prop::collection::vec((0..PEOPLE, act()), 1..40),
        order in prop::collection::vec(0_usize..64, 0..60),
        groups in prop::collection::vec(1_usize..5, 1..20),
    ) {
        let (people, updates) = tell(&acts);
        let (reader, admitted) = deliver(&updates, &order)?;

        // The same as everybody who has taken over everything.
        for from in 0..PEOPLE {
            perform(&people, 0, Act::Sync { from });
        }
        prop_assert_eq!(seen(&reader), seen(&people[0]));

        // The same when what was admitted is joined, all at once or a few at a time.
        let at_once = doc(91);
        apply(&at_once, &merge(&admitted));
        prop_assert_eq!(seen(&at_once), seen(&reader));
        let grouped = doc(92);
        let mut left = &admitted[..];
        for group in groups.iter().cycle() {
            let (group, rest) = left.split_at((*group).min(left.len()));
            apply(&grouped, &merge(group));
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        prop_assert_eq!(seen(&grouped), seen(&reader));

        // What is recorded from a stored state is what was recorded piece by piece.
        let mut piecewise = Shape::new();
        admitted.iter().for_each(|fresh| piecewise.record(fresh));
        let state = decode(state_of(&reader));
        let mut stored = Shape::new();
        stored.record(&state);
        prop_assert_eq!(stored.state_vector(), piecewise.state_vector());
        let again = stored.admit(state.clone()).unwrap();
        prop_assert!(again.fresh.is_none() && !again.missing);
        for update in &updates {
            prop_assert_eq!(reused(&state, update), None);
            prop_assert_eq!(reused(update, &state), None);
        }
    }
}

#[test]
fn u5_what_is_written_into_a_collected_type_is_deleted_once() {
    let acts = [
        (2, Act::Nest { key: 2 }),
        (0, Act::Sync { from: 2 }),
        (2, Act::InNest { key: 2, at: 0 }),
        (0, Act::Unset { key: 2 }),
        // Overwrites the type, and so deletes what was written into it.
        (2, Act::Nest { key: 2 }),
        // The type as a collected item.
        (1, Act::Sync { from: 0 }),
    ];
    let (_, updates) = tell(&acts);
    for order in [[0, 1, 2, 3, 4, 5], [5, 3, 2, 4, 0, 1], [5, 4, 2, 3, 1, 0]] {
        let (reader, _) = deliver(&updates, &order).unwrap();
        let map = reader.get_or_insert_map("map");
        assert_eq!(map.len(&reader.transact()), 1);
    }
}

#[test]
fn u10_two_writers_with_one_client_id_are_found() {
    let write = |text: &str, entry: u32, nested: &str| {
        let writer = doc(1);
        let (root, map) = (writer.get_or_insert_text("text"), writer.get_or_insert_map("map"));
        let mut txn = writer.transact_mut();
        root.insert(&mut txn, 0, text);
        map.insert(&mut txn, "number", Any::from(vec![Any::from(entry), Any::Null]));
        map.insert(&mut txn, nested, TextPrelim::new("x"));
        decode(txn.encode_update_v1())
    };
    let base = write("a😀b", 1, "one");
    for (other, clock) in [
        (write("a😀b", 1, "one"), None),
        (write("a😀", 1, "one"), Some(3)),
        (write("a😁b", 1, "one"), Some(2)),
        (write("a\u{fffd}\u{fffd}b", 1, "one"), None),
        (write("x😀b", 1, "one"), Some(0)),
        (write("a😀b", 2, "one"), Some(4)),
        (write("a😀b", 1, "two"), Some(5)),
    ] {
        let expected = clock.map(|clock| ItemId { client: ClientId(1), clock });
        assert_eq!(reused(&base, &other), expected);
        assert_eq!(reused(&other, &base), expected);
    }
}
