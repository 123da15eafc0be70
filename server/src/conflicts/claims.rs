//! Values that no two documents of a collection may have: who claims them, and who has them.
//!
//! Invariant: of the claims of one value that this region knows, the least (stamp, document) has it: the first row.

use super::between::{Between, Contested, Standing};
use super::book::{Book, Filter, Listing, Looking};
use super::flags::{CONTESTED, Flag, Said, Turn, read_standing};
use super::indexed::{CLAIMS, Claimant, since_of};
use super::rows::Summary;
use bytes::Bytes;
use quire_protocol::batch::Stamp;
use quire_protocol::fields::{Claim, ClaimId, Path, Value};
use quire_protocol::ids::DocName;
use quire_storage::LoadError;
use quire_storage::limits::LIST_LEN_MAX;
use std::ops::Bound;

/// What a value that several documents claim is said to be merged by.
pub(crate) const FIRST_CLAIM: &str = "first_claim";

/// What such a conflict is called.
pub(crate) const UNIQUE: &str = "unique";

/// Of the documents that claim one value so many are told; the first is among them.
pub(crate) const CLAIMANTS_MAX: usize = 100;

impl Book {
    /// The document that has a value of a field that is unique in a collection, and since when, as far as this region
    /// knows.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn holder(
        &self,
        collection: &str,
        path: &Path,
        value: &Value,
    ) -> Result<Option<(DocName, Stamp)>, LoadError> {
        let (claimants, _) = self.claimants(ClaimId::of(collection, path, value), 1)?;
        Ok(claimants.into_iter().next().map(|first| (first.document, first.since)))
    }

    /// The document that has what a document claims, where that is another.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn taken_by(
        &self,
        document: &DocName,
        claim: &Claim,
    ) -> Result<Option<(DocName, Stamp)>, LoadError> {
        let rules = self.rules.rules(document);
        let id = ClaimId::of(&rules.collection().name, &claim.path, &claim.value);
        // What is on record of the document itself may be older than its claim.
        let (claimants, _) = self.claimants(id, 2)?;
        let first = claimants.into_iter().find(|first| first.document != *document);
        let is_before = |first: &Claimant| (first.since, first.document.id()) < (claim.since, document.id());
        Ok(first.filter(is_before).map(|first| (first.document, first.since)))
    }

    /// A value that several documents claim; none where no two do.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn contested(&self, id: ClaimId, standing: Standing) -> Result<Option<Contested>, LoadError> {
        let (claimants, left_out) = self.claimants(id, CLAIMANTS_MAX)?;
        Ok(Some(Contested { standing, id, claimants, left_out }).filter(|one| one.claimants.len() > 1))
    }

    /// The first so many who claim a value, and how many come after them, up to a limit. What is on record by another
    /// schema does not count.
    fn claimants(&self, id: ClaimId, len_max: usize) -> Result<(Vec<Claimant>, usize), LoadError> {
        let ClaimId(prefix) = id;
        let (mut claimants, mut left_out) = (Vec::new(), 0);
        // One row beyond those asked for may be of another schema; where more are, the list is shorter.
        let limit = if len_max > 2 { LIST_LEN_MAX } else { 2 * len_max + 2 };
        for (key, row) in self.beginning_with(CLAIMS, &prefix, limit)? {
            match since_of(&key).and_then(|since| Claimant::read(since, row)) {
                Ok(claimant) if self.claims_still(&claimant, id) => {
                    if claimants.len() < len_max {
                        claimants.push(claimant);
                    } else {
                        left_out += 1;
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a claim of a value cannot be read"),
            }
        }
        Ok((claimants, left_out))
    }

    fn claims_still(&self, claimant: &Claimant, id: ClaimId) -> bool {
        let rules = self.rules.rules(&claimant.document);
        rules.field(&claimant.path).unique
            && ClaimId::of(&rules.collection().name, &claimant.path, &claimant.value) == id
    }

    /// Flags the values that a document claims beside others, or does so no more.
    pub(super) fn contest(&self, turn: &Turn<'_>, last: &mut u64, said: &mut Said) -> Result<(), LoadError> {
        for id in turn.claims() {
            let ClaimId(prefix) = id;
            let doc = turn.document.id().0.to_be_bytes();
            // Two of others, and one that this document has had.
            let rows = self.beginning_with(CLAIMS, &prefix, 3)?;
            let others = rows.iter().filter(|(key, _)| !key.ends_with(&doc)).count();
            let is_contested = others + turn.count(CLAIMS, &prefix) > 1;
            match self.flag(Flag::Contested(id), is_contested, last, said)? {
                None if is_contested => said.counted.push((UNIQUE, FIRST_CLAIM)),
                // The rows are still those from before the claim went. None are there where a schema has changed.
                Some(before) if !is_contested => {
                    let ended = self.contested(id, before)?;
                    ended.into_iter().for_each(|ended| said.ends(Between::Contested(ended), last));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Lists values that several documents claim, after a place.
    pub(super) fn list_contested(
        &self,
        filter: &Filter,
        after: Option<&[u8]>,
        looking: &mut Looking,
        listing: &mut Listing,
    ) -> Result<(), LoadError> {
        let mut at = after.map(Bytes::copy_from_slice);
        loop {
            let from = at.as_ref().map_or(Bound::Unbounded, |at| Bound::Excluded(&at[..]));
            let rows = self.log.derived(CONTESTED, (from, Bound::Unbounded), LIST_LEN_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            let last = last.clone();
            for (key, row) in rows {
                looking.looked_at += 1;
                if let Some(id) = key.first_chunk().copied().map(ClaimId)
                    && let Some(contested) = self.contested(id, read_standing(&row))?
                    && filter.takes_contested(&contested)
                {
                    looking.bytes +=
                        contested.claimants.iter().map(|one| one.value.encoded_len()).sum::<usize>();
                    listing.contested.push(contested);
                }
                if looking.is_over(listing) {
                    listing.next = Some([&[super::rows::CONTESTED_CODE], &key[..]].concat().into());
                    return Ok(());
                }
            }
            at = Some(last);
        }
    }
}

impl Filter {
    pub(super) fn takes_contested(&self, contested: &Contested) -> bool {
        contested.claimants.iter().any(|claimant| self.takes(&summary(claimant)))
    }
}

fn summary(claimant: &Claimant) -> Summary {
    Summary {
        kind: UNIQUE.to_owned(),
        path: claimant.path.to_string(),
        policy: FIRST_CLAIM.to_owned(),
        document: claimant.document.as_str().to_owned(),
    }
}
