//! How fast a peer gets what it has missed: slowly enough that the editors of neither region notice.
//!
//! A leaky bucket (Turner, "New directions in communications", 1986). What is sent of a backlog fills it, time
//! empties it, and until it is all but empty nothing more of a backlog is read. What is sent as it is written is no
//! backlog and is not counted.

use super::limits::{CATCH_UP_AHEAD_MS, CATCH_UP_BYTES_PER_MS, ENTRY_COST_BYTES};
use crate::time::Time;

/// How full the bucket may be when more is read.
const AHEAD_BYTES: u64 = CATCH_UP_AHEAD_MS * CATCH_UP_BYTES_PER_MS;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes that were sent and that time has not paid for.
    level: u64,
    /// As of then.
    at: Time,
    /// How often something was seen to wait for it.
    pub(super) put_off: u64,
}

impl Pace {
    /// Takes note of so many bytes of a backlog, that hold so many entries.
    pub(super) fn sent(&mut self, now: Time, bytes: u64, entries: u64) {
        self.empty(now);
        self.level =
            self.level.saturating_add(bytes).saturating_add(entries.saturating_mul(ENTRY_COST_BYTES));
    }

    /// When more may be read; none when that is now.
    pub(super) fn due(&mut self, now: Time) -> Option<Time> {
        self.empty(now);
        let over = self.level.saturating_sub(AHEAD_BYTES);
        (over > 0).then(|| now.after(over.div_ceil(CATCH_UP_BYTES_PER_MS)))
    }

    fn empty(&mut self, now: Time) {
        let passed = now.0.saturating_sub(self.at.0);
        self.level = self.level.saturating_sub(passed.saturating_mul(CATCH_UP_BYTES_PER_MS));
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn l15_no_stretch_of_time_sees_more_of_a_backlog_than_its_rate_and_one_read(
            reads in prop::collection::vec((0..50_u64, 1..1_000_000_u64, 0..10_000_u64), 1..100),
        ) {
            let mut pace = Pace::default();
            let mut now = Time(0);
            let mut sent = Vec::new();
            for (pause, bytes, entries) in reads {
                now = now.after(pause);
                if let Some(due) = pace.due(now) {
                    prop_assert!(due > now);
                    prop_assert!(pace.due(Time(due.0 - 1)).is_some(), "it is not told too late");
                    now = due;
                }
                prop_assert_eq!(pace.due(now), None);
                pace.sent(now, bytes, entries);
                sent.push((now, bytes + entries * ENTRY_COST_BYTES));
            }
            for (i, &(from, _)) in sent.iter().enumerate() {
                let mut all = 0;
                for &(to, cost) in &sent[i..] {
                    // All but the last, which has yet to be paid for.
                    let most = (to.0 - from.0) * CATCH_UP_BYTES_PER_MS + AHEAD_BYTES;
                    prop_assert!(all <= most, "{all} by {}", to.0 - from.0);
                    all += cost;
                }
            }
        }
    }
}
