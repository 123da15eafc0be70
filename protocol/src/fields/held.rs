//! What an item of a field holds.

use super::value::Value;
use crate::lib0::Reader;
use crate::update::{Content, ItemRef, TypeKind};
use bytes::Bytes;

/// What one write left in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A plain value.
    Value(Value),
    /// A shared type, which merges within itself.
    Shared(TypeKind),
    /// A reference to a subdocument.
    Subdoc,
    /// Nothing: the key was deleted.
    Deleted,
    /// A value that was let go, here or by a client, before anybody could say what it was.
    Unknown,
}

impl Held {
    /// What a block of a map leaves: its last value.
    pub(super) fn of(item: &ItemRef<'_>) -> Self {
        match item.content() {
            Content::Any => last_value(item).map_or(Self::Unknown, Self::Value),
            Content::Binary => {
                let mut reader = Reader::new(Bytes::copy_from_slice(item.content_bytes()));
                reader.var_bytes().map_or(Self::Unknown, |bytes| Self::Value(Value::Bytes(bytes)))
            }
            Content::Type(kind) => Self::Shared(kind),
            Content::Doc => Self::Subdoc,
            // Yjs puts none of the others into a map, and shows nothing of them there.
            Content::Gc
            | Content::Skip
            | Content::Deleted
            | Content::String
            | Content::Embed
            | Content::Format => Self::Unknown,
        }
    }

    /// What keeping it costs, in bytes, roughly.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Value(value) => value.encoded_len() as u64,
            Self::Shared(_) | Self::Subdoc | Self::Deleted | Self::Unknown => 0,
        }
    }

    /// What is kept of it when it is too far back to be a base.
    pub(super) fn let_go(&self) -> Self {
        match self {
            Self::Value(_) => Self::Unknown,
            // Others may stand in a map.
            other => other.clone(),
        }
    }
}

fn last_value(item: &ItemRef<'_>) -> Option<Value> {
    let content = item.content_bytes();
    // Bytes of a value share the memory that they are read from, and would keep all of the update.
    let is_copied = !matches!(content, [1, tag, ..] if !Value::may_share(*tag));
    let content = if is_copied { Bytes::copy_from_slice(content) } else { item.shared_content() };
    let mut reader = Reader::new(content);
    let count = reader.var_u64().ok()?;
    (0..count).map(|_| Value::decode(&mut reader).ok()).last()?
}
