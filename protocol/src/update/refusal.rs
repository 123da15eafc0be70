//! Why an update is not let in.

use super::block::ItemId;
use super::limits::{ANY_DEPTH_MAX, CLOCK_MAX, JSON_BYTES_MAX, JSON_DEPTH_MAX, KEY_BYTES_MAX, NESTING_MAX};

/// Why an update, or a state vector, is refused. The session that sent it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes end inside a value.
    #[error("the update ends inside a value")]
    End,
    /// Bytes follow the last value.
    #[error("bytes follow the end of the update")]
    Trailing,
    /// An integer is too large, or written longer than it needs to be.
    #[error("an integer is too large or not in its shortest form")]
    Integer,
    /// A count is larger than the bytes that follow could hold.
    #[error("a count is larger than the bytes that follow")]
    Count,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// More of something than [`super::Limits`] allow.
    #[error("the update holds too many {0}")]
    TooMany(&'static str),
    /// The encoding is longer than [`super::Limits`] allow.
    #[error("the update is too large")]
    TooLarge,
    /// A client id of more than 32 bits.
    #[error("a client id has more than 32 bits")]
    ClientId,
    /// One client has two sections.
    #[error("a client appears twice")]
    ClientTwice,
    /// A client without blocks, a block or a deleted range without length.
    #[error("a block, a section or a deleted range is empty")]
    Empty,
    /// A clock beyond the limit.
    #[error("a clock is larger than {CLOCK_MAX}")]
    Clock,
    /// Flags that no Yjs version writes.
    #[error("a block has flags that no Yjs version writes")]
    Flags,
    /// A kind of content that no Yjs version writes.
    #[error("a block has an unknown kind of content")]
    Content,
    /// `ContentJSON`, which Yjs has not made since version 13.0: yrs reads it wrongly.
    #[error("a block holds the JSON content of early Yjs versions, which is not supported")]
    OldJson,
    /// A kind of shared type that no Yjs version writes, or a weak link.
    #[error("a block holds an unknown kind of shared type")]
    TypeKind,
    /// `YXmlHook`: yrs does not read its name and loses its place.
    #[error("a block holds an XML hook, which is not supported")]
    XmlHook,
    /// A name or a key beyond the limit.
    #[error("a name or a key has more than {KEY_BYTES_MAX} bytes")]
    KeyLength,
    /// A value with an unknown tag.
    #[error("a value has an unknown kind")]
    Value,
    /// An `Any` value nests too deep.
    #[error("a value nests more than {ANY_DEPTH_MAX} levels")]
    ValueDepth,
    /// An embed or a format value is no JSON that both yrs and Yjs read.
    #[error("an embed or a format value is not valid JSON")]
    Json,
    /// JSON nests too deep.
    #[error("an embed or a format value nests more than {JSON_DEPTH_MAX} levels")]
    JsonDepth,
    /// JSON beyond the limit.
    #[error("an embed or a format value has more than {JSON_BYTES_MAX} bytes")]
    JsonLength,
    /// A subdocument's options are not what Yjs writes.
    #[error("a subdocument's options are not what Yjs writes")]
    SubdocOptions,
    /// A block names an item of its own client that comes later.
    #[error("a block names a later item of its own client")]
    ForwardReference,
    /// Deleted ranges overlap or are not in order.
    #[error("deleted ranges overlap or are not in order")]
    RangeOrder,
    /// Shared types nest too deep.
    #[error("shared types nest more than {NESTING_MAX} levels")]
    Nesting,
    /// Text, an embed or a format in a map, an array or an XML element.
    #[error("block {0} holds text where only values can be")]
    Misplaced(ItemId),
    /// A block's parent is known and is no shared type.
    #[error("a block's parent {0} is no shared type")]
    Parent(ItemId),
    /// A block stands to the left of a map entry: no Yjs version writes it, and yrs and Yjs would disagree on
    /// what it means.
    #[error("a block names the map entry {0} as its right neighbour")]
    RightOfEntry(ItemId),
    /// The two neighbours of a block are in different containers.
    #[error("a block's right neighbour {0} is in another container than its left one")]
    Apart(ItemId),
    /// The blocks refer to each other in a way that would keep yrs busy for too long.
    #[error("the blocks refer to each other in too tangled a way")]
    Tangled,
}

impl Refusal {
    /// A label for metrics: one per variant, stable.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Trailing => "trailing",
            Self::Integer => "integer",
            Self::Count => "count",
            Self::Utf8 => "utf8",
            Self::TooMany(_) => "too_many",
            Self::TooLarge => "too_large",
            Self::ClientId => "client_id",
            Self::ClientTwice => "client_twice",
            Self::Empty => "empty",
            Self::Clock => "clock",
            Self::Flags => "flags",
            Self::Content => "content",
            Self::OldJson => "old_json",
            Self::TypeKind => "type_kind",
            Self::XmlHook => "xml_hook",
            Self::KeyLength => "key_length",
            Self::Value => "value",
            Self::ValueDepth => "value_depth",
            Self::Json => "json",
            Self::JsonDepth => "json_depth",
            Self::JsonLength => "json_length",
            Self::SubdocOptions => "subdoc_options",
            Self::ForwardReference => "forward_reference",
            Self::RangeOrder => "range_order",
            Self::Nesting => "nesting",
            Self::Misplaced(_) => "misplaced",
            Self::Parent(_) => "parent",
            Self::RightOfEntry(_) => "right_of_entry",
            Self::Apart(_) => "apart",
            Self::Tangled => "tangled",
        }
    }
}
