//! Merge policies: what becomes of the values that concurrent writers left in one field.
//!
//! Pure and total. The answer is a function of the policy, the base and the set of versions: in whatever order
//! they are given, every region gets the same. Values come from Yjs clients, which know no schema, so a policy
//! meets values of any type: what it cannot merge it leaves as a conflict, and says why.
//!
//! A version that is absent, `null` or `undefined` is *cleared*. A cleared base counts as no value at all.

mod counter;
mod lattice;
mod map;
mod markers;
mod reason;
mod regions;
pub mod script;
mod set;
mod text;

pub use map::KEYS_NAMED_MAX;
pub use markers::{LABEL_CHARS_MAX, MARKER_LEN_MAX};
pub use reason::{Kind, Reason};
pub use text::{COMPARED_MAX, MARKED_BYTES_MAX, TEXTS_BYTES_MAX};

use super::Value;
use crate::batch::Stamp;
use script::Script;
use std::sync::Arc;

/// How concurrent writes to a field become one value.
///
/// Where the result merges several versions, merging them one after the other on the same base comes to the
/// same as merging them at once, for all but [`Text3`](Self::Text3), [`Custom`](Self::Custom), the order of the
/// elements of a [`Set`](Self::Set) and the last digits of a [`Counter`](Self::Counter) of fractions.
#[derive(Clone, Debug)]
pub enum Policy {
    /// The version with the highest stamp stands, be it a deletion. Needs no base.
    Lww,
    /// All versions stay.
    Siblings,
    /// Lists are sets: the base's elements that no version lacks, then what the versions added. What one added
    /// no other can have removed, so an addition always stays. Each element is there once. Order is not
    /// merged: the base's elements come in the base's order, then additions by their version's stamp and
    /// their place in it. A cleared version removed every element of the base.
    Set,
    /// Each version counts for what it added to the base. Needs every sibling, also those of equal value: two
    /// who counted one more from 10 both left 11, and the count is 12. A cleared base counts as 0; clearing sets
    /// the count to 0, once, and leaves what others added beside it. Whole numbers are added exactly or not at all.
    Counter,
    /// The greatest stands, of numbers or of strings by their characters' code points. Needs no base. Cleared
    /// against written stays a conflict.
    Max,
    /// The least stands; otherwise as [`Max`](Self::Max).
    Min,
    /// The string that comes last in this order stands. Needs no base. A value that the order does not know, or
    /// cleared against written, stays a conflict.
    Rank(Arc<[Arc<str>]>),
    /// Strings are merged line by line on the base, and word by word where the same or neighbouring lines were
    /// changed. Places that only one changed, or all alike, take that change. If any place was changed in two ways
    /// the field is a conflict, which shows the others merged, and in that place all its versions and the base
    /// between markers, as `diff3` does. Changes that touch are in one place. A cleared base counts as the empty
    /// string; a string cleared against one written stays a conflict.
    Text3,
    /// Objects are merged key by key on the base, and so are the objects in them: a key that only one changed, or
    /// all alike, takes that change. If any key was changed in two ways the field is a conflict, which shows the
    /// other keys merged. An object cleared as a whole against one written stays a conflict.
    Map,
    /// A script decides. Where it fails, exceeds a limit or says so, the versions stay a conflict. Needs the base.
    Custom(Arc<Script>),
}

impl Policy {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Lww => "lww",
            Self::Siblings => "siblings",
            Self::Set => "set",
            Self::Counter => "counter",
            Self::Max => "max",
            Self::Min => "min",
            Self::Rank(_) => "rank",
            Self::Text3 => "text3",
            Self::Map => "map",
            Self::Custom(_) => "custom",
        }
    }

    /// Whether what the versions began from says how they merge.
    #[must_use]
    pub const fn needs_base(&self) -> bool {
        match self {
            Self::Lww | Self::Siblings | Self::Max | Self::Min | Self::Rank(_) => false,
            Self::Set | Self::Counter | Self::Map | Self::Text3 | Self::Custom(_) => true,
        }
    }
}

/// Who wrote a version, for people. Equal in every region, since what is shown is made of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Author {
    /// The region that accepted the write.
    pub region: Arc<str>,
    /// The person or client; may be empty.
    pub name: Arc<str>,
}

/// What one of the concurrent writers left: a sibling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The value; none when the writer deleted the key.
    pub value: Option<Value>,
    /// The stamp of the entry that brought it.
    pub stamp: Stamp,
    /// Who wrote it.
    pub author: Author,
}

/// What all writers began from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// The value that was there; none when the key was absent.
    Known(Option<&'a Value>),
    /// It cannot be told.
    Unknown,
}

/// What a policy makes of the versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// One value for all of them; none when the key is to be absent.
    Value(Option<Value>),
    /// The versions stay as siblings.
    Conflict {
        /// What everybody is shown meanwhile. Where any version is written, so is this: a deletion hides nothing.
        shown: Option<Value>,
        /// Why they could not be merged; none when the policy asks for siblings.
        reason: Option<Reason>,
    },
}

/// Merges the versions of a field, in whatever order they come: one for each sibling, none twice.
///
/// Versions of equal value are one, except for [`Policy::Counter`]. A single version is the result, and with none
/// the base is.
#[must_use]
pub fn merge(policy: &Policy, base: Base<'_>, versions: &[Version]) -> Merged {
    let sides = Sides::new(versions);
    let Some(latest) = sides.0.last() else {
        return match base {
            Base::Known(value) => Merged::Value(value.cloned()),
            Base::Unknown => Merged::Conflict { shown: None, reason: Some(Reason::BaseUnknown) },
        };
    };
    let merged = match policy {
        _ if sides.0.len() == 1 => Ok(latest.value.clone()),
        Policy::Counter => counter::merge(base, &sides),
        _ if sides.0.iter().all(|side| side.value == latest.value) => Ok(latest.value.clone()),
        Policy::Lww => Ok(latest.value.clone()),
        Policy::Siblings => return Merged::Conflict { shown: sides.latest_written(), reason: None },
        Policy::Set => set::merge(base, &sides),
        Policy::Max => lattice::max(&sides),
        Policy::Min => lattice::min(&sides),
        Policy::Rank(order) => lattice::rank(order, &sides),
        Policy::Text3 => return text::merge(base, &sides),
        Policy::Map => return map::merge(base, &sides),
        Policy::Custom(script) => script.merge(base, &sides),
    };
    match merged {
        Ok(value) => Merged::Value(value),
        Err(reason) => sides.conflict(reason),
    }
}

/// What a policy that merges or gives up makes of the versions.
type Outcome = Result<Option<Value>, Reason>;

/// The versions from the lowest stamp to the highest; of equal stamps, which one entry may bring, by value.
struct Sides<'a>(Vec<&'a Version>);

impl<'a> Sides<'a> {
    fn new(versions: &'a [Version]) -> Self {
        let mut sides: Vec<_> = versions.iter().collect();
        sides.sort_by(|a, b| {
            a.stamp.cmp(&b.stamp).then_with(|| (&a.value, &a.author).cmp(&(&b.value, &b.author)))
        });
        Self(sides)
    }

    /// The values that are not cleared.
    fn written(&self) -> impl DoubleEndedIterator<Item = &'a Value> {
        self.0.iter().filter_map(|side| written(side.value.as_ref()))
    }

    fn any_cleared(&self) -> bool {
        self.0.iter().any(|side| written(side.value.as_ref()).is_none())
    }

    /// What is shown of siblings: the latest that is written.
    fn latest_written(&self) -> Option<Value> {
        let latest = || self.0.iter().rev().find_map(|side| side.value.as_ref());
        self.written().next_back().or_else(latest).cloned()
    }

    fn conflict(&self, reason: Reason) -> Merged {
        Merged::Conflict { shown: self.latest_written(), reason: Some(reason) }
    }
}

impl<'a> Base<'a> {
    /// The base where it is known; none when there was no value.
    fn known(self) -> Result<Option<&'a Value>, Reason> {
        match self {
            Self::Known(value) => Ok(written(value)),
            Self::Unknown => Err(Reason::BaseUnknown),
        }
    }
}

/// The value, unless it is cleared.
fn written(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !matches!(value, Value::Null | Value::Undefined))
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod text_tests;
