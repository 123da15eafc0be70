//! Writes updates by hand, well-formed or not.

use bytes::Bytes;
use quire_protocol::lib0::{put_var_bytes, put_var_u64};

pub(crate) const LEFT: u8 = 0x80;
pub(crate) const RIGHT: u8 = 0x40;
pub(crate) const KEYED: u8 = 0x20;

pub(crate) const DELETED: u8 = 1;
pub(crate) const STRING: u8 = 4;
pub(crate) const EMBED: u8 = 5;
pub(crate) const TYPE: u8 = 7;
pub(crate) const ANY: u8 = 8;
pub(crate) const DOC: u8 = 9;
pub(crate) const SKIP: u8 = 10;

pub(crate) const MAP: u64 = 1;

/// Bytes that are written value by value.
#[derive(Clone, Default)]
pub(crate) struct Wire(pub(crate) Vec<u8>);

impl Wire {
    pub(crate) fn u(mut self, value: u64) -> Self {
        put_var_u64(&mut self.0, value);
        self
    }

    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        put_var_bytes(&mut self.0, text.as_bytes());
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn id(self, (client, clock): (u64, u64)) -> Self {
        self.u(client).u(clock)
    }
}

pub(crate) fn wire() -> Wire {
    Wire::default()
}

/// Text in a root type.
pub(crate) fn text_in(root: &str, text: &str) -> Wire {
    wire().byte(STRING).u(1).text(root).text(text)
}

/// Text after an item.
pub(crate) fn text_after(left: (u64, u64), text: &str) -> Wire {
    wire().byte(STRING | LEFT).id(left).text(text)
}

/// Text between two items.
pub(crate) fn text_between(left: (u64, u64), right: (u64, u64), text: &str) -> Wire {
    wire().byte(STRING | LEFT | RIGHT).id(left).id(right).text(text)
}

/// A map under a key of another map.
pub(crate) fn map_in(parent: (u64, u64), key: &str) -> Wire {
    wire().byte(TYPE | KEYED).u(0).id(parent).text(key).u(MAP)
}

/// A null under a key of a root map.
pub(crate) fn entry_in(root: &str, key: &str) -> Wire {
    wire().byte(ANY | KEYED).u(1).text(root).text(key).u(1).byte(126)
}

pub(crate) fn gc(len: u64) -> Wire {
    wire().byte(0).u(len)
}

pub(crate) fn skip(len: u64) -> Wire {
    wire().byte(SKIP).u(len)
}

/// An update: per client its first clock and its blocks, then deleted ranges as (client, clock, length).
pub(crate) fn update(sections: &[(u64, u64, &[Wire])], deletes: &[(u64, u64, u64)]) -> Bytes {
    let mut out = wire().u(sections.len() as u64);
    for (client, clock, blocks) in sections {
        out = out.u(blocks.len() as u64).u(*client).u(*clock);
        for block in *blocks {
            out = out.raw(&block.0);
        }
    }
    out = out.u(deletes.len() as u64);
    for (client, clock, len) in deletes {
        out = out.u(*client).u(1).u(*clock).u(*len);
    }
    out.0.into()
}
