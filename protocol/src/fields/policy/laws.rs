//! What holds of every policy on all values: order does not matter, nor does what is already in, nor in how many
//! steps versions are merged.

use super::tests::at;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const CASES: u32 = 100_000;

/// Few values, so that they are often equal; of every type, since clients know no schema.
fn anything() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => Just(Some(Value::Undefined)),
        2 => number().prop_map(Some),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(0.1), Just(-0.0)].prop_map(|n| Some(n.into())),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(1)].prop_map(|n| Some(Value::BigInt(n))),
        1 => any::<bool>().prop_map(|bool| Some(Value::Bool(bool))),
        2 => text().prop_map(Some),
        2 => list().prop_map(Some),
        2 => object().prop_map(Some),
        1 => Just(Some(Value::Bytes(b"b".as_slice().into()))),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    (-9_i8..9).prop_map(|number| Value::from(f64::from(number)))
}

fn text() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["", "a", "b", "a b", "a\nb\n", "x\nb\n", "a\ny"]).prop_map(Value::from)
}

fn list() -> impl Strategy<Value = Value> {
    prop::collection::vec(number(), 0..5).prop_map(Value::from_iter)
}

fn object() -> impl Strategy<Value = Value> {
    let object = |values: Vec<(&'static str, Value)>| {
        Value::Map(Arc::new(values.into_iter().map(|(key, value)| (Arc::from(key), value)).collect()))
    };
    let key = || prop::sample::select(vec!["k", "l", "m"]);
    let inner = prop::collection::vec((key(), number()), 0..3).prop_map(object);
    let member = prop_oneof![3 => number(), 1 => inner];
    prop::collection::vec((key(), member), 0..4).prop_map(object)
}

fn order() -> Policy {
    Policy::Rank(["", "a", "b", "a b"].map(Arc::from).into())
}

fn plain_policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(vec![
        Policy::Lww,
        Policy::Siblings,
        Policy::Set,
        Policy::Counter,
        Policy::Max,
        Policy::Min,
        order(),
        Policy::Map,
    ])
}

/// To a counter two equal versions are two, which whoever finds the siblings tells apart. What is already in a
/// counter is the base, of which another law speaks.
fn counter_apart(policy: Policy) -> Policy {
    if let Policy::Counter = policy { Policy::Set } else { policy }
}

/// Versions of any type, some of them at the same stamp.
fn versions() -> impl Strategy<Value = Vec<Version>> {
    prop::collection::vec((0_u64..6, anything()).prop_map(|(ms, value)| at(ms, value)), 0..5)
}

/// A policy with three versions and a base that it merges.
fn mergeable() -> impl Strategy<Value = (Policy, Option<Value>, [Value; 3])> {
    fn with<S: Strategy<Value = Value>>(
        policies: Vec<Policy>,
        values: fn() -> S,
    ) -> impl Strategy<Value = (Policy, Option<Value>, [Value; 3])> {
        let base = prop::option::of(values());
        (prop::sample::select(policies), base, [values(), values(), values()])
    }
    prop_oneof![
        with(vec![Policy::Lww, Policy::Counter, Policy::Max, Policy::Min], number),
        with(vec![Policy::Set], list),
        with(vec![order()], || prop::sample::select(vec!["", "a", "b", "a b"]).prop_map(Value::from)),
        with(vec![Policy::Map], object),
    ]
}

/// The merged value, as a sibling that was written when the last of them was. None when there is a conflict.
fn together(policy: &Policy, base: Base<'_>, versions: &[Version]) -> Option<Version> {
    let last = versions.iter().max_by_key(|version| version.stamp)?;
    match merge(policy, base, versions) {
        Merged::Value(value) => Some(Version { value, ..last.clone() }),
        Merged::Conflict { .. } => None,
    }
}

/// The value without the order of elements, which sets do not merge.
fn unordered(policy: &Policy, value: Option<Value>) -> Option<Value> {
    match (policy, value) {
        (Policy::Set, Some(Value::List(elements))) => {
            Some(elements.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect())
        }
        (_, value) => value,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn the_order_of_versions_is_nothing(
        policy in plain_policy(),
        base in anything(),
        (versions, shuffled) in versions().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let base = Base::Known(base.as_ref());
        prop_assert_eq!(merge(&policy, base, &versions), merge(&policy, base, &shuffled));
    }

    #[test]
    fn what_is_in_already_changes_nothing(
        policy in plain_policy().prop_map(counter_apart),
        base in anything(),
        mut versions in versions(),
        again: prop::sample::Index,
    ) {
        let before = merge(&policy, Base::Known(base.as_ref()), &versions);
        if !versions.is_empty() {
            versions.push(again.get(&versions).clone());
            prop_assert_eq!(merge(&policy, Base::Known(base.as_ref()), &versions), before);
        }
    }

    #[test]
    fn a_merged_value_merged_with_itself_is_itself((policy, base, values) in mergeable()) {
        let versions: Vec<_> = values.into_iter().zip(1..).map(|(value, ms)| at(ms, Some(value))).collect();
        let base = Base::Known(base.as_ref());
        if let Some(all) = together(&policy, base, &versions) {
            prop_assert_eq!(merge(&policy, base, std::slice::from_ref(&all)), Merged::Value(all.value.clone()));
            // What the base holds already adds nothing to what is merged on it.
            if let (Base::Known(Some(value)), Policy::Counter | Policy::Map) = (base, &policy) {
                let seen = at(9, Some(value.clone()));
                let again = merge(&policy, base, &[all.clone(), seen]);
                prop_assert_eq!(again, Merged::Value(all.value));
            }
        }
    }

    #[test]
    fn one_after_the_other_is_all_at_once((policy, base, values) in mergeable()) {
        let [a, b, c] = [(1, 0), (2, 1), (3, 2)].map(|(ms, which)| at(ms, Some(values[which].clone())));
        let base = Base::Known(base.as_ref());
        let at_once = together(&policy, base, &[a.clone(), b.clone(), c.clone()]);
        for (first, last) in [([&a, &b], &c), ([&b, &c], &a), ([&c, &a], &b)] {
            let first = first.map(Clone::clone);
            let Some(first) = together(&policy, base, &first) else {
                // Two that cannot be merged cannot be merged with a third.
                prop_assert_eq!(&at_once, &None);
                continue;
            };
            let stepwise = together(&policy, base, &[first, last.clone()]);
            let values = [&stepwise, &at_once].map(|one| one.clone().map(|one| unordered(&policy, one.value)));
            prop_assert_eq!(&values[0], &values[1], "{:?}", policy);
        }
    }
}
