//! Awareness: who is here and where their cursor is.
//!
//! States are opaque JSON. They are validated (an editor would throw on anything else), kept newest
//! per client, sent to everybody at most once a tick, and never stored.
//!
//! Invariant: a client that is present belongs to exactly one session, and goes when it goes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::ids::SessionId;
use crate::lib0::{ReadError, Reader, Text, put_var_bytes, put_var_u64};
use crate::time::Time;

/// The longest state of one client, in bytes of JSON: a cursor, a name and a colour take about 200.
pub const STATE_BYTES_MAX: usize = 16 * 1024;
/// The most clients one message may speak of: an editor speaks of itself, and of those that timed out.
pub const CLIENTS_PER_MESSAGE_MAX: usize = 1024;
/// The most clients one session may introduce.
pub const CLIENTS_PER_SESSION_MAX: usize = 16;
/// The most clients that may be present in one document.
pub const CLIENTS_MAX: usize = 10_000;
/// A client that is not renewed for this long is gone; editors renew every 15 seconds.
pub const TIMEOUT_MS: u64 = 30_000;
/// The largest clock: a JavaScript safe integer.
const CLOCK_MAX: u64 = (1 << 53) - 1;
/// The state of a client that has gone.
const GONE: &str = "null";

/// One client's state in an awareness update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The Yjs client id.
    pub client: u32,
    /// Counts that client's changes.
    pub clock: u64,
    /// JSON; `null` when the client has gone.
    pub json: Text,
}

/// Why an awareness update is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AwarenessError {
    /// The bytes are not an awareness update.
    #[error("the awareness update is malformed: {0}")]
    Malformed(#[from] ReadError),
    /// More than [`CLIENTS_PER_MESSAGE_MAX`] clients.
    #[error("an awareness update speaks of at most {CLIENTS_PER_MESSAGE_MAX} clients; this one of {0}")]
    TooMany(u64),
    /// A state over [`STATE_BYTES_MAX`].
    #[error("an awareness state has at most {STATE_BYTES_MAX} bytes; this one has {0}")]
    TooLong(usize),
    /// A state that is not JSON.
    #[error("the awareness state of client {0} is not JSON")]
    NotJson(u32),
}

/// Reads an awareness update.
///
/// # Errors
/// When the bytes, a state or a count is outside the limits above.
pub fn decode(bytes: Bytes) -> Result<Vec<State>, AwarenessError> {
    let mut reader = Reader::new(bytes);
    let count = reader.var_u64()?;
    if count > CLIENTS_PER_MESSAGE_MAX as u64 {
        return Err(AwarenessError::TooMany(count));
    }
    let mut states = Vec::new();
    for _ in 0..count {
        let client = reader.var_u32()?;
        let clock = reader.var_u64()?;
        if clock > CLOCK_MAX {
            return Err(ReadError::Overflow.into());
        }
        let json = reader.var_str()?;
        if json.as_str().len() > STATE_BYTES_MAX {
            return Err(AwarenessError::TooLong(json.as_str().len()));
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(json.as_str()).is_err() {
            return Err(AwarenessError::NotJson(client));
        }
        states.push(State { client, clock, json });
    }
    reader.finish()?;
    Ok(states)
}

/// An awareness update that says nothing: a frame that keeps a client's watchdog quiet.
pub const EMPTY: &[u8] = &[0];

/// Whoever is in another region: they share one session here.
pub const ELSEWHERE: SessionId = SessionId(u64::MAX);

/// What is known of one client. One that has gone keeps its clock a while, so that a late message of
/// its last session does not bring it back.
#[derive(Debug)]
struct Presence {
    clock: u64,
    json: Option<Text>,
    session: SessionId,
    seen: Time,
}

/// Who is present in one document.
#[derive(Debug, Default)]
pub struct Awareness {
    clients: BTreeMap<u32, Presence>,
    changed: BTreeSet<u32>,
}

impl Awareness {
    /// Takes what a session says; older clocks are passed over, as are clients past the limits.
    pub fn take(&mut self, now: Time, session: SessionId, states: Vec<State>) {
        for state in states {
            self.take_one(now, session, state);
        }
    }

    fn take_one(&mut self, now: Time, session: SessionId, state: State) {
        let gone = state.json.as_str() == GONE;
        let owned = |presence: &Presence| presence.session == session && presence.json.is_some();
        let known = self.clients.get(&state.client);
        // Whoever comes back, or comes over from another session, is one more in this one.
        let comes = !gone && !known.is_some_and(owned);
        let full = comes
            && session != ELSEWHERE
            && self.clients.values().filter(|known| owned(known)).count() >= CLIENTS_PER_SESSION_MAX
            || known.is_none() && self.clients.len() >= CLIENTS_MAX;
        match self.clients.get_mut(&state.client) {
            Some(known) => {
                let newer =
                    state.clock > known.clock || (state.clock == known.clock && gone && known.json.is_some());
                if !newer {
                    if known.json.is_none() && !gone {
                        // It is here, and does not know that it was said to be gone: once told, a
                        // stock client raises its clock and says that it is here.
                        self.changed.insert(state.client);
                    }
                    return;
                }
                if full {
                    return;
                }
                known.clock = state.clock;
                known.json = (!gone).then_some(state.json);
                known.seen = now;
                if !gone {
                    known.session = session;
                }
            }
            None if gone => return,
            None if full => return,
            None => {
                let presence = Presence { clock: state.clock, json: Some(state.json), session, seen: now };
                self.clients.insert(state.client, presence);
            }
        }
        self.changed.insert(state.client);
    }

    /// Removes whoever a session introduced: it has ended.
    pub fn end_session(&mut self, now: Time, session: SessionId) {
        self.remove_where(now, |presence| presence.session == session);
    }

    /// Removes whoever has not been renewed for [`TIMEOUT_MS`], and forgets who has been gone as long.
    pub fn expire(&mut self, now: Time) {
        let (changed, old) = (&self.changed, |seen: Time| now.since(seen) >= TIMEOUT_MS);
        self.clients.retain(|client, presence| {
            presence.json.is_some() || !old(presence.seen) || changed.contains(client)
        });
        self.remove_where(now, |presence| old(presence.seen));
    }

    fn remove_where(&mut self, now: Time, leaves: impl Fn(&Presence) -> bool) {
        for (client, presence) in &mut self.clients {
            if presence.json.is_some() && leaves(presence) {
                presence.json = None;
                presence.clock = (presence.clock + 1).min(CLOCK_MAX);
                presence.seen = now;
                self.changed.insert(*client);
            }
        }
    }

    /// When the next client times out or is forgotten, if nothing renews it.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Time> {
        self.clients.values().map(|presence| presence.seen.after(TIMEOUT_MS)).min()
    }

    /// Whether something waits to be told.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has changed since the last call, as one awareness update.
    pub fn take_changes(&mut self) -> Vec<u8> {
        let changed = std::mem::take(&mut self.changed);
        let states = changed.iter().filter_map(|client| self.clients.get_key_value(client));
        encode(&states.collect::<Vec<_>>())
    }

    /// What has changed of those who are in this region, as one awareness update; `None` when nothing has.
    /// Changes nothing.
    #[must_use]
    pub fn changes_here(&self) -> Option<Vec<u8>> {
        let changed = self.changed.iter().filter_map(|client| self.clients.get_key_value(client));
        let here: Vec<_> = changed.filter(|(_, presence)| presence.session != ELSEWHERE).collect();
        (!here.is_empty()).then(|| encode(&here))
    }

    /// Everybody who is present, as one awareness update; `None` when nobody is.
    #[must_use]
    pub fn everybody(&self) -> Option<Vec<u8>> {
        let present: Vec<_> = self.clients.iter().filter(|(_, presence)| presence.json.is_some()).collect();
        (!present.is_empty()).then(|| encode(&present))
    }
}

fn encode(states: &[(&u32, &Presence)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_var_u64(&mut out, states.len() as u64);
    for (client, presence) in states {
        put_var_u64(&mut out, u64::from(**client));
        put_var_u64(&mut out, presence.clock);
        put_var_bytes(&mut out, presence.json.as_ref().map_or(GONE, Text::as_str).as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANN: SessionId = SessionId(1);
    const BOB: SessionId = SessionId(2);

    fn update(client: u32, clock: u64, json: &str) -> Vec<State> {
        let mut bytes = vec![1];
        put_var_u64(&mut bytes, u64::from(client));
        put_var_u64(&mut bytes, clock);
        put_var_bytes(&mut bytes, json.as_bytes());
        decode(bytes.into()).unwrap()
    }

    fn said(bytes: Vec<u8>) -> Vec<(u32, u64, String)> {
        let states = decode(bytes.into()).unwrap();
        states.into_iter().map(|s| (s.client, s.clock, s.json.as_str().to_owned())).collect()
    }

    #[test]
    fn a2_the_newest_state_of_each_client_is_told_once() {
        let mut room = Awareness::default();
        room.take(Time(0), ANN, update(7, 1, "{\"x\":1}"));
        room.take(Time(1), ANN, update(7, 3, "{\"x\":3}"));
        room.take(Time(2), ANN, update(7, 2, "{\"x\":2}"));
        assert_eq!(said(room.take_changes()), [(7, 3, "{\"x\":3}".to_owned())]);
        assert!(!room.has_changed());
    }

    #[test]
    fn a8_other_regions_are_told_of_those_who_are_here() {
        let mut room = Awareness::default();
        room.take(Time(0), ANN, update(7, 1, "{}"));
        room.take(Time(0), ELSEWHERE, update(8, 1, "{}"));
        assert_eq!(said(room.changes_here().unwrap()), [(7, 1, "{}".to_owned())]);
        assert_eq!(said(room.take_changes()).len(), 2);
        room.take(Time(1), ELSEWHERE, update(8, 2, "{}"));
        assert_eq!(room.changes_here(), None);
        // Who moves from there to here is told of from here.
        room.take(Time(2), BOB, update(8, 3, "{}"));
        assert_eq!(said(room.changes_here().unwrap()), [(8, 3, "{}".to_owned())]);
        for client in 100..200 {
            room.take(Time(3), ELSEWHERE, update(client, 1, "{}"));
        }
        assert_eq!(said(room.everybody().unwrap()).len(), 102, "a whole region is more than one session");
    }

    #[test]
    fn a4_who_leaves_is_told_as_null_with_a_newer_clock() {
        let mut room = Awareness::default();
        room.take(Time(0), ANN, update(7, 1, "{}"));
        room.take(Time(0), BOB, update(8, 1, "{}"));
        let _ = room.take_changes();
        room.end_session(Time(1), ANN);
        assert_eq!(said(room.take_changes()), [(7, 2, "null".to_owned())]);
        assert_eq!(said(room.everybody().unwrap()), [(8, 1, "{}".to_owned())]);
    }

    #[test]
    fn a5_a_client_that_is_not_renewed_times_out() {
        let mut room = Awareness::default();
        room.take(Time(5), ANN, update(7, 1, "{}"));
        assert_eq!(room.next_expiry(), Some(Time(30_005)));
        room.expire(Time(30_005));
        assert_eq!(room.everybody(), None);
        assert_eq!(said(room.take_changes()), [(7, 2, "null".to_owned())]);
        room.expire(Time(60_005));
        assert_eq!(room.next_expiry(), None);
    }

    #[test]
    fn a2_a_null_of_the_same_clock_removes_and_an_older_one_does_not() {
        let mut room = Awareness::default();
        room.take(Time(0), ANN, update(7, 4, "{}"));
        room.take(Time(0), BOB, update(7, 3, "null"));
        assert!(room.everybody().is_some());
        room.take(Time(0), BOB, update(7, 4, "null"));
        assert!(room.everybody().is_none());
    }

    #[test]
    fn a7_a_session_introduces_a_bounded_number_of_clients() {
        let mut room = Awareness::default();
        for client in 0..100 {
            room.take(Time(0), ANN, update(client, 1, "{}"));
        }
        assert_eq!(said(room.everybody().unwrap()).len(), CLIENTS_PER_SESSION_MAX);
    }

    #[test]
    fn a7_who_comes_back_or_comes_over_counts() {
        let max = u32::try_from(CLIENTS_PER_SESSION_MAX).unwrap();
        let mut room = Awareness::default();
        for client in 0..max {
            room.take(Time(0), ANN, update(client, 1, "{}"));
            room.take(Time(0), ANN, update(client, 2, "null"));
            room.take(Time(0), BOB, update(max + client, 1, "{}"));
        }
        // Ann's first clients have gone; with new ones her session is full.
        for client in 2 * max..3 * max {
            room.take(Time(0), ANN, update(client, 1, "{}"));
        }
        let everybody = room.everybody();
        for client in 0..2 * max {
            room.take(Time(0), ANN, update(client, 3, "{}"));
        }
        assert_eq!(room.everybody(), everybody);
        assert_eq!(said(everybody.unwrap()).len(), 2 * CLIENTS_PER_SESSION_MAX);
    }

    #[test]
    fn a1_what_is_not_json_or_too_long_is_refused() {
        let frame = |json: &str| {
            let mut bytes = vec![1, 7, 1];
            put_var_bytes(&mut bytes, json.as_bytes());
            decode(bytes.into())
        };
        assert_eq!(frame("{"), Err(AwarenessError::NotJson(7)));
        assert_eq!(frame(&"[".repeat(9_000)), Err(AwarenessError::NotJson(7)));
        assert_eq!(
            frame(&"1".repeat(STATE_BYTES_MAX + 1)),
            Err(AwarenessError::TooLong(STATE_BYTES_MAX + 1))
        );
        assert_eq!(decode(Bytes::from_static(&[0xff, 0xff, 3])), Err(AwarenessError::TooMany(65535)));
    }

    proptest! {
        #[test]
        fn a1_any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _: Result<Vec<State>, AwarenessError> = decode(bytes.into());
        }
    }
}
