//! Yjs updates: the strict decoder, what is new in them, and joining them.
//!
//! Every update from outside passes here before yrs may see it. Nothing here calls yrs, allocates from a
//! length that has not been checked against the bytes that are left, or recurses without a depth limit.
//!
//! Invariant: what [`Shape::admit`] calls fresh rests on nothing that the document lacks, so yrs and Yjs
//! apply it whole and keep nothing pending.

mod admit;
mod any;
mod block;
mod decode;
mod dropped;
mod json;
mod limits;
mod marks;
mod merge;
mod ranges;
mod refusal;
mod resolve;
mod rests;
mod reuse;
mod scan;
mod shape;
mod state_vector;
mod value;
mod write;

pub use admit::{Admission, Overlap};
pub use block::{ClientId, Clocks, Content, ItemId, ItemRef, ParentRef, TypeKind, Update};
pub use limits::{
    ANY_DEPTH_MAX, CLOCK_MAX, JSON_BYTES_MAX, JSON_DEPTH_MAX, KEY_BYTES_MAX, Limits, NESTING_MAX,
    UPDATE_BYTES_MAX,
};
pub use merge::merge;
pub use refusal::Refusal;
pub use reuse::reused;
pub use shape::Shape;
pub use state_vector::{STATE_VECTOR_CLIENTS_MAX, StateVector};
