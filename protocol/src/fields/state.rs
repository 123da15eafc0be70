//! What the writes of a field come to: its siblings, their base, and the value that everybody is shown.
//!
//! Siblings that share one base are merged at once. Those that branched off at different places are merged one
//! after the other, each on what it has in common with all before it, so that nothing counts twice.

use super::edit::FieldVersion;
use super::graph::Authorship;
use super::held::Held;
use super::path::Path;
use super::policy::{self, Author, Merged, Policy, Reason};
use super::register::{NodeIx, Register};
use super::value::Value;
use super::write::WriteId;
use crate::batch::Stamp;
use crate::ids::Dot;
use std::fmt;

/// So many siblings are merged and shown, those with the least stamps; the others wait until some of these are
/// resolved.
pub const SIBLINGS_MAX: usize = 1_024;

/// Siblings that were made on one base are merged at once, however many. Of others so many are: each takes a
/// search for what it has in common with those before it. Where there are more, the base counts as unknown.
const BASES_MAX: usize = 64;

/// So many joins are looked through for a base that no write-back has rendered.
const JOINS_MAX: usize = 16;

/// One sibling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The write.
    pub write: WriteId,
    /// What it left.
    pub held: Held,
    /// Who wrote it, and when: as the least-stamped entry says that carries it.
    pub by: Authorship,
}

/// What siblings were made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The field had never been written.
    Nothing,
    /// This was left by the last write that all of them knew.
    Write(Held),
    /// All of them knew several siblings, rendered by a region as this; or by none.
    Several(Option<Held>),
}

/// The name of a conflict: a function of the field and of the siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConflictId(pub [u8; 16]);

impl ConflictId {
    /// The name of the conflict between these writes of a field, in any order.
    #[must_use]
    pub fn of(path: &Path, writes: &[WriteId]) -> Self {
        let mut writes = writes.to_vec();
        writes.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        hasher.update(path.to_string().as_bytes());
        for write in writes {
            let (kind, item) = match write {
                WriteId::Set(item) => (0, item),
                WriteId::Deleted(item) => (1, item),
            };
            hasher.update(&[0, kind]);
            hasher.update(&item.client.0.to_le_bytes());
            hasher.update(&item.clock.to_le_bytes());
        }
        Self::from_hash(&hasher)
    }

    /// The name of the conflict between these deletions of a document and edits that they had not seen.
    #[must_use]
    pub fn of_deletions(deletions: &[Stamp]) -> Self {
        let mut dots: Vec<Dot> = deletions.iter().map(|(_, dot)| *dot).collect();
        dots.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"deleted");
        for dot in dots {
            // No write of a field has this kind.
            hasher.update(&[0, 2]);
            hasher.update(&dot.stream.to_u32().to_le_bytes());
            hasher.update(&dot.seq.0.to_le_bytes());
        }
        Self::from_hash(&hasher)
    }

    fn from_hash(hasher: &blake3::Hasher) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }
}

/// A text that is no conflict's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a conflict's name has 32 hexadecimal digits")]
pub struct ConflictIdError;

impl std::str::FromStr for ConflictId {
    type Err = ConflictIdError;

    fn from_str(text: &str) -> Result<Self, ConflictIdError> {
        let is_name = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).ok().filter(|_| is_name).ok_or(ConflictIdError)?;
        Ok(Self(id.to_be_bytes()))
    }
}

impl fmt::Display for ConflictId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What everybody is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// This value; none when the key is to be absent.
    Value(Option<Value>),
    /// Whatever Yjs shows: a sibling is a shared type, which no write-back could copy, or its value is not known.
    AsYjs,
}

/// The state of a field: a function of its writes and its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldState {
    /// The siblings, in the order of their stamps; at least one.
    pub versions: Vec<Version>,
    /// Siblings beyond [`SIBLINGS_MAX`], which are not among the versions.
    pub left_out: usize,
    /// What they were made on.
    pub base: Base,
    /// What everybody is to be shown.
    pub shown: Shown,
    /// Whether the versions differ and the policy cannot merge them; then perhaps why.
    pub conflict: Option<Option<Reason>>,
}

impl FieldState {
    /// The name of the conflict that the siblings are, or were before the policy merged them.
    #[must_use]
    pub fn conflict_id(&self, path: &Path) -> ConflictId {
        let writes: Vec<WriteId> = self.versions.iter().map(|version| version.write).collect();
        ConflictId::of(path, &writes)
    }

    /// The version that the siblings are.
    #[must_use]
    pub fn version(&self) -> FieldVersion {
        FieldVersion(self.versions.iter().map(|version| version.write).collect())
    }
}

/// The state of a register under a policy; none while nothing was written.
pub(super) fn state(register: &Register, policy: &Policy) -> Option<FieldState> {
    state_of(register, policy, register.siblings())
}

/// What some writes of a register come to of which none was made on another; none where there are none.
pub(super) fn state_of(
    register: &Register,
    policy: &Policy,
    mut siblings: Vec<NodeIx>,
) -> Option<FieldState> {
    siblings.sort_by_key(|&ix| (register.write(ix).by.stamp, register.write(ix).id));
    let left_out = siblings.len().saturating_sub(SIBLINGS_MAX);
    siblings.truncate(SIBLINGS_MAX);
    if siblings.is_empty() {
        return None;
    }
    let merging = Merging { register, policy };
    let (shown, conflict) = match merging.merge(&siblings, JOINS_MAX) {
        Ok(Merged::Value(value)) => (Shown::Value(value), None),
        Ok(Merged::Conflict { shown, reason }) => (Shown::Value(shown), Some(reason)),
        Err(Opaque) if siblings.len() > 1 => (Shown::AsYjs, Some(None)),
        Err(Opaque) => (Shown::AsYjs, None),
    };
    let versions = siblings.iter().map(|&ix| version(register, ix)).collect();
    let groups: Vec<&[NodeIx]> = siblings.chunks(1).collect();
    let base = match register.nearest_common(&groups)[..] {
        [] => Base::Nothing,
        [one] => Base::Write(register.left(one).clone()),
        ref several => Base::Several(register.rendered(several).map(|write| write.left().clone())),
    };
    Some(FieldState { versions, left_out, base, shown, conflict })
}

pub(super) fn version(register: &Register, ix: NodeIx) -> Version {
    let write = register.write(ix);
    Version { write: write.id, held: write.held.clone(), by: write.by.clone() }
}

/// A value is no plain one, or not known.
struct Opaque;

struct Merging<'a> {
    register: &'a Register,
    policy: &'a Policy,
}

/// What siblings began from, as far as it can be told.
enum Began {
    With(Option<Value>),
    Unknown,
}

impl Merging<'_> {
    /// Merges writes of which none was made on another.
    fn merge(&self, writes: &[NodeIx], joins_left: usize) -> Result<Merged, Opaque> {
        let versions = writes.iter().map(|&ix| self.version(ix)).collect::<Result<Vec<_>, _>>()?;
        if versions.len() < 2 || !self.policy.needs_base() {
            return Ok(policy::merge(self.policy, policy::Base::Unknown, &versions));
        }
        if let Some(base) = self.register.same_parents(writes) {
            return Ok(self.merge_on(base, joins_left, &versions));
        }
        if writes.len() > BASES_MAX {
            return Ok(policy::merge(self.policy, policy::Base::Unknown, &versions));
        }
        let bases: Vec<Vec<NodeIx>> = (1..writes.len())
            .map(|i| self.register.nearest_common(&[&writes[..i], &writes[i..=i]]))
            .collect();
        if bases.iter().all(|base| *base == bases[0]) {
            return Ok(self.merge_on(&bases[0], joins_left, &versions));
        }
        let mut merged = versions[0].clone();
        for (version, base) in versions[1..].iter().zip(&bases) {
            match self.merge_on(base, joins_left, &[merged, version.clone()]) {
                // As if the latest of them had left it.
                Merged::Value(value) => merged = policy::Version { value, ..version.clone() },
                Merged::Conflict { reason, .. } => {
                    let all = policy::merge(&Policy::Siblings, policy::Base::Unknown, &versions);
                    let (Merged::Value(shown) | Merged::Conflict { shown, .. }) = all;
                    return Ok(Merged::Conflict { shown, reason });
                }
            }
        }
        Ok(Merged::Value(merged.value))
    }

    fn merge_on(&self, base: &[NodeIx], joins_left: usize, versions: &[policy::Version]) -> Merged {
        match self.began(base, joins_left) {
            Began::With(value) => policy::merge(self.policy, policy::Base::Known(value.as_ref()), versions),
            Began::Unknown => policy::merge(self.policy, policy::Base::Unknown, versions),
        }
    }

    fn version(&self, ix: NodeIx) -> Result<policy::Version, Opaque> {
        let write = self.register.write(ix);
        let value = plain(&write.held)?;
        let Authorship { stamp, who } = &write.by;
        let (stamp, region) = (*stamp, who.region.clone());
        let name = who.author.clone().unwrap_or_else(|| format!("client {}", write.id.item().client).into());
        Ok(policy::Version { value, stamp, author: Author { region, name } })
    }

    fn began(&self, base: &[NodeIx], joins_left: usize) -> Began {
        let left = match *base {
            [] => return Began::With(None),
            [one] => plain(self.register.left(one)),
            _ => match self.register.rendered(base) {
                Some(rendered) => plain(rendered.left()),
                None if joins_left == 0 => Err(Opaque),
                None => self.merge(base, joins_left - 1).map(|merged| match merged {
                    Merged::Value(shown) | Merged::Conflict { shown, .. } => shown,
                }),
            },
        };
        left.map_or(Began::Unknown, Began::With)
    }
}

fn plain(held: &Held) -> Result<Option<Value>, Opaque> {
    match held {
        Held::Value(value) => Ok(Some(value.clone())),
        Held::Deleted => Ok(None),
        Held::Shared(_) | Held::Subdoc | Held::Unknown => Err(Opaque),
    }
}
