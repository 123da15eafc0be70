//! Names for new documents, where whoever makes one gives none.
//!
//! A UUID needs nothing but a clock and chance. A number is this replica's own: a lease of it is on disk, and on its
//! way to the other regions, before anybody sees the number. With the replica's number it is a name that no other
//! region gives, so every region counts for itself, cut off or not. A lease is for one number: a block of them would
//! save a commit and leave a gap at each restart.
//!
//! Invariant: no number is given twice, also after a crash, and also where the disk is restored from a backup, since
//! the leases that it lacks come back from the peers before a number is given.

use super::problem::{Kind, Problem};
use crate::region::Region;
use quire_protocol::batch::{EntryKind, NO_DOC, NumberLease};
use quire_protocol::fields::schema::{Collection, IdStrategy};
use quire_protocol::ids::ReplicaId;
use quire_storage::NewEntry;
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// So many whole numbers in a row are one replica's. With a few, people would see that numbers of two regions are
/// far apart; with many more, those of one region would soon be too large for a double's 53 bits.
const RANGE_LEN: u64 = 1_000;
/// After a range of each replica that there can be comes the next of the first.
const REPLICAS: u64 = 1 << 16;
/// The greatest whole number that every JSON reader takes for what it is.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// How a new document is to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Strategy {
    /// A UUID of version 7, which begins with the time.
    Uuid,
    /// The collection's prefix, the replica, and the replica's next number.
    Short,
    /// A whole number out of a range that is the replica's own.
    #[serde(alias = "integer")]
    Range,
}

impl Strategy {
    /// The strategy of a collection.
    pub(super) const fn of(collection: &Collection) -> Self {
        match &collection.ids {
            None | Some(IdStrategy::Uuid) => Self::Uuid,
            Some(IdStrategy::Short { .. }) => Self::Short,
            Some(IdStrategy::Range) => Self::Range,
        }
    }

    /// A new id for a document of a collection, which no region has given or will.
    pub(super) async fn next(self, region: &Region, collection: &Collection) -> Result<String, Problem> {
        let me = ReplicaId(region.settings.replica);
        match self {
            Self::Uuid => Ok(Uuid::now_v7().to_string()),
            Self::Short => {
                let prefix = match &collection.ids {
                    Some(IdStrategy::Short { prefix }) => Some(prefix.as_str()),
                    _ => None,
                };
                Ok(short(prefix, me, next_number(region).await?))
            }
            Self::Range => {
                in_range(me, next_number(region).await?).map(|number| number.to_string()).ok_or_else(|| {
                    Problem::new(Kind::Unavailable, "this region has given all its whole numbers")
                })
            }
        }
    }
}

/// The short form of a replica's number. The replica is part of it, since its numbers are its own.
fn short(prefix: Option<&str>, replica: ReplicaId, number: u64) -> String {
    let prefix = prefix.map(|prefix| format!("{prefix}-")).unwrap_or_default();
    format!("{prefix}{}-{number}", replica.0)
}

/// The whole number that a replica's number stands for. The k-th range of a replica follows that of the replica
/// before it, and the (k+1)-th comes after the k-th of all: who has which is a matter of counting, and needs nobody's
/// leave. None beyond [`INTEGER_MAX`].
fn in_range(replica: ReplicaId, number: u64) -> Option<u64> {
    let (range, place) = ((number - 1) / RANGE_LEN, (number - 1) % RANGE_LEN);
    let range = range.checked_mul(REPLICAS)?.checked_add(replica.0.into())?;
    let integer = range.checked_mul(RANGE_LEN)?.checked_add(place)?;
    (integer <= INTEGER_MAX).then_some(integer)
}

/// What this process has given of its replica's numbers.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<u64>);

impl Numbers {
    /// Takes the first number that is neither given here nor below what leases say.
    fn take(&self, leased_below: u64) -> u64 {
        // Under the lock there is one step.
        let mut given_below = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = leased_below.max(*given_below).max(1);
        *given_below = number + 1;
        number
    }
}

/// The next of this replica's numbers: 1, 2, 3… with gaps where a creation failed.
async fn next_number(region: &Region) -> Result<u64, Problem> {
    if !region.peers.knows_own_past() {
        return Err(Problem::new(
            Kind::Unavailable,
            "this region gives no numbers before it has met a peer since its start, which may know of some that its \
             disk has lost; a uuid can be had",
        ));
    }
    let replica = ReplicaId(region.settings.replica);
    let number = region.numbers.take(region.log.numbers_below(replica));
    let payload = NumberLease { replica, below: number + 1 }.encode();
    let done = region.documents.append(NewEntry { doc: NO_DOC, kind: EntryKind::Lease, payload }).await;
    done.map_err(|error| Problem::new(Kind::Unavailable, error.to_string()))?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_two_numbers_of_any_two_replicas_are_the_same_integer(
            a in (1..=u16::MAX, 1..200_000_u64), b in (1..=u16::MAX, 1..200_000_u64),
        ) {
            let integer = |(replica, number)| in_range(ReplicaId(replica), number);
            prop_assert!(integer(a).is_some() && integer(b).is_some());
            prop_assert_eq!(integer(a) == integer(b), a == b);
            let name = |(replica, number)| short(Some("T"), ReplicaId(replica), number);
            prop_assert_eq!(name(a) == name(b), a == b);
        }
    }

    #[test]
    fn integers_of_a_replica_come_in_ranges_and_end_where_json_does() {
        let integer = |number| in_range(ReplicaId(2), number);
        assert_eq!([1, 2, 1_000].map(integer), [Some(2_000), Some(2_001), Some(2_999)]);
        assert_eq!(integer(1_001), Some((REPLICAS + 2) * RANGE_LEN));
        let last = (1..).map(|power| 1 << power).find(|number| integer(*number).is_none());
        assert_eq!(last, Some(1 << 38), "that many times a thousand documents of one region");
        assert_eq!(in_range(ReplicaId(u16::MAX), u64::MAX), None);
    }

    #[test]
    fn what_leases_say_and_what_was_given_are_both_passed_over() {
        let numbers = Numbers::default();
        assert_eq!([0, 0, 2].map(|below| numbers.take(below)), [1, 2, 3]);
        assert_eq!(numbers.take(40), 40, "a restored disk has got its leases back");
        assert_eq!(numbers.take(4), 41);
    }
}
