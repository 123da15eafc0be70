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
    fn t7_regions_that_reach_the_same_leaders_have_one_writer() {
        for home in [None, Some(ReplicaId(2)), Some(ReplicaId(5))] {
            for replicas in [live([1, 2, 3]), live([2, 3]), live([5])] {
                let writer = writer(home, &replicas).expect("somebody");
                assert!(replicas.contains(&writer), "{home:?} {replicas:?}");
            }
        }
    }
}
