//! What stands in something that is deleted, and editors that do not know that theirs does.

use crate::craft::{ANY, KEYED, LEFT, MAP, TYPE, Wire, entry_in, gc, map_in, text_in, update, wire};
use crate::support::{apply, decode, deleted_units, doc, state_of};
use bytes::Bytes;
use quire_protocol::update::{Admission, Shape, Update};
use std::sync::Arc;
use yrs::types::ToJson;
use yrs::undo::{Options, UndoManager};
use yrs::{Any, Doc, Map, MapPrelim, ReadTxn, Transact};

const ROOT: &str = "fields";

/// An editor that has set a key of a map and replaced the map, and undoes both at once. Gives what it had before, and
/// the updates that these made.
fn undone() -> (Doc, Vec<u8>, [Update; 2]) {
    let author = doc(1);
    let root = author.get_or_insert_map(ROOT);
    let options = Options { capture_timeout_millis: 0, timestamp: Arc::new(|| 1), ..Options::default() };
    let mut undo: UndoManager<()> = UndoManager::with_options(options);
    undo.expand_scope(&author, &root);
    let mut txn = author.transact_mut();
    let old = root.insert(&mut txn, "place", MapPrelim::default());
    old.insert(&mut txn, "city", "one");
    drop(txn);
    let before = state_of(&author);
    let mut txn = author.transact_mut();
    old.insert(&mut txn, "city", "two");
    root.insert(&mut txn, "place", MapPrelim::default());
    let replaced = decode(txn.encode_update_v1());
    drop(txn);
    let held = author.transact().state_vector();
    assert!(undo.undo_blocking());
    let undone = decode(author.transact().encode_state_as_update_v1(&held));
    (author, before, [replaced, undone])
}

fn shown(doc: &Doc) -> Any {
    let root = doc.get_or_insert_map(ROOT);
    root.to_json(&doc.transact())
}

fn take(shape: &mut Shape, region: &Doc, update: Update) -> Admission {
    let admission = shape.admit(update).unwrap();
    assert!(!admission.missing);
    if let Some(fresh) = &admission.fresh {
        shape.record(fresh);
        apply(region, fresh);
    }
    admission
}

#[test]
fn u12_who_undoes_into_another_map_learns_what_everybody_else_has() {
    // One by one, at once, and after the region has collected the old map.
    for way in ["each", "at once", "collected"] {
        let (author, before, [replaced, undone]) = undone();
        let (region, mut shape) = (doc(2), Shape::new());
        take(&mut shape, &region, decode(before));
        let last = match way {
            "at once" => take(&mut shape, &region, decode(state_of(&author))),
            "each" => {
                assert!(take(&mut shape, &region, replaced).dropped.is_none());
                take(&mut shape, &region, undone)
            }
            _ => {
                take(&mut shape, &region, replaced);
                let mut stored = Shape::new();
                stored.record(&decode(state_of(&region)));
                take(&mut stored, &region, undone)
            }
        };
        assert_ne!(shown(&author), shown(&region), "{way}: yrs does it right, and there is nothing to learn");
        let dropped = last.dropped.unwrap();
        assert_eq!(dropped.block_count(), 0);
        apply(&author, &dropped);
        assert_eq!(shown(&author), shown(&region), "{way}");
        let all = |doc: &Doc| deleted_units(&decode(state_of(doc)));
        assert_eq!(all(&author), all(&region), "{way}");
    }
}

/// A null that replaces another value of a key.
fn entry_after(left: (u64, u64)) -> Wire {
    wire().byte(ANY | LEFT).id(left).u(1).byte(126)
}

#[test]
fn u12_what_stands_in_something_deleted_is_named_unless_its_author_said_it() {
    // A map with a null and another map in it, which holds a null.
    let map = wire().byte(TYPE | KEYED).u(1).text(ROOT).text("place").u(MAP);
    let null_in = |parent: (u64, u64)| wire().byte(ANY | KEYED).u(0).id(parent).text("key").u(1).byte(126);
    let base = update(&[(1, 0, &[map, null_in((1, 0)), map_in((1, 0), "inner"), null_in((1, 2))])], &[]);
    let write = |block: Wire, deletes: &[(u64, u64, u64)]| update(&[(2, 0, &[block])], deletes);
    let nothing = Bytes::new();
    let named = update(&[], &[(2, 0, 1)]);
    for (what, before, sent, expected) in [
        ("in a map that stands", (1, 1, 1), write(entry_after((1, 1)), &[]), &nothing),
        ("in a map that is gone", (1, 0, 1), write(entry_after((1, 1)), &[]), &named),
        ("in one within that", (1, 0, 1), write(entry_after((1, 3)), &[]), &named),
        ("under a new key of it", (1, 0, 1), write(null_in((1, 2)), &[]), &named),
        ("in a map that goes with it", (1, 1, 1), write(entry_after((1, 3)), &[(1, 0, 1)]), &named),
        ("deleted by its author", (1, 0, 1), write(entry_after((1, 1)), &[(2, 0, 1)]), &nothing),
        ("collected by its author", (1, 0, 1), write(gc(1), &[]), &nothing),
        ("in the root", (1, 0, 1), write(entry_in(ROOT, "other"), &[]), &nothing),
        ("text", (1, 0, 1), write(text_in("content", "a"), &[]), &nothing),
    ] {
        let mut shape = Shape::new();
        shape.record(&decode(base.clone()));
        let (client, clock, len) = before;
        shape.record(&decode(update(&[], &[(client, clock, len)])));
        let dropped = shape.admit(decode(sent.clone())).unwrap().dropped;
        assert_eq!(dropped.map_or(nothing.clone(), |dropped| dropped.encoded().clone()), expected, "{what}");
        // Who has what is known has been told.
        shape.record(&decode(sent.clone()));
        assert!(shape.admit(decode(sent)).unwrap().dropped.is_none(), "{what}, and known");
    }
}
