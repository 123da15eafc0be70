//! What is told when a commit returns: news to everybody, acks to those who wait.
//!
//! Several updates of one commit leave as one merged update, framed once for all who share a dialect.
//!
//! Invariant: everything told here is on disk.

use bytes::Bytes;

use super::admission::{Admitted, Change, Waiter};
use super::event::{Answer, Output, Refused, Urgency};
use super::fan_out::{Frames, framed};
use super::machine::{Document, Phase};
use super::session::{Access, Dialect, Lag, Session};
use crate::close::CloseReason;
use crate::fields::schema::DeletePolicy;
use crate::hocuspocus::put_sync_status;
use crate::ids::SessionId;
use crate::life::Life;
use crate::time::Time;
use crate::update::{Update, merge};
use crate::ysync::Reply;

/// What has been admitted since what is judged was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admits {
    /// Edits that it cannot have seen, if any.
    Edits,
    /// Nothing until it was taken back here.
    Nothing,
}

impl Document {
    /// The burst is over: what it admitted goes to the log, what the log confirmed goes to everybody.
    pub(super) fn quiet(&mut self, now: Time, out: &mut Vec<Output>) {
        let writes = self.pipeline.take_unsent();
        if !writes.is_empty() {
            out.push(Output::Append(writes));
        }
        self.tell(now, out);
        self.write_back(now, out);
        self.derive(now, out);
        self.snapshot_if_long(self.limits.snapshot_after_bytes, out);
    }

    /// Tells what has come on disk, then those who waited for it.
    pub(super) fn tell(&mut self, now: Time, out: &mut Vec<Output>) {
        let committed = self.pipeline.take_committed();
        if !committed.is_empty() {
            self.tell_committed(now, &committed, out);
        }
        while let Some(waiter) = self.pipeline.next_waiter() {
            self.tell_waiter(now, waiter, out);
        }
    }

    pub(super) fn tell_committed(&mut self, now: Time, committed: &[Admitted], out: &mut Vec<Output>) {
        let updates: Vec<&Update> = committed.iter().filter_map(Admitted::update).collect();
        if !updates.is_empty() {
            self.fan_out(now, committed, &updates, out);
        }
        for update in updates {
            self.unsnapshotted_bytes += update.encoded().len();
            if let Err(broken) = self.replica.push(update.encoded().clone()) {
                return self.fail(&broken, out);
            }
        }
        self.take_fields(committed);
        // Whoever edits keeps the document through a deletion that comes with the edit, and had not seen it.
        for admitted in committed.iter().filter(|admitted| admitted.is_edit()) {
            if self.life.deletion().is_some() {
                self.records.touch_life();
            }
            admitted.stamp.into_iter().for_each(|stamp| self.life.edited(stamp));
        }
        self.judge(Admits::Edits, now, out);
        for admitted in committed {
            match (&admitted.change, admitted.stamp) {
                (Change::Deleted(seen), Some(stamp)) => {
                    self.records.touch_life();
                    self.life.deleted(stamp, seen.clone());
                    let admits = if admitted.here { Admits::Nothing } else { Admits::Edits };
                    self.judge(admits, now, out);
                }
                (Change::Restored, Some(stamp)) => {
                    self.records.touch_life();
                    self.life.restored(stamp);
                    self.judge(Admits::Edits, now, out);
                }
                _ => {}
            }
        }
        self.settle_phase(now, out);
    }

    /// The log knows more of the document's life than was told.
    pub(super) fn lives(&mut self, now: Time, life: Life, out: &mut Vec<Output>) {
        // What comes before it is part of it.
        self.tell(now, out);
        self.life = life;
        self.records.touch_life();
        self.judge(Admits::Edits, now, out);
        self.settle_phase(now, out);
    }

    /// Decides whether the document is deleted to everybody, by what is on disk of its life.
    fn judge(&mut self, admitted: Admits, now: Time, out: &mut Vec<Output>) {
        // No other region's deletion has seen an edit that is not on disk yet: nobody is sent away who is about
        // to revive the document.
        let revives = admitted == Admits::Edits
            && self.on_delete == DeletePolicy::Revive
            && self.phase == Phase::Live
            && self.pipeline.edits();
        self.deleted = self.life.is_deleted(self.on_delete) && !revives;
        if self.deleted {
            for id in self.session_ids() {
                self.close(now, id, CloseReason::Deleted, out);
            }
        } else if admitted == Admits::Nothing && self.phase == Phase::Live {
            // It was deleted and restored here in one go, and an edit of another region has kept it all the while.
            self.ask_writers(now, out);
        }
    }

    /// Asks everybody for what was not taken while a deletion was on its way.
    fn ask_writers(&mut self, now: Time, out: &mut Vec<Output>) {
        for id in self.session_ids() {
            if let Some(mut session) = self.sessions.remove(&id) {
                if session.access == Access::Write {
                    self.ask(now, id, &mut session, out);
                }
                self.sessions.insert(id, session);
            }
        }
    }

    /// What is admitted follows what is on disk, once nothing on its way there says otherwise.
    fn settle_phase(&mut self, now: Time, out: &mut Vec<Output>) {
        let settled = match self.phase {
            Phase::Live if self.deleted => Phase::Deleted,
            Phase::Deleted if !self.deleted => Phase::Live,
            _ => return,
        };
        if self.pipeline.turns() {
            return;
        }
        self.phase = settled;
        if settled == Phase::Live {
            // Another region's restoration stands above the deletion that was on its way, or its edit has
            // revived the document: what came behind the deletion was not taken.
            self.ask_writers(now, out);
        }
    }

    pub(super) fn fan_out(
        &mut self,
        now: Time,
        committed: &[Admitted],
        updates: &[&Update],
        out: &mut Vec<Output>,
    ) {
        self.before_fan_out.clear();
        for update in updates {
            for (client, clocks) in update.clients() {
                let before = self.committed.get(client);
                self.before_fan_out.entry(client).or_insert(before);
                self.committed.set(client, clocks.end.max(before));
            }
        }
        // What stands in something that is deleted is deleted everywhere but, it may be, where it was written: there,
        // nothing else says so. Who has it may have come in another session, or from another region.
        let mut dropped = committed.iter().filter_map(|admitted| admitted.dropped.as_ref()).peekable();
        let dropped = dropped.peek().is_some().then(|| merge(dropped));
        let merged = match updates {
            [one] if dropped.is_none() => (*one).clone(),
            many => merge(many.iter().copied().chain(&dropped)),
        };
        let sole_author = sole_author(committed);
        let mut frames = Frames::default();
        for (id, session) in &mut self.sessions {
            // y-websocket takes the echo of its own updates for the ack; Hocuspocus has a status.
            let own = sole_author == Some(*id) && session.is_hocuspocus();
            let frame = if own {
                dropped.as_ref().map(|dropped| framed(&session.dialect, Reply::Update(dropped.encoded())))
            } else {
                Some(frames.frame(&session.dialect, Reply::Update(merged.encoded())))
            };
            if let Some(frame) = frame.filter(|_| session.follows()) {
                send(now, *id, session, frame, Urgency::FanOut, out);
            }
        }
    }

    pub(super) fn tell_waiter(&mut self, now: Time, waiter: Waiter, out: &mut Vec<Output>) {
        match waiter {
            Waiter::Request(ticket, changed) => {
                out.push(Output::Reply(ticket, Ok(Answer::Saved { changed })));
            }
            Waiter::TooLate(ticket) => {
                out.push(Output::Reply(ticket, Err(Refused::Reason(CloseReason::Deleted))));
            }
            Waiter::Statuses(id, statuses) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    for _ in 0..statuses {
                        status(now, id, session, true, out);
                    }
                }
            }
        }
    }

    /// The session keeps what is queued for it; from where that ends, it is sent one difference later.
    pub(super) fn lagging(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.lag.is_none() {
            let mut from = self.committed.clone();
            for (client, clock) in &self.before_fan_out {
                from.set(*client, *clock);
            }
            session.lag = Some(Box::new(Lag { from, statuses: Vec::new() }));
        }
    }

    pub(super) fn drained(&mut self, now: Time, id: SessionId, out: &mut Vec<Output>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(lag) = session.lag.take() else { return };
        match self.replica.diff(&lag.from) {
            Ok(missed) => answer(now, id, session, Reply::Update(&missed), out),
            Err(broken) => return self.fail(&broken, out),
        }
        for saved in lag.statuses {
            status(now, id, session, saved, out);
        }
        if let Some(everybody) = self.awareness.everybody() {
            answer(now, id, session, Reply::Awareness(&everybody), out);
        }
    }
}

/// The session that all of a commit came from, if it is one.
pub(super) fn sole_author(committed: &[Admitted]) -> Option<SessionId> {
    let mut authors = committed.iter().filter(|admitted| admitted.update().is_some()).map(|a| a.author);
    let first = authors.next()?;
    authors.all(|author| author == first).then_some(first)?
}

pub(super) fn answer(
    now: Time,
    id: SessionId,
    session: &mut Session,
    reply: Reply<'_>,
    out: &mut Vec<Output>,
) {
    let frame = framed(&session.dialect, reply);
    send(now, id, session, frame, Urgency::Answer, out);
}

pub(super) fn send(
    now: Time,
    id: SessionId,
    session: &mut Session,
    frame: Bytes,
    urgency: Urgency,
    out: &mut Vec<Output>,
) {
    session.last_sent = now;
    out.push(Output::Send(id, frame, urgency));
}

/// Tells a Hocuspocus session that one of its updates is saved, or was refused.
pub(super) fn status(now: Time, id: SessionId, session: &mut Session, saved: bool, out: &mut Vec<Output>) {
    if let Some(lag) = &mut session.lag {
        return lag.statuses.push(saved);
    }
    if let Dialect::Hocuspocus(address) = &session.dialect {
        let mut frame = Vec::new();
        address.put(&mut frame);
        put_sync_status(&mut frame, saved);
        send(now, id, session, frame.into(), Urgency::Answer, out);
    }
}
