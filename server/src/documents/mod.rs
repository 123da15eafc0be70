//! Open documents: one actor each, found through one registry.
//!
//! Nothing here decides what a message means: the document machine does. This module moves messages
//! to the one task that owns a machine and carries out what the machine orders.

mod actor;
mod client;
mod delivery;
mod inbox;
mod order;
mod outbox;
mod registry;
mod repairs;
mod sleepers;
mod stored;

pub(crate) use client::random_client;
pub use delivery::{APPLIED_BYTES_MAX, Undelivered};
pub use inbox::{Closed, Message};
pub use outbox::{Outbox, Taken};
pub use registry::{Documents, Lease, OpenError, Options, RequestError};
