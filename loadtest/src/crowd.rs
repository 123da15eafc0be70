//! Many editors' sockets in one thread: raw reads and writes, as few of each as can be.
//!
//! The crowd moves frames and knows nothing of documents; an [`Ear`] hears them. It answers pings
//! itself. It has no timers: whoever drives it says how long a turn may wait.
//!
//! Invariant: bytes that a socket did not take wait in that connection's `out`, in order.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::wire::{self, Frame};

const READ_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 1024;

/// How often one connection is read in a turn before the others get theirs.
const READS_PER_TURN_MAX: usize = 4;

/// How many loopback addresses connections come from, in turn: each has its own port numbers, and
/// servers count sessions by address.
const SOURCE_ADDRESSES: usize = 100;

/// Who listens to a crowd's connections.
pub trait Ear {
    /// A connection is upgraded; what is appended to `out` is sent.
    fn opened(&mut self, who: usize, out: &mut Vec<u8>);
    /// A binary frame came; what is appended to `out` is sent once all that was read is heard.
    fn heard(&mut self, who: usize, body: &[u8], at: Instant, out: &mut Vec<u8>);
    /// A connection ended, not by us.
    fn closed(&mut self, who: usize, why: String);
}

enum Phase {
    Upgrading,
    Open,
    Closed,
}

struct Connection {
    stream: TcpStream,
    phase: Phase,
    partial: Vec<u8>,
    out: Vec<u8>,
}

/// Connections that are driven together.
pub struct Crowd {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    ready: Vec<usize>,
    ready_before: Vec<usize>,
}

impl Crowd {
    /// A crowd of nobody.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            connections: Vec::new(),
            scratch: vec![0; READ_BYTES],
            ready: Vec::new(),
            ready_before: Vec::new(),
        })
    }

    /// Connects one more and asks for the upgrade; its number is the count of those before it.
    ///
    /// # Errors
    /// When the server does not take the connection.
    pub fn connect(&mut self, addr: SocketAddr, path: &str) -> io::Result<usize> {
        let who = self.connections.len();
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.ip().is_loopback() && addr.is_ipv4() {
            let last = u8::try_from(1 + who % SOURCE_ADDRESSES).unwrap_or(1);
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        }
        // On one machine this blocks for a moment only, and a full backlog slows us down as it should.
        socket.connect(&addr.into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(who), interest)?;
        let out = wire::upgrade_request(path);
        self.connections.push(Connection { stream, phase: Phase::Upgrading, partial: Vec::new(), out });
        self.connections[who].flush()?;
        Ok(who)
    }

    /// How many have been connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether nobody has been connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Sends a frame on a connection; one that is closed ignores it, its ear has been told.
    pub fn send(&mut self, who: usize, frame: &[u8]) {
        let connection = &mut self.connections[who];
        connection.out.extend_from_slice(frame);
        if connection.out.len() == frame.len() {
            // A failure shows again, with its reason, at the next read.
            let _ = connection.flush();
        }
    }

    /// Tells the server of every connection that its tab is closed.
    pub fn leave(&mut self) {
        let mut frame = Vec::new();
        wire::put_going_away(&mut frame);
        for who in 0..self.connections.len() {
            self.send(who, &frame);
        }
    }

    /// Waits for sockets, at most so long, and lets `ear` hear what came.
    ///
    /// # Errors
    /// When the system's event queue fails.
    pub fn turn(&mut self, wait: Duration, ear: &mut impl Ear) -> io::Result<()> {
        std::mem::swap(&mut self.ready, &mut self.ready_before);
        let wait = if self.ready_before.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &self.events {
            let who = event.token().0;
            let connection = &mut self.connections[who];
            if event.is_writable() && !connection.out.is_empty() {
                let _ = connection.flush();
            }
            if event.is_readable() && connection.listen(who, &mut self.scratch, ear) == Left::More {
                self.ready.push(who);
            }
        }
        for who in self.ready_before.drain(..) {
            if self.connections[who].listen(who, &mut self.scratch, ear) == Left::More {
                self.ready.push(who);
            }
        }
        Ok(())
    }
}

/// Whether a socket may hold more than was read.
#[derive(PartialEq)]
enum Left {
    Nothing,
    More,
}

impl Connection {
    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.out.clear();
                    return Err(error);
                }
            }
        }
        self.out.drain(..sent);
        Ok(())
    }

    fn listen(&mut self, who: usize, scratch: &mut Vec<u8>, ear: &mut impl Ear) -> Left {
        if matches!(self.phase, Phase::Closed) {
            return Left::Nothing;
        }
        let out_before = self.out.len();
        let left = self.read_turn(who, scratch, ear);
        if self.out.len() > out_before && out_before == 0 {
            let _ = self.flush();
        }
        left.unwrap_or_else(|why| {
            self.phase = Phase::Closed;
            self.out.clear();
            ear.closed(who, why);
            Left::Nothing
        })
    }

    fn read_turn(&mut self, who: usize, scratch: &mut Vec<u8>, ear: &mut impl Ear) -> Result<Left, String> {
        for _ in 0..READS_PER_TURN_MAX {
            let held = self.partial.len();
            scratch[..held].copy_from_slice(&self.partial);
            let taken = match self.stream.read(&mut scratch[held..]) {
                Ok(0) => return Err("the connection ended".into()),
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Left::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            let full = held + taken == scratch.len();
            let used = self.hear(who, &scratch[..held + taken], ear)?;
            self.partial.clear();
            self.partial.extend_from_slice(&scratch[used..held + taken]);
            if self.partial.len() > scratch.len() / 2 {
                scratch.resize(scratch.len() * 2, 0);
            }
            // A short read has emptied the socket: the next bytes raise a new event.
            if !full {
                return Ok(Left::Nothing);
            }
        }
        Ok(Left::More)
    }

    /// Hears all whole frames and returns how many bytes they took.
    fn hear(&mut self, who: usize, bytes: &[u8], ear: &mut impl Ear) -> Result<usize, String> {
        let at = Instant::now();
        let mut used = 0;
        if matches!(self.phase, Phase::Upgrading) {
            let Some(len) = wire::upgrade_answer(bytes).map_err(|error| error.to_string())? else {
                return Ok(0);
            };
            self.phase = Phase::Open;
            used = len;
            ear.opened(who, &mut self.out);
        }
        while let Some((frame, len)) = wire::next_frame(&bytes[used..]).map_err(|error| error.to_string())? {
            match frame {
                Frame::Binary(body) => ear.heard(who, body, at, &mut self.out),
                Frame::Ping(body) => wire::put_pong(&mut self.out, body),
                Frame::Text(_) | Frame::Pong => {}
                Frame::Close(code, reason) => {
                    let reason = String::from_utf8_lossy(reason);
                    return Err(format!("the server closed the session: {code:?} {reason}"));
                }
            }
            used += len;
        }
        Ok(used)
    }
}
