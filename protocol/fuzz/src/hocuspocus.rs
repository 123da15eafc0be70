//! Hocuspocus frames from outside, one by one and as what happens on one socket.
//!
//! Uses the library only: the crate's tests run it over the committed inputs.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quire_protocol::close::{CloseReason, REASON_BYTES_MAX};
use quire_protocol::document::Access;
use quire_protocol::hocuspocus::{Address, Body, Frame, Input, Limits, Output, Socket, Verdict, read};
use quire_protocol::lib0::{ReadError, Reader, put_var_bytes};
use quire_protocol::time::Time;
use quire_protocol::ysync::Message;

/// Events of one input that are looked at.
const EVENTS_MAX: usize = 256;
/// Small enough that short inputs reach them.
const LIMITS: Limits = Limits {
    queued_messages_max: 6,
    queued_bytes_max: 64,
    waiting_documents_max: 2,
    documents_max: 3,
    auth_ms_max: 1_000,
};
/// Documents that well-formed frames are about; two providers of one socket share the first.
const ADDRESSES: [&str; 4] = ["a", "a\0 1", "b/c", "é"];
/// What well-formed frames say: tokens of both provider generations, sync, awareness, closing, stateless.
const BODIES: [&[u8]; 8] = [
    b"\x02\0\x01t",
    b"\x02\0\x01t\x054.8.0",
    b"\0\0\x01\0",
    b"\x04\x02\x02\0\0",
    b"\x01\x01\0",
    b"\x03",
    b"\x07",
    b"\x05\x01x",
];
const PING: &[u8] = &[9];
const PONG: &[u8] = &[10];

/// Reads the whole as one frame, then as what happens on a socket.
pub(crate) fn run(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    match read(bytes.clone()) {
        Ok(Frame::Document(address, body)) => {
            assert_eq!(Address::new(address.as_str()), Ok(address), "an address survives its text");
            if let Body::Message(message) = body {
                assert!(message.body_len() < data.len(), "a body lies within its frame");
            }
        }
        Ok(Frame::Ping | Frame::Pong) => assert_eq!(data.len(), 1),
        Err(error) => assert!(CloseReason::from(error).is_permanent(), "trying again would not help"),
    }
    let mut world = World::new();
    let mut reader = Reader::new(bytes);
    for _ in 0..EVENTS_MAX {
        if world.closed || event(&mut reader, &mut world).is_err() {
            break;
        }
        world.check();
    }
}

fn event(reader: &mut Reader, world: &mut World) -> Result<(), ReadError> {
    let kind = reader.u8()?;
    match kind % 6 {
        0 => world.hear(reader.var_bytes()?),
        1 | 2 => {
            let mut frame = Vec::new();
            put_var_bytes(&mut frame, ADDRESSES[usize::from(reader.u8()?) % ADDRESSES.len()].as_bytes());
            frame.extend_from_slice(BODIES[usize::from(reader.u8()?) % BODIES.len()]);
            world.hear(frame.into());
        }
        3 => {
            let verdict = match reader.u8()? % 4 {
                0 => Verdict::Denied(CloseReason::Forbidden),
                1 => Verdict::Granted(Access::Read),
                _ => Verdict::Granted(Access::Write),
            };
            world.judge(verdict);
        }
        4 => {
            let reason = match reader.u8()? % 4 {
                0 => CloseReason::Expired,
                1 => CloseReason::Deleted,
                2 => CloseReason::Unreadable,
                _ => CloseReason::Disk,
            };
            world.end(reader.u8()?, reason);
        }
        _ => world.pass(reader.var_u64()? % (2 * LIMITS.auth_ms_max)),
    }
    Ok(())
}

/// What a document's place on the socket should be.
enum Place {
    Waiting { since: Time, queued: VecDeque<Message> },
    Open,
}

/// A socket and its driver, and what should come of what happens.
struct World {
    socket: Socket,
    now: Time,
    wake: Option<Time>,
    places: BTreeMap<Address, Place>,
    /// Tokens that are being verified, oldest first.
    asked: VecDeque<Address>,
    granted_once: bool,
    closed: bool,
    /// What must now be delivered, in order.
    due: VecDeque<(Address, Message)>,
}

impl World {
    fn new() -> Self {
        let (mut out, now) = (Vec::new(), Time(0));
        let socket = Socket::new(LIMITS, now, &mut out);
        let (places, asked, due) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        let mut world =
            Self { socket, now, wake: None, places, asked, granted_once: false, closed: false, due };
        world.carry_out(out);
        world
    }

    fn handle(&mut self, input: Input) {
        let mut out = Vec::new();
        self.socket.handle(self.now, input, &mut out);
        self.carry_out(out);
    }

    fn check(&self) {
        if self.closed {
            return;
        }
        assert!(self.due.is_empty(), "what was said to an open document is delivered at once");
        let waiting = self.places.values().filter_map(|place| match place {
            Place::Waiting { queued, .. } => Some(queued),
            Place::Open => None,
        });
        let waiting: Vec<_> = waiting.collect();
        let queued = || waiting.iter().copied().flatten();
        // Documents whose token has run out wait beside those that the limit on waiting ones lets in.
        assert!(self.places.len() <= LIMITS.documents_max);
        assert!(queued().count() <= LIMITS.queued_messages_max, "what waits is bounded");
        assert!(queued().map(Message::body_len).sum::<usize>() <= LIMITS.queued_bytes_max);
    }

    fn hear(&mut self, frame: Bytes) {
        let mut let_go = None;
        if let Ok(Frame::Document(address, body)) = read(frame.clone()) {
            let fresh = || Place::Waiting { since: self.now, queued: VecDeque::new() };
            match body {
                Body::Token(_) => drop(self.places.entry(address).or_insert_with(fresh)),
                Body::Message(message) => match self.places.entry(address.clone()).or_insert_with(fresh) {
                    Place::Waiting { queued, .. } => queued.push_back(message),
                    Place::Open => self.due.push_back((address, message)),
                },
                Body::Close => let_go = Some(address),
                Body::Stateless => {}
            }
        }
        self.handle(Input::Frame(frame));
        if let Some(address) = let_go {
            assert!(!self.is_open(&address), "what a provider lets go of ends");
            self.places.remove(&address);
        }
    }

    fn judge(&mut self, verdict: Verdict) {
        let Some(address) = self.asked.pop_front() else { return };
        if let Some(place) = self.places.get_mut(&address) {
            match (&verdict, place) {
                (Verdict::Granted(_), _) => self.granted_once = true,
                (_, Place::Waiting { since, queued }) => {
                    *since = self.now;
                    queued.clear();
                }
                (_, Place::Open) => {}
            }
        }
        self.handle(Input::Verdict(address, verdict));
    }

    /// A document ends its session.
    fn end(&mut self, which: u8, reason: CloseReason) {
        let open: Vec<_> = self.places.keys().filter(|address| self.is_open(address)).cloned().collect();
        if !open.is_empty() {
            let address = open[usize::from(which) % open.len()].clone();
            let stays = matches!(reason, CloseReason::Expired);
            self.handle(Input::Ended(address.clone(), reason));
            assert!(self.closed || !self.is_open(&address), "an ended session is let go");
            if !stays {
                self.places.remove(&address);
            }
        }
    }

    /// Time passes; the socket is woken when it asked to be.
    fn pass(&mut self, ms: u64) {
        let until = self.now.after(ms);
        while let Some(wake) = self.wake.filter(|wake| *wake <= until && !self.closed) {
            (self.now, self.wake) = (self.now.max(wake), None);
            let now = self.now;
            let late = |since: &Time| now.since(*since) >= LIMITS.auth_ms_max;
            self.places.retain(|_, place| !matches!(place, Place::Waiting { since, .. } if late(since)));
            self.handle(Input::Tick);
        }
        self.now = until;
        let late = |since: Time| self.now.since(since) >= LIMITS.auth_ms_max;
        assert!(self.closed || self.granted_once || !late(Time(0)), "a socket is granted something in time");
        let mut places = self.places.values();
        let in_time = places.all(|place| !matches!(place, Place::Waiting { since, .. } if late(*since)));
        assert!(self.closed || in_time, "nothing waits for ever");
    }

    fn is_open(&self, address: &Address) -> bool {
        matches!(self.places.get(address), Some(Place::Open))
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            assert!(!self.closed, "nothing follows the end");
            match output {
                Output::Authenticate(address, _) => {
                    assert!(self.places.contains_key(&address));
                    self.asked.push_back(address);
                }
                Output::Grant(address) => {
                    let place = self.places.insert(address.clone(), Place::Open);
                    match place.expect("who is granted access has asked") {
                        Place::Waiting { queued, .. } => {
                            self.due.extend(queued.into_iter().map(|message| (address.clone(), message)));
                        }
                        Place::Open => {}
                    }
                }
                Output::Deliver(address, message) => {
                    assert!(self.is_open(&address), "only who was granted access is heard");
                    assert_eq!(self.due.pop_front(), Some((address, message)), "in order, and once");
                }
                Output::End(address) => {
                    assert!(self.is_open(&address), "what ends was open");
                    let fresh = Place::Waiting { since: self.now, queued: VecDeque::new() };
                    self.places.insert(address, fresh);
                }
                Output::Send(frame) => check_frame(&frame),
                Output::Close(reason) => {
                    assert!(reason.text().len() <= REASON_BYTES_MAX);
                    self.closed = true;
                }
                Output::WakeAt(time) => {
                    assert!(time > self.now, "a moment to come");
                    self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
                }
            }
        }
    }
}

/// What the server sends is a pong, or an answer to a token or the end of a document, addressed.
fn check_frame(frame: &Bytes) {
    if frame.as_ref() == PONG {
        return;
    }
    assert_ne!(frame.as_ref(), PING);
    let mut reader = Reader::new(frame.clone());
    let address = reader.var_str().expect("an address");
    Address::new(address.as_str()).expect("which is valid");
    match reader.var_u64().expect("a type") {
        2 => assert!(matches!(reader.var_u64(), Ok(1 | 2)), "denied or granted"),
        7 => {}
        other => panic!("the server sent a message of type {other}"),
    }
    reader.var_str().expect("a reason, or what is granted");
    reader.finish().expect("one message a frame");
}
