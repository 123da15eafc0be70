//! Quire's wire types, codecs and pure state machines.
//!
//! Nothing here touches a socket, a file, a clock, a thread or a source of randomness: time and
//! identifiers come in as arguments, so that any history can be replayed.

pub mod awareness;
pub mod batch;
pub mod close;
pub mod document;
pub mod fields;
pub mod frontier;
pub mod gate;
pub mod hlc;
pub mod hocuspocus;
pub mod ids;
pub mod lib0;
pub mod life;
pub mod link;
pub mod pattern;
pub mod snapshot;
pub mod time;
pub mod update;
pub mod ysync;
