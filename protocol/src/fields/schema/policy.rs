//! Merge policies: how concurrent writes to one field become one value.
//!
//! Only their names and what they need are said here; what they do is `fields`' part.

use super::field::FieldType;
use std::fmt;
use std::sync::Arc;

/// How concurrent writes to a field are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// All are kept, and shown as a conflict.
    #[default]
    Siblings,
    /// The latest stands; the others are kept in the conflict's history.
    Lww,
    /// Texts are merged line by line on what both began from; what overlaps is marked.
    Text3,
    /// Lists are merged as sets: what was added is added, and what was removed is removed.
    Set,
    /// Numbers are counts: what each added to what it saw is added up.
    Counter,
    /// The greatest number stands.
    Max,
    /// The least number stands.
    Min,
    /// Objects are merged key by key.
    Map,
    /// The value that comes last in this order stands.
    Rank(Vec<String>),
    /// This script merges them.
    Custom(Arc<str>),
}

impl Policy {
    /// The policies that are said by their name alone.
    pub const PLAIN: [Self; 8] =
        [Self::Siblings, Self::Lww, Self::Text3, Self::Set, Self::Counter, Self::Max, Self::Min, Self::Map];

    /// The policy's name, without what it is told beside it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Siblings => "siblings",
            Self::Lww => "lww",
            Self::Text3 => "text3",
            Self::Set => "set",
            Self::Counter => "counter",
            Self::Max => "max",
            Self::Min => "min",
            Self::Map => "map",
            Self::Rank(_) => "rank",
            Self::Custom(_) => "custom",
        }
    }

    /// The types of field that it can merge; the first is what a field is of which no type is said.
    #[must_use]
    pub const fn types(&self) -> &'static [FieldType] {
        match self {
            Self::Siblings | Self::Lww | Self::Custom(_) => &FieldType::ALL,
            Self::Text3 | Self::Rank(_) => &[FieldType::String],
            Self::Set => &[FieldType::List],
            Self::Counter => &[FieldType::Number, FieldType::Integer],
            Self::Max | Self::Min => &[FieldType::Number, FieldType::Integer, FieldType::Timestamp],
            Self::Map => &[FieldType::Object],
        }
    }

    /// Whether it can merge fields of a type.
    #[must_use]
    pub fn goes_with(&self, ty: FieldType) -> bool {
        self.types().contains(&ty)
    }
}

/// The policy for people; a script by the beginning of its hash.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rank(values) => write!(f, "rank {}", values.join(" < ")),
            Self::Custom(script) => write!(f, "custom (script {})", short_hash(script)),
            plain => f.write_str(plain.name()),
        }
    }
}

/// The first 32 bits of a text's blake3, by which people tell two long texts apart.
pub(super) fn short_hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..8].to_owned()
}
