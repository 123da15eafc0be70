//! A disk that went back in time: this region begins a stream of its own anew, and meets its peers again.

use super::links::Peers;
use quire_protocol::ids::{Dot, Incarnation, ReplicaId};
use quire_protocol::link::{Bye, ByeReason};
use quire_storage::{AppendError, Renewal};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often peers may have this region's stream renewed between its start and its end. A disk goes back once, and
/// may have gone back before that; peers that say so without end are wrong.
const RENEWALS_MAX: u32 = 16;

impl Peers {
    /// A peer remembers another history of this region's stream, or more of it than its disk does. The stream is
    /// renewed; what was written here and the peer does not remember is part of the new one, and what peers hold
    /// of the old one is taken back like any other's.
    pub(super) fn went_back(self: &Arc<Self>, peer: ReplicaId, held: Dot, known: Incarnation) {
        tracing::error!(
            stream = %held.stream, seq = held.seq.0, peer = peer.0,
            "a peer remembers what this region wrote after this entry, and its disk does not: the disk went back \
             in time; the region goes on under a new incarnation and takes back what peers hold"
        );
        if self.renewals.load(Ordering::Relaxed) >= RENEWALS_MAX {
            let detail =
                format!("this region's stream has been renewed {RENEWALS_MAX} times since its start");
            return self.end_link(peer, Bye { reason: ByeReason::Fork, detail });
        }
        let peers = self.clone();
        self.appender.part_stream(held, known, move |parted| peers.parted(peer, parted));
    }

    fn parted(&self, peer: ReplicaId, parted: Result<Renewal, AppendError>) {
        match parted {
            Ok(Renewal { stream, moved }) => {
                // There is more of it than those knew who were met before.
                self.joining.own_past.store(false, Ordering::Release);
                // Another peer may have found the same, and come first.
                if self.stream.send_replace(stream) != stream {
                    self.renewals.fetch_add(1, Ordering::Relaxed);
                }
                if moved == 0 {
                    return;
                }
                self.documents.written_again();
                tracing::warn!(
                    %stream, entries = moved,
                    "what this region wrote since its disk went back is part of its new stream"
                );
                // They were told that it has of the old one what it no longer has.
                let detail = "this region has given up a part of its stream: begin anew".to_owned();
                self.end_all_links(&Bye { reason: ByeReason::Renewed, detail });
            }
            Err(error) => {
                tracing::error!(%error, "the stream cannot be renewed");
                self.end_link(peer, Bye { reason: ByeReason::Disk, detail: error.to_string() });
            }
        }
    }
}
