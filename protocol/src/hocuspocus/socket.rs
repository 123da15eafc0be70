//! One Hocuspocus socket: which documents are open on it, which still wait for their token.
//!
//! A provider sends its token, its state vector and its first edits without waiting, so what comes
//! before the verdict is queued, within bounds. The driver verifies tokens and holds the sessions;
//! what they mean is decided here.
//!
//! Invariant: a message reaches a session only after its address was granted access.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::frame::{self, Address, Body, Frame};
use crate::close::CloseReason;
use crate::document::Access;
use crate::lib0::Text;
use crate::time::Time;
use crate::ysync::Message;

/// What may wait for a verdict, and how many documents one socket may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages that wait for a verdict, over all documents of the socket.
    pub queued_messages_max: usize,
    /// Their bytes.
    pub queued_bytes_max: usize,
    /// Documents that wait for a verdict.
    pub waiting_documents_max: usize,
    /// Documents on the socket, waiting or open.
    pub documents_max: usize,
    /// How long a document may wait for a token that is good, in milliseconds.
    pub auth_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queued_messages_max: 1_000,
            queued_bytes_max: 5 << 20,
            waiting_documents_max: 100,
            documents_max: 1_000,
            auth_ms_max: 30_000,
        }
    }
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It allows this.
    Granted(Access),
    /// It does not.
    Denied(CloseReason),
}

/// What happens to a socket.
#[derive(Clone, Debug)]
pub enum Input {
    /// The client sent a frame.
    Frame(Bytes),
    /// The driver has verified the token of an [`Output::Authenticate`].
    Verdict(Address, Verdict),
    /// A document's session was ended by the server.
    Ended(Address, CloseReason),
    /// A moment asked for by [`Output::WakeAt`] has come.
    Tick,
}

/// What the driver must now do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Verify this token and bring back the verdict.
    Authenticate(Address, Text),
    /// Open a session, or, where one is open, change what it may do: the verdict's grant holds.
    Grant(Address),
    /// Hand a message to the address's session.
    Deliver(Address, Message),
    /// End the address's session.
    End(Address),
    /// Send a frame.
    Send(Bytes),
    /// Close the socket.
    Close(CloseReason),
    /// Come back at this time; an earlier time replaces a later one.
    WakeAt(Time),
}

#[derive(Debug)]
enum Phase {
    /// No verdict yet, or the last one was no.
    Waiting { queued: Vec<Message>, since: Time },
    /// A session is open.
    Open,
}

/// The state of one socket.
#[derive(Debug)]
pub struct Socket {
    limits: Limits,
    documents: BTreeMap<Address, Phase>,
    queued_messages: usize,
    queued_bytes: usize,
    opened: Time,
    granted_once: bool,
}

impl Socket {
    /// A socket that has just been opened.
    pub fn new(limits: Limits, now: Time, out: &mut Vec<Output>) -> Self {
        out.push(Output::WakeAt(now.after(limits.auth_ms_max)));
        Self {
            limits,
            documents: BTreeMap::new(),
            queued_messages: 0,
            queued_bytes: 0,
            opened: now,
            granted_once: false,
        }
    }

    /// Takes one event and appends what the driver must now do, in order.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Frame(bytes) => match frame::read(bytes) {
                Ok(Frame::Ping) => out.push(Output::Send(frame::pong())),
                Ok(Frame::Pong) => {}
                Ok(Frame::Document(address, body)) => self.take(now, address, body, out),
                Err(error) => out.push(Output::Close(error.into())),
            },
            Input::Verdict(address, Verdict::Granted(access)) => self.grant(&address, access, out),
            Input::Verdict(address, Verdict::Denied(reason)) => self.deny(now, address, &reason, out),
            Input::Ended(address, reason) => self.ended(now, address, reason, out),
            Input::Tick => self.check_deadlines(now, out),
        }
    }

    fn take(&mut self, now: Time, address: Address, body: Body, out: &mut Vec<Output>) {
        match body {
            Body::Token(token) => {
                if self.admit(now, &address, out) {
                    out.push(Output::Authenticate(address, token));
                }
            }
            Body::Message(message) => match self.documents.get(&address) {
                Some(Phase::Open) => out.push(Output::Deliver(address, message)),
                _ => self.queue(now, &address, message, out),
            },
            Body::Stateless => {}
            Body::Close => self.let_go(&address, out),
        }
    }

    /// Makes sure the address has a place on the socket.
    fn admit(&mut self, now: Time, address: &Address, out: &mut Vec<Output>) -> bool {
        if self.documents.contains_key(address) {
            return true;
        }
        let waiting = |phase: &&Phase| matches!(phase, Phase::Waiting { .. });
        if self.documents.len() >= self.limits.documents_max
            || self.documents.values().filter(waiting).count() >= self.limits.waiting_documents_max
        {
            out.push(Output::Close(CloseReason::SessionsFull("on one socket")));
            return false;
        }
        self.documents.insert(address.clone(), Phase::Waiting { queued: Vec::new(), since: now });
        out.push(Output::WakeAt(now.after(self.limits.auth_ms_max)));
        true
    }

    fn queue(&mut self, now: Time, address: &Address, message: Message, out: &mut Vec<Output>) {
        if !self.admit(now, address, out) {
            return;
        }
        self.queued_messages += 1;
        self.queued_bytes += message.body_len();
        if self.queued_messages > self.limits.queued_messages_max
            || self.queued_bytes > self.limits.queued_bytes_max
        {
            return out.push(Output::Close(CloseReason::RateExceeded));
        }
        if let Some(Phase::Waiting { queued, .. }) = self.documents.get_mut(address) {
            queued.push(message);
        }
    }

    fn unqueue(&mut self, messages: &[Message]) {
        self.queued_messages -= messages.len();
        self.queued_bytes -= messages.iter().map(Message::body_len).sum::<usize>();
    }

    fn grant(&mut self, address: &Address, access: Access, out: &mut Vec<Output>) {
        // The client may have let go of the document while its token was being verified.
        let Some(phase) = self.documents.get_mut(address) else { return };
        let before = std::mem::replace(phase, Phase::Open);
        self.granted_once = true;
        out.push(Output::Send(frame::authenticated(address, access)));
        out.push(Output::Grant(address.clone()));
        if let Phase::Waiting { queued, .. } = before {
            self.unqueue(&queued);
            out.extend(queued.into_iter().map(|message| Output::Deliver(address.clone(), message)));
        }
    }

    /// Puts the address back to waiting: a better token may come.
    fn deny(&mut self, now: Time, address: Address, reason: &CloseReason, out: &mut Vec<Output>) {
        let Some(phase) = self.documents.get_mut(&address) else { return };
        let before = std::mem::replace(phase, Phase::Waiting { queued: Vec::new(), since: now });
        out.push(Output::Send(frame::permission_denied(&address, &reason.text())));
        out.push(Output::WakeAt(now.after(self.limits.auth_ms_max)));
        match before {
            Phase::Open => out.push(Output::End(address)),
            Phase::Waiting { queued, .. } => self.unqueue(&queued),
        }
    }

    fn ended(&mut self, now: Time, address: Address, reason: CloseReason, out: &mut Vec<Output>) {
        match reason {
            CloseReason::Expired | CloseReason::Unauthorized(_) | CloseReason::Forbidden => {
                self.deny(now, address, &reason, out);
            }
            // Trying again would not help: the document is closed to this provider, and the socket's
            // other documents go on. Closing the socket would have the provider try for ever. What
            // cannot be read is repaired while the server is down, and then every socket is a new one.
            reason if reason.is_permanent() || reason == CloseReason::Unreadable => {
                if self.documents.remove(&address).is_some() {
                    out.push(Output::Send(frame::close(&address, &reason.text())));
                    out.push(Output::End(address));
                }
            }
            // Everything else passes: the provider reconnects.
            reason => out.push(Output::Close(reason)),
        }
    }

    fn let_go(&mut self, address: &Address, out: &mut Vec<Output>) {
        match self.documents.remove(address) {
            Some(Phase::Open) => out.push(Output::End(address.clone())),
            Some(Phase::Waiting { queued, .. }) => self.unqueue(&queued),
            None => {}
        }
    }

    /// A socket must be granted something in time; a document that is not, is forgotten.
    fn check_deadlines(&mut self, now: Time, out: &mut Vec<Output>) {
        let allowed = self.limits.auth_ms_max;
        if !self.granted_once && now.since(self.opened) >= allowed {
            return out.push(Output::Close(CloseReason::TimedOut));
        }
        let late =
            |phase: &Phase| matches!(phase, Phase::Waiting { since, .. } if now.since(*since) >= allowed);
        let gone: Vec<_> = self
            .documents
            .iter()
            .filter(|(_, phase)| late(phase))
            .map(|(address, _)| address.clone())
            .collect();
        for address in gone {
            self.let_go(&address, out);
            out.push(Output::Send(frame::close(&address, &CloseReason::TimedOut.text())));
        }
        self.plan_next_wake(out);
    }

    /// The driver keeps the earliest moment it was asked for; those behind it are asked for anew.
    fn plan_next_wake(&self, out: &mut Vec<Output>) {
        let waiting = self.documents.values().filter_map(|phase| match phase {
            Phase::Waiting { since, .. } => Some(*since),
            Phase::Open => None,
        });
        let first_grant = (!self.granted_once).then_some(self.opened);
        let next = waiting.chain(first_grant).min();
        out.extend(next.map(|since| Output::WakeAt(since.after(self.limits.auth_ms_max))));
    }
}

impl From<frame::FrameError> for CloseReason {
    fn from(error: frame::FrameError) -> Self {
        match error {
            frame::FrameError::Address => Self::BadName,
            frame::FrameError::TokenTooLong => Self::Unauthorized("the token is too long".to_owned()),
            frame::FrameError::Message(error) => Self::Frame(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lib0::put_var_bytes;

    fn frame(name: &str, rest: &[u8]) -> Input {
        let mut out = Vec::new();
        put_var_bytes(&mut out, name.as_bytes());
        out.extend_from_slice(rest);
        Input::Frame(out.into())
    }

    fn address(name: &str) -> Address {
        Address::new(name).unwrap()
    }

    fn step(socket: &mut Socket, at: u64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        socket.handle(Time(at), input, &mut out);
        out.retain(|output| !matches!(output, Output::WakeAt(_)));
        out
    }

    fn opened() -> Socket {
        Socket::new(Limits { queued_messages_max: 2, ..Limits::default() }, Time(0), &mut Vec::new())
    }

    const QUERY: &[u8] = &[3];
    const TOKEN: &[u8] = &[2, 0, 0];

    #[test]
    fn h4_what_comes_before_the_verdict_is_delivered_after_it() {
        let mut socket = opened();
        assert_eq!(step(&mut socket, 0, frame("a", QUERY)), []);
        let asked = step(&mut socket, 0, frame("a", TOKEN));
        assert!(matches!(&asked[..], [Output::Authenticate(..)]));
        let granted = step(&mut socket, 0, Input::Verdict(address("a"), Verdict::Granted(Access::Read)));
        let query = Output::Deliver(address("a"), Message::QueryAwareness);
        assert!(matches!(&granted[..2], [Output::Send(_), Output::Grant(_)]));
        assert_eq!(granted[2..], std::slice::from_ref(&query)[..]);
        assert_eq!(step(&mut socket, 1, frame("a", QUERY)), [query]);
    }

    #[test]
    fn h7_a_denied_address_may_try_another_token() {
        let mut socket = opened();
        step(&mut socket, 0, frame("a", TOKEN));
        let denied = Verdict::Denied(CloseReason::Forbidden);
        assert!(matches!(&step(&mut socket, 0, Input::Verdict(address("a"), denied))[..], [Output::Send(_)]));
        assert_eq!(step(&mut socket, 0, frame("a", QUERY)), []);
        step(&mut socket, 0, frame("a", TOKEN));
        let granted = step(&mut socket, 0, Input::Verdict(address("a"), Verdict::Granted(Access::Write)));
        assert_eq!(granted.len(), 3);
    }

    #[test]
    fn h8_an_expired_session_ends_and_its_socket_stays() {
        let mut socket = opened();
        step(&mut socket, 0, frame("a", TOKEN));
        step(&mut socket, 0, Input::Verdict(address("a"), Verdict::Granted(Access::Write)));
        let ended = step(&mut socket, 9, Input::Ended(address("a"), CloseReason::Expired));
        assert!(matches!(&ended[..], [Output::Send(_), Output::End(_)]));
        assert!(matches!(&step(&mut socket, 9, frame("a", TOKEN))[..], [Output::Authenticate(..)]));
    }

    #[test]
    fn h5_a_full_queue_closes_the_socket() {
        let mut socket = opened();
        step(&mut socket, 0, frame("a", QUERY));
        step(&mut socket, 0, frame("b", QUERY));
        assert_eq!(step(&mut socket, 0, frame("a", QUERY)), [Output::Close(CloseReason::RateExceeded)]);
    }

    #[test]
    fn h6_a_socket_that_is_never_granted_anything_is_closed() {
        let mut socket = opened();
        assert_eq!(step(&mut socket, 29_999, Input::Tick), []);
        assert_eq!(step(&mut socket, 30_000, Input::Tick), [Output::Close(CloseReason::TimedOut)]);
    }

    #[test]
    fn h9_a_document_that_is_closed_for_good_leaves_the_others_open() {
        use CloseReason::{Deleted, DocumentTooLarge, StateVector, Unreadable};
        for reason in [Deleted, StateVector, DocumentTooLarge, Unreadable] {
            let mut socket = opened();
            for name in ["a", "b"] {
                step(&mut socket, 0, frame(name, TOKEN));
                step(&mut socket, 0, Input::Verdict(address(name), Verdict::Granted(Access::Write)));
            }
            let ended = step(&mut socket, 1, Input::Ended(address("a"), reason));
            assert!(matches!(&ended[..], [Output::Send(_), Output::End(_)]));
            let said = step(&mut socket, 2, frame("b", QUERY));
            assert_eq!(said, [Output::Deliver(address("b"), Message::QueryAwareness)]);
        }
    }

    #[test]
    fn h9_what_passes_closes_the_socket_so_that_the_provider_comes_back() {
        let mut socket = opened();
        step(&mut socket, 0, frame("a", TOKEN));
        step(&mut socket, 0, Input::Verdict(address("a"), Verdict::Granted(Access::Write)));
        let ended = step(&mut socket, 1, Input::Ended(address("a"), CloseReason::Disk));
        assert_eq!(ended, [Output::Close(CloseReason::Disk)]);
    }

    #[test]
    fn h10_what_waits_for_a_token_that_never_comes_is_let_go() {
        let mut socket = opened();
        step(&mut socket, 0, frame("a", TOKEN));
        step(&mut socket, 0, Input::Verdict(address("a"), Verdict::Granted(Access::Write)));
        for at in [1_000, 100_000] {
            // Both places of the queue are taken, and free again when the time is over.
            assert_eq!(step(&mut socket, at, frame("b", QUERY)), []);
            assert_eq!(step(&mut socket, at, frame("b", QUERY)), []);
            assert_eq!(step(&mut socket, at + 29_999, Input::Tick), []);
            assert!(matches!(&step(&mut socket, at + 30_000, Input::Tick)[..], [Output::Send(_)]));
        }
    }

    #[test]
    fn h10_two_that_wait_are_let_go_each_in_its_time() {
        let mut out = Vec::new();
        let mut socket = Socket::new(Limits::default(), Time(0), &mut out);
        socket.handle(Time(0), frame("a", TOKEN), &mut out);
        socket.handle(Time(0), Input::Verdict(address("a"), Verdict::Granted(Access::Write)), &mut out);
        socket.handle(Time(1_000), frame("b", QUERY), &mut out);
        socket.handle(Time(2_000), frame("c", QUERY), &mut out);
        let mut woken = Vec::new();
        // A driver that keeps one moment: the earliest.
        while let Some(wake) =
            out.iter().filter_map(|o| if let Output::WakeAt(t) = o { Some(*t) } else { None }).min()
        {
            out.clear();
            socket.handle(wake, Input::Tick, &mut out);
            woken.extend(out.iter().any(|output| matches!(output, Output::Send(_))).then_some(wake));
        }
        assert_eq!(woken, [Time(31_000), Time(32_000)]);
    }

    #[test]
    fn h11_a_ping_is_answered_and_a_letting_go_ends_the_session() {
        let mut socket = opened();
        let pong = Output::Send(Bytes::from_static(&[10]));
        assert_eq!(step(&mut socket, 0, Input::Frame(Bytes::from_static(&[9]))), [pong]);
        step(&mut socket, 0, frame("a", TOKEN));
        step(&mut socket, 0, Input::Verdict(address("a"), Verdict::Granted(Access::Write)));
        assert_eq!(step(&mut socket, 0, frame("a", &[7])), [Output::End(address("a"))]);
        // A verdict that comes after it opens nothing.
        let late = Input::Verdict(address("a"), Verdict::Granted(Access::Write));
        assert_eq!(step(&mut socket, 0, late), []);
    }

    #[test]
    fn h3_garbage_closes_the_socket_with_a_reason() {
        let mut socket = opened();
        let out = step(&mut socket, 0, Input::Frame(Bytes::from_static(&[200, 1, 2])));
        assert!(matches!(&out[..], [Output::Close(CloseReason::Frame(_))]));
    }
}
