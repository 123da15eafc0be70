//! What editors and their regions say to each other: what a Yjs client and a server do.
//!
//! An editor that connects says what it has and is sent what it lacks, and is asked for what the region
//! lacks. Then each edit is sent as it is made.

use super::editor::{Editor, decoded};
use super::field_checks::Admitted;
use super::fields::entry;
use super::plant::Plant;
use super::region::Write;
use super::world::{Happening, World};
use bytes::Bytes;
use quire_protocol::fields::FieldsEntry;
use quire_protocol::time::Time;
use quire_protocol::update::Update;

/// What an editor says to its region.
#[derive(Clone)]
pub(super) enum Up {
    /// This is what I have: a state vector.
    Join(Vec<u8>),
    /// This is news, or the answer to a question.
    Update(Bytes),
}

/// What a region says to an editor.
#[derive(Clone)]
pub(super) enum Down {
    /// This is what you lack, or news.
    Update(Bytes),
    /// This is what I have: what do I lack?
    Ask(Vec<u8>),
    /// An update of yours is on disk.
    Saved,
}

/// An editor and its region are so many milliseconds apart, at least and at most.
const WAY_MS: (u64, u64) = (2, 40);

/// When the last message of a session arrives, up and down.
pub(super) type Lanes = [Time; 2];

impl World {
    /// Connects an editor whose region is there, and looks again later.
    pub(super) fn look_after(&mut self, editor: usize) {
        if self.editors[editor].closed {
            return;
        }
        let again = self.rng.within(300, 800);
        self.after(again, Happening::LookAfter(editor));
        let at = &self.editors[editor];
        if !at.online || at.session.is_some() || !self.regions[at.region].takes_writes() {
            return;
        }
        if self.regions[at.region].shows.get(at.of).is_deleted() {
            return;
        }
        let session = self.next_number();
        let at = &mut self.editors[editor];
        at.session = Some(session);
        at.told = false;
        at.sessions += 1;
        let (client, region, held) = (at.client, at.region, at.state_vector());
        self.lanes.insert(session, [self.now; 2]);
        self.say(format_args!("editor {client} connects to region {region}"));
        self.send_up(editor, session, Up::Join(held));
    }

    /// An editor's connection breaks.
    pub(super) fn part(&mut self, editor: usize) {
        if let Some(session) = self.editors[editor].session.take() {
            self.lanes.remove(&session);
            let region = self.editors[editor].region;
            self.regions[region].sessions.remove(&editor);
        }
    }

    /// An editor has made an update.
    pub(super) fn edited(&mut self, editor: usize, update: &Update) {
        self.totals.edits += 1;
        let at = &self.editors[editor];
        let written = self.ledger.truth(at.of).edited(update, &at.shape.state_vector());
        if let Err(complaint) = written {
            return self.ledger.violate(complaint);
        }
        // What is typed between connecting and answering what the region asks may be there before what its
        // editor had seen elsewhere: nothing is promised of it but that it is kept.
        if at.told || at.session.is_none() {
            self.ledger.edited(update, &at.shape);
        }
        if let Some(session) = at.session {
            self.send_up(editor, session, Up::Update(update.encoded().clone()));
        }
    }

    fn arrival(&mut self, session: u64, direction: usize) -> Option<Time> {
        let way = self.rng.within(WAY_MS.0, WAY_MS.1);
        let lane = &mut self.lanes.get_mut(&session)?[direction];
        *lane = (*lane).max(self.now.after(way));
        Some(*lane)
    }

    fn send_up(&mut self, editor: usize, session: u64, message: Up) {
        if let Some(at) = self.arrival(session, 0) {
            self.at(at, Happening::Up(editor, session, message));
        }
    }

    pub(super) fn send_down(&mut self, editor: usize, session: u64, message: Down) {
        if let Some(at) = self.arrival(session, 1) {
            self.at(at, Happening::Down(editor, session, message));
        }
    }

    /// A region hears an editor.
    pub(super) fn hear_editor(&mut self, editor: usize, session: u64, message: Up) {
        if self.editors[editor].session != Some(session) {
            return;
        }
        let at = self.editors[editor].region;
        match message {
            Up::Join(held) => {
                self.regions[at].sessions.insert(editor, session);
                let open = self.regions[at].shows.get(self.editors[editor].of);
                let (missed, held) = (open.lacking(&held), open.state_vector());
                self.send_down(editor, session, Down::Update(missed));
                self.send_down(editor, session, Down::Ask(held));
            }
            Up::Update(bytes) => self.offer(at, editor, session, bytes),
        }
    }

    fn offer(&mut self, at: usize, editor: usize, session: u64, bytes: Bytes) {
        let sent = match Update::decode(bytes) {
            Ok(sent) => sent,
            Err(refusal) => return self.ledger.violate(format!("an honest update is refused: {refusal}")),
        };
        if self.planted.is(Plant::DeleteSetDropped) && sent.block_count() == 0 {
            return self.send_down(editor, session, Down::Saved);
        }
        let doc = self.editors[editor].of;
        let open = self.regions[at].shows.get_mut(doc);
        let admission = match open.admitted.admit(sent.clone()) {
            Ok(admission) => admission,
            Err(refusal) => return self.ledger.violate(format!("an honest update is refused: {refusal}")),
        };
        let noted = admission.fresh.as_ref().and_then(|fresh| self.note(at, editor, fresh, &sent));
        let open = self.regions[at].shows.get_mut(doc);
        if let Some(fresh) = &admission.fresh {
            open.admitted.record(fresh);
        }
        let held = open.admitted.state_vector().encode();
        let told = self.planted.is(Plant::AckBeforeSync);
        let from = Some((editor, session));
        let write = |fresh, noted, told| Write { doc, from, sent: sent.clone(), fresh, noted, told };
        if admission.missing {
            // What it rests on is still to come: the editor is asked for all of it, and nothing is promised.
            self.send_down(editor, session, Down::Ask(held));
            if admission.fresh.is_some() {
                self.admit(at, write(admission.fresh, noted, true));
            }
        } else {
            if told {
                self.tell_saved(at, write(None, None, true), None);
            }
            self.admit(at, write(admission.fresh, noted, told));
        }
    }

    /// What a region says of what is new to it in an editor's update; none when that writes no field.
    fn note(&mut self, at: usize, editor: usize, fresh: &Update, sent: &Update) -> Option<FieldsEntry> {
        let Editor { of: doc, client, .. } = self.editors[editor];
        let planted = self.planted;
        let mut marks = self.regions[at].shows.get_mut(doc).fields.note(fresh, sent, planted);
        if planted.is(Plant::MarksDropped) {
            marks.iter_mut().for_each(Vec::clear);
        }
        if planted.is(Plant::DeletionsUnordered) {
            marks.iter_mut().flatten().for_each(|mark| mark.sees.clear());
        }
        let all = marks.as_deref().unwrap_or_default();
        self.check_marks(at, doc, &Admitted { fresh, sent: Some(sent), all, drafted: &[] });
        let marks = marks?;
        let noted = entry(at, Some(format!("editor {client}")), marks, fresh);
        (!planted.is(Plant::FieldsAsText)).then_some(noted)
    }

    /// An editor hears its region.
    pub(super) fn hear_region(&mut self, editor: usize, session: u64, message: Down) {
        if self.editors[editor].session != Some(session) {
            return;
        }
        match message {
            Down::Update(update) => self.editors[editor].hears(&update),
            Down::Ask(held) => {
                if self.planted.is(Plant::SessionNotResynced) && self.editors[editor].sessions > 1 {
                    return;
                }
                self.editors[editor].told = true;
                let lacking = self.editors[editor].lacking(&held);
                if !decoded(lacking.clone()).is_empty() {
                    self.send_up(editor, session, Up::Update(lacking));
                }
            }
            Down::Saved => {}
        }
    }
}
