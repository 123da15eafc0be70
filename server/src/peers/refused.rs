//! Who dialled this region of late and was turned away: the other half of a pair that does not fit, of which
//! the configuration here says nothing.
//!
//! Anybody may dial, so they are told of and never make this region unwell. Those who have proved who they are,
//! and are refused for what they are configured with, are peers: they are told of as such.

use super::status::{Failure, PeerProblem, remedy};
use quire_protocol::ids::ReplicaId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Addresses and reasons that are remembered: more than a cluster has regions, few enough to read. The one
/// that was turned away longest ago makes room.
const REMEMBERED_MAX: usize = 32;
/// A region that is turned away dials again every few seconds: one that has not for this long has stopped.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// Somebody who was turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RefusedStatus {
    /// From where it dialled.
    pub(crate) address: IpAddr,
    /// How often since it began.
    pub(crate) times: u64,
    /// Why, and what to do.
    pub(crate) problem: PeerProblem,
}

/// Those who were turned away, the last one at the end.
#[derive(Debug, Default)]
pub(super) struct TurnedAway(Mutex<Vec<(Instant, RefusedStatus)>>);

impl TurnedAway {
    fn recent(&self, now: Instant) -> MutexGuard<'_, Vec<(Instant, RefusedStatus)>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(last, _)| now.duration_since(*last) < REMEMBERED_FOR);
        all
    }

    /// Takes note that an address was turned away. Returns whether that is news.
    pub(super) fn note(&self, now: Instant, address: IpAddr, kind: &'static str, cause: String) -> bool {
        let mut all = self.recent(now);
        let known = all.iter().position(|(_, one)| one.address == address && one.problem.kind == kind);
        let times = known.map_or(0, |known| all.remove(known).1.times) + 1;
        if all.len() == REMEMBERED_MAX {
            all.remove(0);
        }
        let problem = PeerProblem { kind, cause, remedy: remedy(kind) };
        all.push((now, RefusedStatus { address, times, problem }));
        times == 1
    }

    /// Those who still try.
    pub(super) fn status(&self, now: Instant) -> Vec<RefusedStatus> {
        self.recent(now).iter().map(|(_, one)| one.clone()).collect()
    }
}

/// Peers that dialled this region of late and do not fit. Only those who know the cluster's secret come here.
#[derive(Debug, Default)]
pub(super) struct Unfit(Mutex<BTreeMap<ReplicaId, (Instant, Failure)>>);

impl Unfit {
    fn recent(&self, now: Instant) -> MutexGuard<'_, BTreeMap<ReplicaId, (Instant, Failure)>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (last, _)| now.duration_since(*last) < REMEMBERED_FOR);
        all
    }

    /// Takes note that a peer was refused. Returns whether that is news.
    pub(super) fn note(&self, now: Instant, peer: ReplicaId, failure: Failure) -> bool {
        let text = failure.text.clone();
        let known = self.recent(now).insert(peer, (now, failure));
        known.is_none_or(|(_, known)| known.text != text)
    }

    /// Forgets a peer that has a link.
    pub(super) fn forget(&self, peer: ReplicaId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    /// Those who still try, and why they are refused.
    pub(super) fn status(&self, now: Instant) -> BTreeMap<ReplicaId, Failure> {
        self.recent(now).iter().map(|(peer, (_, failure))| (*peer, failure.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(number).expect("small")))
    }

    #[test]
    fn one_who_is_turned_away_again_is_no_news_until_it_has_stopped() {
        let (turned_away, began) = (TurnedAway::default(), Instant::now());
        let note = |after, kind| turned_away.note(began + after, address(1), kind, "a cause".to_owned());
        assert!(note(Duration::ZERO, "same_replica"));
        assert!(!note(REMEMBERED_FOR / 2, "same_replica"));
        assert!(note(REMEMBERED_FOR / 2, "secret"), "another reason is news");
        let told = turned_away.status(began + REMEMBERED_FOR);
        let told: Vec<_> = told.iter().map(|one| (one.problem.kind, one.times)).collect();
        assert_eq!(told, [("same_replica", 2), ("secret", 1)]);
        assert_eq!(turned_away.status(began + REMEMBERED_FOR * 2), []);
        assert!(note(REMEMBERED_FOR * 2, "same_replica"));
    }

    #[test]
    fn a_peer_that_does_not_fit_is_told_of_until_it_has_stopped_or_has_a_link() {
        let (unfit, began, peer) = (Unfit::default(), Instant::now(), ReplicaId(3));
        let note = |after, text: &str| {
            unfit.note(began + after, peer, Failure { label: "schema", text: text.to_owned() })
        };
        assert!(note(Duration::ZERO, "a field"));
        assert!(!note(REMEMBERED_FOR / 2, "a field"));
        assert!(note(REMEMBERED_FOR / 2, "another field"), "what differs now is news");
        assert_eq!(unfit.status(began + REMEMBERED_FOR)[&peer].text, "another field");
        assert!(unfit.status(began + REMEMBERED_FOR * 2).is_empty());
        note(REMEMBERED_FOR * 2, "a field");
        unfit.forget(peer);
        assert!(unfit.status(began + REMEMBERED_FOR * 2).is_empty());
    }

    #[test]
    fn however_many_are_turned_away_the_last_few_are_remembered() {
        let (turned_away, now) = (TurnedAway::default(), Instant::now());
        for number in 0..=REMEMBERED_MAX {
            turned_away.note(now, address(number), "secret", String::new());
        }
        let told = turned_away.status(now);
        assert_eq!((told.len(), told[0].address), (REMEMBERED_MAX, address(1)));
    }
}
