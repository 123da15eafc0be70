//! What two regions say to each other over a link: one message to a frame.
//!
//! `hello` is what is said before there is trust, `message` what is said after, `bye` why a link
//! ends, `limits` how much may be said at once; `outflow` decides which batch a peer is sent next. Both
//! decoders take bytes from outside.

mod bye;
pub mod hello;
pub mod limits;
mod message;
mod outflow;

pub use bye::{Bye, ByeReason};
pub use hello::{HandshakeError, Hello, Proof, Role, Side};
pub use message::{Message, MessageError};
pub use outflow::Outflow;

use crate::frontier::canonical_u64;
use crate::lib0::{ReadError, Reader};

fn read_u16(reader: &mut Reader) -> Result<u16, ReadError> {
    u16::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)
}
