//! Between the log's words and the machine's: entries, documents, lifecycles.

use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::document::{Kept, Stored, Write};
use quire_protocol::ids::{DocId, DocName};
use quire_storage::{NewEntry, StoredDoc, TailEntry};

/// A stored document, as the machine takes it.
pub(super) fn to_machine(stored: StoredDoc) -> Stored {
    let kept = stored.tail.into_iter().filter_map(|entry| match entry.kind {
        EntryKind::Update => Some(Kept::Update(entry.payload)),
        EntryKind::Fields => Some(Kept::Fields(entry.payload, (entry.hlc, entry.dot))),
        EntryKind::Graph => Some(Kept::Graph(entry.payload)),
        _ => None,
    });
    Stored {
        exists: true,
        life: stored.info.life,
        snapshot: stored.snapshot,
        fields: stored.fields,
        is_due: stored.is_due,
        tail: kept.collect(),
        position: stored.position.0,
        ..Stored::default()
    }
}

/// What an entry of another region does to its document; none where it does nothing that is shown.
pub(super) fn to_write(entry: &TailEntry) -> Option<Write> {
    match entry.kind {
        EntryKind::Update => Some(Write::Update(entry.payload.clone())),
        EntryKind::Lifecycle => match LifecycleChange::decode(&entry.payload).ok()? {
            LifecycleChange::Create { .. } => Some(Write::Create),
            LifecycleChange::Delete { frontier } => Some(Write::Delete { seen: frontier }),
            LifecycleChange::Restore => Some(Write::Restore),
            LifecycleChange::Home { .. } | LifecycleChange::Edited | LifecycleChange::Unknown { .. } => None,
        },
        EntryKind::Fields => Some(Write::Fields(entry.payload.clone())),
        EntryKind::Graph => Some(Write::Graph(entry.payload.clone())),
        EntryKind::Member | EntryKind::Canary | EntryKind::Lease | EntryKind::Unknown(_) => None,
    }
}

/// A machine's write, as the log takes it.
pub(super) fn to_entry(doc: DocId, name: &DocName, write: Write) -> NewEntry {
    let lifecycle = |change: LifecycleChange| (EntryKind::Lifecycle, change.encode());
    let (kind, payload) = match write {
        Write::Update(update) => (EntryKind::Update, update),
        Write::Fields(payload) => (EntryKind::Fields, payload),
        Write::Graph(payload) => (EntryKind::Graph, payload),
        Write::Create => lifecycle(LifecycleChange::Create { name: name.clone() }),
        Write::Delete { seen } => lifecycle(LifecycleChange::Delete { frontier: seen }),
        Write::Restore => lifecycle(LifecycleChange::Restore),
    };
    NewEntry { doc, kind, payload }
}
