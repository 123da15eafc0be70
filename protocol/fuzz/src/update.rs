//! Updates from outside, one after the other into one document.
//!
//! Uses the library and yrs only: the crate's tests run it over the committed seeds.

use bytes::Bytes;
use quire_protocol::document::Live;
use quire_protocol::lib0::Reader;
use quire_protocol::update::{Shape, Update, merge, reused};
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Transact};

/// Updates of one input that are looked at.
const UPDATES_MAX: usize = 64;

/// Takes an input apart into updates, each behind its length, and gives them to a document.
pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let (mut shape, document) = (Shape::new(), Live::new(1));
    let mut taken: Vec<Update> = Vec::new();
    for _ in 0..UPDATES_MAX {
        let Ok(bytes) = reader.var_bytes() else { break };
        let Ok(update) = Update::decode(bytes) else { continue };
        for other in &taken {
            assert_eq!(reused(other, &update).is_some(), reused(&update, other).is_some());
        }
        let Ok(admission) = shape.admit(update.clone()) else { continue };
        let Some(fresh) = admission.fresh else { continue };
        assert_eq!(Update::decode(fresh.encoded().clone()), Ok(fresh.clone()), "what is cut is whole");
        shape.record(&fresh);
        let again = shape.admit(fresh.clone()).expect("it was admitted before");
        assert!(again.fresh.is_none() && !again.missing, "what is recorded is known");
        apply(&document, &fresh);
        taken.push(fresh);
    }
    check(&document, &shape);
    let merged = merge(&taken);
    assert_eq!(Update::decode(merged.encoded().clone()), Ok(merged.clone()), "what is joined is whole");
    let at_once = Live::new(2);
    apply(&at_once, &merged);
    check(&at_once, &shape);
}

fn apply(document: &Doc, update: &Update) {
    let update = yrs::Update::decode_v1(update.encoded()).expect("yrs reads what we read");
    document.transact_mut().apply_update(update).expect("yrs takes what we admit");
}

fn check(document: &Doc, shape: &Shape) {
    let text = document.get_or_insert_text("content");
    let fields = document.get_or_insert_map("fields");
    let txn = document.transact();
    assert!(!txn.has_missing_updates(), "nothing is pending");
    let _seen = (text.get_string(&txn), yrs::types::ToJson::to_json(&fields, &txn));
    let state = txn.encode_state_as_update_v1(&StateVector::default());
    drop(txn);
    let state = Update::decode(state.into()).expect("we read what yrs writes of what we admitted");
    let mut stored = Shape::new();
    stored.record(&state);
    assert_eq!(stored.state_vector(), shape.state_vector(), "yrs holds the units that we recorded");
    let reopened = Live::new(3);
    apply(&reopened, &state);
}
