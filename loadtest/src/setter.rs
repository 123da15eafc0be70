//! A setter: the valid Yjs updates of one client that sets the keys of a root map in turn.
//!
//! Updates are written by hand, as those of a [`crate::typist::Typist`]. Each sets one key, in place of what this
//! client last set there.

use quire_protocol::lib0::{put_var_bytes, put_var_u64};

/// Keys that a setter sets, one after the other.
pub const KEYS: u32 = 10;

const CONTENT_BINARY: u8 = 3;
const HAS_ORIGIN: u8 = 0x80;
const HAS_KEY: u8 = 0x20;
const PARENT_IS_ROOT: u64 = 1;
const VALUE_BYTES: usize = 20;

/// One client setting keys that nobody else sets.
#[derive(Clone, Debug)]
pub struct Setter {
    client: u32,
    root: &'static str,
    clock: u32,
}

impl Setter {
    /// Sets keys of this root map.
    #[must_use]
    pub const fn new(client: u32, root: &'static str) -> Self {
        Self { client, root, clock: 0 }
    }

    /// How many keys have been set.
    #[must_use]
    pub const fn set(&self) -> u32 {
        self.clock
    }

    /// Appends the update of the next key.
    pub fn put_next(&mut self, out: &mut Vec<u8>) {
        let (client, clock) = (u64::from(self.client), self.clock);
        let replaced = clock.checked_sub(KEYS);
        out.extend_from_slice(&[1, 1]);
        put_var_u64(out, client);
        put_var_u64(out, clock.into());
        match replaced {
            Some(replaced) => {
                out.push(CONTENT_BINARY | HAS_ORIGIN);
                put_var_u64(out, client);
                put_var_u64(out, replaced.into());
            }
            None => {
                out.push(CONTENT_BINARY | HAS_KEY);
                put_var_u64(out, PARENT_IS_ROOT);
                put_var_bytes(out, self.root.as_bytes());
                put_var_bytes(out, format!("key{clock}").as_bytes());
            }
        }
        let mut value = [0; VALUE_BYTES];
        value[..4].copy_from_slice(&clock.to_le_bytes());
        put_var_bytes(out, &value);
        match replaced {
            Some(replaced) => {
                out.push(1);
                put_var_u64(out, client);
                out.push(1);
                put_var_u64(out, replaced.into());
                out.push(1);
            }
            None => out.push(0),
        }
        self.clock += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yrs::updates::decoder::Decode;
    use yrs::{Any, Doc, Map, Out, Transact, Update};

    #[test]
    fn each_key_holds_what_was_last_set() {
        let doc = Doc::new();
        let mut setter = Setter::new(7, "fields");
        for _ in 0..25 {
            let mut update = Vec::new();
            setter.put_next(&mut update);
            doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
        }
        let root = doc.get_or_insert_map("fields");
        let txn = doc.transact();
        for key in 0..KEYS {
            let last = if key < 5 { 20 + key } else { 10 + key };
            match root.get(&txn, &format!("key{key}")) {
                Some(Out::Any(Any::Buffer(value))) => assert_eq!(value[..4], last.to_le_bytes()),
                other => panic!("{other:?}"),
            }
        }
    }
}
