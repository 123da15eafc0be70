//! Simulated typists for Quire and other Yjs servers, the benchmarks they drive, and whole clusters that are
//! simulated without a server.
//!
//! Nothing here links a server: servers are programs that are started, typed at over their sockets
//! and measured from outside. A figure counts only for a run that lost nothing.

pub mod bench;
pub mod compare;
pub mod crowd;
pub mod cursor;
pub mod delivery;
pub mod disk;
pub mod distance;
pub mod editor;
pub mod group;
pub mod live;
pub mod rates;
pub mod relay;
pub mod rooms;

pub mod server;
pub mod setter;
pub mod sim;
pub mod trace;
pub mod typist;
pub mod wire;
pub mod writers;
