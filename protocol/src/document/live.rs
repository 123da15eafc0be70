//! A `yrs` document that gives its memory back.
//!
//! In `yrs` the item of a subdocument holds the document that it stands in, which holds the item: such
//! a document outlives its last user, with everything in it. Emptying it first breaks the circle.
//!
//! Never gives `yrs` what the strict decoder has not accepted: an update comes here admitted.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, ReadTxn, Transact};

use crate::lib0::put_var_u64;

/// A document that never acts on its own: no random ids, and no clean-up that the log knows nothing of.
pub struct Live(Doc);

impl Live {
    /// An empty document of this client.
    #[must_use]
    pub fn new(client: u64) -> Self {
        Self(Doc::with_options(Options {
            client_id: ClientID::new(client),
            guid: "".into(),
            collection_id: None,
            offset_kind: OffsetKind::Utf16,
            skip_gc: false,
            auto_load: false,
            should_load: false,
            cleanup_formatting: false,
        }))
    }

    /// Deletes everything if there is a subdocument: what is deleted is collected at once.
    fn empty(&self) {
        let Ok(txn) = self.0.try_transact() else { return };
        if txn.subdocs().next().is_none() {
            return;
        }
        let everything = deletion_of(&txn.state_vector());
        drop(txn);
        let Ok(mut txn) = self.0.try_transact_mut() else { return };
        if let Ok(update) = yrs::Update::decode_v1(&everything) {
            // Where it fails, the document stays in memory, and nothing else depends on it.
            let _emptied = txn.apply_update(update);
        }
    }
}

impl Deref for Live {
    type Target = Doc;

    fn deref(&self) -> &Doc {
        &self.0
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A document that was given up because `yrs` failed on it may well make it fail again.
        let _emptied = catch_unwind(AssertUnwindSafe(|| self.empty()));
    }
}

/// An update without blocks that deletes all that a state vector names.
fn deletion_of(all: &yrs::StateVector) -> Vec<u8> {
    let mut update = vec![0];
    put_var_u64(&mut update, all.len() as u64);
    for (client, clock) in all.iter() {
        put_var_u64(&mut update, client.get());
        for value in [1, 0, u64::from(*clock)] {
            put_var_u64(&mut update, value);
        }
    }
    update
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use yrs::{Array, Map, MapPrelim, Text};

    /// A document with text and subdocuments at some depth, one of which is deleted again.
    fn folder() -> Live {
        let live = Live::new(7);
        let (text, list, map) =
            (live.get_or_insert_text("a"), live.get_or_insert_array("b"), live.get_or_insert_map("c"));
        let mut txn = live.transact_mut();
        text.insert(&mut txn, 0, "text");
        list.insert(&mut txn, 0, Doc::new());
        list.insert(&mut txn, 1, Doc::new());
        list.remove(&mut txn, 0);
        let inner = map.insert(&mut txn, "inner", MapPrelim::default());
        inner.insert(&mut txn, "replaced", Doc::new());
        inner.insert(&mut txn, "replaced", Doc::new());
        drop(txn);
        live
    }

    #[test]
    fn a_document_with_subdocuments_is_freed() {
        for read in [false, true] {
            let live = if read {
                let state = folder().transact().encode_state_as_update_v1(&yrs::StateVector::default());
                let live = Live::new(8);
                live.transact_mut().apply_update(yrs::Update::decode_v1(&state).unwrap()).unwrap();
                live
            } else {
                folder()
            };
            assert_eq!(live.transact().subdocs().count(), 2);
            // What the document holds is freed with it.
            let held = Arc::new(());
            let holder = held.clone();
            live.observe_update_v1("holds", move |_, _| drop(holder.clone())).unwrap();
            assert_eq!(Arc::strong_count(&held), 2);
            drop(live);
            assert_eq!(Arc::strong_count(&held), 1, "the document is still in memory (read: {read})");
        }
    }
}
