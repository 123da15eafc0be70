//! Bare relays: what the socket layers can do when nothing is parsed and nothing stored.
//!
//! They are baselines, not servers: whatever binary frame comes in on a path goes out to everyone on
//! that path, its author included. Both share every line but the socket layer. A session that does
//! not read is closed, since a relay that drops frames would win by cheating.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use axum::extract::ws::{self, WebSocketUpgrade};
use axum::extract::{Path, State};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;

/// Frames that may wait for one session; more means that it does not read.
const OUTBOX_FRAMES_MAX: usize = 65_536;

/// Frames written between two flushes.
const FRAMES_PER_FLUSH_MAX: usize = 256;

/// Which socket layer a relay stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// axum's WebSocket, as the server uses it.
    Axum,
    /// tokio-tungstenite on a bare TCP listener.
    Tungstenite,
}

impl Kind {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Tungstenite => "tungstenite",
        }
    }

    /// The name in a report.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Axum => "bare axum relay",
            Self::Tungstenite => "bare tungstenite relay",
        }
    }
}

/// Relays frames of type `M` between the sessions of each path.
struct Rooms<M> {
    members: Mutex<HashMap<String, HashMap<u64, mpsc::Sender<M>>>>,
}

impl<M: Clone> Rooms<M> {
    fn new() -> Arc<Self> {
        Arc::new(Self { members: Mutex::new(HashMap::new()) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, HashMap<u64, mpsc::Sender<M>>>> {
        self.members.lock().expect("no holder of this lock can panic")
    }

    fn enter(&self, path: &str) -> (u64, mpsc::Receiver<M>) {
        let (tx, rx) = mpsc::channel(OUTBOX_FRAMES_MAX);
        let mut rooms = self.lock();
        let room = rooms.entry(path.to_owned()).or_default();
        let id = room.keys().max().map_or(0, |last| last + 1);
        room.insert(id, tx);
        (id, rx)
    }

    fn relay(&self, path: &str, frame: &M) {
        if let Some(room) = self.lock().get_mut(path) {
            room.retain(|_, outbox| outbox.try_send(frame.clone()).is_ok());
        }
    }

    fn exit(&self, path: &str, id: u64) {
        let mut rooms = self.lock();
        if let Some(room) = rooms.get_mut(path) {
            room.remove(&id);
            if room.is_empty() {
                rooms.remove(path);
            }
        }
    }
}

/// Relays until the socket or the outbox ends.
async fn session<S, M, E>(rooms: Arc<Rooms<M>>, path: String, socket: S, is_binary: fn(&M) -> bool)
where
    S: Stream<Item = Result<M, E>> + Sink<M> + Send + 'static,
    M: Clone + Send + 'static,
{
    let (mut sink, mut stream) = socket.split();
    let (id, mut outbox) = rooms.enter(&path);
    let write = async move {
        let mut frames = Vec::with_capacity(FRAMES_PER_FLUSH_MAX);
        while outbox.recv_many(&mut frames, FRAMES_PER_FLUSH_MAX).await > 0 {
            for frame in frames.drain(..) {
                if sink.feed(frame).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    };
    let read = async {
        while let Some(Ok(frame)) = stream.next().await {
            if is_binary(&frame) {
                rooms.relay(&path, &frame);
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
    rooms.exit(&path, id);
}

/// Serves a relay on a listener until the process ends.
///
/// # Errors
/// When the listener fails.
pub async fn serve(kind: Kind, listener: TcpListener) -> Result<()> {
    match kind {
        Kind::Axum => serve_axum(listener).await,
        Kind::Tungstenite => serve_tungstenite(listener).await,
    }
}

async fn serve_axum(listener: TcpListener) -> Result<()> {
    let upgrade = |upgrade: WebSocketUpgrade, Path(path), State(rooms): State<Arc<Rooms<ws::Message>>>| async move {
        upgrade.on_upgrade(move |socket| {
            session(rooms, path, socket, |frame| matches!(frame, ws::Message::Binary(_)))
        })
    };
    let router = axum::Router::new().route("/{*path}", axum::routing::any(upgrade)).with_state(Rooms::new());
    use axum::serve::ListenerExt as _;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.context("the relay's listener")
}

async fn serve_tungstenite(listener: TcpListener) -> Result<()> {
    let rooms = Rooms::new();
    loop {
        let (stream, _) = listener.accept().await.context("the relay's listener")?;
        stream.set_nodelay(true)?;
        tokio::spawn(accept_tungstenite(Arc::clone(&rooms), stream));
    }
}

async fn accept_tungstenite(rooms: Arc<Rooms<tungstenite::Message>>, stream: TcpStream) {
    use tungstenite::handshake::server::{ErrorResponse, Request, Response};
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "tungstenite's callback has this signature")]
    let see_path = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, see_path).await {
        session(rooms, path, socket, |frame| matches!(frame, tungstenite::Message::Binary(_))).await;
    }
}

/// Runs a relay on a free port of the loopback address and prints where, as `quire serve` does.
///
/// # Errors
/// When it cannot listen.
pub fn run(kind: Kind) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("listening on http://{}", listener.local_addr()?);
        serve(kind, listener).await
    })
}
