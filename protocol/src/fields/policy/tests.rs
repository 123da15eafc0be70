//! The policies on the cases of the literature, and on what clients may write that no schema foresaw.

use super::*;
use crate::hlc::Hlc;
use crate::ids::{Dot, Incarnation, ReplicaId, Seq, StreamId};
use serde_json::{Value as Json, json};

/// A version that was written at a millisecond.
pub(super) fn at(ms: u64, value: Option<Value>) -> Version {
    let replica = ReplicaId(u16::try_from(ms % 3).unwrap() + 1);
    let stream = StreamId { replica, incarnation: Incarnation(1) };
    let author = Author { region: format!("r{}", replica.0).into(), name: "".into() };
    Version { value, stamp: (Hlc::from_ms(ms), Dot { stream, seq: Seq(ms) }), author }
}

pub(super) fn value(json: &Json) -> Value {
    Value::from_json(json).unwrap()
}

/// What becomes of versions that were written one after the other. JSON's null means a deletion.
pub(super) fn merged(policy: &Policy, base: &Json, versions: &[Json]) -> Merged {
    let base = (!base.is_null()).then(|| value(base));
    let versions: Vec<_> =
        versions.iter().zip(1..).map(|(json, ms)| at(ms, (!json.is_null()).then(|| value(json)))).collect();
    let forth = merge(policy, Base::Known(base.as_ref()), &versions);
    let back: Vec<_> = versions.into_iter().rev().collect();
    assert_eq!(merge(policy, Base::Known(base.as_ref()), &back), forth, "the order of versions matters");
    forth
}

fn is(json: &Json) -> Merged {
    Merged::Value(Some(value(json)))
}

fn conflict(shown: &Json, reason: Reason) -> Merged {
    Merged::Conflict { shown: Some(value(shown)), reason: Some(reason) }
}

fn rank(order: &[&str]) -> Policy {
    Policy::Rank(order.iter().map(|one| Arc::from(*one)).collect())
}

#[test]
fn the_last_writer_wins() {
    assert_eq!(merged(&Policy::Lww, &json!("a"), &[json!("b"), json!("c")]), is(&json!("c")));
    // The stamp decides on a deletion as on a value.
    assert_eq!(merged(&Policy::Lww, &json!("a"), &[json!("b"), json!(null)]), Merged::Value(None));
    assert_eq!(merged(&Policy::Lww, &json!("a"), &[json!(null), json!("b")]), is(&json!("b")));
}

#[test]
fn siblings_stay_and_the_latest_written_is_shown() {
    let shown = |shown: &Json| Merged::Conflict { shown: Some(value(shown)), reason: None };
    assert_eq!(merged(&Policy::Siblings, &json!("a"), &[json!("b"), json!("c")]), shown(&json!("c")));
    assert_eq!(merged(&Policy::Siblings, &json!("a"), &[json!("b"), json!(null)]), shown(&json!("b")));
    assert_eq!(merged(&Policy::Siblings, &json!("a"), &[json!("b"), json!("b")]), is(&json!("b")));
}

#[test]
fn shopping_carts_are_united() {
    let carts = [json!(["item1", "item2"]), json!(["item1", "item3"])];
    for base in [json!(["item1"]), json!([]), json!(null)] {
        assert_eq!(merged(&Policy::Set, &base, &carts), is(&json!(["item1", "item2", "item3"])));
    }
}

#[test]
fn what_one_removed_is_removed_and_what_one_added_stays() {
    let base = json!(["a", "b", "c"]);
    let versions = [json!(["c", "a", "d"]), json!(["a", "b", "c", "e", "d", "e"]), json!(["b", "c"])];
    assert_eq!(merged(&Policy::Set, &base, &versions), is(&json!(["c", "d", "e"])));
    // Deleting the key removes what was there, not what another added meanwhile.
    assert_eq!(merged(&Policy::Set, &base, &[json!(["a", "b", "c", "x"]), json!(null)]), is(&json!(["x"])));
    assert_eq!(merged(&Policy::Set, &base, &[json!(["a"]), json!(null)]), is(&json!([])));
}

#[test]
fn counters_add_up() {
    assert_eq!(merged(&Policy::Counter, &json!(10), &[json!(13), json!(9)]), is(&json!(12)));
    assert_eq!(merged(&Policy::Counter, &json!(null), &[json!(8), json!(11)]), is(&json!(19)));
    // Two who each counted one more left equal values, and are two all the same.
    assert_eq!(merged(&Policy::Counter, &json!(10), &[json!(11), json!(11)]), is(&json!(12)));
    // A reset takes what it saw.
    assert_eq!(merged(&Policy::Counter, &json!(10), &[json!(13), json!(null)]), is(&json!(3)));
    let cleared = [at(1, None), at(2, Some(Value::Null)), at(3, Some(Value::from(12.0)))];
    let base = Value::from(10.0);
    assert_eq!(merge(&Policy::Counter, Base::Known(Some(&base)), &cleared), is(&json!(2)));
    assert_eq!(
        merge(&Policy::Counter, Base::Known(Some(&base)), &cleared[..2]),
        Merged::Value(Some(Value::Null))
    );
}

/// The literature's counter grows only, one part for each replica: A counted 5 there and has heard of 3, B has
/// heard of 4 and counted 7; the greatest of each part, 5 and 7, make 12. Both began from 4 and 3.
#[test]
fn a_grow_only_counter_of_5_and_3_against_4_and_7_is_12() {
    // As the parts themselves: each replica changes only its own, so that key by key is all it takes.
    let parts =
        merged(&Policy::Map, &json!({"a": 4, "b": 3}), &[json!({"a": 5, "b": 3}), json!({"a": 4, "b": 7})]);
    assert_eq!(parts, is(&json!({"a": 5, "b": 7})));
    // As one number: both began from 7, A went to 8 and B to 11.
    assert_eq!(merged(&Policy::Counter, &json!(7), &[json!(8), json!(11)]), is(&json!(12)));
}

#[test]
fn a_counter_that_cannot_be_exact_says_so() {
    let large = 9_007_199_254_740_991_i64;
    let versions = [json!(large), json!(1)];
    assert_eq!(merged(&Policy::Counter, &json!(0), &versions), conflict(&json!(1), Reason::Inexact));
    let big = |ms, value| at(ms, Some(Value::BigInt(value)));
    let add = |versions: &[Version]| merge(&Policy::Counter, Base::Known(None), versions);
    assert_eq!(add(&[big(1, i64::MAX - 1), big(2, 1)]), Merged::Value(Some(Value::BigInt(i64::MAX))));
    assert_eq!(add(&[big(1, i64::MIN), big(2, i64::MAX)]), Merged::Value(Some(Value::BigInt(-1))));
    let Merged::Conflict { reason, .. } = add(&[big(1, i64::MAX), big(2, 1)]) else { panic!("it fitted") };
    assert_eq!(reason, Some(Reason::Inexact));
    let Merged::Conflict { reason, .. } = add(&[big(1, 1), at(2, Some(Value::from(1.0)))]) else { panic!() };
    assert_eq!(reason, Some(Reason::Mixed));
    // Fractions are added as doubles are.
    assert_eq!(merged(&Policy::Counter, &json!(0.5), &[json!(1.75), json!(0.25)]), is(&json!(1.5)));
    assert_eq!(
        merged(&Policy::Counter, &json!(null), &[json!(f64::MAX), json!(1e308)]).reason(),
        Some(Reason::Inexact)
    );
}

#[test]
fn the_greatest_the_least_and_the_furthest_stand() {
    assert_eq!(merged(&Policy::Max, &json!(1), &[json!(10), json!(9)]), is(&json!(10)));
    assert_eq!(merged(&Policy::Min, &json!(1), &[json!(10), json!(9)]), is(&json!(9)));
    assert_eq!(merged(&Policy::Max, &json!("a"), &[json!("b"), json!("a")]), is(&json!("b")));
    let order = rank(&["draft", "review", "published"]);
    assert_eq!(
        merged(&order, &json!("draft"), &[json!("published"), json!("review")]),
        is(&json!("published"))
    );
    let unknown = merged(&order, &json!("draft"), &[json!("published"), json!("gone")]);
    assert_eq!(unknown, conflict(&json!("gone"), Reason::NotRanked));
    let cleared = conflict(&json!(9), Reason::Cleared);
    assert_eq!(merged(&Policy::Max, &json!(1), &[json!(9), json!(null)]), cleared);
    assert_eq!(
        merged(&Policy::Max, &json!(1), &[json!(9), json!("9")]),
        conflict(&json!("9"), Reason::Mixed)
    );
}

#[test]
fn different_keys_are_both_kept() {
    let base = json!({"title": "t", "tags": {"a": 1}, "gone": true});
    let one = json!({"title": "T", "tags": {"a": 1, "b": 2}, "gone": true});
    let two = json!({"title": "t", "tags": {"a": 1, "c": 3}, "new": 1});
    let both = json!({"title": "T", "tags": {"a": 1, "b": 2, "c": 3}, "new": 1});
    assert_eq!(merged(&Policy::Map, &base, &[one, two]), is(&both));
}

#[test]
fn keys_that_were_changed_in_two_ways_are_named_and_the_others_are_merged() {
    let base = json!({"a": 1, "b": {"x": 1, "y": 1}, "c": 1});
    let one = json!({"a": 2, "b": {"x": 2, "y": 1}, "c": 5});
    let two = json!({"a": 1, "b": {"x": 3, "y": 4}});
    let reason = Reason::Keys { named: vec!["b.x".into(), "c".into()], more: 0 };
    assert_eq!(reason.to_string(), "changed in more than one way: `b.x`, `c`");
    let shown = json!({"a": 2, "b": {"x": 3, "y": 4}, "c": 5});
    assert_eq!(merged(&Policy::Map, &base, &[one, two]), conflict(&shown, reason));

    let many = |by: u32| (0..20).map(|i| (format!("k{i:02}"), json!(i + by))).collect::<Json>();
    let Some(Reason::Keys { named, more }) = merged(&Policy::Map, &json!({}), &[many(1), many(2)]).reason()
    else {
        panic!("no conflict");
    };
    assert_eq!((named.len(), more), (KEYS_NAMED_MAX, 20 - KEYS_NAMED_MAX));
}

#[test]
fn an_object_cleared_against_one_written_stays_a_conflict() {
    let base = json!({"a": 1, "b": 1});
    let versions = [json!({"a": 2, "b": 1}), json!({"a": 1, "b": 2}), json!(null)];
    let shown = json!({"a": 2, "b": 2});
    assert_eq!(merged(&Policy::Map, &base, &versions), conflict(&shown, Reason::Cleared));
}

#[test]
fn without_a_base_only_what_needs_none_is_merged() {
    let versions = [at(1, Some(Value::from(1.0))), at(2, Some(Value::from(2.0)))];
    let reason = |policy: &Policy| merge(policy, Base::Unknown, &versions).reason();
    for policy in [Policy::Set, Policy::Counter, Policy::Map] {
        assert_eq!(reason(&policy), Some(Reason::BaseUnknown), "{policy:?}");
    }
    for policy in [Policy::Lww, Policy::Max, Policy::Min] {
        assert_eq!(reason(&policy), None, "{policy:?}");
    }
    assert_eq!(merge(&Policy::Lww, Base::Unknown, &[]).reason(), Some(Reason::BaseUnknown));
}

#[test]
fn a_base_of_the_wrong_type_says_so() {
    let base = json!("text");
    let reason = |policy: &Policy, one: Json, two: Json| merged(policy, &base, &[one, two]).reason();
    assert_eq!(reason(&Policy::Set, json!([1]), json!([2])), Some(Reason::BaseNotA(Kind::List)));
    assert_eq!(reason(&Policy::Counter, json!(1), json!(2)), Some(Reason::BaseNotA(Kind::Number)));
    assert_eq!(reason(&Policy::Map, json!({"a": 1}), json!({"a": 2})), Some(Reason::BaseNotA(Kind::Object)));
}

impl Merged {
    pub(super) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Value(_) => None,
            Self::Conflict { reason, .. } => reason.clone(),
        }
    }
}
