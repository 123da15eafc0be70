//! Why a link ends, in words that both sides and their operators share.

#[cfg(doc)]
use super::limits::DETAIL_BYTES_MAX;

/// Why a link ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bye {
    /// The reason.
    pub reason: ByeReason,
    /// What a person should know beyond it; at most [`DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
}

/// The reasons for which a link ends; their numbers are on the wire and their names in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByeReason {
    /// No version of the protocol is shared.
    Version,
    /// The peer belongs to another cluster.
    Cluster,
    /// The schemas differ, and neither region names the other's.
    Schema,
    /// The peer has this replica's own number.
    SameReplica,
    /// The peer does not know the secret.
    Secret,
    /// A frame cannot be read.
    Malformed,
    /// A batch does not follow from what was received of its stream.
    Fork,
    /// More was sent than was allowed.
    Credit,
    /// Nothing was heard for too long.
    Silent,
    /// Another connection between the two has taken this one's place.
    Replaced,
    /// The region stops.
    Stopping,
    /// The peer has been removed from the cluster.
    Removed,
    /// The region's disk takes nothing.
    Disk,
    /// The region has given up a part of its stream: what it said it has no longer holds.
    Renewed,
    /// A reason that a newer release has.
    Unknown(u8),
}

impl ByeReason {
    /// Every reason that this release gives, with its number and its name.
    const TABLE: [(Self, u8, &'static str); 14] = [
        (Self::Version, 1, "version"),
        (Self::Cluster, 2, "cluster"),
        (Self::Schema, 3, "schema"),
        (Self::SameReplica, 4, "same_replica"),
        (Self::Secret, 5, "secret"),
        (Self::Malformed, 6, "malformed"),
        (Self::Fork, 7, "fork"),
        (Self::Credit, 8, "credit"),
        (Self::Silent, 9, "silent"),
        (Self::Replaced, 10, "replaced"),
        (Self::Stopping, 11, "stopping"),
        (Self::Removed, 12, "removed"),
        (Self::Disk, 13, "disk"),
        (Self::Renewed, 14, "renewed"),
    ];

    /// The reason's number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unknown(code) => code,
            known => Self::TABLE.iter().find(|row| row.0 == known).map_or(0, |row| row.1),
        }
    }

    /// The reason that a number stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::TABLE.iter().find(|row| row.1 == code).map_or(Self::Unknown(code), |row| row.0)
    }

    /// The reason's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).map_or("unknown", |row| row.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Message;

    #[test]
    fn l3_an_end_has_its_reason_and_what_fits_of_its_detail() {
        for (reason, code, name) in ByeReason::TABLE {
            assert_eq!((reason.code(), reason.name(), ByeReason::from_code(code)), (code, name, reason));
        }
        assert_eq!(ByeReason::from_code(200).code(), 200);
        let bye = Bye { reason: ByeReason::Fork, detail: "é".repeat(200) };
        let Ok(Message::Bye(read)) = Message::decode(Message::Bye(bye).encode()) else { panic!("a bye") };
        assert_eq!(read, Bye { reason: ByeReason::Fork, detail: "é".repeat(128) });
    }
}
