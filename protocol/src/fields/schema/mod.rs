//! What an application says of its documents' fields: which documents form a collection, which fields they
//! have, and how concurrent writes to each are merged.
//!
//! All regions of a cluster derive the same fields from the same entries, so they must have one schema:
//! [`Schema::hash`] tells whether they do, [`Schema::differences`] where not, [`Schema::encode`] carries it.
//! `policy` and `field` are the words of a schema, `check` says which of them go together, `codec` spells a
//! schema in bytes, `compare` finds what differs.
//!
//! Invariant: a `Schema` is valid by construction, and equal schemas have one encoding.

mod check;
mod codec;
mod compare;
mod field;
mod policy;
#[cfg(test)]
mod tests;

pub use check::{SchemaError, Wrong};
pub use codec::{SchemaDecodeError, SchemaHash, SchemaHashError};
pub use compare::{Aspect, Difference, Place, What};
pub use field::{Field, FieldType, HomePolicy, Reference, ReferencePolicy};
pub use policy::Policy;

use crate::ids::{DocName, ReplicaId};
use crate::pattern::{Pattern, PatternError};
use std::collections::{BTreeMap, BTreeSet};

/// The most collections of a schema: each name of a document is held against their patterns in turn.
pub const COLLECTIONS_MAX: usize = 256;
/// The most fields that a collection declares. Its documents may have others.
pub const FIELDS_MAX: usize = 1024;
/// The longest name of a collection, in bytes: it appears in metrics' labels and in messages.
pub const COLLECTION_NAME_BYTES_MAX: usize = 64;
/// The longest name of a declared field, in bytes of UTF-8: it appears in URLs.
pub const FIELD_NAME_BYTES_MAX: usize = 256;
/// The most values that a `rank` orders, and the longest of them in bytes.
pub const RANK_VALUES_MAX: usize = 256;
/// See [`RANK_VALUES_MAX`].
pub const RANK_VALUE_BYTES_MAX: usize = 256;
/// The longest script, in bytes: a merge of one field is a page of text.
pub const SCRIPT_BYTES_MAX: usize = 64 * 1024;
/// The most regions at which a collection's unique values are reserved: as many as reserve, so much is lost
/// with each that is cut off.
pub const CLAIMS_AT_MAX: usize = 64;
/// The longest prefix of short ids, in bytes: people read them out.
pub const ID_PREFIX_BYTES_MAX: usize = 16;
/// The longest encoding of a schema, in bytes: regions whose schemas differ send it to each other, and one
/// frame of a snapshot is as long.
pub const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// What a collection is called whose documents no declared one matches.
pub const DEFAULT_COLLECTION: &str = "default";

/// What an application says of its documents' fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    collections: Vec<Collection>,
    /// Where nothing else matches.
    others: Collection,
}

/// Documents whose names match a pattern, and what is said of their fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// What people and references call it: 1 to 64 characters out of a-z, A-Z, 0-9, '-', '_' and '.'.
    pub name: String,
    /// Which documents belong to it, unless one that stands before it has them.
    pub pattern: Pattern,
    /// The fields that are declared.
    pub fields: BTreeMap<String, Field>,
    /// What holds of every other field: a type and a policy, and nothing else.
    pub default: Field,
    /// What becomes of a document that is deleted in one place and edited in another at once.
    pub on_delete: DeletePolicy,
    /// How a new document is named, where whoever creates it does not say.
    pub ids: Option<IdStrategy>,
    /// The regions at which unique values are reserved, each at one of them; none when they are not.
    pub claims_at: BTreeSet<ReplicaId>,
}

/// What becomes of a document that is deleted and edited concurrently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeletePolicy {
    /// The edit brings it back, and it is flagged.
    #[default]
    Revive,
    /// It stays deleted, and the edit is kept in the conflict's record.
    DeleteWins,
}

/// How new documents are named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IdStrategy {
    /// A UUID that begins with the time.
    Uuid,
    /// A prefix, and a number that the region counts.
    Short {
        /// What it begins with: 1 to 16 characters out of a-z, A-Z and 0-9.
        prefix: String,
    },
    /// A whole number out of a range that is the region's own.
    Range,
}

impl Default for Schema {
    fn default() -> Self {
        let others = Collection::new(DEFAULT_COLLECTION, "**").expect("two stars are a pattern");
        Self { collections: Vec::new(), others }
    }
}

impl Schema {
    /// A schema of these collections; a document belongs to the first whose pattern matches its name.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn new(collections: Vec<Collection>) -> Result<Self, Vec<SchemaError>> {
        let schema = Self { collections, ..Self::default() };
        let errors = check::check(&schema);
        if errors.is_empty() { Ok(schema) } else { Err(errors) }
    }

    /// The collections that are declared, in their order.
    #[must_use]
    pub fn collections(&self) -> &[Collection] {
        &self.collections
    }

    /// Whether nothing is declared: every field is of any type and keeps its siblings.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.collections.is_empty()
    }

    /// The collection that a document belongs to: the first that matches, or [`DEFAULT_COLLECTION`].
    #[must_use]
    pub fn collection(&self, name: &DocName) -> &Collection {
        let matching = self.collections.iter().find(|one| one.pattern.matches(name.as_str()));
        matching.unwrap_or(&self.others)
    }

    /// The declared collection of this name.
    #[must_use]
    pub fn collection_named(&self, name: &str) -> Option<&Collection> {
        self.collections.iter().find(|one| one.name == name)
    }
}

impl Collection {
    /// A collection that declares no field yet.
    ///
    /// # Errors
    /// When the pattern is none.
    pub fn new(name: impl Into<String>, pattern: &str) -> Result<Self, PatternError> {
        Ok(Self {
            name: name.into(),
            pattern: Pattern::new(pattern)?,
            fields: BTreeMap::new(),
            default: Field::default(),
            on_delete: DeletePolicy::default(),
            ids: None,
            claims_at: BTreeSet::new(),
        })
    }

    /// What is said of a field, declared or not.
    #[must_use]
    pub fn field(&self, name: &str) -> &Field {
        self.fields.get(name).unwrap_or(&self.default)
    }
}

impl DeletePolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Revive, Self::DeleteWins];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revive => "revive",
            Self::DeleteWins => "delete_wins",
        }
    }
}

impl std::fmt::Display for IdStrategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uuid => f.write_str("uuid"),
            Self::Short { prefix } => write!(f, "short {prefix}"),
            Self::Range => f.write_str("range"),
        }
    }
}
