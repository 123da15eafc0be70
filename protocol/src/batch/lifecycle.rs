//! What a lifecycle entry says: its document was created, deleted, restored or given a home.
//!
//! The decoder takes bytes from outside. A change of an unknown kind is kept as it is, so that an
//! older region stores and forwards what a newer one writes.

use crate::frontier::{Frontier, FrontierError};
use crate::ids::{DocName, DocNameError, ReplicaId};
use crate::lib0::{ReadError, Reader, put_var_u64};
use bytes::Bytes;

const CREATE: u8 = 1;
const DELETE: u8 = 2;
const RESTORE: u8 = 3;
const HOME: u8 = 4;
const EDITED: u8 = 5;

/// A change in a document's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleChange {
    /// The document exists from here on. Its id must be the name's.
    Create {
        /// The document's name.
        name: DocName,
    },
    /// The document is deleted, with what the deleting region had seen of it.
    Delete {
        /// Entries beyond it are concurrent with the deletion.
        frontier: Frontier,
    },
    /// The deletion is taken back.
    Restore,
    /// The document's write-backs are made by this replica.
    Home {
        /// The replica.
        replica: ReplicaId,
    },
    /// An update of this entry's name and stamp is part of the state that a snapshot tells of. Only snapshots
    /// hold it.
    Edited,
    /// A change that a newer release writes.
    Unknown {
        /// Its number.
        code: u8,
        /// The rest of its payload.
        rest: Bytes,
    },
}

impl LifecycleChange {
    /// Whether a payload deletes a document or brings it back, or is of a kind that may.
    #[must_use]
    pub fn turns(payload: &[u8]) -> bool {
        !matches!(payload.first(), None | Some(&(CREATE | HOME | EDITED)))
    }
}

/// Why a lifecycle entry's payload cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// The bytes are cut short or followed by more.
    #[error("cannot read a lifecycle change: {0}")]
    Read(#[from] ReadError),
    /// A deletion's frontier cannot be read.
    #[error("cannot read a deletion: {0}")]
    Frontier(#[from] FrontierError),
    /// A created document has no valid name.
    #[error("cannot read a creation: {0}")]
    Name(#[from] DocNameError),
}

impl LifecycleChange {
    /// The change as an entry's payload.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Create { name } => {
                out.push(CREATE);
                out.extend_from_slice(name.as_str().as_bytes());
            }
            Self::Delete { frontier } => {
                out.push(DELETE);
                frontier.encode(&mut out);
            }
            Self::Restore => out.push(RESTORE),
            Self::Home { replica } => {
                out.push(HOME);
                put_var_u64(&mut out, u64::from(replica.0));
            }
            Self::Edited => out.push(EDITED),
            Self::Unknown { code, rest } => {
                out.push(*code);
                out.extend_from_slice(rest);
            }
        }
        out.into()
    }

    /// Reads an entry's payload.
    ///
    /// # Errors
    /// When a change of a known kind is not spelt as it should be.
    pub fn decode(payload: &Bytes) -> Result<Self, LifecycleError> {
        let mut reader = Reader::new(payload.clone());
        let change = match reader.u8()? {
            CREATE => {
                let rest = reader.bytes(reader.remaining())?;
                let name = std::str::from_utf8(&rest).map_err(|_| ReadError::Utf8)?;
                Self::Create { name: DocName::new(name)? }
            }
            DELETE => Self::Delete { frontier: Frontier::decode(&mut reader)? },
            RESTORE => Self::Restore,
            HOME => {
                let replica = u16::try_from(reader.var_u64()?).map_err(|_| ReadError::Overflow)?;
                Self::Home { replica: ReplicaId(replica) }
            }
            EDITED => Self::Edited,
            code => Self::Unknown { code, rest: reader.bytes(reader.remaining())? },
        };
        reader.finish()?;
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_payload_is_refused_or_survives_a_round_trip(bytes: Vec<u8>) {
            if let Ok(change) = LifecycleChange::decode(&bytes.into()) {
                prop_assert_eq!(LifecycleChange::decode(&change.encode()), Ok(change));
            }
        }
    }

    #[test]
    fn every_change_survives_a_round_trip() {
        let name = DocName::new("team/plan 🪶").expect("a valid name");
        for change in [
            LifecycleChange::Create { name },
            LifecycleChange::Delete { frontier: Frontier::new() },
            LifecycleChange::Restore,
            LifecycleChange::Home { replica: ReplicaId(300) },
            LifecycleChange::Edited,
            LifecycleChange::Unknown { code: 77, rest: Bytes::from_static(b"later") },
        ] {
            assert_eq!(LifecycleChange::decode(&change.encode()), Ok(change));
        }
    }
}
