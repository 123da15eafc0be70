//! Strings as texts of lines and words.

use super::markers::{Markers, Place, label};
use super::regions::{Budget, Region, regions};
use super::{Base, Kind, Merged, Reason, Sides, Version, written};
use crate::fields::Value;
use std::collections::BTreeSet;
use std::ops::Range;
use unicode_segmentation::UnicodeSegmentation;

/// How many bytes the base and all versions may have together: two versions of two megabytes. What takes longer
/// to merge holds up the document's other work.
pub const TEXTS_BYTES_MAX: usize = 6 << 20;

/// How many lines, and then again how many words, are compared in one merge, counted in the base and each version
/// between the first and the last that differ. A megabyte of ordinary lines has 25,000 and merges in some
/// 12 ms; as many as this, made to compare badly, take 250 ms.
pub const COMPARED_MAX: usize = 1 << 17;

/// The longest text with markers. Whatever is shown is also written into the document.
pub const MARKED_BYTES_MAX: usize = 2 << 20;

/// Merges the texts; what is shown of a conflict has markers where they overlap.
pub(super) fn merge(base: Base<'_>, sides: &Sides<'_>) -> Merged {
    let (text, places) = match texts(base, sides).and_then(|(base, texts)| merge_texts(base, &texts)) {
        Ok(merged) => merged,
        Err(reason) => return sides.conflict(reason),
    };
    let shown = Some(Value::from(text.as_str()));
    let reason = match places {
        _ if sides.any_cleared() => Reason::Cleared,
        0 => return Merged::Value(shown),
        places => Reason::Overlap(places),
    };
    Merged::Conflict { shown, reason: Some(reason) }
}

/// One version's text and who wrote it.
struct Text<'a> {
    text: &'a str,
    version: &'a Version,
}

/// The base and the different texts that are not cleared, from the lowest stamp to the highest.
fn texts<'a>(base: Base<'a>, sides: &Sides<'a>) -> Result<(&'a str, Vec<Text<'a>>), Reason> {
    let base = match base.known()? {
        None => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(Reason::BaseNotA(Kind::Text)),
    };
    let mut texts = Vec::new();
    let mut seen = BTreeSet::new();
    for version in sides.0.iter().copied() {
        match written(version.value.as_ref()) {
            None => {}
            Some(Value::String(text)) if seen.insert(text) => texts.push(Text { text, version }),
            Some(Value::String(_)) => {}
            Some(_) => return Err(Reason::NotA(Kind::Text)),
        }
    }
    let bytes = texts.iter().fold(base.len(), |sum, text| sum.saturating_add(text.text.len()));
    match texts.is_empty() {
        // Cleared in different ways: there is no text to show.
        true => Err(Reason::Cleared),
        false if bytes > TEXTS_BYTES_MAX => Err(Reason::TextsTooLong(TEXTS_BYTES_MAX)),
        false => Ok((base, texts)),
    }
}

/// The merged text, and in how many places it has markers.
fn merge_texts(base: &str, texts: &[Text<'_>]) -> Result<(String, usize), Reason> {
    let base_lines: Vec<_> = base.split_inclusive('\n').collect();
    let lines: Vec<Vec<_>> = texts.iter().map(|text| text.text.split_inclusive('\n').collect()).collect();
    let labels: Vec<_> = texts.iter().map(|text| label(text.version)).collect();
    let mut markers = None;
    let mut out = String::new();
    let mut places = 0;
    let compared = regions(&base_lines, &lines, &mut Budget(COMPARED_MAX));
    let mut rest = compared.ok_or(Reason::TooDifferent(COMPARED_MAX))?.into_iter().peekable();
    let mut words = Budget(COMPARED_MAX);
    while let Some(region) = rest.next() {
        let is_last = rest.peek().is_none();
        let base_part = base_lines[region.base.clone()].concat();
        let Some(parts) = parts(&region, &lines) else {
            out.push_str(&base_part);
            continue;
        };
        if let Some(merged) = merge_part(&base_part, &parts, &mut words) {
            out.push_str(&merged);
            continue;
        }
        places += 1;
        if markers.is_none() {
            let all: Vec<_> = [base].into_iter().chain(texts.iter().map(|text| text.text)).collect();
            markers = Some(Markers::fit_for(&all)?);
        }
        let parts = different(&base_part, parts, &labels);
        if let Some(markers) = &markers {
            markers.append(&mut out, &Place { base: &base_part, parts: &parts, is_last });
        }
        if out.len() > MARKED_BYTES_MAX {
            return Err(Reason::MarkedTooLong(MARKED_BYTES_MAX));
        }
    }
    Ok((out, places))
}

/// What each version made of a region; none when no version changed it.
fn parts(region: &Region, tokens: &[Vec<&str>]) -> Option<Vec<String>> {
    let part = |(tokens, range): (&Vec<&str>, &Range<usize>)| tokens[range.clone()].concat();
    Some(tokens.iter().zip(region.changed.as_ref()?).map(part).collect())
}

/// Merges one place as a whole or word by word; none when it, or a word of it, was changed in two ways, or there
/// are more words than the budget allows.
fn merge_part(base: &str, parts: &[String], budget: &mut Budget) -> Option<String> {
    only_change(base, parts).map(str::to_owned).or_else(|| merge_words(base, parts, budget))
}

/// What a place becomes that was changed in one way only.
fn only_change<'a>(base: &str, parts: &'a [String]) -> Option<&'a str> {
    let mut changes = parts.iter().filter(|part| *part != base);
    let Some(first) = changes.next() else {
        return parts.first().map(String::as_str);
    };
    changes.all(|other| other == first).then_some(first)
}

fn merge_words(base: &str, parts: &[String], budget: &mut Budget) -> Option<String> {
    let base_words = words(base);
    let parts: Vec<_> = parts.iter().map(|part| words(part)).collect();
    let mut out = String::new();
    for region in regions(&base_words, &parts, budget)? {
        let base_part = base_words[region.base.clone()].concat();
        match self::parts(&region, &parts) {
            None => out.push_str(&base_part),
            Some(parts) => out.push_str(only_change(&base_part, &parts)?),
        }
    }
    Some(out)
}

/// The different changes of one place, each with the label of the first who made it.
fn different<'a>(base: &str, parts: Vec<String>, labels: &'a [String]) -> Vec<(String, &'a str)> {
    let mut different: Vec<(String, &str)> = Vec::new();
    for (part, label) in parts.into_iter().zip(labels) {
        if part != base && different.iter().all(|(other, _)| *other != part) {
            different.push((part, label));
        }
    }
    different
}

/// The words of a text and what stands between them, by Unicode's rules (UAX 29). Where these would part what
/// people see as one character, as between a Thai letter and its vowel, the words stay one.
fn words(text: &str) -> Vec<&str> {
    let mut characters = text.grapheme_indices(true).map(|(at, _)| at).peekable();
    let mut starts: Vec<_> = text.split_word_bound_indices().map(|(at, _)| at).collect();
    starts.retain(|start| {
        while characters.next_if(|character| character < start).is_some() {}
        characters.peek() == Some(start)
    });
    let ends = starts.iter().copied().skip(1).chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}
