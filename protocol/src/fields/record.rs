//! What is on record of a conflict: what was written side by side, and what became of it.
//!
//! A conflict is a set of writes of which none saw another. It is open or merged while these are the field's
//! siblings, and over when somebody has written who had seen them all. Sets that lie in between, on the way to a
//! larger one, leave nothing: the larger one holds what they held.
//!
//! Invariant: what is on record of a field is a function of its writes and its policy, not of their order; but
//! for what was let go, of which nothing is recorded anew.

use super::graph::{Authorship, Graph};
use super::held::Held;
use super::path::Path;
use super::policy::Policy;
use super::register::{NodeIx, Register, Write};
use super::state::{Base, ConflictId, FieldState, SIBLINGS_MAX, Shown, Version, state, state_of};
use super::write::WriteId;
use crate::batch::Stamp;
use crate::life::{Life, Unseen};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Of the conflicts of one field that are over, so many are looked at for what is not on record yet: those of
/// the newest writes.
pub const RESOLVED_LOOKED_AT_MAX: usize = 1_024;

/// A conflict, as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub id: ConflictId,
    /// The stamp of what made it one: the last of what conflicts.
    pub since: Stamp,
    /// What conflicts.
    pub of: Conflicting,
    /// How it ended; none while it has not.
    pub resolved: Option<Resolution>,
}

/// What conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflicting {
    /// Writes of a field.
    Writes(Writes),
    /// Deletions of the document, and edits that they had not seen.
    Deletion(Deletion),
}

/// Writes of a field of which none saw another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writes {
    /// The field.
    pub path: Path,
    /// The name of the policy that it was merged by.
    pub policy: Arc<str>,
    /// The writes, in the order of their stamps.
    pub versions: Vec<Version>,
    /// How many there are beyond those.
    pub left_out: usize,
    /// What they were made on.
    pub base: Base,
    /// What everybody is shown, or was until it was resolved.
    pub shown: Shown,
    /// Whether the policy merged them; else perhaps why it could not.
    pub merged: Result<(), Option<Arc<str>>>,
}

/// Deletions of a document, and edits that none of them had seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The deletions' stamps.
    pub deletions: Vec<Stamp>,
    /// The last edits of each stream.
    pub edits: Vec<Unseen>,
    /// Whether the edits brought the document back.
    pub is_revived: bool,
}

/// How a conflict ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Who ended it, and when.
    pub by: Authorship,
    /// What they left; none where a document's deletion was settled.
    pub left: Option<Held>,
}

/// What tells whether what is on record of a conflict that is over is still right, for less than the record takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The stamp of what ended it.
    pub by: Stamp,
    /// A hash over the stamps of what conflicted: they fall where a write turns up in an earlier entry.
    stamps: [u8; 16],
    /// How many of the values are known, with what was left.
    values: usize,
}

/// What is on record of a field's conflicts.
#[derive(Clone, Debug)]
pub struct OfField {
    /// What its siblings are, if they are a conflict.
    pub current: Option<Record>,
    /// Those that are over and were asked for.
    pub over: Vec<Record>,
    /// The names of all that are over; none where there are more than [`RESOLVED_LOOKED_AT_MAX`].
    pub all_over: Option<BTreeSet<ConflictId>>,
}

/// Where a conflict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Somebody is to decide.
    Open,
    /// The policy has merged it: nobody need do anything.
    Merged,
    /// Somebody has decided.
    Resolved,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Open, Self::Merged, Self::Resolved];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Merged => "merged",
            Self::Resolved => "resolved",
        }
    }
}

impl Record {
    /// Where it stands.
    #[must_use]
    pub const fn status(&self) -> Status {
        match (&self.of, &self.resolved) {
            (Conflicting::Writes(Writes { merged: Ok(()), .. }), _) => Status::Merged,
            (_, Some(_)) => Status::Resolved,
            (_, None) => Status::Open,
        }
    }

    /// The field that it is of; none where the document's deletion is in conflict.
    #[must_use]
    pub const fn path(&self) -> Option<&Path> {
        match &self.of {
            Conflicting::Writes(writes) => Some(&writes.path),
            Conflicting::Deletion(_) => None,
        }
    }

    /// How it ended; none while it has not.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        let Resolution { by, left } = self.resolved.as_ref()?;
        let (stamps, values) = match &self.of {
            Conflicting::Writes(Writes { versions, .. }) => {
                let held = versions.iter().map(|version| &version.held).chain(left);
                (versions.iter().map(|version| version.by.stamp).collect(), known(held))
            }
            Conflicting::Deletion(_) => (Vec::new(), 0),
        };
        Some(Ending::new(by.stamp, stamps, values))
    }

    /// Whether it says what its writes were made on.
    #[must_use]
    pub const fn has_base(&self) -> bool {
        match &self.of {
            Conflicting::Writes(Writes { base, .. }) => {
                !matches!(base, Base::Write(Held::Unknown) | Base::Several(None | Some(Held::Unknown)))
            }
            Conflicting::Deletion(_) => true,
        }
    }

    /// What is on record of a document that is deleted and edited at once; none where it is not, or that is
    /// settled.
    #[must_use]
    pub fn of_life(life: &Life, is_deleted: bool) -> Option<Self> {
        let edits: Vec<Unseen> = life.unseen().collect();
        let last = edits.iter().map(|edit| (edit.hlc, edit.last)).max()?;
        let deletions: Vec<Stamp> = life.deletions().map(|deletion| deletion.stamp).collect();
        let since = deletions.iter().copied().max()?.max(last);
        let id = ConflictId::of_deletions(&deletions);
        let of = Conflicting::Deletion(Deletion { deletions, edits, is_revived: !is_deleted });
        Some(Self { id, since, of, resolved: None })
    }
}

impl OfField {
    /// Of what is no field. What was in a map that was replaced is gone with the map, as in Yjs.
    #[must_use]
    pub const fn none() -> Self {
        Self { current: None, over: Vec::new(), all_over: Some(BTreeSet::new()) }
    }
}

impl Ending {
    fn new(by: Stamp, mut stamps: Vec<Stamp>, values: usize) -> Self {
        stamps.sort_unstable();
        stamps.truncate(SIBLINGS_MAX);
        let mut hasher = blake3::Hasher::new();
        for (hlc, dot) in stamps {
            for number in [hlc.0, dot.stream.to_u32().into(), dot.seq.0] {
                hasher.update(&number.to_le_bytes());
            }
        }
        let mut stamps = [0; 16];
        stamps.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self { by, stamps, values }
    }

    fn of(register: &Register, of: &[NodeIx], write: &Write) -> Self {
        let stamps = of.iter().map(|&ix| register.write(ix).by.stamp).collect();
        let held = of.iter().map(|&ix| register.left(ix)).chain([write.left()]);
        Self::new(write.by.stamp, stamps, known(held))
    }

    /// Whether it says anything that is not on record where another one is. Values that were let go since are not
    /// missed there.
    #[must_use]
    pub fn is_news_to(&self, on_record: &Self) -> bool {
        (self.by, self.stamps) != (on_record.by, on_record.stamps) || self.values > on_record.values
    }

    /// Whether it is the one that is on record, but for values that have been let go since.
    #[must_use]
    pub fn has_let_go_of(&self, on_record: &Self) -> bool {
        self.by == on_record.by && self.values < on_record.values
    }
}

fn known<'a>(held: impl Iterator<Item = &'a Held>) -> usize {
    held.filter(|held| **held != Held::Unknown).count()
}

impl Graph {
    /// What is on record of a field: of its siblings, where they differ, and of those conflicts that are over and
    /// that `is_wanted` by their name and how they ended.
    pub(super) fn records(
        &self,
        path: &Path,
        policy: &Policy,
        is_wanted: &dyn Fn(ConflictId, &Ending) -> bool,
    ) -> OfField {
        let Some(register) = self.at(path).map(|ix| self.register(ix)) else { return OfField::none() };
        let current = register.is_contested().then(|| state(register, policy)).flatten();
        let current = current.and_then(|state| record(path, policy, state, None));
        let (mut over, mut all) = (Vec::new(), BTreeSet::new());
        let mut resolved = register.resolved().rev();
        for (of, write) in resolved.by_ref().take(RESOLVED_LOOKED_AT_MAX) {
            let id = ConflictId::of(path, &names(register, of));
            all.insert(id);
            if is_wanted(id, &Ending::of(register, of, write)) {
                let resolved = Resolution { by: write.by.clone(), left: Some(write.left().clone()) };
                let state = state_of(register, policy, of.to_vec());
                over.extend(state.and_then(|state| record(path, policy, state, Some(resolved))));
            }
        }
        OfField { current, over, all_over: resolved.next().is_none().then_some(all) }
    }
}

fn names(register: &Register, of: &[NodeIx]) -> Vec<WriteId> {
    of.iter().map(|&ix| register.write(ix).id).collect()
}

fn record(path: &Path, policy: &Policy, state: FieldState, resolved: Option<Resolution>) -> Option<Record> {
    let (first, others) = state.versions.split_first()?;
    if state.left_out == 0 && others.iter().all(|other| other.held == first.held) {
        return None;
    }
    let id = state.conflict_id(path);
    let since = state.versions.iter().map(|version| version.by.stamp).max()?;
    let merged = match state.conflict {
        None => Ok(()),
        Some(reason) => Err(reason.map(|reason| reason.to_string().into())),
    };
    let FieldState { versions, left_out, base, shown, .. } = state;
    let policy = policy.name().into();
    let writes = Writes { path: path.clone(), policy, versions, left_out, base, shown, merged };
    Some(Record { id, since, of: Conflicting::Writes(writes), resolved })
}
