//! The distance between two regions: a TCP relay that counts what it carries and delivers it late.
//!
//! One region dials the relay, and the relay dials the other. Bytes are never changed, left out or
//! reordered. They are counted as they come, so what a WebSocket adds to a message is in the count and
//! what TCP adds is not.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 << 10;

/// Pieces under way in one direction: with the largest piece 64 MiB, more than any link has in flight.
const UNDER_WAY_MAX: usize = 1024;

/// A relay to one region.
pub struct Distance {
    addr: SocketAddr,
    carried: Arc<Carried>,
}

#[derive(Default)]
struct Carried {
    there: AtomicU64,
    back: AtomicU64,
    dialled: Mutex<Option<Instant>>,
}

/// Bytes carried since the relay was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// From the region that dials.
    pub there: u64,
    /// From the region that is dialled.
    pub back: u64,
}

impl Distance {
    /// A relay to a region that is so far away, one way.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn to(region: SocketAddr, one_way: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let addr = listener.local_addr()?;
        let carried = Arc::new(Carried::default());
        let counts = Arc::clone(&carried);
        // It ends with the process: a benchmark makes a handful of them.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // A region that does not listen is one that the dialler is to dial again.
                let _ = join(near, region, one_way, &counts);
            }
        });
        Ok(Self { addr, carried })
    }

    /// The URL to dial instead of the region's.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    /// What it has carried.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let Carried { there, back, .. } = &*self.carried;
        Bytes { there: there.load(Ordering::Relaxed), back: back.load(Ordering::Relaxed) }
    }

    /// When it was dialled last.
    #[must_use]
    pub fn dialled(&self) -> Option<Instant> {
        *self.carried.dialled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects both ends and carries until one of them ends.
fn join(near: TcpStream, region: SocketAddr, one_way: Duration, carried: &Arc<Carried>) -> io::Result<()> {
    let far = TcpStream::connect(region)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    *carried.dialled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    let (there, back) = (Arc::clone(carried), Arc::clone(carried));
    carry(near.try_clone()?, far.try_clone()?, one_way, move |len| {
        there.there.fetch_add(len, Ordering::Relaxed);
    });
    carry(far, near, one_way, move |len| {
        back.back.fetch_add(len, Ordering::Relaxed);
    });
    Ok(())
}

/// Carries one direction, in threads of its own, until either end is over.
fn carry(mut from: TcpStream, mut to: TcpStream, one_way: Duration, count: impl Fn(u64) + Send + 'static) {
    let (send, sent) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY_MAX);
    thread::spawn(move || {
        let mut piece = vec![0; READ_BYTES];
        while let Ok(len @ 1..) = from.read(&mut piece) {
            count(len as u64);
            if send.send((Instant::now() + one_way, piece[..len].to_vec())).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Read);
    });
    thread::spawn(move || {
        for (due, piece) in sent {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_carries_is_unchanged_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let distance = Distance::to(listener.local_addr().unwrap(), Duration::from_millis(2)).unwrap();
        assert_eq!(distance.dialled(), None);
        let mut near = TcpStream::connect(distance.addr).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        far.write_all(b"yes").unwrap();
        drop(far);
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"yes");
        assert_eq!(distance.bytes(), Bytes { there: 5, back: 3 });
        assert!(distance.dialled().is_some());
    }
}
