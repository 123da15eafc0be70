//! The server of one region: sockets and HTTP around the machines of `quire-protocol` and the log
//! of `quire-storage`.
//!
//! Moves bytes and decides nothing about documents; nothing depends on it.

pub mod auth;
pub mod config;
pub mod documents;
pub mod sessions;
