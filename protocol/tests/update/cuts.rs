//! Known units are cut off the front of a block as Yjs does it, at every place.

use crate::craft::{Wire, update, wire};
use crate::support::{apply, decode, doc, read_json, state_of, unhex};
use quire_protocol::update::{Shape, Update};

/// What of a run its first units are: any content that is known will do, in the same container.
fn shape_with(state: &Update, known: u32) -> Shape {
    let mut shape = Shape::new();
    // A document that takes the run one unit at a time, by what is left when the rest is cut off: nothing
    // of our own is used to make it but the clocks.
    let mut clock = 0;
    let mut blocks: Vec<Wire> = Vec::new();
    for item in state.items() {
        let clocks = item.clocks();
        while clock < clocks.end.min(known) {
            let first = clock == 0;
            let anchored = if item.parent().is_some() && first { 0 } else { 0x80 };
            let mut block = wire().byte(1 | anchored);
            block = if anchored == 0 {
                block.u(1).text("content")
            } else {
                block.id((77, u64::from(clock.saturating_sub(1))))
            };
            blocks.push(block.u(1));
            clock += 1;
        }
    }
    if !blocks.is_empty() {
        shape.record(&decode(update(&[(77, 0, &blocks)], &[])));
    }
    shape
}

#[test]
fn u7_what_is_left_is_what_yjs_sends_to_someone_who_has_the_first_units() {
    for run in read_json("cuts.json").as_array().unwrap() {
        let name = run["name"].as_str().unwrap();
        let state = decode(unhex(&run["state"]));
        for (known, rest) in run["rests"].as_array().unwrap().iter().enumerate() {
            let known = u32::try_from(known).unwrap();
            let shape = shape_with(&state, known);
            let admission = shape.admit(state.clone()).unwrap();
            assert!(!admission.missing);
            let expected = decode(unhex(rest));
            let blocks = |update: &Update| -> Vec<String> {
                let item = |item: quire_protocol::update::ItemRef<'_>| {
                    format!(
                        "{} {:?} {:?} {:?} {:?}",
                        item.id(),
                        item.origin(),
                        item.right_origin(),
                        item.content(),
                        item.content_bytes()
                    )
                };
                update.items().map(item).collect()
            };
            let left = admission.fresh.map_or(Vec::new(), |fresh| blocks(&fresh));
            assert_eq!(left, blocks(&expected), "{name} after {known} units");
        }
    }
}

#[test]
fn u7_a_document_that_has_the_first_units_takes_the_rest() {
    for run in read_json("cuts.json").as_array().unwrap() {
        let state = decode(unhex(&run["state"]));
        let whole = doc(1);
        apply(&whole, &state);
        for rest in run["rests"].as_array().unwrap().iter().rev() {
            // The rest alone is a hole unless it is the whole.
            let rest = decode(unhex(rest));
            let alone = Shape::new().admit(rest.clone()).unwrap();
            if let Some(first) = rest.items().next() {
                assert_eq!(alone.missing, first.id().clock > 0);
            }
            // With the whole it adds nothing.
            let mut shape = Shape::new();
            shape.record(&state);
            assert!(shape.admit(rest).unwrap().fresh.is_none());
        }
        let again = doc(2);
        apply(&again, &decode(state_of(&whole)));
        assert_eq!(state_of(&again), state_of(&whole));
    }
}
