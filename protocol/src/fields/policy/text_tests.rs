//! Texts merged by lines and words, and what is shown where they overlap.

use super::tests::{at, merged};
use super::*;
use proptest::prelude::*;
use serde_json::json;

/// What becomes of texts that were written one after the other, from the millisecond 1 on.
fn text3(base: &str, texts: &[&str]) -> Merged {
    let texts: Vec<_> = texts.iter().map(|text| json!(text)).collect();
    merged(&Policy::Text3, &json!(base), &texts)
}

#[track_caller]
fn merges(base: &str, texts: &[&str], to: &str) {
    assert_eq!(text3(base, texts), Merged::Value(Some(to.into())));
}

#[track_caller]
fn overlaps(base: &str, texts: &[&str], places: usize, shown: &str) {
    let Merged::Conflict { shown: Some(Value::String(text)), reason } = text3(base, texts) else {
        panic!("no conflict: {:?}", text3(base, texts));
    };
    assert_eq!((&*text, reason), (shown, Some(Reason::Overlap(places))));
}

#[test]
fn changes_of_different_lines_merge_without_markers() {
    merges("a\nb\nc\nd\n", &["A\nb\nc\nd\n", "a\nb\nc\nD\ne\n"], "A\nb\nc\nD\ne\n");
    merges("a\nb\nc\nd\n", &["a\nc\nd\n", "a\nb\nc\nd\nx\n", "0\na\nb\nc\nd\n"], "0\na\nc\nd\nx\n");
    // Neighbouring lines meet as words.
    merges("one\ntwo\n", &["ONE\ntwo\n", "one\nTWO\n"], "ONE\nTWO\n");
}

#[test]
fn changes_of_different_words_merge_without_markers() {
    merges("Hello big world", &["Hello small world", "Hello big world!"], "Hello small world!");
    merges(
        "the cat sat on the mat\n",
        &["the dog sat on the mat\n", "the cat sat on a mat\n"],
        "the dog sat on a mat\n",
    );
    merges("α β γ", &["α B γ", "α β γ δ"], "α B γ δ");
}

#[test]
fn what_people_see_as_one_character_is_changed_as_one() {
    // A Thai letter and its two vowels, which Unicode's rules for words would part.
    let shown = "<<<<<<< r2, 1970-01-01T00:00:00.001Z\nขำำ\n||||||| before\nกำำ\n=======\nกำ\n\
                 >>>>>>> r3, 1970-01-01T00:00:00.002Z";
    overlaps("กำำ", &["ขำำ", "กำ"], 1, shown);
    merges("กำ 👩‍👩‍👧 שלום", &["ขำ 👩‍👩‍👧 שלום", "กำ 👩‍👩‍👧 עולם"], "ขำ 👩‍👩‍👧 עולם");
}

#[test]
fn the_same_change_is_one() {
    merges("a\nb\nc\nd\n", &["a\nd\n", "a\nd\nx\n"], "a\nd\nx\n");
    merges("a b c", &["a B c", "a B c d"], "a B c d");
    merges("", &["new", "new"], "new");
}

#[test]
fn overlapping_changes_are_marked() {
    let shown = "\
same
<<<<<<< r2, 1970-01-01T00:00:00.001Z
b one
||||||| before
b
=======
b two
>>>>>>> r3, 1970-01-01T00:00:00.002Z
same
END
";
    overlaps("same\nb\nsame\nend\n", &["same\nb one\nsame\nend\n", "same\nb two\nsame\nEND\n"], 1, shown);
}

#[test]
fn more_than_two_versions_are_marked_side_by_side() {
    let shown = "\
<<<<<<< r2, 1970-01-01T00:00:00.001Z
x
||||||| before
a
======= r3, 1970-01-01T00:00:00.002Z
y
=======
z
>>>>>>> r1, 1970-01-01T00:00:00.003Z
b
C
";
    overlaps("a\nb\nc\n", &["x\nb\nc\n", "y\nb\nc\n", "z\nb\nc\n", "a\nb\nC\n", "x\nb\nC\n"], 1, shown);
}

#[test]
fn a_deletion_against_a_change_is_marked() {
    let shown = "\
a
<<<<<<< r2, 1970-01-01T00:00:00.001Z
||||||| before
b
=======
B
>>>>>>> r3, 1970-01-01T00:00:00.002Z
";
    overlaps("a\nb\n", &["a\n", "a\nB\n"], 1, shown);
}

#[test]
fn line_breaks_stay_as_they_are() {
    merges("a\r\nb\r\nc\r\n", &["A\r\nb\r\nc\r\n", "a\r\nb\r\nC"], "A\r\nb\r\nC");
    merges("a\nb\nc", &["A\nb\nc", "a\nb\nc"], "A\nb\nc");
    let shown = "<<<<<<< r2, 1970-01-01T00:00:00.001Z\r\nx\r\n||||||| before\r\na\r\n=======\r\ny\r\n\
                 >>>>>>> r3, 1970-01-01T00:00:00.002Z\r\nb\r\n";
    overlaps("a\r\nb\r\n", &["x\r\nb\r\n", "y\r\nb\r\n"], 1, shown);
    // A title has no line break at its end, and gets none.
    let shown = "<<<<<<< r2, 1970-01-01T00:00:00.001Z\nx\n||||||| before\na\n=======\ny\n\
                 >>>>>>> r3, 1970-01-01T00:00:00.002Z";
    overlaps("a", &["x", "y"], 1, shown);
}

#[test]
fn markers_are_longer_than_what_looks_like_one() {
    let marked = "<<<<<<< eu\nx\n=======\ny\n>>>>>>> us\n";
    let one = format!("{marked}z1\n");
    let two = format!("{marked}z2\n");
    let shown = format!(
        "{marked}<<<<<<<< r2, 1970-01-01T00:00:00.001Z\nz1\n|||||||| before\nz\n========\nz2\n\
         >>>>>>>> r3, 1970-01-01T00:00:00.002Z\n"
    );
    overlaps(&format!("{marked}z\n"), &[&one, &two], 1, &shown);

    let long = "=".repeat(MARKER_LEN_MAX);
    let reason = text3(&format!("{long}\nz\n"), &[&format!("{long}\nx\n"), &format!("{long}\ny\n")]).reason();
    assert_eq!(reason, Some(Reason::MarkersTooLong));
}

#[test]
fn names_cannot_forge_markers() {
    let mut versions = [at(1, Some("x".into())), at(2, Some("y".into()))];
    versions[0].author.name = "Eve\n>>>>>>> \u{202e}evil".into();
    versions[1].author.name = "👩‍👩‍👧‍👦".repeat(LABEL_CHARS_MAX + 1).into();
    let base = Value::from("a");
    let Merged::Conflict { shown: Some(Value::String(text)), .. } =
        merge(&Policy::Text3, Base::Known(Some(&base)), &versions)
    else {
        panic!("no conflict");
    };
    assert!(text.starts_with("<<<<<<< r2, Eve>>>>>>> evil, 1970-01-01T00:00:00.001Z\nx\n"), "{text}");
    let family = "👩‍👩‍👧‍👦".repeat(LABEL_CHARS_MAX);
    assert!(text.ends_with(&format!("\n>>>>>>> r3, {family}, 1970-01-01T00:00:00.002Z")), "{text}");
}

#[test]
fn a_cleared_text_against_written_ones_stays_a_conflict_that_shows_them_merged() {
    let versions = [json!("A b c"), json!("a b C"), json!(null)];
    let shown = Some("A b C".into());
    let reason = Some(Reason::Cleared);
    assert_eq!(merged(&Policy::Text3, &json!("a b c"), &versions), Merged::Conflict { shown, reason });
}

#[test]
fn what_is_no_text_or_too_long_stays_siblings() {
    let reason = |base, one, two| merged(&Policy::Text3, &base, &[one, two]).reason();
    assert_eq!(reason(json!("a"), json!("b"), json!(1)), Some(Reason::NotA(Kind::Text)));
    assert_eq!(reason(json!(1), json!("b"), json!("c")), Some(Reason::BaseNotA(Kind::Text)));
    let long = "word ".repeat(TEXTS_BYTES_MAX / 10 + 1);
    let too_long = Some(Reason::TextsTooLong(TEXTS_BYTES_MAX));
    assert_eq!(reason(json!("a"), json!(format!("{long}b")), json!(format!("{long}c"))), too_long);
    // Markers around every line of many would be much longer than the texts.
    let lines = |letter: &str| format!("same\n{}\n", letter.repeat(60)).repeat(10_000);
    let too_long = Some(Reason::MarkedTooLong(MARKED_BYTES_MAX));
    assert_eq!(reason(json!(lines("a")), json!(lines("b")), json!(lines("c"))), too_long);
}

#[test]
fn long_texts_merge_where_they_differ_little() {
    let lines = |begin: &str, end: &str| {
        let line = |i: usize| format!("line {i} of a text that is a megabyte long\n");
        format!("{begin}{}{end}", (0..COMPARED_MAX / 4).map(line).collect::<String>())
    };
    assert!(lines("", "").len() > 1_000_000);
    merges(&lines("a\n", "b\n"), &[&lines("A\n", "b\n"), &lines("a\n", "B\n")], &lines("A\n", "B\n"));

    let lines = |end: &str| format!("{end}\n{}{end}\n", "x\n".repeat(COMPARED_MAX / 2));
    let reason = text3(&lines("a"), &[&lines("b"), &lines("c")]).reason();
    assert_eq!(reason, Some(Reason::TooDifferent(COMPARED_MAX)));
    // Words that are too many to compare are not merged, but marked.
    let words = |end: &str, middle: &str| {
        let half = "word ".repeat(COMPARED_MAX / 8);
        format!("{end} {half} {middle} {half} {end}")
    };
    let reason = text3(&words("a", "b"), &[&words("A", "b"), &words("a", "B")]).reason();
    assert_eq!(reason, Some(Reason::Overlap(1)));
}

/// Texts of few pieces, among them such as must never be parted: a family, a flag, an accent, Thai and Arabic.
fn texts() -> impl Strategy<Value = String> {
    let piece = || {
        prop::sample::select(vec![
            "a",
            "b",
            "word",
            " ",
            " ",
            "\n",
            "\n",
            "\r\n",
            "👩‍👩‍👧",
            "🇩🇪",
            "e\u{301}",
            "กำ",
            "שלום",
            "مرحبا",
            "<<<<<<<\n",
            "=======\n",
        ])
    };
    prop::collection::vec(piece(), 0..10).prop_map(|pieces| pieces.concat())
}

/// The characters that people see, of which a merge may use no other.
fn characters(text: &str) -> impl Iterator<Item = &str> {
    unicode_segmentation::UnicodeSegmentation::graphemes(text, true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn texts_merge_in_any_order(
        base in prop::option::of(texts()),
        (texts, shuffled) in prop::collection::vec(texts(), 2..4)
            .prop_map(|texts| texts.iter().zip(1..).map(|(text, ms)| at(ms, Some(text.as_str().into()))).collect::<Vec<_>>())
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let base = base.map(|text| Value::from(text.as_str()));
        let base = Base::Known(base.as_ref());
        let merged = merge(&Policy::Text3, base, &texts);
        prop_assert_eq!(&merged, &merge(&Policy::Text3, base, &shuffled));
        // A version that is in already changes nothing.
        let again: Vec<_> = texts.iter().chain(&texts[..1]).cloned().collect();
        prop_assert_eq!(&merged, &merge(&Policy::Text3, base, &again));
    }

    #[test]
    fn a_text_that_one_changed_is_what_it_left(base in texts(), text in texts()) {
        let versions = [at(1, Some(text.as_str().into())), at(2, Some(base.as_str().into()))];
        let base = Value::from(base.as_str());
        let merged = merge(&Policy::Text3, Base::Known(Some(&base)), &versions);
        prop_assert_eq!(merged, Merged::Value(Some(text.as_str().into())));
    }

    #[test]
    fn no_character_is_cut(base in texts(), one in texts(), two in texts()) {
        let versions = [at(1, Some(one.as_str().into())), at(2, Some(two.as_str().into()))];
        let whole = Value::from(base.as_str());
        if let Merged::Value(Some(Value::String(merged))) = merge(&Policy::Text3, Base::Known(Some(&whole)), &versions) {
            let known: std::collections::BTreeSet<_> = [&base, &one, &two].into_iter().flat_map(|text| characters(text)).collect();
            // Pieces may come to stand side by side and make one character of two, as flags do, but no half remains.
            for character in characters(&merged).filter(|character| !known.contains(character)) {
                prop_assert!(known.iter().any(|part| character.starts_with(part)), "{character:?} of {merged:?}");
            }
        }
    }
}
