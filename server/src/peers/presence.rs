//! Awareness between regions: it is not kept, goes to whoever has a link, and is passed on to those that
//! the first teller does not reach.
//!
//! Invariant: a client's state is passed on once for each of its clocks, so that nothing circles in a ring.

use super::links::Peers;
use crate::documents::Documents;
use bytes::Bytes;
use quire_protocol::awareness;
use quire_protocol::ids::{DocId, ReplicaId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Clients whose clocks are remembered; when there are more, all are forgotten, and what then comes again
/// is passed on once more.
const CLOCKS_MAX: usize = 100_000;

/// The newest clock of each client that was passed on.
#[derive(Debug, Default)]
pub(super) struct PassedOn(Mutex<HashMap<(DocId, u32), u64>>);

impl PassedOn {
    /// Whether some client of an awareness update has a newer clock than was passed on; notes them all.
    fn is_news(&self, doc: DocId, payload: &Bytes) -> bool {
        let Ok(states) = awareness::decode(payload.clone()) else { return false };
        let mut clocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clocks.len() >= CLOCKS_MAX {
            clocks.clear();
        }
        let mut news = false;
        for state in states {
            // A client that is gone keeps its clock: two ticks for each, here or not.
            let here = u64::from(state.json.as_str() == "null");
            let tick = state.clock.saturating_mul(2) + here;
            let known = clocks.entry((doc, state.client)).or_default();
            if tick > *known {
                *known = tick;
                news = true;
            }
        }
        news
    }
}

impl Peers {
    /// Tells every peer who moves, comes or goes here.
    pub(crate) fn tell(&self, doc: DocId, payload: &Bytes) {
        self.for_links(|_, link| link.tell(doc, payload.clone()));
    }

    /// A peer has told who moves, comes or goes: the document is told if it is open, and so are the peers
    /// that do not hear that one first-hand.
    pub(super) fn pass_on(&self, documents: &Documents, from: ReplicaId, doc: DocId, payload: &Bytes) {
        documents.tell_presence(doc, payload.clone());
        // A question is for neighbours alone.
        if payload.as_ref() == awareness::EMPTY || !self.passed_on.is_news(doc, payload) {
            return;
        }
        self.for_links(|to, link| {
            if to != from && !link.hears(from) {
                link.tell(doc, payload.clone());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(client: u8, clock: u8, json: &str) -> Bytes {
        let len = u8::try_from(json.len()).expect("short");
        [&[1, client, clock, len][..], json.as_bytes()].concat().into()
    }

    #[test]
    fn a_state_is_passed_on_once() {
        let passed = PassedOn::default();
        let doc = DocId(1);
        assert!(passed.is_news(doc, &state(7, 1, "{}")));
        assert!(!passed.is_news(doc, &state(7, 1, "{}")));
        assert!(passed.is_news(DocId(2), &state(7, 1, "{}")));
        assert!(passed.is_news(doc, &state(7, 1, "null")), "who is gone is told with the same clock");
        assert!(!passed.is_news(doc, &state(7, 1, "{}")));
        assert!(passed.is_news(doc, &state(7, 2, "{}")));
        assert!(!passed.is_news(doc, &Bytes::from_static(&[9])));
    }
}
