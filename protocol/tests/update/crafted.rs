//! Updates that were made to do harm, and what becomes of them.

use crate::craft::{
    ANY, DELETED, DOC, EMBED, KEYED, LEFT, RIGHT, STRING, TYPE, Wire, entry_in, gc, map_in, skip, text_after,
    text_between, text_in, update, wire,
};
use crate::support::{apply, decode, doc, state_of};
use bytes::Bytes;
use quire_protocol::update::{
    CLOCK_MAX, ClientId, ItemId, KEY_BYTES_MAX, Limits, NESTING_MAX, Refusal, Shape, StateVector, Update,
    merge,
};
use yrs::updates::decoder::Decode;
use yrs::{GetString, Transact};

fn refusal(bytes: impl Into<Bytes>) -> Refusal {
    Update::decode(bytes.into()).expect_err("it does harm")
}

fn one(block: Wire) -> Bytes {
    update(&[(1, 0, &[block])], &[])
}

/// A document that holds updates.
fn shape(updates: &[Bytes]) -> Shape {
    let mut shape = Shape::new();
    for bytes in updates {
        let admission = shape.admit(decode(bytes.clone())).unwrap();
        assert!(!admission.missing);
        shape.record(&admission.fresh.unwrap());
    }
    shape
}

#[test]
fn u3_values_and_json_that_nest_deep_are_refused_without_recursion() {
    let arrays = [[117, 1].repeat(100_000), vec![126]].concat();
    let block = wire().byte(ANY).u(1).text("t").u(1).raw(&arrays);
    assert_eq!(refusal(one(block)), Refusal::ValueDepth);
    let json = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let block = wire().byte(EMBED).u(1).text("t").text(&json);
    assert_eq!(refusal(one(block)), Refusal::JsonDepth);
}

#[test]
fn u2_counts_that_the_bytes_cannot_hold_are_refused() {
    let claims = 100_000_000;
    assert_eq!(refusal(wire().u(claims).0), Refusal::Count);
    assert_eq!(refusal(wire().u(0).u(claims).0), Refusal::Count);
    assert_eq!(refusal(wire().u(1).u(claims).u(1).u(0).byte(0).u(1).u(0).0), Refusal::Count);
    assert_eq!(refusal(wire().u(0).u(1).u(1).u(claims).u(0).u(1).0), Refusal::Count);
    let values = wire().byte(ANY).u(1).text("t").u(claims);
    assert_eq!(refusal(one(values)), Refusal::Count);
    let members = wire().byte(ANY).u(1).text("t").u(1).byte(118).u(claims);
    assert_eq!(refusal(one(members)), Refusal::Count);
    assert_eq!(StateVector::decode(&wire().u(claims).0), Err(Refusal::Count));
}

#[test]
fn u3_clocks_stay_below_the_limit() {
    let huge = u64::from(u32::MAX);
    assert_eq!(refusal(one(gc(huge))), Refusal::Clock);
    assert_eq!(refusal(one(wire().byte(DELETED).u(1).text("t").u(huge))), Refusal::Clock);
    assert_eq!(refusal(one(skip(huge))), Refusal::Clock);
    let max = u64::from(CLOCK_MAX);
    assert!(Update::decode(one(gc(max))).is_ok());
    assert_eq!(refusal(update(&[(1, 0, &[gc(max), gc(1)])], &[])), Refusal::Clock);
    assert_eq!(refusal(update(&[(1, max, &[gc(1)])], &[])), Refusal::Clock);
    assert_eq!(refusal(update(&[], &[(1, max, 1)])), Refusal::Clock);
    assert_eq!(refusal(update(&[], &[(1, 5, huge)])), Refusal::Clock);
    assert_eq!(refusal(one(text_after((2, max), "a"))), Refusal::Clock);
    assert_eq!(StateVector::decode(&wire().u(1).u(1).u(max + 1).0), Err(Refusal::Clock));
}

#[test]
fn u1_only_what_yjs_writes_is_read() {
    for (block, expected) in [
        (wire().byte(0x80).u(1), Refusal::Flags),
        (wire().byte(0x20 | 10).u(1), Refusal::Flags),
        (wire().byte(STRING).u(2).text("t").text("a"), Refusal::Flags),
        (wire().byte(2).u(1).text("t").u(1).text("1"), Refusal::OldJson),
        (wire().byte(11).u(1).text("t"), Refusal::Content),
        (wire().byte(STRING | 0x10).u(1).text("t").text("a"), Refusal::Content),
        (wire().byte(TYPE).u(1).text("t").u(5).text("hook"), Refusal::XmlHook),
        (wire().byte(TYPE).u(1).text("t").u(7).raw(&[0; 6]), Refusal::TypeKind),
        (wire().byte(TYPE).u(1).text("t").u(9), Refusal::TypeKind),
        (wire().byte(TYPE).u(1).text("t").u(15), Refusal::TypeKind),
        (wire().byte(ANY).u(1).text("t").u(1).byte(115), Refusal::Value),
        (wire().byte(EMBED).u(1).text("t").text("{"), Refusal::Json),
        (wire().byte(EMBED).u(1).text("t").text(r#""\ud800""#), Refusal::Json),
        (wire().byte(DOC).u(1).text("t").text("guid").byte(126), Refusal::SubdocOptions),
        (
            wire().byte(DOC).u(1).text("t").text("g").raw(&[118, 1, 4]).raw(b"guid").byte(126),
            Refusal::SubdocOptions,
        ),
        (wire().byte(STRING).u(1).text("t").u(1).byte(0xff), Refusal::Utf8),
        (wire().byte(STRING).u(1).text(&"n".repeat(KEY_BYTES_MAX + 1)).text("a"), Refusal::KeyLength),
        (text_in("t", ""), Refusal::Empty),
        (gc(0), Refusal::Empty),
        (skip(0), Refusal::Empty),
        (wire().byte(DELETED).u(1).text("t").u(0), Refusal::Empty),
        (wire().byte(ANY).u(1).text("t").u(0), Refusal::Empty),
        (text_after((1, 0), "a"), Refusal::ForwardReference),
        (text_between((2, 0), (1, 7), "a"), Refusal::ForwardReference),
        (map_in((1, 0), "k"), Refusal::ForwardReference),
        (text_after((1 << 32, 0), "a"), Refusal::ClientId),
        (wire().byte(0).raw(&[0x81, 0]), Refusal::Integer),
    ] {
        assert_eq!(refusal(one(block.clone())), expected, "{:?}", block.0);
    }
    let word = text_in("t", "a");
    assert_eq!(refusal(update(&[(1, 0, &[])], &[(1, 0, 1)])), Refusal::Empty);
    assert_eq!(
        refusal(update(&[(1, 0, std::slice::from_ref(&word)), (1, 1, &[gc(1)])], &[])),
        Refusal::ClientTwice
    );
    assert_eq!(refusal(update(&[(1 << 32, 0, std::slice::from_ref(&word))], &[])), Refusal::ClientId);
    assert_eq!(refusal(update(&[], &[(1, 0, 0)])), Refusal::Empty);
    assert_eq!(refusal(update(&[], &[(1, 0, 1), (1, 1, 1)])), Refusal::ClientTwice);
    assert_eq!(refusal(wire().u(0).u(1).u(1).u(2).u(5).u(2).u(6).u(1).0), Refusal::RangeOrder);
    assert_eq!(refusal(wire().u(0).u(1).u(1).u(0).u(0).u(0).0), Refusal::Empty);
    let whole = one(word);
    for end in 0..whole.len() {
        assert!(Update::decode(whole.slice(..end)).is_err(), "cut to {end} bytes");
    }
    assert_eq!(refusal([&whole[..], &[0]].concat()), Refusal::Trailing);
    assert!(Update::decode(Bytes::from_static(&[0, 0])).unwrap().is_empty());
}

#[test]
fn u3_limits_hold_on_bytes_blocks_values_and_subdocuments() {
    let limits =
        Limits { bytes: 100, blocks: 3, clients: 2, ranges: 2, values: 4, subdocs: 1, ..Limits::OUTSIDE };
    let within = |bytes: Bytes| Update::decode_within(bytes, &limits).map(drop);
    assert_eq!(within(one(text_in("t", &"a".repeat(100)))), Err(Refusal::TooLarge));
    assert_eq!(within(update(&[(1, 0, &[gc(1), gc(1), gc(1)])], &[])), Ok(()));
    assert_eq!(
        within(update(&[(1, 0, &[gc(1), gc(1), gc(1), gc(1)])], &[])),
        Err(Refusal::TooMany("blocks"))
    );
    let (a, b, c) = (&[gc(1)][..], &[gc(1)][..], &[gc(1)][..]);
    assert_eq!(within(update(&[(1, 0, a), (2, 0, b), (3, 0, c)], &[])), Err(Refusal::TooMany("clients")));
    let deletes = [(1, 0, 1), (2, 0, 1), (3, 0, 1)];
    assert_eq!(within(update(&[], &deletes)), Err(Refusal::TooMany("clients")));
    let ranges = wire().u(0).u(1).u(1).u(3).u(0).u(1).u(2).u(1).u(4).u(1);
    assert_eq!(within(ranges.0.into()), Err(Refusal::TooMany("deleted ranges")));
    let values = wire().byte(ANY).u(1).text("t").u(1).raw(&[117, 4, 126, 126, 126, 126]);
    assert_eq!(within(one(values)), Err(Refusal::TooMany("values")));
    let subdoc = wire().byte(DOC).u(1).text("t").text("g").raw(&[118, 0]);
    assert_eq!(
        within(update(&[(1, 0, &[subdoc.clone(), subdoc])], &[])),
        Err(Refusal::TooMany("subdocuments"))
    );
}

#[test]
fn u4_shared_types_nest_to_the_limit_and_no_deeper() {
    let cap = u64::from(NESTING_MAX);
    let root = wire().byte(TYPE | KEYED).u(1).text("m").text("k").u(1);
    let chain = |depth: u64| {
        let deeper = (1..depth).map(|clock| map_in((1, clock - 1), "k"));
        let blocks: Vec<Wire> = [root.clone()].into_iter().chain(deeper).collect();
        decode(update(&[(1, 0, &blocks)], &[]))
    };
    assert_eq!(Shape::new().admit(chain(cap + 1)).unwrap_err(), Refusal::Nesting);
    assert_eq!(Shape::new().admit(chain(100_000)).unwrap_err(), Refusal::Nesting);
    let deepest = chain(cap);
    let held = shape(&[deepest.encoded().clone()]);
    // One deeper: by its parent, beside an entry that is there, and after a restart.
    let entry = wire().byte(ANY | KEYED).u(0).id((1, cap - 1)).text("e").u(1).byte(126);
    let beside = wire().byte(TYPE | LEFT).id((2, 0)).u(1);
    for blocks in [&[map_in((1, cap - 1), "k")][..], &[entry, beside][..]] {
        let deeper = decode(update(&[(2, 0, blocks)], &[]));
        assert_eq!(held.admit(deeper).unwrap_err(), Refusal::Nesting);
    }
    // What is admitted can be deleted, printed and collected on the small stack of a worker thread.
    let worker = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let doc = doc(9);
        let map = doc.get_or_insert_map("m");
        apply(&doc, &deepest);
        let _json = yrs::types::ToJson::to_json(&map, &doc.transact());
        apply(&doc, &decode(update(&[], &[(1, 0, 1)])));
        state_of(&doc).len()
    });
    assert!(worker.unwrap().join().unwrap() > 0);
}

#[test]
fn u4_a_parent_must_be_a_shared_type_or_deleted() {
    let text = one(text_in("t", "abc"));
    let child = decode(update(&[(2, 0, &[map_in((1, 1), "k")])], &[]));
    let held = shape(std::slice::from_ref(&text));
    let parent = ItemId { client: ClientId(1), clock: 1 };
    assert_eq!(held.admit(child.clone()).unwrap_err(), Refusal::Parent(parent));
    // In one update too.
    let both = update(&[(2, 0, &[map_in((1, 1), "k")]), (1, 0, &[text_in("t", "abc")])], &[(1, 0, 3)]);
    assert_eq!(Shape::new().admit(decode(both)).unwrap_err(), Refusal::Parent(parent));
    // What a deleted type held is taken as collected: that is all Yjs would keep of it.
    for gone in [one(gc(3)), one(wire().byte(DELETED).u(1).text("t").u(3))] {
        let held = shape(std::slice::from_ref(&gone));
        let fresh = held.admit(child.clone()).unwrap().fresh.unwrap();
        assert_eq!(fresh.encoded(), &update(&[(2, 0, &[gc(1)])], &[]));
        let doc = doc(9);
        apply(&doc, &decode(gone));
        apply(&doc, &fresh);
        state_of(&doc);
    }
}

/// Printing an array that holds a surrogate pair never ends in yrs.
#[test]
fn text_stands_only_in_texts() {
    let array = wire().byte(TYPE | KEYED).u(1).text("fields").text("k").u(0);
    let text = wire().byte(TYPE | KEYED).u(1).text("fields").text("t").u(2);
    let held = shape(&[update(&[(1, 0, &[array, text])], &[])]);
    let inside = |clock: u64| wire().byte(STRING).u(0).id((1, clock)).text("😀");
    let value = wire().byte(ANY).u(0).id((1, 0)).u(1).byte(126);
    let entry = wire().byte(STRING | KEYED).u(1).text("fields").text("x").text("a");
    for blocks in [&[inside(0)][..], &[value, text_after((2, 0), "😀")][..], &[entry][..]] {
        let refusal = held.admit(decode(update(&[(2, 0, blocks)], &[]))).unwrap_err();
        assert_eq!(refusal.reason(), "misplaced");
    }
    assert!(held.admit(decode(update(&[(2, 0, &[inside(1)])], &[]))).unwrap().fresh.is_some());
}

/// yrs takes the key from the right neighbour even where it takes the container from the left one. Yjs does
/// not, and shows text of which yrs deletes a part.
#[test]
fn u4_nothing_stands_to_the_left_of_a_map_entry() {
    let base = update(&[(2, 0, &[entry_in("m", "k")]), (1, 0, &[text_in("t", "ab")])], &[]);
    let hostile =
        update(&[(3, 0, &[text_between((1, 0), (2, 0), "x"), text_between((3, 0), (2, 0), "y")])], &[]);
    let held = shape(std::slice::from_ref(&base));
    let entry = ItemId { client: ClientId(2), clock: 0 };
    assert_eq!(held.admit(decode(hostile.clone())).unwrap_err(), Refusal::RightOfEntry(entry));
    // An entry by inheritance is one as well.
    let replaced = update(&[(4, 0, &[wire().byte(ANY | LEFT).id((2, 0)).u(1).byte(126)])], &[]);
    let held = shape(&[base.clone(), replaced]);
    let beside = update(&[(3, 0, &[text_between((1, 0), (4, 0), "x")])], &[]);
    assert_eq!(held.admit(decode(beside)).unwrap_err().reason(), "right_of_entry");

    let doc = doc(9);
    for bytes in [base, hostile] {
        let update = yrs::Update::decode_v1(&bytes).unwrap();
        doc.transact_mut().apply_update(update).unwrap();
    }
    let text = doc.get_or_insert_text("t").get_string(&doc.transact());
    assert_ne!(text, "axyb", "yrs has learnt to do as Yjs does: the rule may go");
}

/// When one of two containers is collected Yjs collects what stands between them, and yrs shows it.
#[test]
fn neighbours_are_in_one_container() {
    let nested = |key: &str| wire().byte(TYPE | KEYED).u(1).text("fields").text(key).u(2);
    let inside = |clock: u64| wire().byte(STRING).u(0).id((1, clock)).text("ab");
    let base = [(1, 0, &[nested("a"), nested("b"), inside(0), inside(1), text_in("t", "ab")][..])];
    let held = shape(&[update(&base, &[])]);
    for (left, right) in [(2, 4), (2, 6), (6, 4)] {
        let between = update(&[(2, 0, &[text_between((1, left), (1, right), "x")])], &[]);
        assert_eq!(held.admit(decode(between)).unwrap_err().reason(), "apart");
    }
    for (left, right) in [(2, 3), (6, 7)] {
        let between = update(&[(2, 0, &[text_between((1, left), (1, right), "x")])], &[]);
        assert!(held.admit(decode(between)).unwrap().fresh.is_some());
    }
}

#[test]
fn u8_what_is_attached_to_collected_content_is_collected_as_in_yjs() {
    let held = shape(&[update(&[(2, 0, &[text_in("t", "ab")]), (1, 0, &[gc(2)])], &[])]);
    for (block, len) in [
        (text_after((1, 1), "x😀"), 3),
        (text_between((1, 0), (2, 0), "x"), 1),
        (text_between((2, 0), (1, 0), "x"), 1),
        (wire().byte(STRING | RIGHT).id((1, 1)).text("xyz"), 3),
        (wire().byte(TYPE | LEFT).id((1, 1)).u(1), 1),
    ] {
        let fresh = held.admit(decode(update(&[(3, 0, &[block])], &[]))).unwrap().fresh.unwrap();
        assert_eq!(fresh.encoded(), &update(&[(3, 0, &[gc(len)])], &[]));
    }
}

#[test]
fn u5_what_rests_on_the_unknown_is_held_back_and_never_pending() {
    let doc = doc(9);
    let mut shape = Shape::new();
    // Single letters in reverse order: pending updates would cost yrs the square of their number.
    let letter = |clock: u64| {
        let block = if clock == 0 { text_in("t", "a") } else { text_after((1, clock - 1), "a") };
        decode(update(&[(1, clock, &[block])], &[]))
    };
    for clock in (1..8_000).rev() {
        let admission = shape.admit(letter(clock)).unwrap();
        assert!(admission.missing && admission.fresh.is_none());
    }
    // Deletions of a client nobody has heard of.
    let ranges = (0..100_000).fold(wire().u(0).u(1).u(7).u(100_000), |out, at| out.u(at * 2).u(1));
    let admission = shape.admit(decode(ranges.0)).unwrap();
    assert!(admission.missing && admission.fresh.is_none());
    // Circles: between two clients, and through the items of a third.
    let first = text_in("t", "a");
    let circle = update(&[(1, 0, &[text_after((2, 0), "a")]), (2, 0, &[text_after((1, 0), "a")])], &[]);
    let around = [
        (5, 0, &[first.clone(), text_after((4, 1), "a")][..]),
        (4, 0, &[first.clone(), text_after((3, 1), "a")][..]),
        (3, 0, &[first, text_after((5, 1), "a")][..]),
    ];
    for (bytes, admitted) in [(circle, 0), (update(&around, &[]), 3)] {
        let admission = Shape::new().admit(decode(bytes)).unwrap();
        assert!(admission.missing);
        assert_eq!(admission.fresh.map_or(0, |fresh| fresh.items().count()), admitted);
    }
    for clock in 0..100 {
        let fresh = shape.admit(letter(clock)).unwrap().fresh.unwrap();
        shape.record(&fresh);
        apply(&doc, &fresh);
    }
    let text = doc.get_or_insert_text("t").get_string(&doc.transact());
    assert_eq!(text.len(), 100);
}

#[test]
fn u5_deletions_are_taken_as_far_as_their_units_are_known() {
    let held = shape(&[one(text_in("t", "abcdef")), update(&[], &[(1, 1, 2)])]);
    let admission = held.admit(decode(update(&[], &[(1, 0, 9)]))).unwrap();
    assert!(admission.missing);
    let expected = wire().u(0).u(1).u(1).u(2).u(0).u(1).u(3).u(3).0;
    assert_eq!(admission.fresh.unwrap().encoded(), &expected);
    let known = held.admit(decode(update(&[], &[(1, 1, 2)]))).unwrap();
    assert!(known.fresh.is_none() && !known.missing);
}

/// While it puts clients aside yrs looks through all of them for every block it takes meanwhile.
#[test]
fn u4_blocks_that_would_keep_yrs_searching_are_refused() {
    let depth = 2_000;
    let letters = 20_000;
    let last = depth + 1;
    let waiting: Vec<Vec<Wire>> = (1..=depth)
        .map(|client| {
            let clock = if client == depth { letters - 1 } else { 0 };
            vec![text_after((client + 1, clock), "a")]
        })
        .collect();
    let run: Vec<Wire> = (0..letters).map(|_| gc(1)).collect();
    let mut sections: Vec<(u64, u64, &[Wire])> =
        waiting.iter().zip(1..).map(|(blocks, client)| (client, 0, &blocks[..])).collect();
    sections.push((last, 0, &run));
    let tangled = decode(update(&sections, &[]));
    let few = Limits { lookups: 1 << 20, ..Limits::OUTSIDE };
    assert_eq!(Shape::new().admit_within(tangled.clone(), &few).unwrap_err(), Refusal::Tangled);
    assert!(Shape::new().admit(tangled).unwrap().fresh.is_some());
}

#[test]
fn u9_joining_fills_gaps_with_skips_and_takes_each_unit_once() {
    let word = |clock: u64, text: &str| {
        let block = if clock == 0 { text_in("t", text) } else { text_after((1, clock - 1), text) };
        decode(update(&[(1, clock, &[block])], &[(2, clock, 1)]))
    };
    let merged = merge(&[word(4, "ef"), word(0, "abc"), word(1, "bc")]);
    let expected = update(&[(1, 0, &[text_in("t", "abc"), skip(1), text_after((1, 3), "ef")])], &[]);
    let deletes = wire().u(1).u(2).u(2).u(0).u(2).u(4).u(1).0;
    assert_eq!(merged.encoded(), &[&expected[..expected.len() - 1], &deletes].concat());
    assert_eq!(Update::decode(merged.encoded().clone()), Ok(merged));
    let cut = merge(&[word(0, "ab"), word(1, "bcd")]);
    let texts: Vec<&[u8]> = cut.items().map(|item| item.content_bytes()).collect();
    assert_eq!(texts, [b"\x02ab", b"\x02cd"]);
    assert!(merge(&[]).is_empty());
}

#[test]
fn s5_state_vectors_are_read_as_yjs_writes_them() {
    let bytes = wire().u(3).u(9).u(4).u(7).u(0).u(1).u(300).0;
    let vector = StateVector::decode(&bytes).unwrap();
    assert_eq!(vector.iter().collect::<Vec<_>>(), [(ClientId(1), 300), (ClientId(9), 4)]);
    assert_eq!(vector.encode(), wire().u(2).u(9).u(4).u(1).u(300).0);
    assert_eq!(StateVector::decode(&wire().u(2).u(1).u(1).u(1).u(2).0), Err(Refusal::ClientTwice));
    assert_eq!(StateVector::decode(&wire().u(1).u(1 << 32).u(1).0), Err(Refusal::ClientId));
    assert_eq!(StateVector::decode(&[0, 0]), Err(Refusal::Trailing));
    assert_eq!(StateVector::decode(&[]), Err(Refusal::End));
}
