//! Editors' connections: one task a socket, in the dialect its path names.
//!
//! A session moves frames between its socket and its document's actor. It never looks inside an
//! update and never decides who sees it.

mod authorize;
mod hocuspocus;
mod pace;
mod socket;
mod upgrade;
mod y_websocket;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dashmap::DashMap;
use quire_protocol::close::CloseReason;
use quire_protocol::ids::{DocName, SessionId};
use tokio_util::task::TaskTracker;

use crate::auth::Authenticator;
use crate::documents::{Documents, Outbox};

pub use authorize::Granted;
pub use pace::Rate;
pub use upgrade::router;

/// The bounds of sockets.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The longest frame, in bytes.
    pub frame_bytes_max: usize,
    /// How many bytes may wait for one socket.
    pub outbox_bytes_max: usize,
    /// The most sockets on this server.
    pub sockets_max: usize,
    /// The most sockets from one address.
    pub sockets_per_address_max: usize,
    /// How fast one socket may send.
    pub rate: Rate,
    /// What may wait for a verdict on a Hocuspocus socket.
    pub hocuspocus: quire_protocol::hocuspocus::Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            frame_bytes_max: 16 << 20,
            outbox_bytes_max: 256 << 10,
            sockets_max: 50_000,
            sockets_per_address_max: 20_000,
            rate: Rate::default(),
            hocuspocus: quire_protocol::hocuspocus::Limits::default(),
        }
    }
}

/// Everything a session needs, shared by all.
pub struct Sessions {
    documents: Arc<Documents>,
    authenticator: Arc<Authenticator>,
    options: Options,
    tasks: TaskTracker,
    open: DashMap<SessionId, Arc<Outbox>>,
    draining: AtomicBool,
    sockets: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

/// A socket's place among those the server allows; gives it back when dropped.
#[derive(Debug)]
pub struct Place {
    sessions: Arc<Sessions>,
    address: IpAddr,
}

/// Why a socket is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The server is about to stop.
    #[error("the server is restarting")]
    Draining,
    /// [`Options::sockets_max`] are open.
    #[error("the server has as many connections as it takes")]
    Server,
    /// [`Options::sockets_per_address_max`] come from this address.
    #[error("there are as many connections from this address as the server takes")]
    Address,
}

impl Sessions {
    /// No socket is open yet.
    #[must_use]
    pub fn new(documents: Arc<Documents>, authenticator: Arc<Authenticator>, options: Options) -> Arc<Self> {
        Arc::new(Self {
            documents,
            authenticator,
            options,
            tasks: TaskTracker::new(),
            open: DashMap::new(),
            draining: AtomicBool::new(false),
            sockets: AtomicUsize::new(0),
            by_address: DashMap::new(),
        })
    }

    /// Takes a place for a socket from this address.
    ///
    /// # Errors
    /// When there is none left.
    pub fn place(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(NoPlace::Draining);
        }
        let mut from_address = self.by_address.entry(address).or_insert(0);
        if *from_address >= self.options.sockets_per_address_max {
            return Err(NoPlace::Address);
        }
        if self.sockets.fetch_add(1, Ordering::Relaxed) >= self.options.sockets_max {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            return Err(NoPlace::Server);
        }
        *from_address += 1;
        metrics::gauge!(crate::metrics::SESSIONS).increment(1);
        Ok(Place { sessions: self.clone(), address })
    }

    /// How many sockets are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// The tasks that serve sockets: what is spawned here is waited for when the server drains.
    #[must_use]
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    fn authorize(&self, document: &DocName, token: Option<&str>) -> Result<Granted, CloseReason> {
        authorize::authorize(&self.authenticator, document, token, self.documents.now())
    }

    fn register(&self) -> (SessionId, Arc<Outbox>) {
        let id = self.documents.next_session();
        let outbox = Arc::new(Outbox::new(self.options.outbox_bytes_max));
        self.open.insert(id, outbox.clone());
        // Whoever registers behind the back of a drain ends itself.
        if self.draining.load(Ordering::SeqCst) {
            outbox.end(id, CloseReason::Draining);
        }
        (id, outbox)
    }

    fn unregister(&self, id: SessionId) {
        self.open.remove(&id);
    }

    /// Ends every socket with 1012, one after the other over this time, and waits until all are gone.
    pub async fn drain(&self, over: std::time::Duration) {
        self.draining.store(true, Ordering::SeqCst);
        let open: Vec<_> = self.open.iter().map(|socket| (*socket.key(), socket.value().clone())).collect();
        // All of them coming back at once would fall on the next server like a storm.
        let pause = over / u32::try_from(open.len().max(1)).unwrap_or(u32::MAX);
        let mut due = tokio::time::Instant::now();
        for (session, outbox) in open {
            if !self.open.contains_key(&session) {
                continue;
            }
            tokio::time::sleep_until(due).await;
            outbox.end(session, CloseReason::Draining);
            due += pause;
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.sockets.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!(crate::metrics::SESSIONS).decrement(1);
        if let Some(mut from_address) = self.sessions.by_address.get_mut(&self.address) {
            *from_address -= 1;
        }
        self.sessions.by_address.remove_if(&self.address, |_, count| *count == 0);
    }
}
