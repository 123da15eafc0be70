//! Documents that are deleted and restored in a run, and what has to come of edits that a deletion had not seen.
//!
//! A region where a document is deleted lets its editors go and takes none, as the server does; they come back when
//! the document is restored, or revived by an edit from elsewhere.

use super::documents::{DOCUMENTS, doc_name, on_delete};
use super::world::World;
use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::ids::DocId;
use quire_storage::NewEntry;

/// Of a hundred times that somebody deletes or restores a document, it is so often deleted.
const DELETES_PERCENT: u64 = 70;

impl World {
    /// Somebody deletes or restores a document in a region, whatever it is.
    pub(super) fn turns(&mut self, at: usize) {
        let (doc, deletes) = (self.draw_document(), self.rng.percent(DELETES_PERCENT));
        let region = &self.regions[at];
        let Some(log) = region.log.clone().filter(|_| region.takes_writes()) else { return };
        let open = region.shows.get(doc);
        let can = if deletes { !open.is_deleted() } else { open.life.deletion().is_some() };
        if !can || !log.info(doc).is_ok_and(|info| info.is_some()) {
            return;
        }
        let change = if deletes {
            LifecycleChange::Delete { frontier: log.applied() }
        } else {
            LifecycleChange::Restore
        };
        let what = if deletes { "deleted" } else { "restored" };
        self.say(format_args!("{doc:?} is {what} in region {at}"));
        *(if deletes { &mut self.totals.deletions } else { &mut self.totals.restorations }) += 1;
        drop(log);
        self.append(at, NewEntry { doc, kind: EntryKind::Lifecycle, payload: change.encode() });
    }

    /// Lets go of the editors of documents that are deleted in a region by now.
    pub(super) fn lives_changed(&mut self, at: usize) {
        let gone: Vec<DocId> =
            self.regions[at].shows.iter().filter(|(_, open)| open.is_deleted()).map(|(doc, _)| doc).collect();
        let here = self.regions[at].sessions.keys().copied();
        let editors: Vec<usize> = here.filter(|editor| gone.contains(&self.editors[*editor].of)).collect();
        editors.into_iter().for_each(|editor| self.part(editor));
    }

    /// Checks that a region says of every document's life what was written, in memory and on its disk.
    pub(super) fn judge_lives(&mut self, at: usize) {
        let Some(log) = self.regions[at].log.clone() else { return };
        for number in 0..DOCUMENTS {
            let (doc, policy) = (doc_name(number).id(), on_delete(number));
            let Ok(stored) = log.info(doc) else { continue };
            let stored = stored.map(|info| info.life).unwrap_or_default();
            let shown = &self.regions[at].shows.get(doc).life;
            if *shown != stored {
                self.ledger.violate(format!(
                    "region {at} takes {doc:?} for something else than its log: {shown:?} and {stored:?}"
                ));
            }
            let (is_deleted, is_contested) = self.ledger.life(doc);
            if (stored.deletion().is_some(), stored.contested().is_some()) != (is_deleted, is_contested) {
                self.ledger.violate(format!(
                    "region {at} says of {doc:?} what was not written: deleted {is_deleted}, and then edited \
                     unseen {is_contested}, but {stored:?}"
                ));
            }
            self.totals.deleted += u64::from(stored.is_deleted(policy));
            self.totals.revived += u64::from(stored.is_revived(policy));
        }
    }
}
