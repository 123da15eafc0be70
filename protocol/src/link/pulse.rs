//! Whether the peer is there, how far away it is, how its clock differs, and whether it has what it should.
//!
//! The clock's offset is taken from the round trip that was fastest of late, where the way there and back
//! is most nearly the same (as in NTP, RFC 5905, clock filter).

use super::limits::{PING_EVERY_MS, PINGS_MISSED_MAX};
use crate::frontier::Frontier;
use crate::time::Time;
use std::collections::VecDeque;

/// Round trips that the clock's offset is chosen from.
const SAMPLES: usize = 8;

/// After so many pulses at which both were quiet and did not have the same, something was lost.
const DIFFERENT_MAX: u32 = 2;

/// A frontier in short.
pub(super) type Digest = [u8; 16];

/// The first 128 bits of blake3 over an encoded frontier.
pub(super) fn digest(frontier: &Frontier) -> Digest {
    let mut bytes = Vec::new();
    frontier.encode(&mut bytes);
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    first
}

#[derive(Debug, Default)]
pub(super) struct Pulse {
    next: Time,
    /// The last ping's number and time.
    sent: Option<(u64, Time)>,
    /// Pings since anything was heard.
    pub(super) missed: u32,
    /// Round trips in milliseconds, each with the peer's clock minus ours.
    samples: VecDeque<(u64, i64)>,
    smoothed_ms: Option<u64>,
    different: u32,
    busy: bool,
    heard: bool,
}

impl Pulse {
    pub(super) const fn due(&self) -> Time {
        self.next
    }

    /// Takes note that the peer has said something, whatever it was.
    pub(super) fn heard(&mut self) {
        self.missed = 0;
        self.heard = true;
    }

    /// Whether the peer has said anything at all.
    pub(super) const fn has_heard(&self) -> bool {
        self.heard
    }

    /// Takes note that something was sent or stored.
    pub(super) fn moved(&mut self) {
        self.busy = true;
    }

    /// The number of the next ping, when it is time for one; none in it when the peer has been silent for
    /// too long.
    pub(super) fn beat(&mut self, now: Time) -> Option<Option<u64>> {
        if now < self.next {
            return None;
        }
        if self.missed >= PINGS_MISSED_MAX {
            return Some(None);
        }
        self.missed += 1;
        self.next = now.after(PING_EVERY_MS);
        let nonce = self.sent.map_or(1, |(nonce, _)| nonce + 1);
        self.sent = Some((nonce, now));
        Some(Some(nonce))
    }

    /// Takes note of the answer to a ping.
    pub(super) fn answered(&mut self, now: Time, nonce: u64, peer_ms: u64, wall_ms: u64) {
        let Some((_, sent)) = self.sent.filter(|(expected, _)| *expected == nonce) else { return };
        let rtt = now.since(sent);
        let offset = i128::from(peer_ms) + i128::from(rtt / 2) - i128::from(wall_ms);
        let offset = i64::try_from(offset).unwrap_or(if offset < 0 { i64::MIN } else { i64::MAX });
        self.samples.push_back((rtt, offset));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        self.smoothed_ms = Some(self.smoothed_ms.map_or(rtt, |smoothed| (7 * smoothed + rtt) / 8));
    }

    /// Compares what both have, once a pulse. True when something that neither knows of was lost: they are
    /// not the same and have been quiet for so long that nothing can be on its way.
    pub(super) fn compare(&mut self, ours: Digest, theirs: Digest) -> bool {
        let quiet = !std::mem::take(&mut self.busy);
        self.different = if quiet && ours != theirs { self.different + 1 } else { 0 };
        if self.different < DIFFERENT_MAX {
            return false;
        }
        self.different = 0;
        true
    }

    pub(super) const fn rtt_ms(&self) -> Option<u64> {
        self.smoothed_ms
    }

    pub(super) fn offset_ms(&self) -> Option<i64> {
        self.samples.iter().min_by_key(|(rtt, _)| *rtt).map(|(_, offset)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l9_the_clocks_offset_is_that_of_the_fastest_round_trip() {
        let mut pulse = Pulse::default();
        for (at, rtt, peer) in [(0, 100, 10_050), (1000, 20, 11_010), (2000, 400, 12_390)] {
            assert!(pulse.beat(Time(at)).flatten().is_some());
            let nonce = pulse.sent.expect("a ping").0;
            pulse.answered(Time(at + rtt), nonce + 1, 0, 0);
            pulse.answered(Time(at + rtt), nonce, peer, at + rtt);
        }
        // Ten seconds ahead; the slow round trip would have said 190 ms more.
        assert_eq!((pulse.offset_ms(), pulse.rtt_ms()), (Some(10_000), Some(128)));
    }

    #[test]
    fn l9_three_pings_without_a_word_are_silence() {
        let mut pulse = Pulse::default();
        for at in [0, 1000, 2000] {
            assert!(pulse.beat(Time(at)).flatten().is_some());
        }
        assert_eq!(pulse.beat(Time(2999)), None);
        assert_eq!(pulse.beat(Time(3000)), Some(None));
        pulse.heard();
        assert!(pulse.beat(Time(3000)).flatten().is_some());
    }
}
