//! The strict decoder of Yjs v1 updates.
//!
//! Reads what Yjs 13.6 writes and nothing else: every count, length, reference and client id is checked, and
//! the whole input is consumed. Knows nothing of the document.

use super::Refusal;
use super::any::{skip_any, skip_subdoc_options};
use super::block::{
    Anchor, Block, ClientId, Clocks, Content, Deletes, ItemId, Parent, Parts, Section, Span, TypeKind, Update,
};
use super::json::check_json;
use super::limits::{CLOCK_MAX, KEY_BYTES_MAX, Limits};
use super::scan::{Scan, utf16_len};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// The info byte's flag for an origin.
pub(super) const HAS_LEFT: u8 = 0x80;
/// The info byte's flag for a right origin.
pub(super) const HAS_RIGHT: u8 = 0x40;
/// The info byte's flag for a map key.
pub(super) const HAS_KEY: u8 = 0x20;
/// The bits of the info byte that Yjs takes the kind of content from. yrs ignores the highest.
pub(super) const KIND: u8 = 0x1f;

pub(super) const GC: u8 = 0;
const DELETED: u8 = 1;
const JSON: u8 = 2;
const BINARY: u8 = 3;
const STRING: u8 = 4;
const EMBED: u8 = 5;
const FORMAT: u8 = 6;
const TYPE: u8 = 7;
const ANY: u8 = 8;
const DOC: u8 = 9;
pub(super) const SKIP: u8 = 10;

/// The fewest bytes of a section: count, client, clock and a collected block.
const SECTION_BYTES_MIN: usize = 5;
/// The fewest bytes of a block: a collected one.
const BLOCK_BYTES_MIN: usize = 2;
/// The fewest bytes of a client's deletions: client, count and a range.
const DELETES_BYTES_MIN: usize = 4;
/// The fewest bytes of a deleted range.
const RANGE_BYTES_MIN: usize = 2;

impl Update {
    /// Decodes an update from outside.
    ///
    /// # Errors
    /// When it is not exactly what a Yjs client may send, or exceeds [`Limits::OUTSIDE`].
    pub fn decode(bytes: Bytes) -> Result<Self, Refusal> {
        Self::decode_within(bytes, &Limits::OUTSIDE)
    }

    /// Decodes an update within given limits.
    ///
    /// # Errors
    /// When it is not exactly what a Yjs client may send, or exceeds the limits.
    pub fn decode_within(bytes: Bytes, limits: &Limits) -> Result<Self, Refusal> {
        if bytes.len() > limits.bytes.min(u32::MAX as usize) {
            return Err(Refusal::TooLarge);
        }
        let mut parts = Parts {
            bytes: Bytes::new(),
            sections: SmallVec::new(),
            blocks: SmallVec::new(),
            deletes: SmallVec::new(),
            ranges: SmallVec::new(),
            by_client: SmallVec::new(),
        };
        let mut decoder =
            Decoder { scan: Scan::new(&bytes), parts: &mut parts, limits, left: Left::of(limits) };
        decoder.sections()?;
        decoder.all_deletes()?;
        decoder.scan.finish()?;
        parts.bytes = bytes;
        Ok(Self(Arc::new(parts)))
    }
}

/// What the update may still hold.
struct Left {
    values: usize,
    subdocs: usize,
}

impl Left {
    const fn of(limits: &Limits) -> Self {
        Self { values: limits.values, subdocs: limits.subdocs }
    }
}

struct Decoder<'a> {
    scan: Scan<'a>,
    parts: &'a mut Parts,
    limits: &'a Limits,
    left: Left,
}

impl Decoder<'_> {
    fn sections(&mut self) -> Result<(), Refusal> {
        let count = self.scan.count(SECTION_BYTES_MIN)?;
        if count > self.limits.clients {
            return Err(Refusal::TooMany("clients"));
        }
        for _ in 0..count {
            self.section()?;
        }
        if count > 1 {
            let sections = &self.parts.sections;
            let mut by_client: SmallVec<[u32; 2]> = (0..narrow(count)).collect();
            by_client.sort_unstable_by_key(|&i| sections[i as usize].client);
            let client = |i: u32| sections[i as usize].client;
            if by_client.windows(2).any(|pair| client(pair[0]) == client(pair[1])) {
                return Err(Refusal::ClientTwice);
            }
            self.parts.by_client = by_client;
        }
        Ok(())
    }

    fn section(&mut self) -> Result<(), Refusal> {
        let count = usize::try_from(self.scan.uint()?).map_err(|_| Refusal::Count)?;
        let client = self.client()?;
        let mut clock = self.scan.u32()?;
        if count == 0 {
            return Err(Refusal::Empty);
        }
        if count > self.scan.remaining() / BLOCK_BYTES_MIN {
            return Err(Refusal::Count);
        }
        let first = self.parts.blocks.len();
        if first + count > self.limits.blocks {
            return Err(Refusal::TooMany("blocks"));
        }
        for _ in 0..count {
            let block = self.block(client, clock)?;
            clock = clock.checked_add(block.len).filter(|&end| end <= CLOCK_MAX).ok_or(Refusal::Clock)?;
            self.parts.blocks.push(block);
        }
        let section = Section { client, first: narrow(first), end: narrow(first + count) };
        self.parts.sections.push(section);
        Ok(())
    }

    fn block(&mut self, client: ClientId, clock: u32) -> Result<Block, Refusal> {
        let start = self.here();
        let info = self.scan.u8()?;
        let anchor = match info {
            GC | SKIP => Anchor::Nowhere,
            _ if matches!(info & KIND, GC | SKIP) => return Err(Refusal::Flags),
            _ => self.anchor(info, ItemId { client, clock })?,
        };
        let content_at = self.here();
        let (content, len) = self.content(info & KIND)?;
        if len == 0 {
            return Err(Refusal::Empty);
        }
        let span = Span { start, end: self.here() };
        Ok(Block { span, content_at, clock, len, content, anchor })
    }

    fn anchor(&mut self, info: u8, own: ItemId) -> Result<Anchor, Refusal> {
        if info & (HAS_LEFT | HAS_RIGHT) != 0 {
            let left = if info & HAS_LEFT != 0 { Some(self.reference(own)?) } else { None };
            let right = if info & HAS_RIGHT != 0 { Some(self.reference(own)?) } else { None };
            return Ok(Anchor::Beside { left, right });
        }
        let parent = match self.scan.uint()? {
            0 => Parent::Item(self.reference(own)?),
            1 => Parent::Root(self.key()?),
            _ => return Err(Refusal::Flags),
        };
        let key = if info & HAS_KEY != 0 { Some(self.key()?) } else { None };
        Ok(Anchor::In { parent, key })
    }

    /// The content and how many units it has.
    fn content(&mut self, kind: u8) -> Result<(Content, u32), Refusal> {
        Ok(match kind {
            GC => (Content::Gc, self.scan.u32()?),
            SKIP => (Content::Skip, self.scan.u32()?),
            DELETED => (Content::Deleted, self.scan.u32()?),
            STRING => (Content::String, narrow(utf16_len(self.scan.text()?))),
            ANY => {
                let count = self.scan.count(1)?;
                for _ in 0..count {
                    skip_any(&mut self.scan, &mut self.left.values)?;
                }
                (Content::Any, narrow(count))
            }
            BINARY => self.scan.var_bytes().map(|_| (Content::Binary, 1))?,
            EMBED => {
                check_json(self.scan.text()?)?;
                (Content::Embed, 1)
            }
            FORMAT => {
                self.scan.key()?;
                check_json(self.scan.text()?)?;
                (Content::Format, 1)
            }
            TYPE => (Content::Type(self.type_kind()?), 1),
            DOC => {
                self.left.subdocs =
                    self.left.subdocs.checked_sub(1).ok_or(Refusal::TooMany("subdocuments"))?;
                self.scan.key()?;
                skip_subdoc_options(&mut self.scan, &mut self.left.values)?;
                (Content::Doc, 1)
            }
            JSON => return Err(Refusal::OldJson),
            _ => return Err(Refusal::Content),
        })
    }

    fn type_kind(&mut self) -> Result<TypeKind, Refusal> {
        Ok(match self.scan.uint()? {
            0 => TypeKind::Array,
            1 => TypeKind::Map,
            2 => TypeKind::Text,
            3 => {
                self.scan.key()?;
                TypeKind::XmlElement
            }
            4 => TypeKind::XmlFragment,
            5 => return Err(Refusal::XmlHook),
            6 => TypeKind::XmlText,
            _ => return Err(Refusal::TypeKind),
        })
    }

    /// An item that a block names. Its own client's must come before it: Yjs and yrs look there at once.
    fn reference(&mut self, own: ItemId) -> Result<ItemId, Refusal> {
        let id = ItemId { client: self.client()?, clock: self.scan.u32()? };
        if id.clock >= CLOCK_MAX {
            return Err(Refusal::Clock);
        }
        if id.client == own.client && id.clock >= own.clock {
            return Err(Refusal::ForwardReference);
        }
        Ok(id)
    }

    fn all_deletes(&mut self) -> Result<(), Refusal> {
        let count = self.scan.count(DELETES_BYTES_MIN)?;
        if count > self.limits.clients {
            return Err(Refusal::TooMany("clients"));
        }
        for _ in 0..count {
            self.deletes()?;
        }
        if count > 1 {
            let mut clients: SmallVec<[ClientId; 8]> = self.parts.deletes.iter().map(|d| d.client).collect();
            clients.sort_unstable();
            if clients.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(Refusal::ClientTwice);
            }
        }
        Ok(())
    }

    fn deletes(&mut self) -> Result<(), Refusal> {
        let client = self.client()?;
        let count = self.scan.count(RANGE_BYTES_MIN)?;
        if count == 0 {
            return Err(Refusal::Empty);
        }
        let first = self.parts.ranges.len();
        if first + count > self.limits.ranges {
            return Err(Refusal::TooMany("deleted ranges"));
        }
        let mut last_end = 0;
        for _ in 0..count {
            let start = self.scan.u32()?;
            let len = self.scan.u32()?;
            let end = start.checked_add(len).filter(|&end| end <= CLOCK_MAX).ok_or(Refusal::Clock)?;
            if len == 0 {
                return Err(Refusal::Empty);
            }
            if start < last_end {
                return Err(Refusal::RangeOrder);
            }
            last_end = end;
            self.parts.ranges.push(Clocks { start, end });
        }
        let deletes = Deletes { client, first: narrow(first), end: narrow(first + count) };
        self.parts.deletes.push(deletes);
        Ok(())
    }

    fn client(&mut self) -> Result<ClientId, Refusal> {
        u32::try_from(self.scan.uint()?).map(ClientId).map_err(|_| Refusal::ClientId)
    }

    /// A name or key, as a span of the encoding.
    fn key(&mut self) -> Result<Span, Refusal> {
        let len = self.scan.text()?.len();
        if len > KEY_BYTES_MAX {
            return Err(Refusal::KeyLength);
        }
        let end = self.here();
        Ok(Span { start: end - narrow(len), end })
    }

    fn here(&self) -> u32 {
        narrow(self.scan.position())
    }
}

/// A position or count within one update.
pub(super) fn narrow(value: usize) -> u32 {
    u32::try_from(value).expect("an update has less than 2^32 bytes, so fewer of anything it holds")
}
