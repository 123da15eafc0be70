//! Which region makes a document's write-backs.
//!
//! Each region decides by whom it reaches. So two regions that are cut off from each other may each have a writer,
//! and both write then: what is written back is a function of the conflict, and collapses.

use crate::ids::ReplicaId;
use std::collections::BTreeSet;

/// Who writes for a document, as seen from a region that reaches these leaders, itself among them where it is one:
/// the document's home, and where that is not reached, or nobody is known to be it, the lowest of them. None where
/// there is none.
#[must_use]
pub fn writer(home: Option<ReplicaId>, live: &BTreeSet<ReplicaId>) -> Option<ReplicaId> {
    home.filter(|home| live.contains(home)).or_else(|| live.first().copied())
}

/// At which of some regions a value is reserved, by the value's name: rendezvous hashing, so that a region more or
/// less moves only what is its own (Thaler and Ravishankar, 1998). None where there are none.
#[must_use]
pub fn of_value(id: [u8; 16], regions: &BTreeSet<ReplicaId>) -> Option<ReplicaId> {
    regions.iter().copied().max_by_key(|replica| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&id).update(&replica.0.to_be_bytes());
        *hasher.finalize().as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live<const N: usize>(replicas: [u16; N]) -> BTreeSet<ReplicaId> {
        replicas.map(ReplicaId).into()
    }

    #[test]
    fn t7_the_home_writes_while_it_is_reached_and_else_the_lowest_leader() {
        let home = Some(ReplicaId(7));
        assert_eq!(writer(home, &live([2, 7, 9])), home);
        assert_eq!(writer(home, &live([2, 9])), Some(ReplicaId(2)));
        assert_eq!(writer(None, &live([9, 3])), Some(ReplicaId(3)));
        // A follower that reaches nobody has nobody write, and does not write itself.
        assert_eq!(writer(home, &live([])), None);
    }

    #[test]
    fn values_are_reserved_at_all_regions_alike_and_stay_where_they_are_when_one_comes() {
        let homes = |regions: &BTreeSet<ReplicaId>| -> Vec<ReplicaId> {
            let ids = (0..3_000_u128).map(|id| of_value(id.to_be_bytes(), regions));
            ids.map(|home| home.expect("there are some")).collect()
        };
        let (three, four) = (homes(&live([1, 2, 3])), homes(&live([1, 2, 3, 4])));
        for replica in [1, 2, 3].map(ReplicaId) {
            let own = three.iter().filter(|home| **home == replica).count();
            assert!((800..1_200).contains(&own), "{replica:?} has {own}");
        }
        let moved: Vec<_> = three.iter().zip(&four).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| **after == ReplicaId(4)));
        assert!((550..950).contains(&moved.len()), "{}", moved.len());
        assert_eq!(of_value([0; 16], &live([])), None);
    }

    #[test]
    fn t7_regions_that_reach_the_same_leaders_have_one_writer() {
        for home in [None, Some(ReplicaId(2)), Some(ReplicaId(5))] {
            for replicas in [live([1, 2, 3]), live([2, 3]), live([5])] {
                let writer = writer(home, &replicas).expect("somebody");
                assert!(replicas.contains(&writer), "{home:?} {replicas:?}");
            }
        }
    }
}
