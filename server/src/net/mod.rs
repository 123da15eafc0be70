//! Sockets: who may connect, TLS, and HTTP/1.1 on each.
//!
//! Knows addresses and bytes; never what a request means.

mod listener;
mod places;
mod socket;

pub(crate) use listener::{Door, serve};
