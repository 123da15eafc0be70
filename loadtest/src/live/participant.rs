//! One person at one server: what they have, what they wrote, and what of it the server has acknowledged.
//!
//! Moves no bytes by itself: it is told what came and appends what is to be sent.

use std::collections::VecDeque;

use quire_protocol::lib0::put_var_u64;

use super::dialect::{Ack, Dialect};
use super::document::Document;
use super::line::Line;
use super::person::{Act, Person};
use super::received::Received;
use crate::cursor::{Cursor, Malformed};
use crate::delivery::Range;
use crate::typist::{LetterId, ROOT};

/// Where a participant stands with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection, and none wanted.
    Away,
    /// A connection is being made, or is to be made again.
    Coming,
    /// All that the server had is here.
    Joined,
}

/// Who writes, and what.
#[derive(Debug)]
pub(super) enum Pen {
    /// A person on a line of their own.
    Line(Line, Box<Person>),
    /// A recorded trace: the updates of its edits, and how many were sent.
    Trace { sent: usize, clock: u32 },
    /// Nobody: this one watches.
    None,
}

/// One person at one server.
#[derive(Debug)]
pub(super) struct Participant {
    pub(super) document: usize,
    /// The number of its region.
    pub(super) region: usize,
    pub(super) pen: Pen,
    /// The number of the writer that it is in its document.
    pub(super) writer: Option<usize>,
    pub(super) connection: Option<usize>,
    pub(super) stage: Stage,
    /// Since when it has been joined, and when the connection was begun, in microseconds.
    pub(super) joined_at: u64,
    pub(super) began_at: u64,
    pub(super) received: Received,
    pub(super) has_lines: bool,
    /// Letters that the server has acknowledged.
    pub(super) acked: u32,
    /// Of each update that is to be acknowledged by itself, how many letters there are with it.
    unacked: VecDeque<u32>,
    /// How many letters the server has been sent by now; none before it has said on this connection what it has.
    sent_to: Option<u32>,
    /// Something was written that has not been sent.
    has_unsent: bool,
    /// How many letters there were when something was deleted last: who deletes and goes at once may go too early.
    pub(super) deleted_at: Option<u32>,
    cursor_clock: u32,
    /// The updates received and sent, where this one is to be compared in the end.
    pub(super) witness: Option<Vec<Vec<u8>>>,
}

impl Participant {
    pub(super) fn new(document: usize, region: usize, pen: Pen, writer: Option<usize>) -> Self {
        Self {
            document,
            region,
            pen,
            writer,
            connection: None,
            stage: Stage::Away,
            joined_at: 0,
            began_at: 0,
            received: Received::default(),
            has_lines: false,
            acked: 0,
            unacked: VecDeque::new(),
            sent_to: None,
            has_unsent: false,
            deleted_at: None,
            cursor_clock: 0,
            witness: None,
        }
    }

    /// How many letters it has written as the writer that it is.
    pub(super) fn clock(&self) -> u32 {
        match &self.pen {
            Pen::Line(line, _) => line.clock(),
            Pen::Trace { clock, .. } => *clock,
            Pen::None => 0,
        }
    }

    /// Whether all it wrote is acknowledged, deletions among them as far as that can be known.
    pub(super) fn is_saved(&self) -> bool {
        let is_deletion_saved = self.deleted_at.is_none_or(|at| at < self.acked);
        self.acked >= self.clock() && !self.has_unsent && is_deletion_saved
    }

    /// Whether nothing was typed after what was deleted last.
    pub(super) fn ended_with_deletion(&self) -> bool {
        self.deleted_at == Some(self.clock())
    }

    /// Its connection has been made: appends its greeting.
    pub(super) fn greet(&mut self, dialect: Dialect, document: &Document, token: &str, out: &mut Vec<u8>) {
        self.unacked.clear();
        self.sent_to = None;
        let mut state_vector = Vec::new();
        let known: Vec<(usize, u32)> =
            self.received.known().filter(|(of, _)| Some(*of) != self.writer).collect();
        let own =
            self.writer.map(|writer| (document.client(writer), self.clock())).filter(|(_, clock)| *clock > 0);
        let own = own.filter(|_| matches!(self.pen, Pen::Line(..)));
        put_var_u64(
            &mut state_vector,
            (known.len() + usize::from(own.is_some()) + usize::from(self.has_lines)) as u64,
        );
        let others = known.into_iter().map(|(writer, next)| (document.client(writer), next));
        let lines = self.has_lines.then(|| (document.lines_client(), document.lines));
        for (client, clock) in others.chain(own).chain(lines) {
            put_var_u64(&mut state_vector, client.into());
            put_var_u64(&mut state_vector, clock.into());
        }
        dialect.put_greeting(out, &document.name, token, &state_vector);
    }

    /// The server says what it has: appends what it lacks.
    pub(super) fn answer(
        &mut self,
        dialect: Dialect,
        document: &Document,
        state_vector: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let client = self.writer.map(|writer| document.client(writer));
        let mut update = Vec::new();
        match &self.pen {
            Pen::Line(line, _) => {
                let known = clock_of(state_vector, client.unwrap_or(0))?;
                if line.clock() > 0 {
                    line.put_since(known, &mut update);
                }
            }
            Pen::Trace { .. } | Pen::None => {}
        }
        if update.is_empty() {
            update.extend_from_slice(&[0, 0]);
        }
        let clock = self.clock();
        dialect.put_answer(out, &document.name, &update, clock.into());
        if dialect.ack() == Ack::Each {
            self.unacked.push_back(clock);
        }
        (self.sent_to, self.has_unsent) = (Some(clock), false);
        Ok(())
    }

    /// All that the server had is here: appends what was written meanwhile.
    pub(super) fn joined(&mut self, dialect: Dialect, document: &Document, now: u64, out: &mut Vec<u8>) {
        (self.stage, self.joined_at) = (Stage::Joined, now);
        self.send_unsent(dialect, document, out);
    }

    /// Appends what was written before it could be sent, if it can be by now.
    pub(super) fn send_unsent(&mut self, dialect: Dialect, document: &Document, out: &mut Vec<u8>) {
        if let (true, Some(sent_to), Pen::Line(line, _)) =
            (self.has_unsent && self.can_send(), self.sent_to, &self.pen)
        {
            let mut update = Vec::new();
            line.put_since(sent_to, &mut update);
            self.send(dialect, document, &update, out);
        }
    }

    const fn can_send(&self) -> bool {
        matches!(self.stage, Stage::Joined) && self.sent_to.is_some()
    }

    /// Sends an update, or keeps in mind that there is one.
    pub(super) fn send(&mut self, dialect: Dialect, document: &Document, update: &[u8], out: &mut Vec<u8>) {
        if !self.can_send() {
            self.has_unsent = true;
            return;
        }
        let clock = self.clock();
        dialect.put_update(out, &document.name, update, clock.into());
        if dialect.ack() == Ack::Each {
            self.unacked.push_back(clock);
        }
        (self.sent_to, self.has_unsent) = (Some(clock), false);
    }

    /// Writes what an act says. Returns the letters that are new and those that are deleted; none where there was
    /// nothing to do.
    pub(super) fn write(&mut self, act: Act, update: &mut Vec<u8>) -> Option<(u32, u64)> {
        let Pen::Line(line, _) = &mut self.pen else { return None };
        let (before, there) = (line.clock(), line.len() as u64);
        match act {
            Act::Key => line.put_text(&[LETTERS[before as usize % LETTERS.len()]], update),
            Act::Paste(len) => {
                let text: Vec<u8> = LETTERS.iter().copied().cycle().take(len).collect();
                line.put_text(&text, update);
            }
            Act::Delete(_) if there == 0 => return None,
            Act::Delete(count) => line.put_deletion(count, update),
            Act::Undo => {
                line.put_undo(update)?;
            }
            Act::Cursor | Act::Offline(_) | Act::CloseTab(_) => return None,
        }
        let new = line.clock() - before;
        let deleted = (there + u64::from(new)).saturating_sub(line.len() as u64);
        if deleted > 0 {
            self.deleted_at = Some(line.clock());
        }
        Some((new, deleted))
    }

    /// Appends that it is there, and where its cursor is if it writes, as an editor would say. `number` tells it from
    /// all others of the run.
    pub(super) fn put_presence(
        &mut self,
        dialect: Dialect,
        document: &Document,
        number: usize,
        out: &mut Vec<u8>,
    ) {
        if !self.can_send() {
            return;
        }
        self.cursor_clock += 1;
        let user = format!(r##""user":{{"name":"Typist {number}","color":"#30bced"}}"##);
        let (client, state) = match &self.pen {
            Pen::Line(line, _) => {
                let at = position(line.cursor());
                (line.client(), format!(r#"{{{user},"cursor":{{"anchor":{at},"head":{at}}}}}"#))
            }
            // No writer of any document has so small a number.
            Pen::Trace { .. } | Pen::None => (u32::try_from(number).unwrap_or(0), format!("{{{user}}}")),
        };
        dialect.put_cursor(out, &document.name, client, self.cursor_clock, &state);
    }

    /// The oldest update that was not acknowledged is: how many letters are by now, if that is more.
    pub(super) fn saved_each(&mut self) -> Option<Range> {
        let to = self.unacked.pop_front()?;
        self.saved_to(to)
    }

    /// So many letters are acknowledged: those that were not before.
    pub(super) fn saved_to(&mut self, to: u32) -> Option<Range> {
        let (from, to) = (self.acked, to.min(self.clock()));
        self.acked = from.max(to);
        (from < to).then_some(Range { client: 0, from, to })
    }

    /// The tab is closed: whoever opens it again has nothing and is another writer.
    pub(super) fn forget(&mut self, writer: usize, client: u32) {
        if let Pen::Line(line, _) = &mut self.pen {
            *line = line.reopened(client);
        }
        self.writer = Some(writer);
        self.received = Received::default();
        self.has_lines = false;
        (self.acked, self.deleted_at, self.has_unsent) = (0, None, false);
        if let Some(witness) = &mut self.witness {
            witness.clear();
        }
    }
}

/// A place in the text as Yjs tells it in JSON.
fn position(letter: Option<LetterId>) -> String {
    let item = letter.map_or_else(
        || "null".to_owned(),
        |LetterId { client, clock }| format!(r#"{{"client":{client},"clock":{clock}}}"#),
    );
    format!(r#"{{"type":null,"tname":"{ROOT}","item":{item},"assoc":0}}"#)
}

const LETTERS: &[u8] = crate::typist::LETTERS;

/// How many letters of a client a state vector tells of.
fn clock_of(state_vector: &[u8], client: u32) -> Result<u32, Malformed> {
    let mut cursor = Cursor::new(state_vector);
    for _ in 0..cursor.var_u64()? {
        let (of, clock) = (cursor.var_u64()?, cursor.var_u32()?);
        if of == u64::from(client) {
            return Ok(clock);
        }
    }
    Ok(0)
}
