//! The server of one region: sockets and HTTP around the machines of `quire-protocol` and the log
//! of `quire-storage`.
//!
//! Moves bytes and decides nothing about documents; nothing depends on it.

pub mod auth;
pub mod cli;
pub mod config;
mod conflicts;
mod demo;
pub mod documents;
mod http;
pub mod logs;
pub mod metrics;
mod net;
pub mod peers;
mod region;
mod run;
pub mod sessions;
pub mod webhooks;

pub use run::{Running, StartError, StopError, start, start_with};
