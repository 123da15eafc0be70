//! The dialects that stock clients speak, as far as a typist needs them: y-websocket's, Hocuspocus's and Y-Sweet's.
//!
//! Sources: `y-protocols` 1.0.7, `y-websocket` 3.1.0, `@hocuspocus/provider` 4.8.0, `@y-sweet/client` 0.9.1.

use quire_protocol::lib0::{put_var_bytes, put_var_u64};

use crate::cursor::{Cursor, Malformed};
use crate::wire::{self, Message};

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// y-websocket and its many servers; what everybody is sent comes back to the author
    YWebsocket,
    /// Quire, which speaks y-websocket's and sends an author's update back once it is on disk
    Quire,
    /// Hocuspocus, which answers each update with a sync status
    Hocuspocus,
    /// Y-Sweet, which answers what a client asks for with message 102
    YSweet,
}

/// How a server says that it has an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// It sends it back.
    Echo,
    /// One answer for each update, in their order.
    Each,
    /// It repeats the number it was given after the update.
    Number,
}

/// What came from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// What does this session have? The state vector of the server.
    Asked(&'a [u8]),
    /// All that this session lacked.
    State(&'a [u8]),
    /// An edit.
    Update(&'a [u8]),
    /// The oldest update that was not acknowledged is.
    Saved,
    /// All up to this number is.
    SavedTo(u64),
    /// Refused, for this reason.
    Denied(&'a [u8]),
    /// Nothing that concerns a typist.
    Nothing,
}

const TOKEN: u64 = 2;
const SYNC_STATUS: u8 = 8;
const HOCUSPOCUS_PING: &[u8] = &[9];
const HOCUSPOCUS_PONG: &[u8] = &[10];
const Y_SWEET_SYNC_STATUS: u8 = 102;
/// The version that the provider tells, which decides what the server may send.
const PROVIDER_VERSION: &str = "4.8.0";

impl Dialect {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::YWebsocket => "y-websocket",
            Self::Quire => "quire",
            Self::Hocuspocus => "hocuspocus",
            Self::YSweet => "y-sweet",
        }
    }

    pub(super) const fn ack(self) -> Ack {
        match self {
            Self::YWebsocket | Self::Quire => Ack::Echo,
            Self::Hocuspocus => Ack::Each,
            Self::YSweet => Ack::Number,
        }
    }

    /// Appends what is sent as soon as the socket is open: who one is, and what one has.
    pub(super) fn put_greeting(self, out: &mut Vec<u8>, doc: &str, token: &str, state_vector: &[u8]) {
        if self == Self::Hocuspocus {
            let mut body = Vec::new();
            put_var_bytes(&mut body, doc.as_bytes());
            put_var_u64(&mut body, TOKEN);
            put_var_u64(&mut body, 0);
            put_var_bytes(&mut body, token.as_bytes());
            put_var_bytes(&mut body, PROVIDER_VERSION.as_bytes());
            wire::put_binary(out, &body);
        }
        self.put(out, doc, |out| wire::put_step1(out, state_vector));
    }

    /// Appends an edit; `number` counts the letters that it and those before it hold.
    pub(super) fn put_update(self, out: &mut Vec<u8>, doc: &str, update: &[u8], number: u64) {
        self.put(out, doc, |out| wire::put_update(out, update));
        self.put_number(out, number);
    }

    /// Appends the answer to [`Heard::Asked`].
    pub(super) fn put_answer(self, out: &mut Vec<u8>, doc: &str, update: &[u8], number: u64) {
        self.put(out, doc, |out| wire::put_step2(out, update));
        self.put_number(out, number);
    }

    /// Appends where somebody's cursor is.
    pub(super) fn put_cursor(self, out: &mut Vec<u8>, doc: &str, client: u32, clock: u32, state: &str) {
        self.put(out, doc, |out| wire::put_awareness(out, client, clock, state));
    }

    fn put_number(self, out: &mut Vec<u8>, number: u64) {
        if self == Self::YSweet {
            let (mut body, mut payload) = (vec![Y_SWEET_SYNC_STATUS], Vec::new());
            put_var_u64(&mut payload, number);
            put_var_bytes(&mut body, &payload);
            wire::put_binary(out, &body);
        }
    }

    /// Hocuspocus has the document's name before each message.
    fn put(self, out: &mut Vec<u8>, doc: &str, put: impl FnOnce(&mut Vec<u8>)) {
        if self != Self::Hocuspocus {
            return put(out);
        }
        let mut frame = Vec::new();
        put(&mut frame);
        let mut body = Vec::new();
        put_var_bytes(&mut body, doc.as_bytes());
        body.extend_from_slice(wire::own_body(&frame));
        wire::put_binary(out, &body);
    }

    /// Reads a frame; what is to be answered at once is appended to `out`.
    pub(super) fn hear<'a>(self, body: &'a [u8], out: &mut Vec<u8>) -> Result<Heard<'a>, Malformed> {
        let message = match self {
            Self::YWebsocket | Self::Quire => body,
            Self::YSweet if body.first() == Some(&Y_SWEET_SYNC_STATUS) => {
                let payload = Cursor::new(&body[1..]).var_bytes()?;
                return Ok(Heard::SavedTo(Cursor::new(payload).var_u64()?));
            }
            Self::YSweet => body,
            Self::Hocuspocus if body == HOCUSPOCUS_PING => {
                wire::put_binary(out, HOCUSPOCUS_PONG);
                return Ok(Heard::Nothing);
            }
            Self::Hocuspocus => {
                let mut cursor = Cursor::new(body);
                cursor.var_bytes()?;
                return hocuspocus(cursor.rest());
            }
        };
        Ok(heard(wire::message(message)?))
    }
}

const fn heard(message: Message<'_>) -> Heard<'_> {
    match message {
        Message::Step1(state_vector) => Heard::Asked(state_vector),
        Message::Step2(update) => Heard::State(update),
        Message::Update(update) => Heard::Update(update),
        Message::Denied(reason) => Heard::Denied(reason),
        Message::Awareness(_) | Message::Other(_) => Heard::Nothing,
    }
}

/// A message behind its document's name. Its kinds are y-protocols', but for that of authentication.
fn hocuspocus(message: &[u8]) -> Result<Heard<'_>, Malformed> {
    let mut cursor = Cursor::new(message);
    Ok(match cursor.u8()? {
        0 | 1 => heard(wire::message(message)?),
        // 0 asks for a token, which was sent; 1 refuses; 2 lets in.
        2 if cursor.u8()? == 1 => Heard::Denied(cursor.var_bytes()?),
        SYNC_STATUS if cursor.u8()? == 1 => Heard::Saved,
        SYNC_STATUS => Heard::Denied(b"an update was not taken: the session is read-only"),
        _ => Heard::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Dialect; 4] = [Dialect::YWebsocket, Dialect::Quire, Dialect::Hocuspocus, Dialect::YSweet];

    #[test]
    fn hocuspocus_has_the_name_before_each_message() {
        let mut out = Vec::new();
        Dialect::Hocuspocus.put_update(&mut out, "d", &[0, 0], 1);
        assert_eq!(wire::own_body(&out), [1, b'd', 0, 2, 2, 0, 0]);
        let mut answer = Vec::new();
        let heard = |body: &'static [u8], answer: &mut Vec<u8>| Dialect::Hocuspocus.hear(body, answer);
        assert_eq!(heard(&[1, b'd', 0, 2, 2, 0, 0], &mut answer), Ok(Heard::Update(&[0, 0])));
        assert_eq!(heard(&[1, b'd', 8, 1], &mut answer), Ok(Heard::Saved));
        assert_eq!(heard(&[1, b'd', 2, 1, 2, b'n', b'o'], &mut answer), Ok(Heard::Denied(b"no")));
        assert_eq!(heard(&[1, b'd', 2, 2, 0], &mut answer), Ok(Heard::Nothing));
        assert!(answer.is_empty());
        assert_eq!(heard(&[9], &mut answer), Ok(Heard::Nothing));
        assert_eq!(wire::own_body(&answer), [10]);
    }

    #[test]
    fn y_sweet_is_asked_after_each_update_and_answers_with_the_number() {
        let (mut out, mut asked) = (Vec::new(), Vec::new());
        Dialect::YSweet.put_update(&mut out, "d", &[0, 0], 300);
        wire::put_binary(&mut asked, &[102, 2, 0xac, 2]);
        assert!(out.ends_with(&asked));
        assert_eq!(Dialect::YSweet.hear(&[102, 2, 0xac, 2], &mut Vec::new()), Ok(Heard::SavedTo(300)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            for dialect in ALL {
                let _ = dialect.hear(&bytes, &mut Vec::new());
            }
        }
    }
}
