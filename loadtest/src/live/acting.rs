//! What participants do when it is their time: write, move the cursor, go, and come back.

use std::cmp::Reverse;

use anyhow::Result;

use super::participant::{Participant, Pen, Stage};
use super::person::Act;
use super::run::{Due, Live, keep, micros};
use crate::crowd::Crowd;
use crate::{delivery, wire};

/// Whoever lost the connection with everybody else comes back within this.
const HERD_MICROS: u64 = 1_000_000;

/// How often a client says that it is there.
const RENEW_MICROS: u64 = 15_000_000;

/// Acts done between two looks at the sockets, when behind.
const ACTS_PER_TURN_MAX: usize = 256;

impl Live<'_> {
    pub(super) fn schedule(&mut self) {
        for who in 0..self.participants.len() {
            self.plan_next_act(who);
            if self.plan.shape.is_present {
                let at = self.zero + self.dice.below(RENEW_MICROS);
                self.due.push(Reverse((at, Due::Renew(who))));
            }
        }
        if let Some(within) = self.plan.shape.joins_within {
            for who in 0..self.participants.len() {
                if self.participants[who].stage == Stage::Away {
                    let at = self.zero + self.dice.below(micros(within).max(1));
                    self.due.push(Reverse((at, Due::Connect(who))));
                }
            }
        }
        if let Some(every) = self.plan.shape.herd_every {
            self.due.push(Reverse((self.zero + micros(every), Due::Herd)));
        }
    }

    fn plan_next_act(&mut self, who: usize) {
        let (at, act) = match &mut self.participants[who].pen {
            Pen::Line(_, person) => person.next(),
            Pen::Trace { sent, .. } if *sent < self.plan.trace.len() => {
                let every = 1e6 / self.plan.shape.keystrokes_per_second;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole microseconds"
                )]
                let at = ((*sent + 1) as f64 * every) as u64;
                (at, Act::Key)
            }
            Pen::Trace { .. } | Pen::None => return,
        };
        self.acts[who] = Some(act);
        self.due.push(Reverse((self.zero + at, Due::Act(who))));
    }

    pub(super) fn do_what_is_due(&mut self, crowd: &mut Crowd, end: u64) -> Result<()> {
        for _ in 0..ACTS_PER_TURN_MAX {
            let now = self.now();
            let Some(&Reverse((at, due))) = self.due.peek() else { break };
            if at > now || at >= end {
                break;
            }
            self.due.pop();
            match due {
                Due::Act(who) => {
                    self.tally.late.saturating_record((now - at).max(1));
                    self.act(crowd, who, at);
                    self.plan_next_act(who);
                }
                Due::Connect(who) => self.want(who..who + 1),
                Due::Renew(who) => self.renew(crowd, who, at),
                Due::Herd => self.scatter(crowd, at),
            }
        }
        Ok(())
    }

    pub(super) fn act(&mut self, crowd: &mut Crowd, who: usize, at: u64) {
        let Some(act) = self.acts[who].take() else { return };
        let participant = &mut self.participants[who];
        let document = &mut self.documents[participant.document];
        let mut out = Vec::new();
        match act {
            // Whoever has not seen the page yet cannot write on it.
            _ if !participant.has_lines && document.lines > 0 => {}
            Act::Offline(micros) => self.lose_network(crowd, who, at + micros),
            Act::CloseTab(micros) => self.close_tab(crowd, who, at + micros),
            Act::Cursor => {
                participant.put_presence(self.plan.dialect, document, who, &mut out);
                self.tally.counts.cursor_moves += u64::from(!out.is_empty());
            }
            Act::Key | Act::Delete(_) | Act::Paste(_) | Act::Undo => {
                let mut update = Vec::new();
                let Some((new, deleted)) = write(participant, &self.plan.trace, act, &mut update) else {
                    return;
                };
                let is_offline = participant.stage == Stage::Away;
                if let Some(writer) = participant.writer {
                    document.writers[writer].writes(new, at, is_offline);
                }
                self.tally.typed(new);
                self.tally.counts.deleted += deleted;
                self.last_key = self.last_key.max(at);
                keep(participant, &update, &mut self.witness_bytes);
                participant.send(self.plan.dialect, document, &update, &mut out);
            }
        }
        if let Some(connection) = self.participants[who].connection.filter(|_| !out.is_empty()) {
            crowd.send(connection, &out);
        }
    }

    fn renew(&mut self, crowd: &mut Crowd, who: usize, at: u64) {
        let (one, mut out) = (&mut self.participants[who], Vec::new());
        one.put_presence(self.plan.dialect, &self.documents[one.document], who, &mut out);
        if let Some(connection) = one.connection.filter(|_| !out.is_empty()) {
            crowd.send(connection, &out);
        }
        self.due.push(Reverse((at + RENEW_MICROS, Due::Renew(who))));
    }

    /// The network is gone for one, who goes on writing; the server is not told.
    fn lose_network(&mut self, crowd: &mut Crowd, who: usize, back_at: u64) {
        if self.participants[who].stage == Stage::Joined {
            self.tally.counts.offline_spells += 1;
            self.go(crowd, who);
            self.due.push(Reverse((back_at, Due::Connect(who))));
        }
    }

    /// Somebody closes the tab, if all they wrote is acknowledged, and opens the document anew later.
    fn close_tab(&mut self, crowd: &mut Crowd, who: usize, back_at: u64) {
        let participant = &mut self.participants[who];
        if participant.stage != Stage::Joined || !participant.is_saved() {
            return;
        }
        let document = &mut self.documents[participant.document];
        let Some(writer) = document.add_writer(participant.region) else { return };
        participant.forget(writer, document.client(writer));
        if let Some(connection) = participant.connection {
            let mut frame = Vec::new();
            wire::put_going_away(&mut frame);
            crowd.send(connection, &frame);
        }
        self.tally.counts.tab_closes += 1;
        self.go(crowd, who);
        self.due.push(Reverse((back_at, Due::Connect(who))));
    }

    fn go(&mut self, crowd: &mut Crowd, who: usize) {
        let participant = &mut self.participants[who];
        self.joined -= u64::from(participant.stage == Stage::Joined);
        self.connecting -=
            usize::from(participant.stage == Stage::Coming && participant.connection.is_some());
        participant.stage = Stage::Away;
        if let Some(connection) = participant.connection.take() {
            crowd.hang_up(connection);
        }
    }

    /// Everybody's connection ends at once; they come back within a second.
    fn scatter(&mut self, crowd: &mut Crowd, at: u64) {
        for who in 0..self.participants.len() {
            if self.participants[who].stage == Stage::Joined {
                self.go(crowd, who);
                let back_at = at + self.dice.below(HERD_MICROS);
                self.due.push(Reverse((back_at, Due::Connect(who))));
            }
        }
        if let Some(every) = self.plan.shape.herd_every {
            self.due.push(Reverse((at + micros(every), Due::Herd)));
        }
    }
}

/// Writes what an act says; of a trace, its next edit.
fn write(one: &mut Participant, trace: &[Vec<u8>], act: Act, update: &mut Vec<u8>) -> Option<(u32, u64)> {
    let Pen::Trace { sent, clock } = &mut one.pen else { return one.write(act, update) };
    let edit = trace.get(*sent)?;
    update.extend_from_slice(edit);
    *sent += 1;
    let before = *clock;
    // What this program made can be scanned.
    let _ = delivery::scan(edit, |range| *clock = range.to);
    let new = *clock - before;
    one.deleted_at = (new == 0).then_some(before);
    Some((new, 0))
}
