//! What the passing of time does to a document: awareness goes out and expires, tokens run out, quiet
//! connections are kept alive, long tails become snapshots, and an idle document unloads.

use super::admission::Size;
use super::event::{Output, Urgency};
use super::fan_out::{Frames, Welcome};
use super::machine::{Document, KEEP_ALIVE_MS, Phase};
use super::session::Session;
use super::tell::send;
use crate::awareness;
use crate::close::CloseReason;
use crate::time::Time;
use crate::ysync::Reply;

/// A tail may grow to so much of the state and the graph that were last encoded, as one part of how many: whoever opens
/// the document reads both, and a snapshot writes the state anew.
const TAIL_SHARE: usize = 4;

/// A byte of the graph takes about as long to encode as so many of the state, and there are more of them where fields are
/// written often: so it is written anew once as many bytes have come as it has.
const GRAPH_WEIGHT: usize = TAIL_SHARE;

impl Document {
    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        self.wake = None;
        self.awareness.expire(now);
        if self.awareness.has_changed() {
            self.tell_awareness(now, out);
        }
        self.awareness_due = None;
        let expired = |session: &Session| session.expires.is_some_and(|expires| expires <= now);
        let expired: Vec<_> = self.sessions.iter().filter(|(_, s)| expired(s)).map(|(id, _)| *id).collect();
        for id in expired {
            self.close(now, id, CloseReason::Expired, out);
        }
        // The frame doubles the state's memory; joiners between two ticks share it, the next makes it anew.
        self.welcome = Welcome::default();
        let mut nothing = Frames::default();
        for (id, session) in &mut self.sessions {
            if now.since(session.last_sent) >= KEEP_ALIVE_MS {
                let frame = nothing.frame(&session.dialect, Reply::Awareness(awareness::EMPTY));
                send(now, *id, session, frame, Urgency::Awareness, out);
            }
        }
        self.unload_if_idle(now, out);
        self.plan_next_wake(out);
    }

    pub(super) fn tell_awareness(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Some(here) = self.awareness.changes_here() {
            out.push(Output::Ephemeral(here.into()));
        }
        let changes = self.awareness.take_changes();
        let mut frames = Frames::default();
        for (id, session) in &mut self.sessions {
            if session.follows() {
                let frame = frames.frame(&session.dialect, Reply::Awareness(&changes));
                send(now, *id, session, frame, Urgency::Awareness, out);
            }
        }
    }

    pub(super) fn unload_if_idle(&mut self, now: Time, out: &mut Vec<Output>) {
        if !self.pipeline.is_empty() || self.is_to_write_back() || self.is_to_derive() {
            // What is on its way to the disk is somebody's: the document is not idle.
            self.idle_since = now;
        }
        if self.sessions.is_empty() && now.since(self.idle_since) >= self.limits.unload_after_ms {
            self.snapshot_if_long(self.limits.snapshot_after_bytes / 4, out);
            out.push(Output::Unload);
            // Should somebody have just asked for the document, it stays as long again.
            self.idle_since = now;
        }
    }

    pub(super) fn plan_next_wake(&mut self, out: &mut Vec<Output>) {
        let keep_alive = self.sessions.values().map(|session| session.last_sent.after(KEEP_ALIVE_MS)).min();
        let expiry = self.sessions.values().filter_map(|session| session.expires).min();
        let unload = self.idle_since.after(self.limits.unload_after_ms);
        let unload = self.sessions.is_empty().then_some(unload);
        let next = [keep_alive, expiry, unload, self.awareness.next_expiry()];
        if let Some(next) = next.into_iter().flatten().min() {
            self.wake_by(next, out);
        }
    }

    pub(super) fn snapshot_if_long(&mut self, bytes: usize, out: &mut Vec<Output>) {
        // A long document waits for a longer tail, so that the bytes written stay in proportion to the
        // bytes typed: `TAIL_SHARE` for each at most.
        let stored = self.size.measured + self.fields.stored_bytes() * GRAPH_WEIGHT;
        if self.unsnapshotted_bytes < bytes.max(stored / TAIL_SHARE)
            || self.phase == Phase::Failed
            || self.read_only
        {
            return;
        }
        match self.replica.state() {
            Ok(state) => {
                self.size = Size::measured(state.len());
                self.size.since = self.pipeline.bytes_in_flight();
                self.unsnapshotted_bytes = 0;
                let fields = self.fields.stored();
                out.push(Output::Snapshot { position: self.position, state, fields });
            }
            Err(broken) => self.fail(&broken, out),
        }
    }
}
