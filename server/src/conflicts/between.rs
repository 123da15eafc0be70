//! Conflicts between documents: values that several claim, and references to deleted ones; and how they are kept.
//!
//! ```text
//! danglers  = a referrer's key → version u8 = 1 · change u64 · first u64 · dangling
//! over      = change           → version u8 = 1 · change u64 · first u64 · contested or dangling
//! contested = 1 · claim · left out · count · count × (a stamp · a claim's row, length first)
//! dangling  = 2 · policy u8 · count of deletions, 0 or 1 · a stamp · a referrer's row
//! ```
//!
//! Invariant: what is over is kept as it was when it ended, and changes no more.

use super::indexed::{Claimant, Referrer};
use super::rows::event;
use bytes::Bytes;
use quire_protocol::batch::{Stamp, put_stamp, read_stamp};
use quire_protocol::fields::schema::ReferencePolicy;
use quire_protocol::fields::{ClaimId, Status};
use quire_protocol::ids::DocName;
use quire_protocol::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use quire_storage::DerivedKey;

/// The references that dangle, by their referrers' keys.
pub(super) const DANGLERS: u8 = 9;
/// What is over, by the number of the change that ended it.
pub(super) const OVER: u8 = 10;

const VERSION: u8 = 1;
const CONTESTED: u8 = 1;
const DANGLING: u8 = 2;

/// How a conflict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The number of its last change.
    pub(crate) change: u64,
    /// The number of the change that it came with.
    pub(crate) first: u64,
    pub(crate) status: Status,
}

/// A value that several documents claim, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contested {
    pub(crate) standing: Standing,
    pub(crate) id: ClaimId,
    /// Who claims it, in the order of their claims: the first has it. At least two; where it is over, those before
    /// the end.
    pub(crate) claimants: Vec<Claimant>,
    /// How many there are beyond those, up to [`LIST_LEN_MAX`](quire_storage::limits::LIST_LEN_MAX).
    pub(crate) left_out: usize,
}

/// A field that names a deleted document, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dangling {
    pub(crate) standing: Standing,
    pub(crate) referrer: Referrer,
    pub(crate) policy: ReferencePolicy,
    /// When the document was deleted.
    pub(crate) deleted: Option<Stamp>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    Contested(Contested),
    Dangling(Dangling),
}

impl Standing {
    pub(super) const fn open(change: u64, first: u64) -> Self {
        Self { change, first, status: Status::Open }
    }
}

impl Dangling {
    /// Names the reference.
    pub(crate) fn id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        blake3::Hasher::new().update(&self.referrer.key()).finalize_xof().fill(&mut id);
        id
    }
}

impl Between {
    pub(crate) const fn standing(&self) -> Standing {
        match self {
            Self::Contested(contested) => contested.standing,
            Self::Dangling(dangling) => dangling.standing,
        }
    }

    /// The same at the end, which is a change with this number.
    pub(super) fn over(self, change: u64) -> Self {
        let standing = Standing { change, status: Status::Resolved, ..self.standing() };
        match self {
            Self::Contested(contested) => Self::Contested(Contested { standing, ..contested }),
            Self::Dangling(dangling) => Self::Dangling(Dangling { standing, ..dangling }),
        }
    }

    /// What has become of it, for somebody who has seen the changes up to a number.
    pub(super) fn event(&self, seen: u64) -> &'static str {
        let Standing { first, status, .. } = self.standing();
        event(status, first, seen)
    }

    /// Names the conflict as it is now, alike in all regions that have the same entries.
    pub(super) fn state_id(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("quire 2026 conflict between documents");
        hasher.update(self.standing().status.name().as_bytes());
        hasher.update(&self.encode());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The document that is to change, or another of them.
    pub(super) fn document(&self) -> Option<&DocName> {
        match self {
            Self::Contested(contested) => contested.claimants.last().map(|claimant| &claimant.document),
            Self::Dangling(dangling) => Some(&dangling.referrer.document),
        }
    }

    /// As it is kept, open or over.
    pub(super) fn row(&self) -> Bytes {
        let Standing { change, first, .. } = self.standing();
        [&[VERSION][..], &change.to_be_bytes(), &first.to_be_bytes(), &self.encode()].concat().into()
    }

    /// Reads what [`Between::row`] gave.
    pub(super) fn read(row: Bytes, status: Status) -> Result<Self, ReadError> {
        let reader = &mut Reader::new(row);
        if reader.u8()? != VERSION {
            return Err(ReadError::Overflow);
        }
        let change = u64::from_be_bytes(reader.array()?);
        let first = u64::from_be_bytes(reader.array()?);
        let standing = Standing { change, first, status };
        let between = match reader.u8()? {
            CONTESTED => Self::Contested(read_contested(reader, standing)?),
            DANGLING => Self::Dangling(read_dangling(reader, standing)?),
            _ => return Err(ReadError::Overflow),
        };
        reader.finish()?;
        Ok(between)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Contested(Contested { id: ClaimId(id), claimants, left_out, .. }) => {
                out.push(CONTESTED);
                out.extend_from_slice(id);
                put_var_u64(&mut out, *left_out as u64);
                put_var_u64(&mut out, claimants.len() as u64);
                for claimant in claimants {
                    put_stamp(&mut out, claimant.since);
                    put_var_bytes(&mut out, &claimant.row());
                }
            }
            Self::Dangling(Dangling { referrer, policy, deleted, .. }) => {
                out.extend_from_slice(&[DANGLING, policy_code(*policy), u8::from(deleted.is_some())]);
                deleted.iter().for_each(|stamp| put_stamp(&mut out, *stamp));
                out.extend_from_slice(&referrer.row());
            }
        }
        out
    }
}

fn read_contested(reader: &mut Reader, standing: Standing) -> Result<Contested, ReadError> {
    let id = ClaimId(reader.array()?);
    let left_out = usize::try_from(reader.var_u64()?).map_err(|_| ReadError::Overflow)?;
    let mut claimants = Vec::new();
    for _ in 0..reader.var_u64()? {
        let since = read_stamp(reader)?;
        claimants.push(Claimant::read(since, reader.var_bytes()?)?);
    }
    Ok(Contested { standing, id, claimants, left_out })
}

fn read_dangling(reader: &mut Reader, standing: Standing) -> Result<Dangling, ReadError> {
    let code = reader.u8()?;
    let policy = ReferencePolicy::ALL.into_iter().find(|policy| policy_code(*policy) == code);
    let policy = policy.ok_or(ReadError::Overflow)?;
    let deleted = match reader.u8()? {
        0 => None,
        1 => Some(read_stamp(reader)?),
        _ => return Err(ReadError::Overflow),
    };
    let referrer = Referrer::read(reader.bytes(reader.remaining())?)?;
    Ok(Dangling { standing, referrer, policy, deleted })
}

const fn policy_code(policy: ReferencePolicy) -> u8 {
    match policy {
        ReferencePolicy::Keep => 1,
        ReferencePolicy::Null => 2,
        ReferencePolicy::Cascade => 3,
    }
}

pub(super) fn dangler_key(referrer: &[u8]) -> DerivedKey {
    DerivedKey { space: DANGLERS, key: Bytes::copy_from_slice(referrer) }
}

pub(super) fn over_key(change: u64) -> DerivedKey {
    DerivedKey { space: OVER, key: Bytes::copy_from_slice(&change.to_be_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quire_protocol::hlc::Hlc;
    use quire_protocol::ids::{Dot, Seq, StreamId};

    fn all() -> [Between; 2] {
        let stamp = |at| (Hlc(at), Dot { stream: StreamId::from_u32(7 << 16 | 3), seq: Seq(at) });
        let name = |text| DocName::new(text).expect("a name");
        let claimant = |document, at| Claimant {
            document: name(document),
            path: "slug".parse().expect("a path"),
            value: "plan".into(),
            since: stamp(at),
        };
        let claimants = vec![claimant("pages/a", 4), claimant("pages/b", 9)];
        let standing = Standing::open(8, 5);
        let referrer = Referrer {
            document: name("tasks/1"),
            path: "owner".parse().expect("a path"),
            target: name("people/ada"),
            since: stamp(6),
        };
        let (policy, deleted) = (ReferencePolicy::Cascade, Some(stamp(7)));
        [
            Between::Contested(Contested { standing, id: ClaimId([3; 16]), claimants, left_out: 2 }),
            Between::Dangling(Dangling { standing, referrer, policy, deleted }),
        ]
    }

    #[test]
    fn a_conflict_between_documents_comes_back_from_its_row_and_what_is_no_row_is_refused() {
        for between in all() {
            let row = between.row();
            assert_eq!(Between::read(row.clone(), Status::Open), Ok(between.clone()));
            for len in 0..row.len() {
                assert!(Between::read(row.slice(..len), Status::Open).is_err(), "{len}");
            }
            let over = between.clone().over(11);
            assert_eq!(Between::read(over.row(), Status::Resolved), Ok(over.clone()));
            assert_eq!(over.standing(), Standing { change: 11, first: 5, status: Status::Resolved });
            assert_ne!(over.state_id(), between.state_id());
        }
    }

    #[test]
    fn a_state_has_one_name_whatever_its_changes_are_numbered_and_another_once_it_is_made_anew() {
        let [_, Between::Dangling(dangling)] = all() else { unreachable!("the second is one") };
        let id = |dangling: &Dangling| Between::Dangling(dangling.clone()).state_id();
        let elsewhere = Dangling { standing: Standing::open(80, 50), ..dangling.clone() };
        assert_eq!(id(&elsewhere), id(&dangling));
        let mut anew = dangling.clone();
        anew.referrer.since.0 = Hlc(99);
        assert_ne!(id(&anew), id(&dangling), "a receiver that remembers the first must not drop it");
    }
}
