//! One editor on a blocking socket: for measuring one thing at a time.
//!
//! A lone writer's latency is a matter of microseconds; no event loop stands between it and the
//! socket. For crowds there is [`crate::crowd`].

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire::{self, Frame, Message, WireError};

/// How long an answer may take before the run is given up.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

const READ_BYTES: usize = 64 << 10;

/// Why an editor cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EditorError {
    /// The socket.
    #[error("the socket: {0}")]
    Io(#[from] std::io::Error),
    /// What came over it.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server ended the session.
    #[error("the server closed the session: {code:?} {reason}")]
    Closed {
        /// The close code.
        code: Option<u16>,
        /// And what it said.
        reason: String,
    },
}

/// A session of the y-websocket dialect with one document.
pub struct Editor {
    stream: TcpStream,
    read: Vec<u8>,
    at: usize,
    out: Vec<u8>,
}

impl Editor {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn connect(addr: SocketAddr, path: &str) -> Result<Self, EditorError> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(&wire::upgrade_request(path))?;
        let mut editor = Self { stream, read: Vec::new(), at: 0, out: Vec::new() };
        loop {
            if let Some(len) = wire::upgrade_answer(&editor.read)? {
                editor.at = len;
                return Ok(editor);
            }
            editor.fill()?;
        }
    }

    /// Sends a step 1 of someone who has nothing and returns the server's step 2.
    ///
    /// # Errors
    /// When the session ends first.
    pub fn join(&mut self) -> Result<Vec<u8>, EditorError> {
        self.send(|out| wire::put_step1(out, &[0]))?;
        loop {
            let state = self.hear(|message| match message {
                Message::Step2(state) => Some(state.to_vec()),
                _ => None,
            })?;
            if let Some(state) = state {
                return Ok(state);
            }
        }
    }

    /// Sends the frames that `put` appends.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn send(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), EditorError> {
        self.out.clear();
        put(&mut self.out);
        self.stream.write_all(&self.out)?;
        Ok(())
    }

    /// Waits for one message and gives it to `look`.
    ///
    /// # Errors
    /// When the session ends, the bytes are not the dialect's, or nothing comes in time.
    pub fn hear<T>(&mut self, look: impl FnOnce(Message<'_>) -> T) -> Result<T, EditorError> {
        loop {
            let Some((frame, len)) = wire::next_frame(&self.read[self.at..])? else {
                self.fill()?;
                continue;
            };
            match frame {
                Frame::Binary(body) => {
                    let looked = look(wire::message(body).map_err(WireError::from)?);
                    self.at += len;
                    return Ok(looked);
                }
                Frame::Close(code, reason) => {
                    let reason = String::from_utf8_lossy(reason).into_owned();
                    return Err(EditorError::Closed { code, reason });
                }
                Frame::Ping(body) => {
                    self.out.clear();
                    wire::put_pong(&mut self.out, body);
                    self.stream.write_all(&self.out)?;
                }
                Frame::Text(_) | Frame::Pong => {}
            }
            self.at += len;
        }
    }

    fn fill(&mut self) -> Result<(), EditorError> {
        self.read.drain(..self.at);
        self.at = 0;
        let held = self.read.len();
        self.read.resize(held + READ_BYTES.max(held), 0);
        let taken = self.stream.read(&mut self.read[held..]);
        self.read.truncate(held + *taken.as_ref().unwrap_or(&0));
        match taken {
            Ok(0) => Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
