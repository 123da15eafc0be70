//! What two regions say to each other over a link: one message to a frame.
//!
//! `hello` is what is said before there is trust, `meeting` whether it leads to a link, `agreement` whether it
//! does with another schema, `message` what is said after, `bye` why a link ends, `limits` how much may be said at once. `machine` is one live link:
//! `history` finds out whether both mean the same by this replica's stream, `outflow` decides which batch the
//! peer is sent next, `pace` how fast it gets what it has missed, `inflow` what it is told and allowed, `check`
//! what of it is taken, `snapshot` what a peer gets that the log cannot serve, `calls` what either asks of the other,
//! `pulse` whether it is there. The decoders take bytes from outside.

mod agreement;
mod bye;
mod calls;
mod check;
mod event;
pub mod hello;
mod history;
mod inflow;
pub mod limits;
mod machine;
mod meeting;
mod message;
mod outflow;
mod pace;
mod pulse;
mod snapshot;

pub use agreement::{SchemaTerms, TermsError};
pub use bye::{Bye, ByeReason};
pub use calls::CallRefused;
pub use event::{Found, Input, Output};
pub use hello::{HandshakeError, Hello, Proof, Role, Side};
pub use machine::{Ends, Figures, Link};
pub use meeting::{check_hello, replaces};
pub use message::{Message, MessageError};
pub use outflow::Outflow;
pub use snapshot::Piece;

use crate::frontier::canonical_u64;
use crate::lib0::{ReadError, Reader};

fn read_u16(reader: &mut Reader) -> Result<u16, ReadError> {
    u16::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)
}
