//! The other regions of the cluster: who they are, how they are reached, and the links to them.
//!
//! `secret` and `handshake` let a peer in, `dial` and `accept` get connections, `links` keeps one for each
//! peer, `driver` carries out what a link's machine orders, `wire` moves frames. `renewal` begins a new stream
//! where the disk went back in time, `live` says which leaders are reached, `kept` keeps of the log what peers still need, `joining` tells whether
//! people may be sent here. `presence` tells peers who is here, `calls` asks them; `lag`, `refused`, `status` and `gauges` tell
//! operators how it goes. Which batch goes where is decided in `quire_protocol::link`.

mod accept;
mod calls;
mod dial;
mod driver;
mod gauges;
mod handshake;
mod joining;
mod kept;
mod lag;
mod links;
mod live;
mod members;
mod presence;
mod refused;
mod renewal;
mod secret;
mod snapshots;
mod status;
mod wire;

pub(crate) use accept::{NoLink, accept};
pub(crate) use calls::CallError;
pub(crate) use links::{Peers, cluster_id};
pub(crate) use members::{MemberError, Removal};
pub(crate) use refused::RefusedStatus;
pub use secret::{Secret, SecretTooShort};
pub(crate) use status::{PeerProblem, PeerStatus};
