//! Writes updates from pieces of others: whole blocks are copied, cut ones get a new head.

use super::any::skip_any;
use super::block::{
    Anchor, Block, ClientId, Clocks, Content, Deletes, ItemId, Parent, Parts, Section, Span, Update,
};
use super::decode::{GC, HAS_KEY, HAS_LEFT, HAS_RIGHT, KIND, SKIP, narrow};
use super::scan::Scan;
use crate::lib0::{put_var_bytes, put_var_u64};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// A part of an update's block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) block: &'a Block,
    /// How many units are cut off its front.
    pub(super) from: u32,
    /// It becomes a collected block.
    pub(super) collected: bool,
}

impl Piece<'_> {
    pub(super) const fn start(&self) -> u32 {
        self.block.clock + self.from
    }
}

/// One client's pieces, in clock order.
pub(super) struct Pieces<'a> {
    pub(super) client: ClientId,
    pub(super) pieces: SmallVec<[Piece<'a>; 4]>,
}

/// Joins pieces and deleted ranges into an update. Clients are written in falling order, as Yjs does;
/// clocks that lie between two pieces of a client become a skip.
pub(super) fn write_update(
    mut sections: Vec<Pieces<'_>>,
    mut deletes: Vec<(ClientId, Vec<Clocks>)>,
) -> Update {
    sections.retain(|section| !section.pieces.is_empty());
    sections.sort_unstable_by_key(|section| std::cmp::Reverse(section.client));
    deletes.retain(|(_, ranges)| !ranges.is_empty());
    deletes.sort_unstable_by_key(|&(client, _)| std::cmp::Reverse(client));
    let mut writer = Writer::with_room(&sections);
    put_var_u64(&mut writer.out, sections.len() as u64);
    sections.iter().for_each(|section| writer.section(section));
    put_var_u64(&mut writer.out, deletes.len() as u64);
    deletes.iter().for_each(|(client, ranges)| writer.deletes(*client, ranges));
    writer.finish()
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    sections: SmallVec<[Section; 1]>,
    blocks: SmallVec<[Block; 2]>,
    deletes: SmallVec<[Deletes; 1]>,
    ranges: SmallVec<[Clocks; 2]>,
}

impl Writer {
    fn with_room(sections: &[Pieces<'_>]) -> Self {
        let pieces = || sections.iter().flat_map(|section| &section.pieces);
        let bytes = pieces().map(|piece| (piece.block.span.end - piece.block.span.start) as usize).sum();
        let blocks = SmallVec::with_capacity(pieces().count());
        Self { out: Vec::with_capacity(bytes), blocks, ..Self::default() }
    }

    fn section(&mut self, section: &Pieces<'_>) {
        let pieces = &section.pieces;
        let gaps = pieces.windows(2).filter(|pair| pair[0].block.end() < pair[1].start()).count();
        let mut clock = pieces[0].start();
        put_var_u64(&mut self.out, (pieces.len() + gaps) as u64);
        put_var_u64(&mut self.out, section.client.0.into());
        put_var_u64(&mut self.out, clock.into());
        let first = narrow(self.blocks.len());
        for piece in pieces {
            if clock < piece.start() {
                self.empty_block(SKIP, Content::Skip, clock, piece.start() - clock);
            }
            self.piece(section.client, piece);
            clock = piece.block.end();
        }
        self.sections.push(Section { client: section.client, first, end: narrow(self.blocks.len()) });
    }

    fn piece(&mut self, client: ClientId, piece: &Piece<'_>) {
        let &Piece { bytes, block, from, collected } = piece;
        if collected || block.content == Content::Gc {
            self.empty_block(GC, Content::Gc, piece.start(), block.len - from);
        } else if block.content == Content::Skip {
            self.empty_block(SKIP, Content::Skip, piece.start(), block.len - from);
        } else if from > 0 {
            self.cut(client, bytes, block, from);
        } else {
            self.copy(bytes, block);
        }
    }

    fn empty_block(&mut self, info: u8, content: Content, clock: u32, len: u32) {
        let start = self.here();
        self.out.push(info);
        let content_at = self.here();
        put_var_u64(&mut self.out, len.into());
        let span = Span { start, end: self.here() };
        self.blocks.push(Block { span, content_at, clock, len, content, anchor: Anchor::Nowhere });
    }

    fn copy(&mut self, bytes: &[u8], block: &Block) {
        let start = self.here();
        self.out.extend_from_slice(block.span.of(bytes));
        let moved = |at: u32| at - block.span.start + start;
        let moved_span = |span: Span| Span { start: moved(span.start), end: moved(span.end) };
        let anchor = match block.anchor {
            Anchor::In { parent: Parent::Root(name), key } => {
                Anchor::In { parent: Parent::Root(moved_span(name)), key: key.map(moved_span) }
            }
            Anchor::In { parent, key } => Anchor::In { parent, key: key.map(moved_span) },
            other => other,
        };
        let span = Span { start, end: self.here() };
        self.blocks.push(Block { span, content_at: moved(block.content_at), anchor, ..*block });
    }

    /// Writes what follows the first units of a block, just as Yjs does: its origin is the unit before, it
    /// keeps its right origin, and its container follows from the origin.
    fn cut(&mut self, client: ClientId, bytes: &[u8], block: &Block, from: u32) {
        let right = match block.anchor {
            Anchor::Beside { right, .. } => right,
            _ => None,
        };
        let left = ItemId { client, clock: block.clock + from - 1 };
        let start = self.here();
        let kept = bytes[block.span.start as usize] & (KIND | HAS_KEY);
        self.out.push(kept | HAS_LEFT | if right.is_some() { HAS_RIGHT } else { 0 });
        for id in [Some(left), right].into_iter().flatten() {
            put_var_u64(&mut self.out, id.client.0.into());
            put_var_u64(&mut self.out, id.clock.into());
        }
        let content_at = self.here();
        let len = block.len - from;
        let content = Span { start: block.content_at, end: block.span.end }.of(bytes);
        match block.content {
            Content::String => put_cut_text(&mut self.out, content, from as usize),
            Content::Any => put_cut_values(&mut self.out, content, from, len),
            _ => put_var_u64(&mut self.out, len.into()),
        }
        let span = Span { start, end: self.here() };
        let anchor = Anchor::Beside { left: Some(left), right };
        let clock = block.clock + from;
        self.blocks.push(Block { span, content_at, clock, len, content: block.content, anchor });
    }

    fn deletes(&mut self, client: ClientId, ranges: &[Clocks]) {
        put_var_u64(&mut self.out, client.0.into());
        put_var_u64(&mut self.out, ranges.len() as u64);
        let first = narrow(self.ranges.len());
        for range in ranges {
            put_var_u64(&mut self.out, range.start.into());
            put_var_u64(&mut self.out, (range.end - range.start).into());
            self.ranges.push(*range);
        }
        self.deletes.push(Deletes { client, first, end: narrow(self.ranges.len()) });
    }

    fn finish(self) -> Update {
        let Self { out, sections, blocks, deletes, ranges } = self;
        // Sections are in falling order of clients.
        let by_client =
            if sections.len() > 1 { (0..narrow(sections.len())).rev().collect() } else { SmallVec::new() };
        Update(Arc::new(Parts { bytes: Bytes::from(out), sections, blocks, deletes, ranges, by_client }))
    }

    fn here(&self) -> u32 {
        narrow(self.out.len())
    }
}

/// Writes a text without its first UTF-16 units. A cut inside a surrogate pair leaves U+FFFD in place of
/// the second half, as Yjs does.
fn put_cut_text(out: &mut Vec<u8>, content: &[u8], from: usize) {
    let text = Scan::new(content).text().expect("checked when it was decoded");
    let mut units = 0;
    let mut chars = text.chars();
    while units < from {
        units += chars.next().map_or(from, char::len_utf16);
    }
    let rest = chars.as_str();
    if units > from {
        let rest = format!("{}{rest}", char::REPLACEMENT_CHARACTER);
        put_var_bytes(out, rest.as_bytes());
    } else {
        put_var_bytes(out, rest.as_bytes());
    }
}

/// Writes a list of values without its first.
fn put_cut_values(out: &mut Vec<u8>, content: &[u8], from: u32, len: u32) {
    let mut scan = Scan::new(content);
    scan.uint().expect("checked when it was decoded");
    for _ in 0..from {
        skip_any(&mut scan, &mut { usize::MAX }).expect("checked when it was decoded");
    }
    put_var_u64(out, len.into());
    out.extend_from_slice(&content[scan.position()..]);
}
