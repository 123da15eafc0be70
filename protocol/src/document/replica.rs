//! What is committed of one document: its encoded state, and a live `yrs` document when one is needed.
//!
//! Most documents are only ever typed in and read from the start, for which bytes are enough; the live
//! document is built when somebody asks for a difference or a text, or when the bytes pile up. Updates
//! come here after their commit, so whoever reads here reads what is on disk.
//!
//! Invariant: `encoded` (or else the live document) plus `waiting` is everything committed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, Text, Transact};

use super::event::Splice;
use super::live::Live;
use crate::update::StateVector;

/// An update without blocks and deletions: the state of an empty document.
pub(super) const EMPTY_UPDATE: &[u8] = &[0, 0];
/// So many updates may wait before they are applied to the live document in one transaction.
const WAITING_MAX: usize = 64;
/// So many bytes may.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// The live document failed on what the log holds. It says nothing about the log, which stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the live document could not be built: {0}")]
pub(super) struct Broken(String);

/// One document's committed content.
pub(super) struct Replica {
    encoded: Option<Bytes>,
    live: Option<Live>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Replica {
    /// Starts from an encoded state.
    pub(super) const fn new(state: Bytes) -> Self {
        Self { encoded: Some(state), live: None, waiting: Vec::new(), waiting_bytes: 0 }
    }

    /// Takes a committed update.
    pub(super) fn push(&mut self, update: Bytes) -> Result<(), Broken> {
        self.waiting_bytes += update.len();
        self.waiting.push(update);
        if self.live.is_some() {
            self.encoded = None;
        }
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX {
            self.live()?;
        }
        Ok(())
    }

    /// The whole state, encoded once for all who ask until something is committed.
    pub(super) fn state(&mut self) -> Result<Bytes, Broken> {
        if self.waiting.is_empty()
            && let Some(encoded) = &self.encoded
        {
            return Ok(encoded.clone());
        }
        let live = self.live()?;
        let state: Bytes =
            guarded(|| Ok(live.transact().encode_state_as_update_v1(&yrs::StateVector::default())))?.into();
        self.encoded = Some(state.clone());
        Ok(state)
    }

    /// What a state vector lacks, with every deletion.
    pub(super) fn diff(&mut self, from: &StateVector) -> Result<Bytes, Broken> {
        if from.is_empty() {
            return self.state();
        }
        let from = from.iter().map(|(client, clock)| (ClientID::new(u64::from(client.0)), clock)).collect();
        let live = self.live()?;
        Ok(guarded(|| Ok(live.transact().encode_state_as_update_v1(&from)))?.into())
    }

    /// One root text; `None` where there is none.
    pub(super) fn text(&mut self, root: &str) -> Result<Option<String>, Broken> {
        let live = self.live()?;
        guarded(|| {
            let txn = live.transact();
            Ok(txn.get_text(root).map(|text| text.get_string(&txn)))
        })
    }

    /// The update that these changes of a root text make, without applying them here.
    pub(super) fn splice(&mut self, root: &str, splices: &[Splice], client: u32) -> Result<Bytes, Broken> {
        let state = self.state()?;
        guarded(|| {
            let fork = Live::new(u64::from(client));
            let text = fork.get_or_insert_text(root);
            apply(&fork, &[state])?;
            let before = fork.transact().state_vector();
            let mut txn = fork.transact_mut();
            for splice in splices {
                let at = splice.at.min(text.len(&txn));
                let delete = splice.delete.min(text.len(&txn) - at);
                if delete > 0 {
                    text.remove_range(&mut txn, at, delete);
                }
                if !splice.insert.is_empty() {
                    text.insert(&mut txn, at, &splice.insert);
                }
            }
            drop(txn);
            Ok(fork.transact().encode_state_as_update_v1(&before).into())
        })
    }

    /// The live document with everything committed in it.
    fn live(&mut self) -> Result<&Doc, Broken> {
        if self.live.is_none() {
            let doc = Live::new(0);
            if let Some(encoded) = &self.encoded
                && encoded.as_ref() != EMPTY_UPDATE
            {
                guarded(|| apply(&doc, std::slice::from_ref(encoded)))?;
            }
            self.live = Some(doc);
        }
        let live = self.live.as_ref().expect("built just above where there was none");
        if !self.waiting.is_empty() {
            guarded(|| apply(live, &self.waiting))?;
            self.waiting.clear();
            self.waiting_bytes = 0;
            self.encoded = None;
        }
        Ok(live)
    }
}

fn apply(doc: &Doc, updates: &[Bytes]) -> Result<(), Broken> {
    let mut txn = doc.transact_mut();
    for update in updates {
        let update = yrs::Update::decode_v1(update).map_err(|error| Broken(error.to_string()))?;
        txn.apply_update(update).map_err(|error| Broken(error.to_string()))?;
    }
    Ok(())
}

/// The strict decoder keeps from `yrs` everything it is known to panic on. Should it panic all the
/// same, the document is given up, its log is not, and the region's other documents go on.
fn guarded<T>(work: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Broken(text.unwrap_or_else(|| "panic".to_owned())))
    })
}
