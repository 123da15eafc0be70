//! The document machine: what is admitted, when it is shown, and to whom.
//!
//! One machine per open document. Messages, commits and the passing of time go in; writes to the log
//! and frames to sessions come out, in an order that *is* the durability contract.

mod admission;
mod elsewhere;
mod event;
mod fan_out;
mod fields;
mod hear;
mod live;
mod machine;
mod records;
mod replica;
mod request;
mod session;
mod tell;
mod timers;

pub use event::{
    Answer, Divergence, FieldView, Input, Limits, Opened, Output, Refused, Request, Splice, Ticket, Urgency,
    Write,
};
pub use fields::WRITE_BACK_INTERVAL_MS;
pub use live::Live;
pub use machine::{AWARENESS_TICK_MS, Document, KEEP_ALIVE_MS, Kept, LoadError, Stored};
pub use records::{DERIVE_CALM_INTERVAL_MS, DERIVE_INTERVAL_MS, Derived, HISTORY_BYTES_MAX, HISTORY_LEN_MAX};
pub use session::{Access, Dialect};
