//! Structured fields: what a document's root map `fields` holds, and what became of concurrent writes.
//!
//! Pure: everything here is a function of the entries that carry the fields, in whatever order they came.

pub mod policy;
pub mod schema;
mod value;

pub use value::{Number, Value};
