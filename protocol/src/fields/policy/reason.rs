//! Why versions stay siblings, in words for people.

use super::script::ScriptFailure;
use std::fmt;
use std::sync::Arc;

/// Why a policy could not merge versions. Equal in every region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// What all began from is needed and cannot be told.
    BaseUnknown,
    /// A version is of a type that the policy does not merge.
    NotA(Kind),
    /// What all began from is of a type that the policy does not merge.
    BaseNotA(Kind),
    /// The versions are of types that cannot be compared or added.
    Mixed,
    /// One cleared what another wrote.
    Cleared,
    /// A version is none of the values in the order.
    NotRanked,
    /// The sum is more than a number holds exactly.
    Inexact,
    /// Texts were changed in two ways in so many places.
    Overlap(usize),
    /// The texts have together more than so many bytes.
    TextsTooLong(usize),
    /// With its markers the text would have more than so many bytes.
    MarkedTooLong(usize),
    /// Between the first and the last that differ, the texts have more than so many lines.
    TooDifferent(usize),
    /// A line begins with more of a marker's characters than a marker may have.
    MarkersTooLong,
    /// The script gave no value.
    Script(ScriptFailure),
    /// These keys were changed in two ways.
    Keys {
        /// The first of them, in order, those of inner objects as `outer.inner`.
        named: Vec<Arc<str>>,
        /// How many more there are.
        more: usize,
    },
}

/// A type that a policy merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Number,
    /// A number or a string.
    Comparable,
    /// A string.
    Text,
    /// A list.
    List,
    /// An object.
    Object,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BaseUnknown => f.write_str("what all began from is not known"),
            Self::NotA(kind) => write!(f, "a version is not {kind}"),
            Self::BaseNotA(kind) => write!(f, "what all began from is not {kind}"),
            Self::Mixed => f.write_str("the versions are of different types"),
            Self::Cleared => f.write_str("one version is deleted or null, another is not"),
            Self::NotRanked => f.write_str("a version is none of the ranked values"),
            Self::Inexact => f.write_str("the sum is more than a number can hold exactly"),
            Self::Overlap(1) => f.write_str("one place was changed in more than one way"),
            Self::Overlap(places) => write!(f, "{places} places were changed in more than one way"),
            Self::TextsTooLong(max) => {
                write!(f, "the texts have more than {max} bytes, which is the most that is merged")
            }
            Self::MarkedTooLong(max) => write!(f, "with markers the text would have more than {max} bytes"),
            Self::TooDifferent(max) => {
                write!(f, "the texts differ over more than {max} lines, which is the most that is compared")
            }
            Self::MarkersTooLong => {
                f.write_str("a line begins like a conflict marker that is too long to be outdone")
            }
            Self::Script(failure) => write!(f, "the script {failure}"),
            Self::Keys { named, more } => {
                let keys: Vec<_> = named.iter().map(|key| format!("`{key}`")).collect();
                write!(f, "changed in more than one way: {}", keys.join(", "))?;
                if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "a number",
            Self::Comparable => "a number or a string",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        })
    }
}
