//! Finds client ids that two writers share: one name, two contents.
//!
//! Lenient where honest copies differ: collected and deleted content matches anything, U+FFFD matches half of
//! a surrogate pair (a split leaves it), and JSON is not compared (yrs writes it anew).

use super::block::{Anchor, Block, Content, ItemId, Parent, Parts, Section, Span, Update};
use super::scan::Scan;
use super::value::{next_values_match, skip_values};

/// The first unit that both updates carry with different content, or with a different place where a block
/// of both starts.
#[must_use]
pub fn reused(known: &Update, incoming: &Update) -> Option<ItemId> {
    let sections = incoming.0.sections.iter();
    sections
        .filter_map(|section| {
            let other = known.0.sections.get(known.0.section_of(section.client)?)?;
            let clock = first_difference(&known.0, other, &incoming.0, section)?;
            Some(ItemId { client: section.client, clock })
        })
        .next()
}

fn first_difference(
    known: &Parts,
    known_section: &Section,
    new: &Parts,
    new_section: &Section,
) -> Option<u32> {
    let mut left = known_section.blocks(known).iter().peekable();
    let mut right = new_section.blocks(new).iter().peekable();
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        if let Some(clock) = compare(&Carrier { parts: known, block: a }, &Carrier { parts: new, block: b }) {
            return Some(clock);
        }
        if a.end() <= b.end() {
            left.next();
        } else {
            right.next();
        }
    }
    None
}

/// A block and the update that carries it.
struct Carrier<'a> {
    parts: &'a Parts,
    block: &'a Block,
}

impl<'a> Carrier<'a> {
    fn content(&self) -> &'a [u8] {
        Span { start: self.block.content_at, end: self.block.span.end }.of(&self.parts.bytes)
    }

    fn text(&self, span: Span) -> &'a [u8] {
        span.of(&self.parts.bytes)
    }
}

/// The first clock in both blocks at which they differ.
fn compare(a: &Carrier<'_>, b: &Carrier<'_>) -> Option<u32> {
    let start = a.block.clock.max(b.block.clock);
    let end = a.block.end().min(b.block.end());
    let unknown = |block: &Block| matches!(block.content, Content::Gc | Content::Skip | Content::Deleted);
    if start >= end || unknown(a.block) || unknown(b.block) {
        return None;
    }
    if a.block.content != b.block.content || (a.block.clock == b.block.clock && !same_place(a, b)) {
        return Some(start);
    }
    let same = match a.block.content {
        Content::String => return text_difference(a, b, start, end),
        Content::Any => return value_difference(a, b, start, end),
        Content::Binary | Content::Type(_) => a.content() == b.content(),
        // The name of the subdocument and the key of the format; what follows yrs may write anew.
        Content::Doc | Content::Format => Scan::new(a.content()).text() == Scan::new(b.content()).text(),
        Content::Embed | Content::Gc | Content::Skip | Content::Deleted => true,
    };
    (!same).then_some(start)
}

fn same_place(a: &Carrier<'_>, b: &Carrier<'_>) -> bool {
    match (a.block.anchor, b.block.anchor) {
        (Anchor::In { parent, key }, Anchor::In { parent: other, key: other_key }) => {
            let same_parent = match (parent, other) {
                (Parent::Root(name), Parent::Root(other)) => a.text(name) == b.text(other),
                (parent, other) => parent == other,
            };
            same_parent && key.map(|key| a.text(key)) == other_key.map(|key| b.text(key))
        }
        (anchor, other) => anchor == other,
    }
}

fn text_difference(a: &Carrier<'_>, b: &Carrier<'_>, start: u32, end: u32) -> Option<u32> {
    let units = |carrier: &Carrier<'_>| {
        let text = Scan::new(carrier.content()).text().unwrap_or_default().to_owned();
        let skipped = (start - carrier.block.clock) as usize;
        text.encode_utf16().skip(skipped).take((end - start) as usize).collect::<Vec<u16>>()
    };
    let half = |unit: u16| (0xd800..0xe000).contains(&unit);
    let same = |a: u16, b: u16| a == b || (a == 0xfffd && half(b)) || (b == 0xfffd && half(a));
    let mut clocks = start..end;
    units(a).into_iter().zip(units(b)).find_map(|(a, b)| {
        let clock = clocks.next()?;
        (!same(a, b)).then_some(clock)
    })
}

fn value_difference(a: &Carrier<'_>, b: &Carrier<'_>, start: u32, end: u32) -> Option<u32> {
    let mut left = Scan::new(a.content());
    let mut right = Scan::new(b.content());
    skip_values(&mut left, start - a.block.clock);
    skip_values(&mut right, start - b.block.clock);
    (start..end).find(|_| !next_values_match(&mut left, &mut right))
}
