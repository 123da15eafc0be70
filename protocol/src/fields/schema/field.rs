//! What is said of one field.

use super::policy::Policy;
use crate::fields::{Number, Value};
use std::fmt;

/// What is said of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Which values are valid.
    pub ty: FieldType,
    /// How concurrent writes are merged.
    pub policy: Policy,
    /// Whether each document must have it.
    pub required: bool,
    /// Whether no two documents of the collection may have the same value.
    pub unique: bool,
    /// The documents that its value names, if it names some.
    pub reference: Option<Reference>,
    /// What becomes of a write when the document's home cannot be reached; none when writes need not go there.
    pub home: Option<HomePolicy>,
}

/// Which values of a field are valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldType {
    /// All.
    #[default]
    Any,
    /// A text.
    String,
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A moment: whole milliseconds since 1970.
    Timestamp,
    /// A list of values.
    List,
    /// Values by their keys.
    Object,
}

/// That a field's value is the name of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The collection that the document belongs to.
    pub collection: String,
    /// What becomes of the field when the document is deleted.
    pub on_delete: ReferencePolicy,
}

/// What becomes of a reference to a document that is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReferencePolicy {
    /// It stays, and is listed.
    #[default]
    Keep,
    /// It becomes null.
    Null,
    /// The document that holds it is deleted, too.
    Cascade,
}

/// What becomes of a write that cannot be brought to the document's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HomePolicy {
    /// It is taken here, and flagged.
    AcceptAndFlag,
    /// It is refused.
    Reject,
}

impl Field {
    /// A field of a type with a policy, of which nothing else is asked.
    #[must_use]
    pub fn new(ty: FieldType, policy: Policy) -> Self {
        Self { ty, policy, ..Self::default() }
    }
}

impl FieldType {
    /// Every type.
    pub const ALL: [Self; 8] = [
        Self::Any,
        Self::String,
        Self::Number,
        Self::Integer,
        Self::Boolean,
        Self::Timestamp,
        Self::List,
        Self::Object,
    ];

    /// Whether a value is valid. A field without a value is, whatever its type.
    #[must_use]
    pub fn accepts(self, value: Option<&Value>) -> bool {
        let Some(value) = value.filter(|value| !matches!(value, Value::Null | Value::Undefined)) else {
            return true;
        };
        let is_whole = |number: &Number| number.get().fract() == 0.0;
        match (self, value) {
            (Self::Any, _)
            | (Self::String, Value::String(_))
            | (Self::Number, Value::Number(_) | Value::BigInt(_))
            | (Self::Integer | Self::Timestamp, Value::BigInt(_))
            | (Self::Boolean, Value::Bool(_))
            | (Self::List, Value::List(_))
            | (Self::Object, Value::Map(_)) => true,
            (Self::Integer | Self::Timestamp, Value::Number(number)) => is_whole(number),
            _ => false,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
            Self::List => "list",
            Self::Object => "object",
        }
    }

    /// Whether its values are single ones, which can be told equal at a glance.
    #[must_use]
    pub const fn is_scalar(self) -> bool {
        matches!(self, Self::String | Self::Number | Self::Integer | Self::Boolean | Self::Timestamp)
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {}, on delete {}", self.collection, self.on_delete.name())
    }
}

impl ReferencePolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Keep, Self::Null, Self::Cascade];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Null => "null",
            Self::Cascade => "cascade",
        }
    }
}

impl HomePolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::AcceptAndFlag, Self::Reject];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcceptAndFlag => "accept_and_flag",
            Self::Reject => "reject",
        }
    }
}
