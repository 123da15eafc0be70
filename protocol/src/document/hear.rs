//! What a session says, and what it is answered at once.
//!
//! Updates go through the gate to the log; nobody but their author hears of them here.

use std::sync::Arc;

use bytes::Bytes;

use super::admission::{Offered, Refusing, Waiter};
use super::event::{Output, Urgency};
use super::machine::{AWARENESS_TICK_MS, Document, Phase};
use super::session::{Access, Session};
use super::tell::{answer, send, status};
use crate::awareness;
use crate::close::CloseReason;
use crate::ids::SessionId;
use crate::time::Time;
use crate::update::StateVector;
use crate::ysync::{Message, Reply, put_permission_denied};

impl Document {
    pub(super) fn message(&mut self, now: Time, id: SessionId, message: Message, out: &mut Vec<Output>) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let done = match message {
            Message::SyncStep1(from) => self.join(now, id, &mut session, &from, out),
            Message::SyncStep2(bytes) => self.step2(now, id, &mut session, bytes, out),
            Message::Update(bytes) => self.update(now, id, &mut session, bytes, out),
            Message::Awareness(bytes) => self.hear_awareness(now, id, bytes, out),
            Message::QueryAwareness => {
                self.tell_everybody_here(now, id, &mut session, out);
                Ok(())
            }
        };
        self.sessions.insert(id, session);
        match done {
            Ok(()) => {}
            Err(Refusing::Reason(reason)) => self.close(now, id, reason, out),
            Err(Refusing::Broken(broken)) => self.fail(&broken, out),
        }
    }

    pub(super) fn join(
        &mut self,
        now: Time,
        id: SessionId,
        session: &mut Session,
        from: &Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusing> {
        let from = StateVector::decode(from).map_err(|_| CloseReason::StateVector)?;
        if session.is_hocuspocus() {
            session.owed += 1;
            self.ask(now, id, session, out);
        }
        if from.is_empty() {
            let state = self.replica.state()?;
            let frame = self.welcome.frame(&session.dialect, &state);
            send(now, id, session, frame, Urgency::Answer, out);
        } else {
            let missed = self.replica.diff(&from)?;
            answer(now, id, session, Reply::SyncStep2(&missed), out);
        }
        session.joined = true;
        self.tell_everybody_here(now, id, session, out);
        Ok(())
    }

    /// Asks a session for what it has beyond what is admitted here, unless a question is open.
    pub(super) fn ask(&self, now: Time, id: SessionId, session: &mut Session, out: &mut Vec<Output>) {
        if !session.asked {
            session.asked = true;
            let held = self.shape.state_vector().encode();
            answer(now, id, session, Reply::SyncStep1(&held), out);
        }
    }

    pub(super) fn step2(
        &mut self,
        now: Time,
        id: SessionId,
        session: &mut Session,
        bytes: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusing> {
        let was_asked = std::mem::take(&mut session.asked);
        // One that nobody asked for earns one status, as an update does. The answer to our question pays what is
        // owed, which is nothing where only we wanted to know.
        let statuses = std::mem::take(&mut session.owed).max((!was_asked).into());
        if session.access == Access::Read {
            return self.hear_reader(now, id, session, bytes, statuses, out);
        }
        if self.phase == Phase::Deleted {
            session.owed = statuses;
            return Ok(());
        }
        // What still rests on something unknown stays with the editor: asking again would get the
        // same answer. Its own edits never do, since an editor only edits what it has whole.
        self.offer(bytes, id, session.author.as_ref())?;
        self.await_status(id, session, statuses);
        Ok(())
    }

    pub(super) fn update(
        &mut self,
        now: Time,
        id: SessionId,
        session: &mut Session,
        bytes: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusing> {
        if session.access == Access::Read {
            return self.hear_reader(now, id, session, bytes, 1, out);
        }
        if self.phase == Phase::Deleted {
            // Too late: once the deletion is on disk this session is closed. Where it does not stand, the answer
            // to our next question holds the update, and earns its status.
            session.owed += 1;
            return Ok(());
        }
        let offered = self.offer(bytes, id, session.author.as_ref())?;
        if offered.missing {
            session.owed += 1;
            self.ask(now, id, session, out);
        } else {
            self.await_status(id, session, 1);
        }
        Ok(())
    }

    pub(super) fn offer(
        &mut self,
        bytes: Bytes,
        author: SessionId,
        name: Option<&Arc<str>>,
    ) -> Result<Offered, Refusing> {
        let mut gate = self.gate();
        let update = gate.decode(bytes)?;
        gate.offer(update, Some(author), name)
    }

    pub(super) fn await_status(&mut self, id: SessionId, session: &Session, statuses: u32) {
        if session.is_hocuspocus() {
            self.pipeline.wait(Waiter::Statuses(id, statuses));
        }
    }

    /// A reader's update is not taken; it is told so, unless there was nothing new in it.
    pub(super) fn hear_reader(
        &mut self,
        now: Time,
        id: SessionId,
        session: &mut Session,
        bytes: Bytes,
        statuses: u32,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusing> {
        let update = self.gate().decode(bytes)?;
        let admission = self.shape.admit(update)?;
        let known = admission.fresh.is_none() && !admission.missing;
        if session.is_hocuspocus() && known {
            self.await_status(id, session, statuses);
        } else if session.is_hocuspocus() {
            session.refused += statuses;
            for _ in 0..statuses {
                status(now, id, session, false, out);
            }
        } else if !known && !session.told_read_only {
            session.told_read_only = true;
            let mut frame = Vec::new();
            put_permission_denied(&mut frame, "this session may read but not write");
            send(now, id, session, frame.into(), Urgency::Answer, out);
        }
        Ok(())
    }

    pub(super) fn hear_awareness(
        &mut self,
        now: Time,
        id: SessionId,
        bytes: Bytes,
        out: &mut Vec<Output>,
    ) -> Result<(), Refusing> {
        let states = awareness::decode(bytes).map_err(CloseReason::Awareness)?;
        self.awareness.take(now, id, states);
        self.awareness_changed(now, out);
        Ok(())
    }

    /// Another region tells who is there, or asks who is here. What cannot be read was refused by the link.
    pub(super) fn hear_elsewhere(&mut self, now: Time, bytes: Bytes, out: &mut Vec<Output>) {
        let Ok(states) = awareness::decode(bytes) else { return };
        if states.is_empty() {
            let everybody = self.awareness.everybody().filter(|_| !self.sessions.is_empty());
            out.extend(everybody.map(|everybody| Output::Ephemeral(everybody.into())));
            return;
        }
        self.awareness.take(now, awareness::ELSEWHERE, states);
        self.awareness_changed(now, out);
    }

    pub(super) fn awareness_changed(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.awareness.has_changed() && self.awareness_due.is_none() {
            let due = now.after(AWARENESS_TICK_MS);
            self.awareness_due = Some(due);
            self.wake_by(due, out);
        }
    }

    pub(super) fn tell_everybody_here(
        &self,
        now: Time,
        id: SessionId,
        session: &mut Session,
        out: &mut Vec<Output>,
    ) {
        if let Some(everybody) = self.awareness.everybody() {
            answer(now, id, session, Reply::Awareness(&everybody), out);
        }
    }
}
