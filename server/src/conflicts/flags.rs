//! Values that several documents claim, and deleted documents that others refer to: each is flagged, so that they can
//! be listed.
//!
//! ```text
//! contested = claim  → number of its last change u64 · of the change that it came with u64
//! dangling  = target → the same; what is told of is each reference (`between.rs`)
//! ```
//!
//! Invariant: a flag is there while two documents claim the value, or a document refers to one that is deleted. What
//! a flag says is looked up again whenever it is read: a schema may have changed since.

use super::between::Standing;
use super::book::{Book, Page};
use super::indexed::{CLAIMS, Indexed, REFERRERS, claim_of, target_of};
use super::rows::change_key;
use super::told::Changed;
use bytes::Bytes;
use quire_protocol::document::Derived;
use quire_protocol::fields::ClaimId;
use quire_protocol::ids::{DocId, DocName};
use quire_storage::{DerivedKey, LoadError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Values that several documents claim.
pub(super) const CONTESTED: u8 = 6;
/// Deleted documents that others refer to.
pub(super) const DANGLING: u8 = 8;

/// What is flagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    Contested(ClaimId),
    Dangling(DocId),
}

/// What a document says to others that it did not say before, as changes of rows, and what follows once they are put.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) changes: Vec<(DerivedKey, Option<Bytes>)>,
    /// What the document's rows say then.
    indexed: Indexed,
    /// How many more flags there are.
    pub(super) flagged: i64,
    /// Kinds and policies of what came up.
    pub(super) counted: Vec<(&'static str, &'static str)>,
    /// How many more conflicts between documents are on record as over.
    pub(super) over: i64,
    /// Deleted documents that others refer to, and whether they are newly so.
    pub(super) dangling: Vec<(DocId, bool)>,
}

/// The rows that a put takes away and those that it brings.
pub(super) struct Turn<'a> {
    pub(super) document: &'a DocName,
    pub(super) gone: BTreeSet<&'a DerivedKey>,
    pub(super) come: BTreeSet<&'a DerivedKey>,
    /// All that are there then.
    pub(super) after: &'a BTreeMap<DerivedKey, Bytes>,
}

impl Flag {
    pub(super) fn key(self) -> DerivedKey {
        match self {
            Self::Contested(ClaimId(id)) => DerivedKey { space: CONTESTED, key: Bytes::copy_from_slice(&id) },
            Self::Dangling(DocId(doc)) => {
                DerivedKey { space: DANGLING, key: Bytes::copy_from_slice(&doc.to_be_bytes()) }
            }
        }
    }
}

/// What a flag's row says.
pub(super) fn read_standing(row: &[u8]) -> Standing {
    let number = |at: usize| row.get(at..).and_then(|row| row.first_chunk()).copied().map(u64::from_be_bytes);
    let change = number(0).unwrap_or_default();
    Standing::open(change, number(8).unwrap_or(change))
}

impl Turn<'_> {
    pub(super) fn claims(&self) -> BTreeSet<ClaimId> {
        self.touched().filter(|key| key.space == CLAIMS).filter_map(|key| claim_of(&key.key)).collect()
    }

    pub(super) fn targets(&self) -> BTreeSet<DocId> {
        self.touched().filter(|key| key.space == REFERRERS).filter_map(|key| target_of(&key.key)).collect()
    }

    /// The rows of a space that it changes and whose keys begin with something.
    pub(super) fn touched_of(&self, space: u8, prefix: &[u8]) -> impl Iterator<Item = &DerivedKey> {
        self.touched().filter(move |key| key.space == space && key.key.starts_with(prefix))
    }

    fn touched(&self) -> impl Iterator<Item = &DerivedKey> {
        self.gone.iter().chain(&self.come).copied()
    }

    /// How many rows of a space are there then whose keys begin with something.
    pub(super) fn count(&self, space: u8, prefix: &[u8]) -> usize {
        self.after.keys().filter(|key| key.space == space && key.key.starts_with(prefix)).count()
    }
}

impl Book {
    /// What a document says to others that its rows do not say yet. Asked while changes are put, so that of two
    /// documents that claim one value at once the second sees the first.
    pub(super) fn say(
        &self,
        document: &DocName,
        page: &Page,
        derived: &Derived,
        last: &mut u64,
    ) -> Result<Said, LoadError> {
        let wanted = derived.index.as_ref().or(page.wanted.as_ref());
        let indexed = wanted.map_or_else(
            || page.stored.clone(),
            |index| Indexed::new(&self.rules.rules(document), index.clone()),
        );
        let mut said = Said { indexed, ..Said::default() };
        let is_turned = derived.turned;
        if said.indexed == page.stored && !is_turned {
            return Ok(said);
        }
        let (before, after) = (page.stored.rows(document), said.indexed.rows(document));
        let gone: BTreeSet<_> = before.keys().filter(|key| !after.contains_key(key)).collect();
        let come: BTreeSet<_> =
            after.iter().filter(|(key, row)| before.get(key) != Some(row)).map(|(key, _)| key).collect();
        said.changes.extend(gone.iter().map(|&key| (key.clone(), None)));
        said.changes.extend(come.iter().map(|&key| (key.clone(), after.get(key).cloned())));
        let turn = Turn { document, gone, come, after: &after };
        self.contest(&turn, last, &mut said)?;
        self.dangle(&turn, is_turned, last, &mut said)?;
        self.let_go(&mut said)?;
        Ok(said)
    }

    /// What was said is in the rows.
    pub(super) fn is_said(&self, page: &mut Page, said: Said) {
        (page.stored, page.wanted) = (said.indexed, None);
        for (kind, policy) in said.counted {
            metrics::counter!(crate::metrics::CONFLICTS, "kind" => kind, "policy" => policy).increment(1);
        }
        if said.flagged != 0 {
            self.open.fetch_add(said.flagged, Ordering::Relaxed);
            self.tell_open();
        }
        self.over.fetch_add(said.over, Ordering::Relaxed);
        self.repairs.note(said.dangling);
    }

    /// Sets or removes a flag; gives what it said before, where it was there.
    pub(super) fn flag(
        &self,
        flag: Flag,
        is_to_be: bool,
        last: &mut u64,
        said: &mut Said,
    ) -> Result<Option<Standing>, LoadError> {
        let before = self.row(&flag.key())?.map(|row| read_standing(&row));
        if let Some(before) = before {
            said.changes.push((change_key(before.change), None));
        }
        if is_to_be {
            *last += 1;
            let first = before.map_or(*last, |before| before.first);
            let row = [last.to_be_bytes(), first.to_be_bytes()].concat();
            said.changes.push((flag.key(), Some(row.into())));
            if let Flag::Contested(id) = flag {
                said.changes.push((change_key(*last), Some(Changed::Contested(id).row())));
            }
        } else if before.is_some() {
            said.changes.push((flag.key(), None));
        }
        said.flagged += i64::from(is_to_be) - i64::from(before.is_some());
        Ok(before)
    }
}
