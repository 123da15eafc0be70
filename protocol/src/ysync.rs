//! The y-protocols messages: sync, awareness and auth, one message to a frame.
//!
//! Parses what an editor may send and writes what a server may send. It looks at the envelope only:
//! updates, state vectors and awareness states are checked by their own modules.

use bytes::Bytes;

use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;

const STEP1: u64 = 0;
const STEP2: u64 = 1;
const UPDATE: u64 = 2;

const PERMISSION_DENIED: u64 = 0;

/// What an editor says about one document, in either dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "This is what I have": a state vector. Asks for the rest.
    SyncStep1(Bytes),
    /// The answer to a [`Message::SyncStep1`] of ours: an update.
    SyncStep2(Bytes),
    /// An update the editor has just made.
    Update(Bytes),
    /// An awareness update.
    Awareness(Bytes),
    /// Asks for everybody's awareness.
    QueryAwareness,
}

impl Message {
    /// How many bytes the message holds beside its type.
    #[must_use]
    pub const fn body_len(&self) -> usize {
        match self {
            Self::SyncStep1(body) | Self::SyncStep2(body) | Self::Update(body) | Self::Awareness(body) => {
                body.len()
            }
            Self::QueryAwareness => 0,
        }
    }
}

/// Why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes are not what the message's type promises.
    #[error("the frame is malformed: {0}")]
    Malformed(#[from] ReadError),
    /// A message type no editor sends.
    #[error("message type {0} is unknown")]
    UnknownType(u64),
    /// A sync message of an unknown kind.
    #[error("sync message kind {0} is unknown")]
    UnknownSync(u64),
}

/// Parses one y-websocket frame.
///
/// # Errors
/// When the frame is not exactly one message that an editor may send.
pub fn parse(frame: Bytes) -> Result<Message, FrameError> {
    let mut reader = Reader::new(frame);
    let message = match reader.var_u64()? {
        SYNC => parse_sync(&mut reader)?,
        AWARENESS => Message::Awareness(reader.var_bytes()?),
        QUERY_AWARENESS => Message::QueryAwareness,
        other => return Err(FrameError::UnknownType(other)),
    };
    reader.finish()?;
    Ok(message)
}

/// Reads the body of a sync message: its kind and its one byte string.
///
/// # Errors
/// When the kind is unknown or the bytes end early.
pub fn parse_sync(reader: &mut Reader) -> Result<Message, FrameError> {
    match reader.var_u64()? {
        STEP1 => Ok(Message::SyncStep1(reader.var_bytes()?)),
        STEP2 => Ok(Message::SyncStep2(reader.var_bytes()?)),
        UPDATE => Ok(Message::Update(reader.var_bytes()?)),
        other => Err(FrameError::UnknownSync(other)),
    }
}

/// What the server says about one document; `put` writes it behind whatever address a dialect needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Asks for what the editor has beyond this state vector.
    SyncStep1(&'a [u8]),
    /// Answers the editor's state vector.
    SyncStep2(&'a [u8]),
    /// Something new.
    Update(&'a [u8]),
    /// An awareness update.
    Awareness(&'a [u8]),
}

/// The most bytes a reply's envelope takes beyond its content.
const ENVELOPE_BYTES_MAX: usize = 12;

impl Reply<'_> {
    /// How many bytes to reserve for the reply.
    #[must_use]
    pub const fn size_hint(&self) -> usize {
        let (Self::SyncStep1(body) | Self::SyncStep2(body) | Self::Update(body) | Self::Awareness(body)) =
            self;
        body.len() + ENVELOPE_BYTES_MAX
    }

    /// Appends the message.
    pub fn put(&self, out: &mut Vec<u8>) {
        let (kind, body) = match self {
            Self::SyncStep1(body) => (Some(STEP1), body),
            Self::SyncStep2(body) => (Some(STEP2), body),
            Self::Update(body) => (Some(UPDATE), body),
            Self::Awareness(body) => (None, body),
        };
        match kind {
            Some(kind) => {
                put_var_u64(out, SYNC);
                put_var_u64(out, kind);
            }
            None => put_var_u64(out, AWARENESS),
        }
        put_var_bytes(out, body);
    }
}

/// Appends y-protocols' "permission denied", which a y-websocket client prints to its console.
pub fn put_permission_denied(out: &mut Vec<u8>, reason: &str) {
    put_var_u64(out, AUTH);
    put_var_u64(out, PERMISSION_DENIED);
    put_var_bytes(out, reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn s1_an_update_is_read_as_it_is_written() {
        let mut frame = Vec::new();
        Reply::Update(b"abc").put(&mut frame);
        assert_eq!(frame, [0, 2, 3, b'a', b'b', b'c']);
        assert_eq!(parse(frame.into()), Ok(Message::Update(Bytes::from_static(b"abc"))));
    }

    #[test]
    fn s1_two_messages_in_one_frame_are_refused() {
        let frame = Bytes::from_static(&[3, 3]);
        assert_eq!(parse(frame), Err(FrameError::Malformed(ReadError::Trailing)));
    }

    #[test]
    fn s2_unknown_types_are_named() {
        assert_eq!(parse(Bytes::from_static(&[9])), Err(FrameError::UnknownType(9)));
        assert_eq!(parse(Bytes::from_static(&[0, 7, 0])), Err(FrameError::UnknownSync(7)));
        assert_eq!(parse(Bytes::new()), Err(FrameError::Malformed(ReadError::End)));
    }

    proptest! {
        #[test]
        fn s2_any_frame_is_read_or_refused(bytes: Vec<u8>) {
            let _: Result<Message, FrameError> = parse(bytes.into());
        }
    }
}
