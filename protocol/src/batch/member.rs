//! What a member entry says: a region belongs to the cluster, or does so no more.
//!
//! The decoder takes bytes from outside. A change of an unknown kind says nothing to this release, which
//! stores and forwards it all the same.

use crate::ids::ReplicaId;
use crate::lib0::{Reader, put_var_u64};
use bytes::Bytes;

const ADDED: u8 = 1;
const REMOVED: u8 = 2;

/// Whether a region belongs to the cluster. One of which nothing is said does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// It does.
    #[default]
    Member,
    /// It does no more: nobody has a link to it.
    Removed,
}

/// A change of who belongs to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The region's number.
    pub replica: ReplicaId,
    /// What it is from then on.
    pub membership: Membership,
}

impl MemberChange {
    /// The change as an entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![match self.membership {
            Membership::Member => ADDED,
            Membership::Removed => REMOVED,
        }];
        put_var_u64(&mut out, u64::from(self.replica.0));
        out.into()
    }

    /// Reads an entry's payload; none when a newer release has written something else.
    #[must_use]
    pub fn decode(payload: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(payload.clone());
        let membership = match reader.u8().ok()? {
            ADDED => Membership::Member,
            REMOVED => Membership::Removed,
            _ => return None,
        };
        let replica = ReplicaId(u16::try_from(reader.var_u64().ok()?).ok()?);
        reader.finish().ok()?;
        Some(Self { replica, membership })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_its_payload_and_others_are_left_alone() {
        for membership in [Membership::Member, Membership::Removed] {
            let change = MemberChange { replica: ReplicaId(700), membership };
            assert_eq!(MemberChange::decode(&change.encode()), Some(change));
        }
        for bytes in [&[][..], &[3, 1], &[1], &[2, 1, 0], &[2, 0xff, 0xff, 0x7f]] {
            assert_eq!(MemberChange::decode(&Bytes::copy_from_slice(bytes)), None);
        }
    }
}
