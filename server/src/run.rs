//! How a region starts, serves and stops.
//!
//! Starting takes a bound socket and leaves nothing behind when it fails. Stopping goes in one
//! order: no new connections, sessions told, everything committed, the rest cut.
//!
//! Invariant: whatever was acknowledged is in the log when `until` returns.

use crate::config::{Config, Limits, Settings};
use crate::conflicts::Book;
use crate::documents::{self, Documents};
use crate::http::{self, Origins};
use crate::net::{self, Door};
use crate::peers::Peers;
use crate::region::{Observer, Region, Told};
use crate::sessions::{self, Rate, Sessions};
use crate::webhooks::{self, CursorError};
use quire_protocol::fields::RuleBook;
use quire_storage::{Committer, CommitterLimits, Health, Log, OpenError};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long sockets that were told to close may take beyond the drain, and answers beyond that.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

/// Why a region did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory is not one, or cannot be used.
    #[error("cannot use the data directory {}: {reason}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The log in the data directory cannot be opened.
    #[error("cannot open the log in {}: {error}", path.display())]
    Log {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: OpenError,
    },
    /// What is on record of conflicts cannot be read.
    #[error("what is on record of conflicts cannot be read: {0}")]
    Conflicts(quire_storage::LoadError),
    /// How far a webhook has come cannot be read or kept.
    #[error("{0}")]
    Webhook(#[from] CursorError),
    /// The system gives no thread, or the socket has no address.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// Why a region did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A task of the server has died.
    #[error("a part of the server died: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The log had failed before, so that writes were refused.
    #[error("the log failed while the server ran: {0}")]
    Log(quire_storage::Failure),
}

/// A region that serves.
pub struct Running {
    address: SocketAddr,
    tls: bool,
    region: Arc<Region>,
    sessions: Arc<Sessions>,
    committer: Committer,
    cut: CancellationToken,
    connections: TaskTracker,
    serving: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    waking: JoinHandle<()>,
    repairing: JoinHandle<()>,
    webhooks: TaskTracker,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// Starts a region behind a bound socket.
///
/// # Errors
/// When the data directory cannot be used. Nothing has changed then.
pub async fn start(config: Config, listener: TcpListener) -> Result<Running, StartError> {
    let (path, replica) = (config.settings.data.clone(), config.settings.replica);
    let cluster = config.settings.cluster.clone();
    check_directory(&path)?;
    let open = move || {
        crate::region::open_log(&path, replica, &cluster).map_err(|error| match error {
            OpenError::Directory { reason, .. } => StartError::Data { path, reason: reason.to_string() },
            error => StartError::Log { path, error },
        })
    };
    let log = tokio::task::spawn_blocking(open).await.map_err(std::io::Error::from)??;
    start_with(config, listener, log)
}

/// Starts a region over an open log, as tests do with one in memory.
///
/// # Errors
/// When the system gives no thread, or the data directory cannot be written.
///
/// # Panics
/// When called outside a tokio runtime.
pub fn start_with(config: Config, listener: TcpListener, log: Arc<dyn Log>) -> Result<Running, StartError> {
    let address = listener.local_addr()?;
    let Config { settings, authenticator, tls, secret, webhooks } = config;
    let metrics = crate::metrics::install();
    let (shown_by, shown) = watch::channel(log.applied());
    let limits = &settings.limits;
    let told = Arc::new(OnceLock::new());
    let observer = Observer { log: log.clone(), shown: shown_by, told: told.clone() };
    let committer = Committer::start(log.clone(), unix_ms, CommitterLimits::default(), observer)?;
    let options = document_options(&settings);
    let book =
        Arc::new(Book::open(log.clone(), options.rules.clone(), unix_ms()).map_err(StartError::Conflicts)?);
    let closing = CancellationToken::new();
    let from = (settings.data.as_path(), settings.region.as_str());
    let webhooks = webhooks::start(webhooks, from, &book, &closing)?;
    let documents = Documents::new(log.clone(), book, committer.appender(), options);
    let (log_of_peers, appender) = (log.clone(), committer.appender());
    let peers =
        Peers::new(&settings, secret, log_of_peers, appender, documents.clone(), CancellationToken::new())?;
    documents.set_live(peers.watch_live_leaders());
    let neighbours = Arc::downgrade(&peers);
    documents.set_elsewhere(move |doc, payload| {
        if let Some(peers) = neighbours.upgrade() {
            peers.tell(doc, payload);
        }
    });
    told.get_or_init(|| Told { documents: documents.clone(), peers: peers.clone() });
    let sessions = Sessions::new(documents.clone(), authenticator.clone(), session_options(limits));
    let event_streams = limits.event_streams.min(Semaphore::MAX_PERMITS);
    let region = Arc::new(Region {
        origins: Origins::new(&settings.allow_origin, address.ip()),
        settings,
        authenticator,
        metrics: metrics.clone(),
        log,
        documents,
        peers,
        numbers: http::Numbers::default(),
        claims: http::Claims::default(),
        shown,
        closing,
        event_streams: Arc::new(Semaphore::new(event_streams)),
    });
    http::answer_calls(&region);
    let (cut, connections) = (CancellationToken::new(), TaskTracker::new());
    let door = Door {
        listener,
        tls: tls.map(|tls| TlsAcceptor::from(tls.0)),
        closing: region.closing.clone(),
        cut: cut.clone(),
        tasks: connections.clone(),
    };
    let tls = door.tls.is_some();
    let app = http::router(&region, sessions::router(sessions.clone()));
    let limits = region.settings.limits.clone();
    let serving = tokio::spawn(async move { net::serve(door, app, &limits).await });
    let upkeep = tokio::spawn(crate::metrics::keep_up(metrics));
    let waking = tokio::spawn(region.documents.clone().wake_sleepers(region.closing.clone()));
    let repairing = tokio::spawn(region.documents.clone().repair_references(region.closing.clone()));
    region.peers.start();
    Ok(Running {
        address,
        tls,
        region,
        sessions,
        committer,
        cut,
        connections,
        serving,
        upkeep,
        waking,
        repairing,
        webhooks,
    })
}

fn check_directory(path: &Path) -> Result<(), StartError> {
    let refuse = |reason: String| Err(StartError::Data { path: path.to_owned(), reason });
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => refuse("it is not a directory".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Made by hand, so that a wrong path or a disk that is not mounted never looks like a
            // region that has lost everything.
            refuse(format!("it does not exist; make it with: mkdir -p {}", path.display()))
        }
        Err(error) => refuse(error.to_string()),
    }
}

fn document_options(settings: &Settings) -> documents::Options {
    let limits = &settings.limits;
    let defaults = documents::Options::default();
    documents::Options {
        document: quire_protocol::document::Limits {
            update_bytes_max: limits.update_bytes,
            document_bytes_max: limits.document_bytes,
            sessions_max: limits.document_sessions,
            unload_after_ms: ms(limits.unload),
            ..defaults.document
        },
        documents_open_max: limits.open_documents,
        ingest_bytes_max: limits.ingest_bytes,
        region: settings.region.as_str().into(),
        rules: Arc::new(RuleBook::new(settings.schema.clone())),
        ..defaults
    }
}

fn session_options(limits: &Limits) -> sessions::Options {
    let per_second =
        |count: usize| NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
    let defaults = sessions::Options::default();
    sessions::Options {
        frame_bytes_max: limits.frame_bytes,
        outbox_bytes_max: limits.outbox_bytes,
        sockets_max: limits.sessions,
        sockets_per_address_max: limits.address_sessions,
        rate: Rate {
            messages: per_second(limits.session_messages_per_second),
            bytes: per_second(limits.session_bytes_per_second),
        },
        hocuspocus: quire_protocol::hocuspocus::Limits {
            queued_messages_max: limits.preauth_messages,
            queued_bytes_max: limits.preauth_bytes,
            waiting_documents_max: limits.preauth_documents,
            auth_ms_max: ms(limits.preauth),
            ..defaults.hocuspocus
        },
    }
}

pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock. Before 1970 it says 1970: the log's stamps only ever rise.
pub(crate) fn unix_ms() -> u64 {
    ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Running {
    /// Where the region can be reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to stop, then drains.
    ///
    /// # Errors
    /// When a part of the server has died, or the log had failed while it ran.
    pub async fn until(self, stop: impl Future<Output = ()>) -> Result<(), StopError> {
        stop.await;
        let Self {
            region,
            sessions,
            committer,
            cut,
            connections,
            serving,
            upkeep,
            waking,
            repairing,
            webhooks,
            ..
        } = self;
        let drain = region.settings.limits.drain;
        tracing::info!(sessions = sessions.count(), seconds = drain.as_secs(), "stopping");
        region.closing.cancel();
        connections.close();
        if tokio::time::timeout(drain + GOODBYE_MAX, sessions.drain(drain)).await.is_err() {
            tracing::warn!(sessions = sessions.count(), "leaving sessions that did not end in time");
        }
        // Links go last: what sessions have just written still goes to the other regions.
        region.peers.stop(drain).await;
        if tokio::time::timeout(GOODBYE_MAX, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "cutting connections that did not end in time");
            cut.cancel();
            connections.wait().await;
        }
        serving.await?;
        webhooks.wait().await;
        upkeep.abort();
        waking.abort();
        repairing.abort();
        let log = region.log.clone();
        let health = tokio::task::spawn_blocking(move || finish(committer, log.as_ref())).await?;
        match health {
            Health::Serving => {
                tracing::info!("stopped");
                Ok(())
            }
            Health::Failed(failure) => Err(StopError::Log(failure)),
        }
    }
}

/// Commits what is left, and spares the next start the journal.
fn finish(committer: Committer, log: &dyn Log) -> Health {
    committer.stop();
    if log.health() == Health::Serving
        && let Err(error) = log.checkpoint()
    {
        tracing::error!(%error, "cannot move the journal into the store");
    }
    log.health()
}
