//! Updates that yrs documents make, taken apart, admitted, cut and joined.

use crate::support::{apply, decode, doc};
use quire_protocol::update::{Shape, Update, merge};
use yrs::{Any, GetString, Map, ReadTxn, StateVector, Text, Transact};

#[test]
fn u9_keystrokes_are_admitted_once_and_join_to_the_same_text() {
    let typist = doc(1);
    let text = typist.get_or_insert_text("content");
    let map = typist.get_or_insert_map("fields");
    let mut updates = Vec::new();
    for (at, letter) in "a😀bc".chars().enumerate() {
        let mut txn = typist.transact_mut();
        let end = text.len(&txn);
        text.insert(&mut txn, end, &letter.to_string());
        map.insert(&mut txn, "count", Any::from(at as f64));
        updates.push(decode(txn.encode_update_v1()));
    }
    let mut txn = typist.transact_mut();
    text.remove_range(&mut txn, 1, 2);
    updates.push(decode(txn.encode_update_v1()));
    drop(txn);

    let mut shape = Shape::new();
    for update in &updates {
        let admission = shape.admit(update.clone()).unwrap();
        assert!(!admission.missing && admission.overlap.is_empty());
        assert_eq!(admission.fresh.as_ref(), Some(update));
        shape.record(update);
        let again = shape.admit(update.clone()).unwrap();
        assert!(again.fresh.is_none() && !again.missing);
    }
    let state = typist.transact().encode_state_as_update_v1(&StateVector::default());
    let again = shape.admit(decode(state)).unwrap();
    assert!(again.fresh.is_none() && !again.missing, "{again:?}");

    let merged = merge(&updates);
    assert_eq!(Update::decode(merged.encoded().clone()), Ok(merged.clone()));
    let reader = doc(2);
    apply(&reader, &merged);
    assert_eq!(reader.get_or_insert_text("content").get_string(&reader.transact()), "abc");
    assert!(!reader.transact().has_missing_updates());

    // The third letter alone rests on the two before it.
    let hole = Shape::new().admit(updates[2].clone()).unwrap();
    assert!(hole.fresh.is_none() && hole.missing);
}
