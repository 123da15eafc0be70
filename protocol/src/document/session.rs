//! One editor's session, as the document sees it.

use std::sync::Arc;

use super::event::Opened;
use crate::hocuspocus::Address;
use crate::time::Time;
use crate::update::StateVector;

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// See the document and who is there.
    Read,
    /// Change it as well.
    Write,
}

/// How a session speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// y-websocket: one document a socket; the echo of an update is its ack.
    YWebsocket,
    /// Hocuspocus: frames carry an address; each update is answered by a sync status.
    Hocuspocus(Address),
}

/// Where a lagging session stands.
#[derive(Clone, Debug)]
pub(super) struct Lag {
    /// What it was sent before it fell behind.
    pub(super) from: StateVector,
    /// Sync statuses that wait for the socket to drain.
    pub(super) statuses: Vec<bool>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) dialect: Dialect,
    pub(super) access: Access,
    pub(super) expires: Option<Time>,
    pub(super) author: Option<Arc<str>>,
    /// It has been answered a state vector, and follows the document since.
    pub(super) joined: bool,
    /// A `SyncStep1` of ours is unanswered: at most one is.
    pub(super) asked: bool,
    /// Sync statuses that the next `SyncStep2` earns: one for a join, one for each update with a hole.
    pub(super) owed: u32,
    /// Sync statuses that said "not saved": once it may write, it earns them again.
    pub(super) refused: u32,
    /// It was told that it may not write.
    pub(super) told_read_only: bool,
    pub(super) lag: Option<Box<Lag>>,
    pub(super) last_sent: Time,
}

impl Session {
    pub(super) fn new(opened: &Opened, now: Time) -> Self {
        Self {
            dialect: opened.dialect.clone(),
            access: opened.access,
            expires: opened.expires,
            author: opened.author.clone(),
            joined: false,
            asked: false,
            owed: 0,
            refused: 0,
            told_read_only: false,
            lag: None,
            last_sent: now,
        }
    }

    /// Whether fan-out goes to it: it has joined and keeps up.
    pub(super) const fn follows(&self) -> bool {
        self.joined && self.lag.is_none()
    }

    pub(super) const fn is_hocuspocus(&self) -> bool {
        matches!(self.dialect, Dialect::Hocuspocus(_))
    }
}
