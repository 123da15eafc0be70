//! Awareness updates from outside, and what a document makes of them for a stock client that hears it.
//!
//! Uses the library only: the crate's tests run it over the committed inputs.

use std::collections::BTreeMap;

use bytes::Bytes;
use quire_protocol::awareness::{
    Awareness, CLIENTS_PER_MESSAGE_MAX, CLIENTS_PER_SESSION_MAX, STATE_BYTES_MAX, State, TIMEOUT_MS, decode,
};
use quire_protocol::ids::SessionId;
use quire_protocol::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use quire_protocol::time::Time;

/// Events of one input that are looked at.
const EVENTS_MAX: usize = 512;
/// Sessions that speak.
const SESSIONS: u8 = 4;
/// The longest pause between two events, in milliseconds: past every timeout.
const PAUSE_MS_MAX: u64 = 2 * TIMEOUT_MS;
/// States that clients choose from, one of which says that the client has gone.
const STATES: [&str; 4] = ["null", "{}", r#"{"cursor":1}"#, r#"{"user":{"name":"ann"}}"#];

/// Reads the whole as one update, then as a sequence of events.
pub(crate) fn run(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _read = read(&bytes);
    let mut reader = Reader::new(bytes);
    let (mut room, mut listener, mut now) = (Awareness::default(), Listener::default(), Time(0));
    for _ in 0..EVENTS_MAX {
        if event(&mut reader, &mut room, &mut now).is_err() {
            break;
        }
        // The document tells in bursts; here, whenever the clock is even.
        if now.0 % 2 == 0 {
            tell(&mut room, &mut listener, now);
        }
    }
    tell(&mut room, &mut listener, now);
}

/// Reads an update, and holds what is read to the limits.
fn read(bytes: &Bytes) -> Option<Vec<State>> {
    let states = decode(bytes.clone()).ok()?;
    assert!(states.len() <= CLIENTS_PER_MESSAGE_MAX);
    assert!(states.iter().all(|state| state.json.as_str().len() <= STATE_BYTES_MAX));
    let again = write(states.iter().map(|state| (state.client, state.clock, state.json.as_str())));
    assert!(again.len() <= bytes.len(), "we write the shortest spelling");
    assert_eq!(decode(again.into()).as_ref(), Ok(&states), "states survive their bytes");
    Some(states)
}

fn write<'a>(states: impl ExactSizeIterator<Item = (u32, u64, &'a str)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_var_u64(&mut bytes, states.len() as u64);
    for (client, clock, json) in states {
        put_var_u64(&mut bytes, u64::from(client));
        put_var_u64(&mut bytes, clock);
        put_var_bytes(&mut bytes, json.as_bytes());
    }
    bytes
}

fn event(reader: &mut Reader, room: &mut Awareness, now: &mut Time) -> Result<(), ReadError> {
    let kind = reader.u8()?;
    let session = SessionId(u64::from(reader.u8()? % SESSIONS));
    match kind % 4 {
        0 => {
            if let Some(states) = read(&reader.var_bytes()?) {
                room.take(*now, session, states);
            }
        }
        1 => {
            let (client, clock) = (reader.u8()?, reader.u8()?);
            let json = STATES[usize::from(reader.u8()?) % STATES.len()];
            let bytes = write([(u32::from(client), u64::from(clock), json)].into_iter());
            room.take(*now, session, decode(bytes.into()).expect("it is well formed"));
        }
        2 => room.end_session(*now, session),
        _ => {
            *now = now.after(reader.var_u64()? % PAUSE_MS_MAX);
            if room.next_expiry().is_some_and(|expiry| expiry <= *now) {
                room.expire(*now);
            }
            assert!(room.next_expiry().is_none_or(|expiry| expiry > *now) || room.has_changed());
        }
    }
    Ok(())
}

/// Tells what has changed: whoever hears all of it knows what a newcomer is told.
fn tell(room: &mut Awareness, listener: &mut Listener, now: Time) {
    if room.has_changed() {
        listener.hear(now, room.take_changes());
    }
    assert!(!room.has_changed());
    let mut newcomer = Listener::default();
    if let Some(everybody) = room.everybody() {
        newcomer.hear(now, everybody);
    }
    assert_eq!(listener.present(), newcomer.present(), "who hears all knows who is here");
    let most = CLIENTS_PER_SESSION_MAX * usize::from(SESSIONS);
    assert!(newcomer.present().len() <= most, "sessions introduce a bounded number of clients");
    listener.told = now;
}

/// What a stock client keeps of what it hears.
#[derive(Default)]
struct Listener {
    clients: BTreeMap<u32, Heard>,
    told: Time,
}

struct Heard {
    clock: u64,
    json: Option<String>,
    /// It had not gone before this.
    since: Time,
}

impl Listener {
    fn hear(&mut self, now: Time, bytes: Vec<u8>) {
        let mut reader = Reader::new(bytes.into());
        for _ in 0..reader.var_u64().expect("a count") {
            let client = reader.var_u32().expect("a client");
            let clock = reader.var_u64().expect("a clock");
            let json = reader.var_str().expect("a state").as_str().to_owned();
            self.take(now, client, clock, (json != STATES[0]).then_some(json));
        }
        reader.finish().expect("nothing more");
    }

    fn take(&mut self, now: Time, client: u32, clock: u64, json: Option<String>) {
        let newer = match self.clients.get(&client) {
            // Who has been gone that long is forgotten, and may begin anew.
            Some(known) if json.is_some() && known.json.is_none() && now.since(known.since) >= TIMEOUT_MS => {
                true
            }
            Some(known) => {
                clock > known.clock || (clock == known.clock && json.is_none() && known.json.is_some())
            }
            None => true,
        };
        if newer {
            self.clients.insert(client, Heard { clock, json, since: self.told });
        }
    }

    fn present(&self) -> BTreeMap<u32, (u64, &str)> {
        let present = self.clients.iter();
        present.filter_map(|(client, heard)| Some((*client, (heard.clock, heard.json.as_deref()?)))).collect()
    }
}
