//! What comes from servers, and what it means for who hears it.

use std::cmp::Reverse;
use std::time::Instant;

use super::dialect::{Ack, Heard};
use super::document::Whose;
use super::participant::{Pen, Stage};
use super::run::{Due, Live, keep, micros};
use crate::crowd::Ear;
use crate::delivery::{self, Range};

/// Whoever was refused comes back after this, and up to as long again.
const RETRY_MICROS: u64 = 500_000;

impl Live<'_> {
    fn receive(&mut self, who: usize, update: &[u8], now: u64, is_live: bool) {
        let scanned = delivery::scan(update, |range| self.letters(who, range, now, is_live));
        if let Err(error) = scanned {
            self.failures.push(format!("what a server sent cannot be read: {error}"));
            return;
        }
        keep(&mut self.participants[who], update, &mut self.witness_bytes);
    }

    fn letters(&mut self, who: usize, range: Range, now: u64, is_live: bool) {
        let one = &mut self.participants[who];
        let document = &self.documents[one.document];
        let number = match document.whose(range.client) {
            Whose::Lines => return one.has_lines = true,
            Whose::Stranger => return,
            Whose::Writer(number) => number,
        };
        let writer = &document.writers[number];
        if Some(number) == one.writer {
            if self.plan.dialect.ack() == Ack::Echo || !is_live {
                let saved = one.saved_to(range.to);
                saved
                    .into_iter()
                    .flat_map(|saved| writer.due(saved))
                    .for_each(|due| self.tally.acked(due, now));
            }
            return;
        }
        let taken = one.received.take(number, range.from..range.to);
        let new = taken.new + taken.late;
        if new == 0 {
            self.tally.counts.repeated += u64::from(taken.again);
            return;
        }
        self.last_arrival = self.last_arrival.max(now);
        self.tally.counts.repeated += u64::from(taken.again);
        self.tally.counts.misplaced += u64::from(taken.late);
        self.tally.delivered(new);
        if !is_live {
            return;
        }
        let timed = Range { client: 0, from: taken.new_from, to: range.to };
        let (since, pair) = (one.joined_at, (writer.region, one.region));
        writer.due(timed).filter(|&due| due >= since).for_each(|due| self.tally.delivery(pair, due, now));
    }

    fn hears(&mut self, who: usize, heard: Heard<'_>, now: u64, out: &mut Vec<u8>) {
        let dialect = self.plan.dialect;
        match heard {
            Heard::Nothing => {}
            Heard::Update(update) => self.receive(who, update, now, true),
            Heard::Asked(state_vector) => {
                let one = &mut self.participants[who];
                let document = &self.documents[one.document];
                if one.answer(dialect, document, state_vector, out).is_err() {
                    self.failures.push("a server's state vector cannot be read".to_owned());
                }
            }
            Heard::State(update) => {
                self.receive(who, update, now, false);
                let one = &mut self.participants[who];
                if one.stage == Stage::Coming {
                    one.joined(dialect, &self.documents[one.document], now, out);
                    self.joined += 1;
                    self.connecting -= 1;
                    self.refused_since = None;
                    self.tally.counts.joins += 1;
                    self.tally.join.saturating_record((now - one.began_at).max(1));
                }
            }
            Heard::Saved => {
                let saved = self.participants[who].saved_each();
                self.saved(who, saved, now);
            }
            Heard::SavedTo(number) => {
                let saved = self.participants[who].saved_to(u32::try_from(number).unwrap_or(u32::MAX));
                self.saved(who, saved, now);
            }
            Heard::Denied(reason) => {
                self.failures.push(format!("the server refuses: {}", String::from_utf8_lossy(reason)));
            }
        }
    }

    fn saved(&mut self, who: usize, saved: Option<Range>, now: u64) {
        let one = &self.participants[who];
        let Some((saved, writer)) = saved.zip(one.writer) else { return };
        let writer = &self.documents[one.document].writers[writer];
        writer.due(saved).for_each(|due| self.tally.acked(due, now));
    }

    /// The participant whose connection this still is.
    fn owner(&self, connection: usize) -> Option<usize> {
        let who = self.owners[connection];
        (self.participants.get(who)?.connection == Some(connection)).then_some(who)
    }
}

impl Ear for Live<'_> {
    fn opened(&mut self, connection: usize, out: &mut Vec<u8>) {
        if let Some(who) = self.owner(connection) {
            let one = &mut self.participants[who];
            one.greet(self.plan.dialect, &self.documents[one.document], &self.plan.token, out);
        }
    }

    fn heard(&mut self, connection: usize, body: &[u8], at: Instant, out: &mut Vec<u8>) {
        let Some(who) = self.owner(connection) else { return };
        let now = micros(at.saturating_duration_since(self.start));
        match self.plan.dialect.hear(body, out) {
            Ok(heard) => self.hears(who, heard, now, out),
            Err(error) => self.failures.push(format!("what a server sent cannot be read: {error}")),
        }
    }

    fn closed(&mut self, connection: usize, why: String) {
        let Some(who) = self.owner(connection) else { return };
        let now = self.now();
        let one = &mut self.participants[who];
        self.joined -= u64::from(one.stage == Stage::Joined);
        self.connecting -= usize::from(one.stage == Stage::Coming);
        (one.connection, one.stage) = (None, Stage::Away);
        self.tally.counts.refused += 1;
        self.refused_since.get_or_insert(now);
        self.last_refusal = why;
        if self.tally.counts.joins == 0 {
            self.failures.push(format!("the server lets nobody in: {}", self.last_refusal));
        }
        if matches!(one.pen, Pen::Trace { .. }) {
            self.failures.push(format!("the session of a trace has ended: {}", self.last_refusal));
        }
        let back_at = now + RETRY_MICROS + self.dice.below(RETRY_MICROS);
        self.due.push(Reverse((back_at, Due::Connect(who))));
    }
}
