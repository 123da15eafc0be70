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
}

struct Connection {
    stream: TcpStream,
    phase: Phase,
    partial: Vec<u8>,
    out: Vec<u8>,
}

/// Bytes that went over all connections, frames and upgrades included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// To servers.
    pub sent: u64,
    /// From them.
    pub received: u64,
}

/// Connections that are driven together.
pub struct Crowd {
    poll: Poll,
    events: Events,
    /// By number; those that have ended are gone.
    connections: Vec<Option<Connection>>,
    traffic: Traffic,
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
            traffic: Traffic::default(),
            scratch: vec![0; READ_BYTES],
            ready: Vec::new(),
            ready_before: Vec::new(),
        })
    }

    /// Connects one more and asks for the upgrade; its number is the count of those before it. Waits for the server
    /// to take the connection: on one machine for a moment only, and a full backlog slows us down as it should.
    ///
    /// # Errors
    /// When the server does not take it.
    pub fn connect(&mut self, addr: SocketAddr, path: &str) -> io::Result<usize> {
        let socket = self.socket(addr)?;
        socket.connect(&addr.into())?;
        socket.set_nonblocking(true)?;
        self.add(socket, path)
    }

    /// The same without waiting: where the server does not take the connection, its ear is told that it has ended.
    ///
    /// # Errors
    /// When the system has no socket left.
    pub fn begin_to_connect(&mut self, addr: SocketAddr, path: &str) -> io::Result<usize> {
        let socket = self.socket(addr)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&addr.into()) {
            Err(error) if !is_on_its_way(&error) => return Err(error),
            _ => {}
        }
        self.add(socket, path)
    }

    fn socket(&self, addr: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.ip().is_loopback() && addr.is_ipv4() {
            let last = u8::try_from(1 + self.connections.len() % SOURCE_ADDRESSES).unwrap_or(1);
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        Ok(socket)
    }

    fn add(&mut self, socket: Socket, path: &str) -> io::Result<usize> {
        let who = self.connections.len();
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(who), interest)?;
        let out = wire::upgrade_request(path);
        let mut connection = Connection { stream, phase: Phase::Upgrading, partial: Vec::new(), out };
        // A failure shows again, with its reason, at the next read.
        let _ = connection.flush(&mut self.traffic);
        self.connections.push(Some(connection));
        Ok(who)
    }

    /// Ends a connection, whatever was on its way on it; its ear is not told.
    pub fn hang_up(&mut self, who: usize) {
        self.connections[who] = None;
    }

    /// Bytes that went over all connections.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
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
        let Some(connection) = &mut self.connections[who] else { return };
        connection.out.extend_from_slice(frame);
        if connection.out.len() == frame.len() {
            // A failure shows again, with its reason, at the next read.
            let _ = connection.flush(&mut self.traffic);
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
        let (traffic, scratch) = (&mut self.traffic, &mut self.scratch);
        for event in &self.events {
            let who = event.token().0;
            let Some(connection) = &mut self.connections[who] else { continue };
            if event.is_writable() && !connection.out.is_empty() {
                let _ = connection.flush(traffic);
            }
            if event.is_readable() {
                self.ready_before.push(who);
            }
        }
        for who in self.ready_before.drain(..) {
            let Some(connection) = &mut self.connections[who] else { continue };
            match connection.listen(who, scratch, traffic, ear) {
                Ok(Left::More) => self.ready.push(who),
                Ok(Left::Nothing) => {}
                Err(why) => {
                    self.connections[who] = None;
                    ear.closed(who, why);
                }
            }
        }
        Ok(())
    }
}

/// Whether a connection that is not there yet may come.
fn is_on_its_way(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

/// Whether a socket may hold more than was read.
#[derive(PartialEq)]
enum Left {
    Nothing,
    More,
}

impl Connection {
    fn flush(&mut self, traffic: &mut Traffic) -> io::Result<()> {
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
        traffic.sent += sent as u64;
        Ok(())
    }

    /// Reads and lets `ear` hear; an error says why the connection has ended.
    fn listen(
        &mut self,
        who: usize,
        scratch: &mut Vec<u8>,
        traffic: &mut Traffic,
        ear: &mut impl Ear,
    ) -> Result<Left, String> {
        let out_before = self.out.len();
        let left = self.read_turn(who, scratch, traffic, ear);
        if self.out.len() > out_before && out_before == 0 {
            let _ = self.flush(traffic);
        }
        left
    }

    fn read_turn(
        &mut self,
        who: usize,
        scratch: &mut Vec<u8>,
        traffic: &mut Traffic,
        ear: &mut impl Ear,
    ) -> Result<Left, String> {
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
            traffic.received += taken as u64;
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
