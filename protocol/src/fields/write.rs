//! One write of a field, by its name, and what a region says about it beside the update.
//!
//! A Yjs item names what its writer saw. Three things it does not say are said in marks: that an item was
//! deleted and nothing put in its place, that a writer saw more than one sibling, and that a write is a
//! region's write-back.

use crate::update::ItemId;
use std::fmt;

/// The name of one write of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteId {
    /// A value was set: by the item that holds it.
    Set(ItemId),
    /// The key was deleted when this item held its value. Whoever deletes it at the same time has done the
    /// same.
    Deleted(ItemId),
}

impl WriteId {
    /// The item that was set or deleted.
    #[must_use]
    pub const fn item(self) -> ItemId {
        match self {
            Self::Set(item) | Self::Deleted(item) => item,
        }
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(item) => item.fmt(f),
            Self::Deleted(item) => write!(f, "{item}x"),
        }
    }
}

/// What made a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// Somebody's edit.
    Edit,
    /// A region's write-back: it says what the writes that it saw come to, and is nobody's opinion.
    WriteBack(WriteBackMark),
}

/// What a region says of its write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteBackMark {
    /// By which schema the writes were merged.
    pub schema: [u8; 16],
    /// Whether they come to nothing: the item is there to be seen, and the key is absent.
    pub absent: bool,
}

/// What a region says about a write that the update it came in does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The write.
    pub write: WriteId,
    /// What made it.
    pub kind: MarkKind,
    /// Writes of the field that its writer saw, beside the item that it replaces.
    pub sees: Vec<WriteId>,
}
