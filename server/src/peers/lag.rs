//! How far this region is behind each of the others, measured by canaries: entries that say when they were
//! written.
//!
//! Every leader writes one every few seconds, so that an idle stream is measured too; a canary that should
//! have come and has not counts against its region.

use super::links::Peers;
use quire_protocol::batch::{EntryKind, NO_DOC, decode_canary, encode_canary};
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::{ReplicaId, StreamId};
use quire_storage::{NewEntry, TailEntry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a leader writes a canary, in milliseconds.
const CANARY_EVERY_MS: u64 = 5_000;

/// A canary may be so much later than the one before it was, by its writer's timer.
const CANARY_LATE_MS: u64 = 1_000;

/// The last canary of one region.
#[derive(Clone, Copy, Debug)]
struct Canary {
    /// When it was written, by its region's clock.
    written_ms: u64,
    /// When it was applied here, by this region's.
    applied_ms: u64,
}

/// The last canaries of all other regions.
#[derive(Debug, Default)]
pub(super) struct Lags(Mutex<BTreeMap<ReplicaId, Canary>>);

impl Lags {
    fn all(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Canary>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what has been applied.
    pub(super) fn applied<'a>(&self, entries: impl Iterator<Item = &'a TailEntry>, now_ms: u64) {
        for entry in entries {
            if entry.kind == EntryKind::Canary
                && let Some(written_ms) = decode_canary(&entry.payload)
            {
                let canary = Canary { written_ms, applied_ms: now_ms };
                self.all().insert(entry.dot.stream.replica, canary);
            }
        }
    }

    /// Per region, how far this one is behind it, in milliseconds; `offset` says how far a region's clock
    /// is ahead, where that is known.
    pub(super) fn now(
        &self,
        now_ms: u64,
        offset: impl Fn(ReplicaId) -> Option<i64>,
    ) -> BTreeMap<ReplicaId, u64> {
        let lag = |(&replica, canary): (&ReplicaId, &Canary)| {
            let written = canary.written_ms.saturating_add_signed(-offset(replica).unwrap_or_default());
            let way = canary.applied_ms.saturating_sub(written);
            // Another one is due: what is longer than that is time in which nothing came.
            let silence = now_ms.saturating_sub(written).saturating_sub(CANARY_EVERY_MS + CANARY_LATE_MS);
            (replica, way.max(silence))
        };
        self.all().iter().map(lag).collect()
    }
}

/// Since when streams wait for what they depend on.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<BTreeMap<StreamId, Instant>>);

impl Waits {
    /// Compares what has come with what is shown, and tells how long a stream waited that waits no more.
    pub(super) fn look(&self, received: &Frontier, applied: &Frontier) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_empty() && received == applied {
            return;
        }
        for dot in received.iter() {
            if !applied.covers(dot) {
                since.entry(dot.stream).or_insert_with(Instant::now);
            } else if let Some(began) = since.remove(&dot.stream) {
                metrics::histogram!(crate::metrics::CAUSAL_WAIT).record(began.elapsed());
            }
        }
    }
}

impl Peers {
    /// Writes a canary every few seconds, by which the others measure how far they are behind.
    pub(super) async fn sing(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(CANARY_EVERY_MS)) => {}
                () = self.leaving.cancelled() => return,
            }
            // A log that takes nothing has told so.
            self.appender.append(vec![canary()], |_| {});
        }
    }
}

/// An entry that says when it was written.
pub(super) fn canary() -> NewEntry {
    NewEntry { doc: NO_DOC, kind: EntryKind::Canary, payload: encode_canary(crate::run::unix_ms()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_protocol::hlc::Hlc;
    use quire_protocol::ids::{Dot, Seq};
    use quire_storage::Position;

    #[test]
    fn a_lag_is_the_way_of_the_last_canary_or_the_time_without_one() {
        let lags = Lags::default();
        let stream = StreamId::from_u32(2 << 16 | 1);
        let entry = TailEntry {
            position: Position(1),
            dot: Dot { stream, seq: Seq(1) },
            hlc: Hlc(0),
            kind: EntryKind::Canary,
            payload: encode_canary(20_000),
        };
        lags.applied([&entry].into_iter(), 10_080);
        let at = |now, offset| lags.now(now, |_| Some(offset))[&ReplicaId(2)];
        // Its clock is ten seconds ahead.
        assert_eq!(at(10_080, 10_000), 80);
        assert_eq!(at(15_900, 10_000), 80, "the next one is not late yet");
        assert_eq!(at(76_000, 10_000), 60_000);
        assert_eq!(at(10_080, 0), 0);
    }
}
