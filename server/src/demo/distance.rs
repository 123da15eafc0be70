//! Distance between two regions: a connection that takes its time, and can be cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces of a connection that may be on their way at once; then no more is read.
const ON_THE_WAY_MAX: usize = 1024;
const PIECE_BYTES: usize = 16 << 10;

/// One link's way, from the region that dials to the one that is dialled.
#[derive(Debug)]
pub(super) struct Distance {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) delay_ms: u64,
    /// What the dialling region dials.
    pub(super) address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Distance {
    /// Opens the way to a region, which need not listen yet.
    pub(super) async fn open(
        from: usize,
        to: usize,
        delay_ms: u64,
        region: SocketAddr,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)).await?;
        let address = listener.local_addr()?;
        let cut = watch::Sender::new(false);
        tokio::spawn(accept(listener, region, Duration::from_millis(delay_ms), cut.clone()));
        Ok(Self { from, to, delay_ms, address, cut })
    }

    pub(super) fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// Cuts the way: what is there is gone, and nothing new gets through until it is healed.
    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn accept(listener: TcpListener, region: SocketAddr, delay: Duration, cut: watch::Sender<bool>) {
    // A connection that fails while it is accepted is the dialler's to try again.
    while let Ok((near, _)) = listener.accept().await {
        if !*cut.borrow() {
            tokio::spawn(join(near, region, delay, cut.subscribe()));
        }
    }
}

/// Carries one connection until either side ends it or the way is cut.
async fn join(near: TcpStream, region: SocketAddr, delay: Duration, mut cut: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(region).await else { return };
    for stream in [&near, &far] {
        // Where the system refuses, what is sent is a little later.
        let _slower = stream.set_nodelay(true);
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::select! {
        () = carry(near_in, far_out, delay) => {}
        () = carry(far_in, near_out, delay) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (pieces, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY_MAX);
    let read = async move {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(len) = from.read(&mut piece).await {
            if len == 0 || pieces.send((Instant::now() + delay, piece[..len].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((at, piece)) = arriving.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}
