//! Writes one message for many sessions: the same bytes for all that share a dialect and an address.

use bytes::Bytes;

use super::session::Dialect;
use crate::hocuspocus::Address;
use crate::ysync::Reply;

/// One message, framed once for each dialect and address that needs it.
pub(super) struct Framed<'a> {
    reply: Reply<'a>,
    plain: Option<Bytes>,
    addressed: Option<(Address, Bytes)>,
}

impl<'a> Framed<'a> {
    pub(super) const fn new(reply: Reply<'a>) -> Self {
        Self { reply, plain: None, addressed: None }
    }

    /// The frame for a session that speaks this dialect.
    pub(super) fn frame(&mut self, dialect: &Dialect) -> Bytes {
        match dialect {
            Dialect::YWebsocket => self.plain.get_or_insert_with(|| put(None, self.reply)).clone(),
            Dialect::Hocuspocus(address) => match &self.addressed {
                Some((known, frame)) if known == address => frame.clone(),
                _ => {
                    let frame = put(Some(address), self.reply);
                    self.addressed = Some((address.clone(), frame.clone()));
                    frame
                }
            },
        }
    }
}

/// Frames one message for one session.
pub(super) fn framed(dialect: &Dialect, reply: Reply<'_>) -> Bytes {
    Framed::new(reply).frame(dialect)
}

fn put(address: Option<&Address>, reply: Reply<'_>) -> Bytes {
    let mut out = Vec::with_capacity(reply.size_hint() + address.map_or(0, |a| a.as_str().len() + 2));
    if let Some(address) = address {
        address.put(&mut out);
    }
    reply.put(&mut out);
    out.into()
}
