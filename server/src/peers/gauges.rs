//! How it goes with each peer, as Prometheus reads it.
//!
//! Made anew for every scrape and kept nowhere: a recorder's gauge stays at its last value when its link ends
//! or its peer is removed, which nobody could tell from a link that is well.
//!
//! Invariant: a peer without a link has no sample but that it has none, and a removed one has no sample.

use super::links::Peers;
use super::status::PeerStatus;
use crate::metrics::{
    CLOCK_OFFSET, Gauge, PEER_LINKED, PEER_RTT, QUEUE_BYTES, QUEUE_ENTRIES, REPLICATION_LAG,
};
use quire_protocol::ids::ReplicaId;

impl Peers {
    /// The gauges of every peer.
    pub(crate) fn gauges(&self) -> String {
        let mut text = String::new();
        // What a removed region lacks from then on is no fault that anybody is to be called for.
        if self.is_expelled() {
            return text;
        }
        let members = self.log.members();
        let mut peers = self.status();
        peers.retain(|peer| !peer.replica.is_some_and(|replica| members.is_removed(ReplicaId(replica))));
        let mut gauge = |gauge: &Gauge, value: fn(&PeerStatus) -> Option<f64>| {
            let samples = peers.iter().filter_map(|peer| Some((peer.label(), value(peer)?)));
            gauge.write(&mut text, samples);
        };
        gauge(&PEER_LINKED, |peer| Some(f64::from(u8::from(peer.linked))));
        gauge(&PEER_RTT, |peer| Some(seconds(peer.rtt_ms?)));
        gauge(&CLOCK_OFFSET, |peer| {
            let offset = peer.clock_offset_ms?;
            Some(seconds(offset.unsigned_abs()).copysign(if offset < 0 { -1.0 } else { 1.0 }))
        });
        gauge(&QUEUE_ENTRIES, |peer| Some(count(peer.queue_entries?)));
        gauge(&QUEUE_BYTES, |peer| Some(count(peer.queue_bytes?)));
        // Of regions that are no neighbours too, as in a ring.
        let lags = self.lags().into_iter().filter(|(replica, _)| !members.is_removed(*replica));
        REPLICATION_LAG.write(&mut text, lags.map(|(replica, lag)| (replica.0.to_string(), seconds(lag))));
        text
    }
}

/// Milliseconds as metrics have them.
fn seconds(ms: u64) -> f64 {
    count(ms) / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 53 bits")]
fn count(value: u64) -> f64 {
    value as f64
}
