//! Hocuspocus framing: many documents on one socket, each with its own address and token.
//!
//! `frame` reads and writes frames; `socket` decides what a socket's frames mean, up to the session
//! each document then has.

mod frame;
mod socket;

pub use frame::{Address, Body, Frame, FrameError, put_sync_status, read};
pub use socket::{Input, Limits, Output, Socket, Verdict};
