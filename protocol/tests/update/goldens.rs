//! What real Yjs documents send is accepted, in any order and as often as it comes.

use crate::support::{Golden, Numbers, apply, decode, doc, goldens, read_json, state_of, unhex};
use quire_protocol::update::{Shape, Update, merge, reused};
use yrs::{GetString, ReadTxn, Transact};

/// Delivers updates over and over until nothing more is missing. Gives the parts that were admitted.
fn deliver(golden: &Golden, mut pool: Vec<Update>) -> Vec<Update> {
    let mut shape = Shape::new();
    let mut admitted = Vec::new();
    for _round in 0..=pool.len() {
        let mut held_back = Vec::new();
        for update in pool {
            let admission = shape.admit(update.clone()).unwrap_or_else(|e| panic!("{}: {e}", golden.name));
            if let Some(fresh) = admission.fresh {
                assert_eq!(Update::decode(fresh.encoded().clone()), Ok(fresh.clone()), "{}", golden.name);
                shape.record(&fresh);
                let again = shape.admit(fresh.clone()).unwrap();
                assert!(again.fresh.is_none() && !again.missing, "{}: {again:?}", golden.name);
                admitted.push(fresh);
            }
            if admission.missing {
                held_back.push(update);
            }
        }
        if held_back.is_empty() {
            return admitted;
        }
        pool = held_back;
    }
    panic!("{}: something stays missing", golden.name);
}

#[test]
fn u1_every_golden_is_admitted_in_order_without_holes() {
    for golden in goldens() {
        let reader = doc(900);
        let mut shape = Shape::new();
        for update in &golden.updates {
            let admission = shape.admit(update.clone()).unwrap();
            assert!(!admission.missing, "{}", golden.name);
            if let Some(fresh) = admission.fresh {
                shape.record(&fresh);
                apply(&reader, &fresh);
            }
        }
        golden.check(&reader);
    }
}

#[test]
fn u6_duplicates_in_any_order_give_what_yjs_holds() {
    for golden in goldens() {
        for seed in 1..=8 {
            let mut numbers = Numbers(seed);
            let mut pool: Vec<Update> = golden.updates.clone();
            for _ in 0..golden.updates.len() / 2 {
                pool.push(golden.updates[numbers.below(golden.updates.len())].clone());
            }
            if seed % 2 == 0 {
                pool.insert(numbers.below(pool.len()), golden.state.clone());
            }
            for at in (1..pool.len()).rev() {
                pool.swap(at, numbers.below(at + 1));
            }
            let admitted = deliver(&golden, pool);
            let reader = doc(900);
            admitted.iter().for_each(|fresh| apply(&reader, fresh));
            golden.check(&reader);
            let at_once = doc(901);
            apply(&at_once, &merge(&admitted));
            golden.check(&at_once);
        }
    }
}

#[test]
fn u6_a_state_that_is_sent_again_admits_nothing() {
    for golden in goldens() {
        let mut shape = Shape::new();
        let whole = shape.admit(golden.state.clone()).unwrap();
        assert_eq!(whole.fresh.as_ref(), Some(&golden.state), "{}", golden.name);
        shape.record(&golden.state);
        let again = shape.admit(golden.state.clone()).unwrap();
        assert!(again.fresh.is_none() && !again.missing, "{}", golden.name);
        assert_eq!(reused(&golden.state, &golden.state), None, "{}", golden.name);

        // Nor does what a yrs document makes of it, although yrs writes some content anew.
        let reader = doc(900);
        apply(&reader, &golden.state);
        let by_yrs = decode(state_of(&reader));
        let again = shape.admit(by_yrs.clone()).unwrap();
        assert!(again.fresh.is_none() && !again.missing, "{}: {again:?}", golden.name);
        assert_eq!(reused(&golden.state, &by_yrs), None, "{}", golden.name);
        for update in &golden.updates {
            assert!(!shape.admit(update.clone()).unwrap().missing);
            assert_eq!(reused(&by_yrs, update), None, "{}", golden.name);
            assert_eq!(reused(update, &golden.state), None, "{}", golden.name);
        }
    }
}

#[test]
fn u5_a_client_that_waits_itself_sends_holes_and_they_are_seen() {
    let json = read_json("holes.json");
    let updates: Vec<Update> = json["updates"].as_array().unwrap().iter().map(|u| decode(unhex(u))).collect();
    for name in ["waiting", "merged"] {
        let mut shape = Shape::new();
        let reader = doc(900);
        let sent = decode(unhex(&json[name]));
        let first = shape.admit(sent.clone()).unwrap();
        assert!(first.missing);
        let fresh = first.fresh.unwrap();
        shape.record(&fresh);
        apply(&reader, &fresh);
        assert!(!reader.transact().has_missing_updates());
        for missing in json["missing"].as_array().unwrap() {
            let fresh = shape.admit(decode(unhex(missing))).unwrap().fresh.unwrap();
            shape.record(&fresh);
            apply(&reader, &fresh);
            let more = shape.admit(sent.clone()).unwrap();
            let fresh = more.fresh.unwrap();
            shape.record(&fresh);
            apply(&reader, &fresh);
        }
        assert!(!shape.admit(sent).unwrap().missing);
        for update in &updates {
            let rest = shape.admit(update.clone()).unwrap();
            assert!(!rest.missing);
            if let Some(fresh) = rest.fresh {
                shape.record(&fresh);
                apply(&reader, &fresh);
            }
        }
        let text = reader.get_or_insert_text("content").get_string(&reader.transact());
        assert_eq!(text, json[format!("{name} text")]);
    }
}
