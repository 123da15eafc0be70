//! What other regions wrote: it is on disk here already, and is shown in the order of the log.
//!
//! Its origin admitted it on top of what has been applied here before it. So a hole, or bytes that cannot be
//! taken, mean that some region has broken a rule: the entry is kept in the log, shown nowhere, and told.

use super::admission::{Change, Refusing};
use super::event::{Divergence, Output, Write};
use super::fields::Noted;
use super::machine::{Document, Phase};
use crate::batch::Stamp;
use crate::close::CloseReason;
use crate::update::{Limits as UpdateLimits, StateVector, Update};

impl Document {
    pub(super) fn applied(&mut self, write: Write, position: u64, stamp: Stamp, out: &mut Vec<Output>) {
        // It was read from the log when the document was opened.
        if position <= self.position {
            return;
        }
        self.position = position;
        if self.phase == Phase::New {
            self.phase = Phase::Live;
        }
        match write {
            Write::Create => {}
            Write::Delete { seen } => self.pipeline.apply(Change::Deleted(seen), stamp, None, None),
            Write::Restore => self.pipeline.apply(Change::Restored, stamp, None, None),
            Write::Update(bytes) => {
                let taken = Update::decode_within(bytes, &UpdateLimits::STORED).map_err(Divergence::from);
                let taken = taken.and_then(|update| self.take_elsewhere(update, None, stamp));
                out.extend(taken.err().map(Output::Diverged));
            }
            Write::Graph(bytes) => {
                let taken = self.take_graph(bytes).map_err(Divergence::from);
                out.extend(taken.err().map(Output::Diverged));
            }
            Write::Fields(payload) => {
                let taken = Noted::read(&payload).map_err(Divergence::from);
                let taken =
                    taken.and_then(|noted| self.take_elsewhere(noted.update.clone(), Some(noted), stamp));
                out.extend(taken.err().map(Output::Diverged));
            }
        }
    }

    fn take_elsewhere(
        &mut self,
        update: Update,
        noted: Option<Box<Noted>>,
        stamp: Stamp,
    ) -> Result<(), Divergence> {
        let admission = self.shape.admit_within(update.clone(), &UpdateLimits::STORED)?;
        // What is on its way to the disk is admitted and not yet in the log before this entry.
        let on_the_way = self.pipeline.is_on_the_way();
        if admission.missing || on_the_way && !update.rests_within(&self.committed_vector()) {
            return Err(Divergence::Hole);
        }
        let mut diverged = Ok(());
        if !admission.overlap.is_empty()
            && let Err(Refusing::Reason(CloseReason::ClientReused(item))) =
                self.gate().check_reuse(&update, &admission.overlap)
        {
            // The other region shows the other content, and neither can take its own back.
            diverged = Err(Divergence::ClientReused(item));
        }
        if let Some(fresh) = &admission.fresh {
            self.shape.record(fresh);
            self.size.since += fresh.encoded().len();
        }
        // Cut off by what is admitted, it would lack in a snapshot what is not on disk by then.
        let shown = if on_the_way { Some(update) } else { admission.fresh };
        // An entry that says nothing new of the text may still be the earlier one, or say more of the fields.
        let shown = shown.or_else(|| noted.is_some().then(Update::empty));
        if let Some(shown) = shown {
            self.pipeline.apply(Change::Updated(shown), stamp, noted, admission.dropped);
        }
        diverged
    }

    /// What is on disk, in this burst too.
    fn committed_vector(&self) -> StateVector {
        let mut vector = self.committed.clone();
        for (client, clocks) in self.pipeline.committed_updates().flat_map(Update::clients) {
            vector.set(client, clocks.end.max(vector.get(client)));
        }
        vector
    }
}
