//! The client's side of a WebSocket and of the y-websocket dialect, byte by byte.
//!
//! Frames are masked with a zero key, which the protocol allows and which makes masking free; a
//! browser's keys protect caches from scripts, and no cache or script is here. Frames a server sends
//! in pieces are refused: no Yjs server does it, and a generator that joined pieces would have to copy.

use crate::cursor::{Cursor, Malformed};
use quire_protocol::lib0::{put_var_bytes, put_var_u64};

/// The longest frame accepted from a server.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// The longest HTTP response head accepted while upgrading.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 16 << 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const OP_TEXT: u8 = 0x1;
const OP_BINARY: u8 = 0x2;
const OP_CLOSE: u8 = 0x8;
const OP_PING: u8 = 0x9;
const OP_PONG: u8 = 0xa;
const ZERO_KEY: [u8; 4] = [0; 4];

const SYNC: u8 = 0;
const AWARENESS: u8 = 1;
const AUTH: u8 = 2;
const STEP_1: u8 = 0;
const STEP_2: u8 = 1;
const UPDATE: u8 = 2;

/// Why a server's bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The answer to the upgrade is not 101.
    #[error("the server refused the upgrade: {0}")]
    Refused(String),
    /// The answer's head does not end.
    #[error("the head of the server's answer is longer than {RESPONSE_HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    /// A frame in pieces, with reserved bits, masked, or of an unknown kind.
    #[error("a server's frame starts with {0:#04x} {1:#04x}")]
    Frame(u8, u8),
    /// A frame longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes")]
    FrameTooLong(u64),
    /// A message that ends early.
    #[error("a message: {0}")]
    Message(#[from] Malformed),
}

/// One WebSocket frame from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of the dialect.
    Binary(&'a [u8]),
    /// Text, which no Yjs server sends.
    Text(&'a [u8]),
    /// To be answered by a pong with the same bytes.
    Ping(&'a [u8]),
    /// An answer to a ping.
    Pong,
    /// The end, with the code if one was sent, and the reason.
    Close(Option<u16>, &'a [u8]),
}

/// One message of y-protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// "Here is what I have": a state vector.
    Step1(&'a [u8]),
    /// "Here is what you lack": an update.
    Step2(&'a [u8]),
    /// An edit.
    Update(&'a [u8]),
    /// Who is here.
    Awareness(&'a [u8]),
    /// The server refuses the session; the reason.
    Denied(&'a [u8]),
    /// Any other kind.
    Other(u8),
}

/// The HTTP request that opens a WebSocket to a path.
#[must_use]
pub fn upgrade_request(path: &str) -> Vec<u8> {
    // The server proves with the key that it speaks WebSocket; whoever points a load test at
    // something else learns it from the first frame, so one key does for all.
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// The length of a complete answer to an upgrade, or `None` while its head is incomplete.
///
/// # Errors
/// When the status is not 101 or the head is too long.
pub fn upgrade_answer(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        let too_long = bytes.len() > RESPONSE_HEAD_BYTES_MAX;
        return if too_long { Err(WireError::HeadTooLong) } else { Ok(None) };
    };
    if bytes.starts_with(b"HTTP/1.1 101") {
        return Ok(Some(end + 4));
    }
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    Err(WireError::Refused(String::from_utf8_lossy(line).into_owned()))
}

/// The first frame of some bytes and its length with its head, or `None` while it is incomplete.
///
/// # Errors
/// When no server following the protocol would send it.
pub fn next_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let (len, head) = match second {
        0..126 => (u64::from(second), 2),
        126 => match bytes.get(2..4) {
            Some(len) => (u64::from(u16::from_be_bytes([len[0], len[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|len| <[u8; 8]>::try_from(len).ok()) {
            Some(len) => (u64::from_be_bytes(len), 10),
            None => return Ok(None),
        },
        _ => return Err(WireError::Frame(first, second)),
    };
    let body_len = usize::try_from(len).ok().filter(|&len| len <= FRAME_BYTES_MAX);
    let body_len = body_len.ok_or(WireError::FrameTooLong(len))?;
    let Some(body) = bytes.get(head..head + body_len) else { return Ok(None) };
    let frame = match first ^ FIN {
        OP_BINARY => Frame::Binary(body),
        OP_TEXT => Frame::Text(body),
        OP_PING => Frame::Ping(body),
        OP_PONG => Frame::Pong,
        OP_CLOSE => match body {
            [high, low, reason @ ..] => Frame::Close(Some(u16::from_be_bytes([*high, *low])), reason),
            _ => Frame::Close(None, &[]),
        },
        _ => return Err(WireError::Frame(first, second)),
    };
    Ok(Some((frame, head + body_len)))
}

/// Reads a message: the first in its frame, as stock clients do.
///
/// # Errors
/// When the bytes end early.
pub fn message(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let kind = cursor.u8()?;
    Ok(match kind {
        SYNC => match cursor.u8()? {
            STEP_1 => Message::Step1(cursor.var_bytes()?),
            STEP_2 => Message::Step2(cursor.var_bytes()?),
            UPDATE => Message::Update(cursor.var_bytes()?),
            _ => return Err(Malformed),
        },
        AWARENESS => Message::Awareness(cursor.var_bytes()?),
        AUTH if cursor.u8()? == 0 => Message::Denied(cursor.var_bytes()?),
        other => Message::Other(other),
    })
}

/// Appends a frame that asks for everything the sender of `state_vector` lacks.
pub fn put_step1(out: &mut Vec<u8>, state_vector: &[u8]) {
    put_sync(out, STEP_1, state_vector);
}

/// Appends a frame that answers a step 1.
pub fn put_step2(out: &mut Vec<u8>, update: &[u8]) {
    put_sync(out, STEP_2, update);
}

/// Appends a frame with one edit.
pub fn put_update(out: &mut Vec<u8>, update: &[u8]) {
    put_sync(out, UPDATE, update);
}

/// Appends a frame of awareness that names nobody.
pub fn put_empty_awareness(out: &mut Vec<u8>) {
    put_head(out, OP_BINARY, 3);
    out.extend_from_slice(&[AWARENESS, 1, 0]);
}

/// Appends a frame with any message.
pub fn put_binary(out: &mut Vec<u8>, body: &[u8]) {
    put_head(out, OP_BINARY, body.len());
    out.extend_from_slice(body);
}

/// Appends a frame of awareness: what one client says of itself, as JSON.
pub fn put_awareness(out: &mut Vec<u8>, client: u32, clock: u32, state: &str) {
    let mut body = Vec::with_capacity(state.len() + 16);
    put_var_u64(&mut body, 1);
    put_var_u64(&mut body, client.into());
    put_var_u64(&mut body, clock.into());
    put_var_bytes(&mut body, state.as_bytes());
    put_head(out, OP_BINARY, 1 + var_len(body.len()) + body.len());
    out.push(AWARENESS);
    put_var_bytes(out, &body);
}

/// The message of a frame that this module wrote, one alone.
#[must_use]
pub fn own_body(frame: &[u8]) -> &[u8] {
    let head = match frame.get(1).map(|len| len & !MASKED) {
        Some(126) => 8,
        Some(127) => 14,
        _ => 6,
    };
    frame.get(head..).unwrap_or_default()
}

/// Appends the answer to a ping.
pub fn put_pong(out: &mut Vec<u8>, body: &[u8]) {
    put_head(out, OP_PONG, body.len());
    out.extend_from_slice(body);
}

/// Appends the close frame of a tab that is closed.
pub fn put_going_away(out: &mut Vec<u8>) {
    put_head(out, OP_CLOSE, 2);
    out.extend_from_slice(&1001_u16.to_be_bytes());
}

fn put_sync(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    put_head(out, OP_BINARY, 2 + var_len(body.len()) + body.len());
    out.extend_from_slice(&[SYNC, kind]);
    put_var_bytes(out, body);
}

fn put_head(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(FIN | opcode);
    if let Ok(short) = u8::try_from(len)
        && short < 126
    {
        out.push(MASKED | short);
    } else if let Ok(medium) = u16::try_from(len) {
        out.push(MASKED | 126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(MASKED | 127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
    out.extend_from_slice(&ZERO_KEY);
}

const fn var_len(mut value: usize) -> usize {
    let mut len = 1;
    while value >= 0x80 {
        value >>= 7;
        len += 1;
    }
    len
}

/// Appends the state vector of someone who has nothing.
pub fn put_empty_state_vector(out: &mut Vec<u8>) {
    put_var_u64(out, 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server's frame around a body: as ours, without the mask.
    fn unmasked(client_frame: &[u8]) -> Vec<u8> {
        let key_at = match client_frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let mut frame = client_frame[..key_at].to_vec();
        frame[1] &= 0x7f;
        frame.extend_from_slice(&client_frame[key_at + 4..]);
        frame
    }

    #[test]
    fn frames_of_every_length_class_are_read_back() {
        for len in [0, 1, 100, 121, 122, 125, 126, 127, 65_530, 65_536, 100_000] {
            let body = vec![7_u8; len];
            let mut frame = Vec::new();
            put_update(&mut frame, &body);
            let frame = unmasked(&frame);
            for cut in [0, 1, 2, 3, frame.len() - 1] {
                assert_eq!(next_frame(&frame[..cut]), Ok(None), "{len} cut at {cut}");
            }
            let (read, taken) = next_frame(&frame).unwrap().unwrap();
            assert_eq!(taken, frame.len());
            let Frame::Binary(read) = read else { panic!("not binary") };
            assert_eq!(message(read), Ok(Message::Update(&body)));
        }
    }

    #[test]
    fn an_upgrade_is_answered_by_101_alone() {
        assert_eq!(upgrade_answer(b"HTTP/1.1 101 Switching"), Ok(None));
        assert_eq!(upgrade_answer(b"HTTP/1.1 101 Switching Protocols\r\na: b\r\n\r\n\x82"), Ok(Some(42)));
        let refused = upgrade_answer(b"HTTP/1.1 404 Not Found\r\n\r\n");
        assert_eq!(refused, Err(WireError::Refused("HTTP/1.1 404 Not Found".into())));
    }

    #[test]
    fn a_close_frame_tells_its_code_and_reason() {
        assert_eq!(next_frame(b"\x88\x04\x03\xf4no"), Ok(Some((Frame::Close(Some(1012), b"no"), 6))));
        assert_eq!(next_frame(b"\x88\x00"), Ok(Some((Frame::Close(None, b""), 2))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(Some((Frame::Binary(body), _))) = next_frame(&bytes) {
                let _ = message(body);
            }
            let _ = message(&bytes);
        }
    }
}
