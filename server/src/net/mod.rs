//! Sockets: who may connect, TLS, and HTTP/1.1 on each.
//!
//! Knows addresses and bytes; never what a request means.

mod ask;
mod dial;
mod listener;
mod places;
mod socket;

pub(crate) use ask::{AskError, Patience, ask};
pub(crate) use dial::{Stream, dial};
pub(crate) use listener::{Door, serve};
