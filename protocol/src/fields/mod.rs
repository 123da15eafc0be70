//! Structured fields: what a document's root map `fields` holds, and what became of concurrent writes.
//!
//! Pure: everything here is a function of the entries that carry the fields, in whatever order they came.

mod ahead;
mod at_home;
mod claim;
mod compose;
mod edit;
mod entry;
mod graph;
mod held;
pub mod home;
mod index;
mod path;
pub mod policy;
mod record;
mod record_row;
pub mod reference;
mod register;
mod rules;
pub mod schema;
mod state;
mod stored;
mod tail;
mod tracker;
mod value;
mod walk;
mod write;
mod write_back;

pub use at_home::{
    Asked, AskedOfHome, AtHomeError, Claiming, EDITS_MAX, FieldsWrite, TOLD_TEXT_BYTES_MAX, ToldByHome,
    Unreached, unreached,
};
pub use claim::{Claim, ClaimId};
pub use edit::{Edit, EditRefused, FieldVersion, FieldVersionError, VERSION_WRITES_MAX};
pub use entry::{AUTHOR_BYTES_MAX, FieldsEntry};
pub use graph::{Authorship, Graph, Who};
pub use held::Held;
pub use index::{Index, Naming, REFERENCES_MAX};
pub use path::{PATH_KEYS_MAX, Path, PathError};
pub use record::{
    Conflicting, Deletion, Ending, OfField, RESOLVED_LOOKED_AT_MAX, Record, Resolution, Status, Writes,
};
pub use rules::{RuleBook, Rules};
pub use state::{Base, ConflictId, ConflictIdError, FieldState, SIBLINGS_MAX, Shown, Version};
pub use tracker::Tracker;
pub use value::{Number, Value};
pub use walk::{FIELDS_ROOT, RESERVED_PREFIX};
pub use write::{Mark, MarkKind, WriteBackMark, WriteId};
pub use write_back::{
    CONFLICTS_CLIENT, CONFLICTS_KEY, Drafted, VERSION_BYTES_MAX, VERSIONS_SHOWN_MAX, WRITERS_KEY, Writer,
};
