//! A decoded update and its blocks.
//!
//! Holds positions in the encoding, not copies: joining and cutting copy bytes.
//!
//! Invariant: blocks of one client are in clock order without gaps (a skip fills what is not there), every
//! span lies within the bytes, and spans of names are UTF-8.

use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// A Yjs client: one life of one Yjs document in one browser tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of one unit of content, such as one UTF-16 unit of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId {
    /// Who made it.
    pub client: ClientId,
    /// Its place among what that client made.
    pub clock: u32,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client, self.clock)
    }
}

/// Clocks of one client, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clocks {
    /// The first.
    pub start: u32,
    /// One past the last.
    pub end: u32,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Collected: nothing is known of it but that it is deleted.
    Gc,
    /// A gap: the writer did not have these units.
    Skip,
    /// Deleted; its place is still known.
    Deleted,
    /// Bytes.
    Binary,
    /// Text.
    String,
    /// A JSON value in a text.
    Embed,
    /// The start or end of a text format.
    Format,
    /// A shared type.
    Type(TypeKind),
    /// `Any` values.
    Any,
    /// A reference to a subdocument.
    Doc,
}

/// The kinds of shared types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// `Y.Array`
    Array,
    /// `Y.Map`
    Map,
    /// `Y.Text`
    Text,
    /// `Y.XmlElement`
    XmlElement,
    /// `Y.XmlFragment`
    XmlFragment,
    /// `Y.XmlText`
    XmlText,
}

/// Bytes of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// The container that a block names as its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    Root(Span),
    Item(ItemId),
}

/// How a block finds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// It has none: a collected block or a skip.
    Nowhere,
    /// Beside other items, in their container; at least one is there.
    Beside { left: Option<ItemId>, right: Option<ItemId> },
    /// First in a container or under a key.
    In { parent: Parent, key: Option<Span> },
}

/// A run of units that one client made at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The whole block in the encoding.
    pub(super) span: Span,
    /// Where its content starts; equal to the end where there is none.
    pub(super) content_at: u32,
    pub(super) clock: u32,
    pub(super) len: u32,
    pub(super) content: Content,
    pub(super) anchor: Anchor,
}

impl Block {
    pub(super) const fn end(&self) -> u32 {
        self.clock + self.len
    }
}

/// One client's blocks: an index range of `Parts::blocks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) client: ClientId,
    pub(super) first: u32,
    pub(super) end: u32,
}

impl Section {
    pub(super) fn blocks<'a>(&self, parts: &'a Parts) -> &'a [Block] {
        &parts.blocks[self.first as usize..self.end as usize]
    }
}

/// One client's deleted ranges: an index range of `Parts::ranges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deletes {
    pub(super) client: ClientId,
    pub(super) first: u32,
    pub(super) end: u32,
}

/// What an update consists of. Sections and deletes are in the order of the encoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) bytes: Bytes,
    pub(super) sections: SmallVec<[Section; 1]>,
    pub(super) blocks: SmallVec<[Block; 2]>,
    pub(super) deletes: SmallVec<[Deletes; 1]>,
    pub(super) ranges: SmallVec<[Clocks; 2]>,
    /// Indices of `sections` by client, where there are several.
    pub(super) by_client: SmallVec<[u32; 2]>,
}

impl Parts {
    /// The index of a client's section.
    pub(super) fn section_of(&self, client: ClientId) -> Option<usize> {
        if let [only] = self.sections[..] {
            return (only.client == client).then_some(0);
        }
        let found = self.by_client.binary_search_by_key(&client, |&i| self.sections[i as usize].client);
        found.ok().map(|at| self.by_client[at] as usize)
    }

    pub(super) fn deleted(&self, deletes: &Deletes) -> &[Clocks] {
        &self.ranges[deletes.first as usize..deletes.end as usize]
    }
}

/// A Yjs update that has been checked from the first byte to the last.
///
/// Cheap to clone. That it is well-formed does not mean that a document may take it: see
/// [`super::Shape::admit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update(pub(super) Arc<Parts>);

impl Update {
    /// The encoding, as yrs and Yjs read it.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.0.bytes
    }

    /// An update that holds nothing.
    #[must_use]
    pub fn empty() -> Self {
        let (bytes, sections, blocks) = (Bytes::from_static(&[0, 0]), SmallVec::new(), SmallVec::new());
        let (deletes, ranges, by_client) = (SmallVec::new(), SmallVec::new(), SmallVec::new());
        Self(Arc::new(Parts { bytes, sections, blocks, deletes, ranges, by_client }))
    }

    /// True when it holds neither blocks nor deletions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.sections.is_empty() && self.0.deletes.is_empty()
    }

    /// How many blocks it holds, skips included.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.0.blocks.len()
    }

    /// The clients with blocks and the clocks from their first block to their last, in no set order.
    pub fn clients(&self) -> impl Iterator<Item = (ClientId, Clocks)> + '_ {
        self.0.sections.iter().filter_map(|section| {
            let blocks = section.blocks(&self.0);
            let clocks = Clocks { start: blocks.first()?.clock, end: blocks.last()?.end() };
            Some((section.client, clocks))
        })
    }

    /// The blocks, client by client in clock order, without skips.
    pub fn items(&self) -> impl Iterator<Item = ItemRef<'_>> {
        self.0.sections.iter().flat_map(|section| {
            let blocks = section.blocks(&self.0).iter();
            let items = blocks.filter(|block| block.content != Content::Skip);
            items.map(|block| ItemRef { parts: &self.0, client: section.client, block })
        })
    }

    /// The deleted ranges: per client, in clock order, not overlapping.
    pub fn deletes(&self) -> impl Iterator<Item = (ClientId, &[Clocks])> {
        self.0.deletes.iter().map(|deletes| (deletes.client, self.0.deleted(deletes)))
    }
}

/// The container that an item names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentRef<'a> {
    /// A root type, by name.
    Root(&'a str),
    /// The shared type that an item holds.
    Item(ItemId),
}

/// One block of an update.
#[derive(Clone, Copy)]
pub struct ItemRef<'a> {
    parts: &'a Parts,
    client: ClientId,
    block: &'a Block,
}

impl<'a> ItemRef<'a> {
    /// The name of its first unit.
    #[must_use]
    pub const fn id(&self) -> ItemId {
        ItemId { client: self.client, clock: self.block.clock }
    }

    /// The clocks of its units.
    #[must_use]
    pub const fn clocks(&self) -> Clocks {
        Clocks { start: self.block.clock, end: self.block.end() }
    }

    /// What it holds.
    #[must_use]
    pub const fn content(&self) -> Content {
        self.block.content
    }

    /// The content's encoding, empty for a collected block.
    #[must_use]
    pub fn content_bytes(&self) -> &'a [u8] {
        let span = Span { start: self.block.content_at, end: self.block.span.end };
        span.of(&self.parts.bytes)
    }

    /// The same, sharing the update's memory.
    #[must_use]
    pub fn shared_content(&self) -> Bytes {
        self.parts.bytes.slice_ref(self.content_bytes())
    }

    /// What its writer saw to the left of it; for a map entry, the value that it replaces.
    #[must_use]
    pub const fn origin(&self) -> Option<ItemId> {
        match self.block.anchor {
            Anchor::Beside { left, .. } => left,
            _ => None,
        }
    }

    /// What its writer saw to the right of it.
    #[must_use]
    pub const fn right_origin(&self) -> Option<ItemId> {
        match self.block.anchor {
            Anchor::Beside { right, .. } => right,
            _ => None,
        }
    }

    /// Its container, where the encoding names one: an item with an origin is in the origin's container.
    #[must_use]
    pub fn parent(&self) -> Option<ParentRef<'a>> {
        match self.block.anchor {
            Anchor::In { parent: Parent::Root(name), .. } => Some(ParentRef::Root(self.text(name))),
            Anchor::In { parent: Parent::Item(id), .. } => Some(ParentRef::Item(id)),
            _ => None,
        }
    }

    /// Its map key, where the encoding names one: an item with an origin has the origin's key.
    #[must_use]
    pub fn key(&self) -> Option<&'a str> {
        match self.block.anchor {
            Anchor::In { key: Some(key), .. } => Some(self.text(key)),
            _ => None,
        }
    }

    fn text(&self, span: Span) -> &'a str {
        std::str::from_utf8(span.of(&self.parts.bytes)).expect("checked when it was decoded")
    }
}

impl fmt::Debug for ItemRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} +{} {:?} {:?}", self.id(), self.block.len, self.block.content, self.block.anchor)
    }
}
