//! The settings of one region as typed values, with their defaults.
//!
//! Invariant: every bound that an operator may change has its default here, with the reason, and
//! nowhere else: the help text shows these very values.

use quire_protocol::fields::schema::{Schema, SchemaHash};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Everybody may read and write every document.
    None,
    /// A JWT says which documents its bearer may read or write.
    Jwt,
}

/// What a region does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionRole {
    /// It takes writes.
    Leader,
    /// It takes none, and serves what it has received.
    Follower,
}

/// How log lines are written to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line, for a collector.
    Json,
}

/// Every setting of `quire serve`, as given or by default.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The data directory.
    pub data: PathBuf,
    /// The region's name, for people.
    pub region: String,
    /// The replica's number in its cluster.
    pub replica: u16,
    /// The cluster's name. Regions of different clusters have no links.
    pub cluster: String,
    /// What this region does in it.
    pub role: RegionRole,
    /// The other regions that this one dials: WebSocket URLs.
    pub peers: Vec<String>,
    /// The secret that all regions of the cluster share.
    pub cluster_secret_file: Option<PathBuf>,
    /// What the application says of its documents' fields, the same in all regions.
    pub schema: Arc<Schema>,
    /// The schemas besides it that a peer may have, while another one spreads through the cluster.
    pub previous_schemas: Vec<SchemaHash>,
    /// Who may come in.
    pub auth: AuthMode,
    /// The key that JWTs are verified with.
    pub jwt_key_file: Option<PathBuf>,
    /// The TLS certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// The TLS private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Whether a public address may be served without authentication.
    pub insecure: bool,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// How much is logged.
    pub log_level: tracing::Level,
    /// Origins besides the server's own whose pages may connect.
    pub allow_origin: Vec<String>,
    /// What one region bears.
    pub limits: Limits,
}

/// What one region bears before it refuses or slows down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in one WebSocket frame or message.
    pub frame_bytes: usize,
    /// Bytes in one update.
    pub update_bytes: usize,
    /// Bytes of a document's encoded state.
    pub document_bytes: usize,
    /// Bytes in one HTTP request body.
    pub body_bytes: usize,
    /// Open sockets of all kinds.
    pub connections: usize,
    /// Open sockets from one address.
    pub address_connections: usize,
    /// Editors' sockets on the whole server.
    pub sessions: usize,
    /// Editors' sockets from one address.
    pub address_sessions: usize,
    /// Sessions of one document.
    pub document_sessions: usize,
    /// Documents in memory at once.
    pub open_documents: usize,
    /// Messages one session may send a second.
    pub session_messages_per_second: usize,
    /// Bytes one session may send a second.
    pub session_bytes_per_second: usize,
    /// Bytes queued toward one session before it counts as lagging.
    pub outbox_bytes: usize,
    /// Bytes read from sessions and not committed yet, on the whole server.
    pub ingest_bytes: usize,
    /// Messages one socket may queue before it is authenticated.
    pub preauth_messages: usize,
    /// Bytes one socket may queue before it is authenticated.
    pub preauth_bytes: usize,
    /// Documents one socket may name before it is authenticated.
    pub preauth_documents: usize,
    /// How long a socket may stay without authentication.
    pub preauth: Duration,
    /// Bytes of the log kept for peers.
    pub kept_bytes: usize,
    /// How long the log is kept for peers.
    pub kept: Duration,
    /// How long it is kept after all of them have it.
    pub kept_acknowledged: Duration,
    /// How long a write waits for its document's home, and one that another region has sent for what was seen there.
    pub home: Duration,
    /// Streams of events that are open at once.
    pub event_streams: usize,
    /// How long a stop may take before what is left is cut.
    pub drain: Duration,
    /// How long a document nobody uses stays in memory.
    pub unload: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            data: PathBuf::from("./quire-data"),
            region: "local".to_owned(),
            replica: 1,
            cluster: "quire".to_owned(),
            role: RegionRole::Leader,
            peers: Vec::new(),
            cluster_secret_file: None,
            schema: Arc::default(),
            previous_schemas: Vec::new(),
            auth: AuthMode::None,
            jwt_key_file: None,
            tls_cert: None,
            tls_key: None,
            insecure: false,
            log_format: LogFormat::Text,
            log_level: tracing::Level::INFO,
            allow_origin: Vec::new(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // One frame carries the whole offline work of an editor: room for a 5 MB document twice over.
            frame_bytes: 16 * MIB,
            update_bytes: 8 * MIB,
            // The largest document whose encoding and resync stay bearable for its neighbours.
            document_bytes: 64 * MIB,
            body_bytes: 16 * MIB,
            // Within the usual hard limit of open files, with room for the log.
            connections: 60_000,
            // Offices and proxies share one address; one address must still not take every place.
            address_connections: 25_000,
            // Below the connections, so that a full server can still answer health checks and say why.
            sessions: 50_000,
            address_sessions: 20_000,
            document_sessions: 2_000,
            open_documents: 100_000,
            // A fast typist sends 20 messages a second; a machine that replays history sends thousands.
            session_messages_per_second: 2_000,
            session_bytes_per_second: 16 * MIB,
            // A reader that is this far behind is better served by one diff.
            outbox_bytes: 256 * KIB,
            // What a stalled disk may make the server hold before it stops reading from its sockets.
            ingest_bytes: 64 * MIB,
            preauth_messages: 1_000,
            preauth_bytes: 5 * MIB,
            preauth_documents: 100,
            preauth: Duration::from_secs(10),
            // What a small disk has to spare, and years of a team's writing: a region that lost its disk
            // starts from it.
            kept_bytes: 4 * GIB,
            kept: Duration::from_secs(365 * 86_400),
            kept_acknowledged: Duration::from_secs(7 * 86_400),
            // Ten times what the farthest regions take, and less than people wait without asking why.
            home: Duration::from_secs(2),
            // Programs follow conflicts, not every editor; each is a socket, and what is read for it at once.
            event_streams: 1_000,
            drain: Duration::from_secs(10),
            unload: Duration::from_secs(30),
        }
    }
}
