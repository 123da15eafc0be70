//! What a lease entry says: a replica takes numbers, which no document has had from it before.
//!
//! The decoder takes bytes from outside. A lease of an unknown kind says nothing to this release, which stores and
//! forwards it all the same.

use crate::ids::ReplicaId;
use crate::lib0::{Reader, put_var_u64};
use bytes::Bytes;

const NUMBERS: u8 = 1;

/// A replica may have given away all its numbers below one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberLease {
    /// Whose numbers they are.
    pub replica: ReplicaId,
    /// The first one that it has not taken.
    pub below: u64,
}

impl NumberLease {
    /// The lease as an entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![NUMBERS];
        put_var_u64(&mut out, u64::from(self.replica.0));
        put_var_u64(&mut out, self.below);
        out.into()
    }

    /// Reads an entry's payload; none when a newer release has written something else.
    #[must_use]
    pub fn decode(payload: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(payload.clone());
        if reader.u8().ok()? != NUMBERS {
            return None;
        }
        let replica = ReplicaId(u16::try_from(reader.var_u64().ok()?).ok()?);
        let below = reader.var_u64().ok()?;
        reader.finish().ok()?;
        Some(Self { replica, below })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_survives_its_payload_and_others_are_left_alone() {
        let lease = NumberLease { replica: ReplicaId(700), below: u64::MAX };
        assert_eq!(NumberLease::decode(&lease.encode()), Some(lease));
        for bytes in [&[][..], &[2, 1, 1], &[1], &[1, 1], &[1, 1, 1, 0], &[1, 0xff, 0xff, 0x7f, 1]] {
            assert_eq!(NumberLease::decode(&Bytes::copy_from_slice(bytes)), None);
        }
    }
}
