//! Whether a batch from a peer may be stored: what it holds will be shown to `yrs` one day.

use super::{Bye, ByeReason};
use crate::batch::{Batch, EncodedBatch, EntryKind, LifecycleChange, NO_DOC};
use crate::fields::{FieldsEntry, Graph};
use crate::ids::DocId;
use crate::snapshot::SnapshotEntry;
use crate::update::{Limits, Update};
use bytes::Bytes;

/// Reads a batch and everything in it that this release knows how to read.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn check_batch(bytes: Bytes) -> Result<EncodedBatch, Bye> {
    let refuse = |detail: String| Bye { reason: ByeReason::Malformed, detail };
    let encoded = EncodedBatch::decode(bytes).map_err(|error| refuse(error.to_string()))?;
    let Batch { stream, first_seq, entries, .. } = &encoded.batch;
    for (entry, seq) in entries.iter().zip(first_seq.0..) {
        check_entry(entry.doc, entry.kind, &entry.payload)
            .map_err(|reason| refuse(format!("entry {seq} of stream {stream} cannot be taken: {reason}")))?;
    }
    Ok(encoded)
}

/// Checks an entry of a snapshot.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_record(entry: &SnapshotEntry) -> Result<(), String> {
    check_entry(entry.doc, entry.kind, &entry.payload)
        .map_err(|reason| format!("an entry of {:?} in a snapshot cannot be taken: {reason}", entry.doc))
}

fn check_entry(doc: DocId, kind: EntryKind, payload: &Bytes) -> Result<(), String> {
    match kind {
        EntryKind::Update => check_update(doc, payload.clone())?,
        EntryKind::Fields => {
            let entry = FieldsEntry::decode(payload).map_err(|error| error.to_string())?;
            check_update(doc, entry.update)?;
        }
        EntryKind::Graph => {
            Graph::new().merge(payload.clone()).map_err(|error| error.to_string())?;
        }
        EntryKind::Lifecycle => match LifecycleChange::decode(payload) {
            Ok(LifecycleChange::Create { name }) if name.id() != doc => {
                return Err("a document's id is not that of its name".to_owned());
            }
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        },
        EntryKind::Member | EntryKind::Canary | EntryKind::Lease | EntryKind::Unknown(_) => {}
    }
    Ok(())
}

fn check_update(doc: DocId, update: Bytes) -> Result<(), String> {
    // yrs never sees what the strict decoder has not accepted, from whomever it comes.
    Update::decode_within(update, &Limits::STORED).map_err(|error| error.to_string())?;
    if doc == NO_DOC { Err("an update belongs to a document".to_owned()) } else { Ok(()) }
}
