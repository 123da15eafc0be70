//! Regions that stop in an orderly way: their editors go elsewhere, and each link ends once the peer has what
//! the region wrote. And the canaries, of which a region that stops writes a last one.

use super::region::Standing;
use super::world::{Happening, World};
use quire_protocol::batch::{EntryKind, NO_DOC, encode_canary};
use quire_protocol::ids::Dot;
use quire_protocol::link::{Bye, ByeReason, Input};
use quire_protocol::time::Time;
use quire_storage::NewEntry;

/// A region that cannot reach all its peers stops after so long all the same, in milliseconds.
const DELIVERY_MAX_MS: u64 = 5000;
/// It looks so often whether its peers have everything.
const LOOK_EVERY_MS: u64 = 50;
/// A region that takes writes writes a canary so often, in milliseconds, as the server does.
const CANARY_EVERY_MS: u64 = 5000;

impl World {
    /// A region begins to stop.
    pub(super) fn drain(&mut self, at: usize) {
        self.say(format_args!("region {at} is told to stop, and sends its editors away"));
        self.regions[at].stopping = true;
        self.send_editors_away(at);
        self.totals.drains += 1;
        let (life, until) = (self.regions[at].life, self.now.after(DELIVERY_MAX_MS));
        self.after(LOOK_EVERY_MS, Happening::Drain(at, life, until));
        self.write_canary(at);
    }

    /// A region that may write says what time it is, and will again: an idle stream is heard of too.
    ///
    /// Once all is healed only those do who wait for each other. What was lost on a connection that lived on,
    /// as no real one loses anything, is sent again when a link has been quiet, and many canaries leave none so.
    pub(super) fn write_canary_again(&mut self, at: usize) {
        let region = &self.regions[at];
        let is_due = self.is_active() || self.waits_for_removal(at);
        if is_due && region.standing != Standing::Removed && !region.stopping {
            self.write_canary(at);
        }
        self.after(CANARY_EVERY_MS, Happening::Canary(at));
    }

    fn write_canary(&mut self, at: usize) {
        // A restored disk takes no writes before its region has met its neighbours.
        if self.regions[at].unmet.is_empty() {
            let payload = encode_canary(self.regions[at].wall_ms(self.now.0));
            self.append(at, NewEntry { doc: NO_DOC, kind: EntryKind::Canary, payload });
        }
    }

    /// Has a region's editors open another one.
    pub(super) fn send_editors_away(&mut self, at: usize) {
        let mut others = self.members();
        others.retain(|other| *other != at);
        for editor in 0..self.editors.len() {
            if self.editors[editor].region == at {
                self.part(editor);
                self.editors[editor].region = others[self.rng.index(others.len())];
            }
        }
    }

    /// Ends the links over which all has been delivered, and the region once it has none or has waited enough.
    pub(super) fn drain_on(&mut self, at: usize, life: u64, until: Time) {
        if self.regions[at].life != life {
            return;
        }
        let is_written = self.regions[at].writes.is_empty() && !self.regions[at].committing;
        if is_written {
            self.end_delivered_links(at);
        }
        // What a link's end makes happen may have cost the region its power.
        if self.regions[at].life != life {
            return;
        }
        if is_written && self.hears(at).is_empty() || self.now >= until {
            self.say(format_args!("region {at} stops"));
            return self.goes_down(at);
        }
        self.after(LOOK_EVERY_MS, Happening::Drain(at, life, until));
    }

    fn end_delivered_links(&mut self, at: usize) {
        let Some(own) = self.regions[at].log.as_ref().map(|log| log.stream()) else { return };
        let last = Dot { stream: own, seq: self.regions[at].durable.get(own) };
        for to in self.neighbours(at) {
            if !self.acknowledged((at, to)).is_some_and(|held| held.covers(last)) {
                continue;
            }
            if !self.regions[to].durable.covers(last) {
                self.ledger.violate(format!("region {to} has said that it has entry {last} and lacks it"));
            }
            let detail = "the region stops".to_owned();
            self.handle((at, to), Input::Stop(Bye { reason: ByeReason::Stopping, detail }));
        }
    }
}
