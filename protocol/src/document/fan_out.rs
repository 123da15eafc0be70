//! Writes one message for many sessions: the same bytes for all that share a dialect and an address.

use bytes::Bytes;

use super::session::Dialect;
use crate::hocuspocus::Address;
use crate::ysync::Reply;

/// The frames of one message: made once for each dialect and address that needs it.
#[derive(Debug, Default)]
pub(super) struct Frames {
    plain: Option<Bytes>,
    addressed: Option<(Address, Bytes)>,
}

impl Frames {
    /// The frame for a session that speaks this dialect; `reply` is the same at every call.
    pub(super) fn frame(&mut self, dialect: &Dialect, reply: Reply<'_>) -> Bytes {
        match dialect {
            Dialect::YWebsocket => self.plain.get_or_insert_with(|| put(None, reply)).clone(),
            Dialect::Hocuspocus(address) => match &self.addressed {
                Some((known, frame)) if known == address => frame.clone(),
                _ => {
                    let frame = put(Some(address), reply);
                    self.addressed = Some((address.clone(), frame.clone()));
                    frame
                }
            },
        }
    }
}

/// The whole state as the answer to a joiner: a thousand joiners share one frame.
#[derive(Debug, Default)]
pub(super) struct Welcome {
    state: Bytes,
    frames: Frames,
}

impl Welcome {
    /// The frame for a joiner that has nothing.
    pub(super) fn frame(&mut self, dialect: &Dialect, state: &Bytes) -> Bytes {
        // The same memory is the same state; comparing the bytes would cost what sharing saves.
        if self.state.as_ptr() != state.as_ptr() || self.state.len() != state.len() {
            *self = Self { state: state.clone(), frames: Frames::default() };
        }
        self.frames.frame(dialect, Reply::SyncStep2(state))
    }
}

/// Frames one message for one session.
pub(super) fn framed(dialect: &Dialect, reply: Reply<'_>) -> Bytes {
    Frames::default().frame(dialect, reply)
}

fn put(address: Option<&Address>, reply: Reply<'_>) -> Bytes {
    let mut out = Vec::with_capacity(reply.size_hint() + address.map_or(0, |a| a.as_str().len() + 2));
    if let Some(address) = address {
        address.put(&mut out);
    }
    reply.put(&mut out);
    out.into()
}
