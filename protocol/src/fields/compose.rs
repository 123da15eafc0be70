//! Writes of fields as a Yjs update, made as a Yjs client would make them.
//!
//! An update says what its writer saw: so a write that was made on an older value names that one, and Yjs puts
//! it where it would have put it had it come from an editor that was offline since.

use super::graph::Place;
use super::value::Value;
use super::walk::FIELDS_ROOT;
use crate::lib0::{put_var_bytes, put_var_u64};
use crate::update::{ClientId, ItemId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// The struct kinds and flags of Yjs' first encoding.
const DELETED: u8 = 1;
const TYPE: u8 = 7;
const ANY: u8 = 8;
const HAS_LEFT: u8 = 0x80;
const HAS_KEY: u8 = 0x20;
const PARENT_ITEM: u64 = 0;
const PARENT_ROOT: u64 = 1;
const MAP: u64 = 1;

/// What an item is to hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds<'a> {
    Value(&'a Value),
    /// An empty map.
    Map,
    /// Nothing: it is deleted at once.
    Nothing,
}

/// An update in the making.
#[derive(Debug, Default)]
pub(super) struct Composer {
    /// Per client, its first clock and its items' encodings.
    items: BTreeMap<ClientId, (u32, Vec<Vec<u8>>)>,
    deletes: BTreeMap<ClientId, BTreeSet<u32>>,
}

impl Composer {
    /// Sets a key, in place of what its writer saw there. Items of one client come in the order of their clocks.
    pub(super) fn set(&mut self, item: ItemId, place: &Place, origin: Option<ItemId>, holds: Holds<'_>) {
        let kind = match holds {
            Holds::Value(_) => ANY,
            Holds::Map => TYPE,
            Holds::Nothing => DELETED,
        };
        let mut out = Vec::new();
        match origin {
            Some(origin) => {
                out.push(kind | HAS_LEFT);
                put_item(&mut out, origin);
            }
            None => {
                out.push(kind | HAS_KEY);
                match place.0 {
                    Some(map) => {
                        put_var_u64(&mut out, PARENT_ITEM);
                        put_item(&mut out, map);
                    }
                    None => {
                        put_var_u64(&mut out, PARENT_ROOT);
                        put_var_bytes(&mut out, FIELDS_ROOT.as_bytes());
                    }
                }
                put_var_bytes(&mut out, place.1.as_bytes());
            }
        }
        match holds {
            Holds::Value(value) => {
                put_var_u64(&mut out, 1);
                value.encode(&mut out);
            }
            Holds::Map => put_var_u64(&mut out, MAP),
            Holds::Nothing => {
                put_var_u64(&mut out, 1);
                self.delete(item);
            }
        }
        let (_, items) = self.items.entry(item.client).or_insert((item.clock, Vec::new()));
        items.push(out);
    }

    /// Deletes an item.
    pub(super) fn delete(&mut self, item: ItemId) {
        self.deletes.entry(item.client).or_default().insert(item.clock);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.deletes.is_empty()
    }

    /// The update.
    pub(super) fn finish(self) -> Bytes {
        let mut out = Vec::new();
        put_var_u64(&mut out, self.items.len() as u64);
        for (client, (clock, items)) in self.items.iter().rev() {
            for value in [items.len() as u64, client.0.into(), u64::from(*clock)] {
                put_var_u64(&mut out, value);
            }
            items.iter().for_each(|item| out.extend_from_slice(item));
        }
        put_var_u64(&mut out, self.deletes.len() as u64);
        for (client, clocks) in self.deletes.iter().rev() {
            put_var_u64(&mut out, client.0.into());
            put_var_u64(&mut out, clocks.len() as u64);
            for &clock in clocks {
                put_var_u64(&mut out, clock.into());
                put_var_u64(&mut out, 1);
            }
        }
        out.into()
    }
}

fn put_item(out: &mut Vec<u8>, item: ItemId) {
    put_var_u64(out, item.client.0.into());
    put_var_u64(out, item.clock.into());
}
