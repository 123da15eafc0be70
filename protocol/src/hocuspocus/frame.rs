//! One Hocuspocus frame: the document's address, the message type, the body.
//!
//! Never looks inside an update, a token or an awareness state.

use bytes::Bytes;

use crate::document::Access;
use crate::ids::{DOC_NAME_BYTES_MAX, DocName};
use crate::lib0::{ReadError, Reader, Text, put_var_bytes, put_var_u64};
use crate::ysync::{self, Message};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const SYNC_REPLY: u64 = 4;
const STATELESS: u64 = 5;
const CLOSE: u64 = 7;
const SYNC_STATUS: u64 = 8;

const TOKEN: u64 = 0;
const PERMISSION_DENIED: u64 = 1;
const AUTHENTICATED: u64 = 2;

/// A whole frame of this one byte asks whether the other side is there; the other answers.
const PING: &[u8] = &[9];
const PONG: &[u8] = &[10];

/// The longest session id a provider may append to a document's name.
const SESSION_ID_BYTES_MAX: usize = 64;
/// The longest token, in bytes.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What a frame is addressed to: a document's name, and behind a NUL the provider's session id where
/// several providers on one socket open the same document. Replies carry the same text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    text: String,
    name: DocName,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// When the name is not valid or the session id is too long.
    pub fn new(text: &str) -> Result<Self, FrameError> {
        let (name, session) = text.split_once('\0').unwrap_or((text, ""));
        if session.len() > SESSION_ID_BYTES_MAX {
            return Err(FrameError::Address);
        }
        let name = DocName::new(name).map_err(|_| FrameError::Address)?;
        Ok(Self { text: text.to_owned(), name })
    }

    /// The document.
    #[must_use]
    pub const fn name(&self) -> &DocName {
        &self.name
    }

    /// The text that replies carry.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Starts a frame to this address.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_var_bytes(out, self.text.as_bytes());
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// "Are you there?"
    Ping,
    /// The answer to a ping.
    Pong,
    /// A message about one document.
    Document(Address, Body),
}

/// What a client says about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Sync or awareness.
    Message(Message),
    /// A token, first or renewed.
    Token(Text),
    /// An application's own message, for which this server has no use.
    Stateless,
    /// The provider lets go of the document.
    Close,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The address is not a document's name.
    #[error("the frame's address is not a valid document name")]
    Address,
    /// The token is longer than any real one.
    #[error("the token has more than {TOKEN_BYTES_MAX} bytes")]
    TokenTooLong,
    /// The message within is not one.
    #[error("{0}")]
    Message(#[from] ysync::FrameError),
}

impl From<ReadError> for FrameError {
    fn from(error: ReadError) -> Self {
        Self::Message(error.into())
    }
}

/// Reads one frame.
///
/// # Errors
/// When the bytes are not exactly one frame that a client may send.
pub fn read(bytes: Bytes) -> Result<Frame, FrameError> {
    match bytes.as_ref() {
        PING => return Ok(Frame::Ping),
        PONG => return Ok(Frame::Pong),
        _ => {}
    }
    let mut reader = Reader::new(bytes);
    let text = reader.var_str()?;
    if text.as_str().len() > DOC_NAME_BYTES_MAX + 1 + SESSION_ID_BYTES_MAX {
        return Err(FrameError::Address);
    }
    let address = Address::new(text.as_str())?;
    let body = match reader.var_u64()? {
        SYNC | SYNC_REPLY => Body::Message(ysync::parse_sync(&mut reader)?),
        AWARENESS => Body::Message(Message::Awareness(reader.var_bytes()?)),
        QUERY_AWARENESS => Body::Message(Message::QueryAwareness),
        AUTH => read_token(&mut reader)?,
        STATELESS => {
            reader.var_str()?;
            Body::Stateless
        }
        CLOSE => Body::Close,
        other => return Err(ysync::FrameError::UnknownType(other).into()),
    };
    reader.finish()?;
    Ok(Frame::Document(address, body))
}

fn read_token(reader: &mut Reader) -> Result<Body, FrameError> {
    let kind = reader.var_u64()?;
    if kind != TOKEN {
        return Err(ysync::FrameError::UnknownSync(kind).into());
    }
    let token = reader.var_str()?;
    if token.as_str().len() > TOKEN_BYTES_MAX {
        return Err(FrameError::TokenTooLong);
    }
    // Providers since version 4 append theirs; nothing here depends on it.
    if reader.remaining() > 0 {
        reader.var_str()?;
    }
    Ok(Body::Token(token))
}

/// The answer to a ping.
pub(super) const fn pong() -> Bytes {
    Bytes::from_static(PONG)
}

/// "Your token is good", with what it allows.
pub(super) fn authenticated(address: &Address, access: Access) -> Bytes {
    let scope = match access {
        Access::Write => "read-write",
        Access::Read => "readonly",
    };
    auth(address, AUTHENTICATED, scope)
}

/// "Your token is not good", with why.
pub(super) fn permission_denied(address: &Address, reason: &str) -> Bytes {
    auth(address, PERMISSION_DENIED, reason)
}

fn auth(address: &Address, kind: u64, text: &str) -> Bytes {
    let mut out = Vec::new();
    address.put(&mut out);
    put_var_u64(&mut out, AUTH);
    put_var_u64(&mut out, kind);
    put_var_bytes(&mut out, text.as_bytes());
    out.into()
}

/// "This document is closed to you", with why.
pub(super) fn close(address: &Address, reason: &str) -> Bytes {
    let mut out = Vec::new();
    address.put(&mut out);
    put_var_u64(&mut out, CLOSE);
    put_var_bytes(&mut out, reason.as_bytes());
    out.into()
}

/// Appends the answer to one update: saved, or refused. The address stands before it already.
pub fn put_sync_status(out: &mut Vec<u8>, saved: bool) {
    put_var_u64(out, SYNC_STATUS);
    put_var_u64(out, u64::from(saved));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(name: &str, rest: &[u8]) -> Bytes {
        let mut out = Vec::new();
        put_var_bytes(&mut out, name.as_bytes());
        out.extend_from_slice(rest);
        out.into()
    }

    #[test]
    fn h1_tokens_of_both_provider_generations_are_read() {
        for tail in [&b""[..], b"\x054.8.0"] {
            let body = [&[2, 0, 3][..], b"abc", tail].concat();
            let Ok(Frame::Document(address, Body::Token(token))) = read(frame("notes", &body)) else {
                panic!("not a token frame")
            };
            assert_eq!((address.as_str(), token.as_str()), ("notes", "abc"));
        }
    }

    #[test]
    fn h2_an_address_may_carry_a_session_id() {
        let Ok(Frame::Document(address, Body::Close)) = read(frame("a/b\0x1", &[7])) else {
            panic!("no close")
        };
        assert_eq!((address.name().as_str(), address.as_str()), ("a/b", "a/b\0x1"));
    }

    #[test]
    fn h3_a_broadcast_that_only_servers_send_is_refused() {
        let refused = Err(FrameError::Message(ysync::FrameError::UnknownType(6)));
        assert_eq!(read(frame("a", &[6, 0])), refused);
    }

    proptest! {
        #[test]
        fn h3_any_frame_is_read_or_refused(bytes: Vec<u8>) {
            let _: Result<Frame, FrameError> = read(bytes.into());
        }
    }
}
