//! From a message to a write: what of an update is new, and who waits for it.
//!
//! The shape runs one step ahead of the committed content: it holds what was admitted. What was
//! admitted leaves here twice, as a write when the burst ends and as news when its commit returns.
//!
//! Invariant: writes are committed in the order they were admitted.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::event::{Limits, Ticket, Write};
use super::fields::{Fields, Noted};
use super::machine::Phase;
use super::replica::{Broken, Replica};
use crate::batch::Stamp;
use crate::close::CloseReason;
use crate::frontier::Frontier;
use crate::hlc::Hlc;
use crate::ids::{Dot, Seq, SessionId};
use crate::update::{Limits as UpdateLimits, Overlap, Refusal, Shape, StateVector, Update, reused};

/// When the limit seems reached, the encoded state is measured again, but only once such a share of the
/// limit has been written or deleted since: measuring costs as much as the document is long.
const MEASURE_AFTER_SHARE: usize = 1024;

/// What a write does to the document.
#[derive(Debug)]
pub(super) enum Change {
    Created,
    Updated(Update),
    /// By a region that had applied so much.
    Deleted(Frontier),
    Restored,
}

/// A write that was admitted.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) change: Change,
    /// The session it came from, if it came from one.
    pub(super) author: Option<SessionId>,
    /// Whether it was written here and not in another region.
    pub(super) here: bool,
    /// Its entry's stamp, once that is on disk.
    pub(super) stamp: Option<Stamp>,
    /// What is said about it where it writes fields.
    pub(super) noted: Option<Box<Noted>>,
    /// Deletes what of it stands in something that is deleted, which whoever wrote it may show.
    pub(super) dropped: Option<Update>,
}

impl Admitted {
    /// The update it carries, if it is one; nothing to anybody where it only says what was seen.
    pub(super) fn update(&self) -> Option<&Update> {
        match &self.change {
            Change::Updated(update) => Some(update).filter(|update| !update.is_empty()),
            Change::Created | Change::Deleted(_) | Change::Restored => None,
        }
    }

    /// Whether it is an edit, be it one that shows nothing.
    pub(super) const fn is_edit(&self) -> bool {
        matches!(self.change, Change::Updated(_))
    }
}

/// Somebody who is told when everything admitted so far is on disk.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// A Hocuspocus session, for so many updates.
    Statuses(SessionId, u32),
    /// A request; whether it changed anything.
    Request(Ticket, bool),
    /// A request that came behind the deletion of the document.
    TooLate(Ticket),
}

/// What became of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    /// Something in it was new and will be written.
    pub(super) changed: bool,
    /// Something in it rests on what is not known here.
    pub(super) missing: bool,
}

/// What has been admitted and is not yet told.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    unsent: Vec<Write>,
    admitted: VecDeque<Admitted>,
    committed: Vec<Admitted>,
    admitted_total: u64,
    committed_total: u64,
    waiters: VecDeque<(u64, Waiter)>,
}

impl Pipeline {
    /// Queues a write for the end of the burst.
    pub(super) fn push(&mut self, change: Change) {
        self.push_write(change, None, None, None);
    }

    /// Queues an update, with what is said about it where it writes fields, and what of it is dropped.
    pub(super) fn push_noted(
        &mut self,
        update: Update,
        author: Option<SessionId>,
        noted: Option<Box<Noted>>,
        dropped: Option<Update>,
    ) {
        self.push_write(Change::Updated(update), author, noted, dropped);
    }

    fn push_write(
        &mut self,
        change: Change,
        author: Option<SessionId>,
        noted: Option<Box<Noted>>,
        dropped: Option<Update>,
    ) {
        self.unsent.push(match (&change, &noted) {
            (_, Some(noted)) => Write::Fields(noted.payload()),
            (change, None) => match change {
                Change::Created => Write::Create,
                Change::Updated(update) => Write::Update(update.encoded().clone()),
                Change::Deleted(seen) => Write::Delete { seen: seen.clone() },
                Change::Restored => Write::Restore,
            },
        });
        self.admitted.push_back(Admitted { change, author, here: true, stamp: None, noted, dropped });
        self.admitted_total += 1;
    }

    /// Waits until all that was admitted so far is on disk.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiters.push_back((self.admitted_total, waiter));
    }

    /// Takes the burst's writes.
    pub(super) fn take_unsent(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.unsent)
    }

    /// Marks the oldest so many writes as being on disk, the last of them with this stamp.
    ///
    /// # Panics
    /// When the driver confirms more than it was given.
    pub(super) fn commit(&mut self, writes: usize, last: Stamp) {
        assert!(writes + self.unsent.len() <= self.admitted.len(), "the driver confirms what it was given");
        let oldest = self.admitted.drain(..writes).enumerate().map(|(i, admitted)| {
            let before = (writes - 1 - i) as u64;
            let (Hlc(hlc), Dot { stream, seq: Seq(seq) }) = last;
            let dot = Dot { stream, seq: Seq(seq.saturating_sub(before)) };
            Admitted { stamp: Some((Hlc(hlc.saturating_sub(before)), dot)), ..admitted }
        });
        self.committed.extend(oldest);
        self.committed_total += writes as u64;
    }

    /// Takes what another region wrote, which is on disk, behind what has come on disk before.
    pub(super) fn apply(
        &mut self,
        change: Change,
        stamp: Stamp,
        noted: Option<Box<Noted>>,
        dropped: Option<Update>,
    ) {
        let stamp = Some(stamp);
        self.committed.push(Admitted { change, author: None, here: false, stamp, noted, dropped });
    }

    /// Whether something admitted is not on disk yet.
    pub(super) fn is_on_the_way(&self) -> bool {
        !self.admitted.is_empty()
    }

    /// Whether an edit is not on disk yet.
    pub(super) fn edits(&self) -> bool {
        self.admitted.iter().any(Admitted::is_edit)
    }

    /// Whether a deletion or a restoration is not on disk yet.
    pub(super) fn turns(&self) -> bool {
        let turns = |admitted: &Admitted| matches!(admitted.change, Change::Deleted(_) | Change::Restored);
        self.admitted.iter().any(turns)
    }

    /// The updates that have come on disk and are not yet told.
    pub(super) fn committed_updates(&self) -> impl Iterator<Item = &Update> {
        self.committed.iter().filter_map(Admitted::update)
    }

    /// Takes what has come on disk in this burst.
    pub(super) fn take_committed(&mut self) -> Vec<Admitted> {
        std::mem::take(&mut self.committed)
    }

    /// Takes the next waiter for whom the time has come.
    pub(super) fn next_waiter(&mut self) -> Option<Waiter> {
        let (after, _) = self.waiters.front()?;
        if *after > self.committed_total {
            return None;
        }
        self.waiters.pop_front().map(|(_, waiter)| waiter)
    }

    /// Gives up on everything not on disk and returns who waited for it.
    pub(super) fn fail(&mut self) -> Vec<Waiter> {
        self.unsent.clear();
        self.admitted.clear();
        self.committed_total = self.admitted_total;
        self.waiters.drain(..).map(|(_, waiter)| waiter).collect()
    }

    /// How many writes were ever admitted, and how many of them are committed.
    pub(super) const fn totals(&self) -> (u64, u64) {
        (self.admitted_total, self.committed_total)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.admitted.is_empty() && self.committed.is_empty() && self.waiters.is_empty()
    }

    fn in_flight(&self) -> impl Iterator<Item = &Update> {
        self.committed.iter().chain(&self.admitted).filter_map(Admitted::update)
    }

    /// How many bytes of updates are admitted and not yet told.
    pub(super) fn bytes_in_flight(&self) -> usize {
        self.in_flight().map(|update| update.encoded().len()).sum()
    }
}

/// How large the document is, nearly.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    /// Bytes of the encoded state, when it was measured.
    pub(super) measured: usize,
    /// Bytes of updates since it was measured.
    pub(super) since: usize,
    /// Units deleted since, which may have made it shorter.
    pub(super) deleted: usize,
}

impl Size {
    pub(super) const fn measured(bytes: usize) -> Self {
        Self { measured: bytes, since: 0, deleted: 0 }
    }

    const fn bytes(&self) -> usize {
        self.measured + self.since
    }
}

/// Everything admission looks at.
pub(super) struct Gate<'a> {
    pub(super) phase: &'a mut Phase,
    pub(super) shape: &'a mut Shape,
    pub(super) replica: &'a mut Replica,
    pub(super) pipeline: &'a mut Pipeline,
    pub(super) size: &'a mut Size,
    pub(super) limits: &'a Limits,
    pub(super) fields: &'a mut Fields,
    pub(super) read_only: bool,
}

/// Why a write was not admitted.
pub(super) enum Refusing {
    /// Its author's fault.
    Reason(CloseReason),
    /// The live document failed.
    Broken(Broken),
}

impl From<Broken> for Refusing {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<CloseReason> for Refusing {
    fn from(reason: CloseReason) -> Self {
        Self::Reason(reason)
    }
}

impl From<Refusal> for Refusing {
    fn from(refusal: Refusal) -> Self {
        Self::Reason(CloseReason::Update(refusal))
    }
}

impl Gate<'_> {
    /// Checks an update from outside.
    pub(super) fn decode(&self, bytes: Bytes) -> Result<Update, Refusing> {
        if bytes.len() > self.limits.update_bytes_max {
            return Err(Refusal::TooLarge.into());
        }
        Ok(Update::decode(bytes)?)
    }

    /// Admits what is new in an update and queues it to be written.
    pub(super) fn offer(
        &mut self,
        update: Update,
        author: Option<SessionId>,
        name: Option<&Arc<str>>,
    ) -> Result<Offered, Refusing> {
        let incoming = update.clone();
        let admission = self.shape.admit(update)?;
        if !admission.overlap.is_empty() {
            self.check_reuse(&incoming, &admission.overlap)?;
        }
        let missing = admission.missing;
        let Some(fresh) = admission.fresh else { return Ok(Offered { changed: false, missing }) };
        self.make_room(&fresh)?;
        self.create();
        self.shape.record(&fresh);
        let noted = self.fields.note(&fresh, &incoming, name);
        self.pipeline.push_noted(fresh, author, noted, admission.dropped);
        Ok(Offered { changed: true, missing })
    }

    /// Checks that the document may take an update, and counts it.
    pub(super) fn make_room(&mut self, fresh: &Update) -> Result<(), Refusing> {
        if self.read_only { Err(CloseReason::Disk.into()) } else { self.check_size(fresh) }
    }

    /// The first write says that the document exists.
    pub(super) fn create(&mut self) {
        if *self.phase == Phase::New {
            *self.phase = Phase::Live;
            self.pipeline.push(Change::Created);
        }
    }

    /// A block that is known must come with the content that is known: two editors with one client id
    /// would otherwise each lose what the other typed.
    pub(super) fn check_reuse(&mut self, incoming: &Update, overlap: &[Overlap]) -> Result<(), Refusing> {
        let clash = self.pipeline.in_flight().find_map(|known| reused(known, incoming));
        let clash = match clash {
            Some(clash) => Some(clash),
            None => {
                let from = self.just_before(overlap);
                let known = self.replica.diff(&from)?;
                reused(&Update::decode_within(known, &UpdateLimits::STORED)?, incoming)
            }
        };
        match clash {
            Some(item) => Err(CloseReason::ClientReused(item).into()),
            None => Ok(()),
        }
    }

    /// What the document holds, but for the overlapping clocks and what follows them.
    fn just_before(&self, overlap: &[Overlap]) -> StateVector {
        let mut from = self.shape.state_vector();
        for range in overlap {
            let clock = from.get(range.client).min(range.clocks.start);
            from.set(range.client, clock);
        }
        from
    }

    fn check_size(&mut self, fresh: &Update) -> Result<(), Refusing> {
        let more = fresh.encoded().len();
        // Whoever only deletes makes room: a document at its limit must not be stuck there.
        let max = if fresh.block_count() == 0 { usize::MAX } else { self.limits.document_bytes_max };
        let changed = self.size.since + self.size.deleted;
        if self.size.bytes() + more > max && changed >= max / MEASURE_AFTER_SHARE {
            *self.size = Size::measured(self.replica.state()?.len());
            self.size.since = self.pipeline.bytes_in_flight();
        }
        if self.size.bytes() + more > max {
            return Err(CloseReason::DocumentTooLarge.into());
        }
        self.size.since += more;
        let ranges = fresh.deletes().flat_map(|(_, ranges)| ranges);
        self.size.deleted += ranges.map(|range| (range.end - range.start) as usize).sum::<usize>();
        Ok(())
    }
}
