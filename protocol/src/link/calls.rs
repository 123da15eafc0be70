//! What one region asks another to do for it, and the answers: calls, in both directions of a link.
//!
//! A call is never kept: it is answered on the link that it was made on, or not at all. Who asked and waits no
//! longer leaves it under way until its answer comes, since the peer works on it all the same.
//!
//! Invariant: at most [`CALLS_MAX`] are under way in each direction, and each is answered once.

use super::event::Output;
use super::hello::CALLS_SINCE;
use super::limits::{CALL_BYTES_MAX, CALLS_MAX};
use super::message::Message;
use super::{Bye, ByeReason};
use crate::ids::DocId;
use bytes::Bytes;
use std::collections::BTreeSet;

/// Why a peer was not asked. Nothing of the call has left this region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallRefused {
    /// The peer speaks a version of the protocol without calls.
    #[error("it runs a release that does not know calls")]
    Older,
    /// [`CALLS_MAX`] calls to the peer have no answer yet.
    #[error("{CALLS_MAX} calls to it have no answer yet")]
    Full,
    /// The payload is longer than [`CALL_BYTES_MAX`].
    #[error("a call has at most {CALL_BYTES_MAX} bytes, and this one {0}")]
    TooLong(usize),
}

/// The calls of one link.
#[derive(Debug)]
pub(super) struct Calls {
    /// Whether the peer knows what a call is.
    known: bool,
    /// Those made here that have no answer.
    made: BTreeSet<u64>,
    /// The peer's that have no answer.
    taken: BTreeSet<u64>,
}

impl Calls {
    pub(super) const fn new(version: u8) -> Self {
        Self { known: version >= CALLS_SINCE, made: BTreeSet::new(), taken: BTreeSet::new() }
    }

    /// Asks the peer, or says why not.
    pub(super) fn make(&mut self, call: u64, doc: DocId, payload: Bytes, out: &mut Vec<Output>) {
        let refused = if !self.known {
            CallRefused::Older
        } else if payload.len() > CALL_BYTES_MAX {
            CallRefused::TooLong(payload.len())
        } else if self.made.len() >= CALLS_MAX {
            CallRefused::Full
        } else {
            assert!(self.made.insert(call), "a driver numbers each call of a link anew");
            return out.push(Output::Send(Message::Call { call, doc, payload }.encode()));
        };
        out.push(Output::Returned { call, answer: Err(refused) });
    }

    /// Tells the peer what came of its call.
    pub(super) fn answer(&mut self, call: u64, payload: Bytes, out: &mut Vec<Output>) {
        assert!(self.taken.remove(&call), "a driver answers each call once");
        assert!(payload.len() <= CALL_BYTES_MAX, "who answers a call keeps to its limit");
        out.push(Output::Send(Message::Return { call, payload }.encode()));
    }

    /// Takes a call of the peer's.
    pub(super) fn hear_call(
        &mut self,
        call: u64,
        doc: DocId,
        payload: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Bye> {
        self.check_known()?;
        if self.taken.len() >= CALLS_MAX {
            let detail = format!("{CALLS_MAX} calls have no answer yet, and another came");
            return Err(Bye { reason: ByeReason::Credit, detail });
        }
        if !self.taken.insert(call) {
            return Err(malformed(format!("call {call} was made again before it was answered")));
        }
        out.push(Output::Called { call, doc, payload });
        Ok(())
    }

    /// Takes the answer to a call made here.
    pub(super) fn hear_return(
        &mut self,
        call: u64,
        payload: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Bye> {
        self.check_known()?;
        if !self.made.remove(&call) {
            return Err(malformed(format!("call {call} was answered and is not under way")));
        }
        out.push(Output::Returned { call, answer: Ok(payload) });
        Ok(())
    }

    fn check_known(&self) -> Result<(), Bye> {
        if self.known {
            Ok(())
        } else {
            Err(malformed("the version that both speak knows no calls".to_owned()))
        }
    }
}

const fn malformed(detail: String) -> Bye {
    Bye { reason: ByeReason::Malformed, detail }
}
