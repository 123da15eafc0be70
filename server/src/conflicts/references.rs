//! Fields that name documents which are deleted, and what is to be done about them.
//!
//! Invariant: a deleted document that others refer to is flagged, and the flag outlives a crash as those rows do. So
//! whatever is lost of the queue is found again.

use super::book::{Book, Filter, Listing, Looking};
use super::flags::{DANGLING, Flag, Said, Turn, read_change};
use super::indexed::{REFERRERS, Referrer};
use super::rows::Summary;
use bytes::Bytes;
use quire_protocol::batch::Stamp;
use quire_protocol::fields::reference::{Lived, Repair, repair};
use quire_protocol::fields::schema::{DeletePolicy, ReferencePolicy};
use quire_protocol::ids::{DocId, ReplicaId};
use quire_storage::limits::LIST_LEN_MAX;
use quire_storage::{DocInfo, LoadError};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// What a reference to a deleted document is called.
pub(crate) const REFERENCE: &str = "reference";

/// So many deleted documents wait to have references to them repaired. What finds no room is found by its flag.
const REPAIRS_MAX: usize = 10_000;

/// Of one document so many referrers are looked at in one go.
const REFERRERS_AT_ONCE: usize = 100;

/// A field that names a deleted document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dangling {
    /// The number of the last change of what refers to the deleted document.
    pub(crate) change: u64,
    /// Names the reference.
    pub(crate) id: [u8; 16],
    pub(crate) referrer: Referrer,
    pub(crate) policy: ReferencePolicy,
    /// When the document was deleted.
    pub(crate) deleted: Option<Stamp>,
}

/// The deleted documents that others refer to, where something may have to be done about that.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// With each whether its references have yet to be counted.
    targets: Mutex<BTreeMap<DocId, bool>>,
    bell: Notify,
}

/// What is to be done about some references to one document.
#[derive(Debug, Default)]
pub(crate) struct ToRepair {
    pub(crate) repairs: Vec<(Referrer, Repair)>,
    /// Where to go on; none at the end.
    pub(crate) next: Option<Bytes>,
}

/// Some referrers of a document, with their keys.
struct Referrers {
    referrers: Vec<(Bytes, Referrer)>,
    /// Where to go on; none at the end.
    next: Option<Bytes>,
}

impl Repairs {
    pub(super) fn note(&self, dangling: Vec<(DocId, bool)>) {
        if dangling.is_empty() {
            return;
        }
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        for (target, is_new) in dangling {
            if targets.len() < REPAIRS_MAX || targets.contains_key(&target) {
                *targets.entry(target).or_default() |= is_new;
            }
        }
        self.bell.notify_one();
    }
}

impl Book {
    /// Waits until a document is noted that others refer to and that is deleted.
    pub(crate) async fn is_dangling(&self) {
        self.repairs.bell.notified().await;
    }

    /// The next such document, and whether the references to it have yet to be counted.
    pub(crate) fn next_dangling(&self) -> Option<(DocId, bool)> {
        self.repairs.targets.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    /// All such documents after one, in the order of their ids; at most [`LIST_LEN_MAX`].
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn dangling(&self, after: Option<DocId>) -> Result<Vec<DocId>, LoadError> {
        let after = after.map(|DocId(doc)| doc.to_be_bytes());
        let from = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(&after[..]));
        let rows = self.log.derived(DANGLING, (from, Bound::Unbounded), LIST_LEN_MAX)?;
        Ok(rows.iter().filter_map(|(key, _)| super::indexed::target_of(key)).collect())
    }

    /// What is to be done about the references to a document, after a place: of those documents whose home `is_mine`.
    /// Counts all of them where that is yet to be done.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn to_repair(
        &self,
        target: DocId,
        after: Option<&[u8]>,
        is_new: bool,
        is_mine: &dyn Fn(Option<ReplicaId>) -> bool,
    ) -> Result<ToRepair, LoadError> {
        let mut to_repair = ToRepair::default();
        let Some(deleted) = self.log.info(target)?.filter(|info| self.is_deleted(info)) else {
            return Ok(to_repair);
        };
        let Referrers { referrers, next } = self.referrers(target, after, REFERRERS_AT_ONCE)?;
        to_repair.next = next;
        for (_, referrer) in referrers {
            let Some(policy) = self.policy(&referrer) else { continue };
            if is_new {
                metrics::counter!(crate::metrics::CONFLICTS, "kind" => REFERENCE, "policy" => policy.name())
                    .increment(1);
            }
            // Most need nothing, and their documents no look.
            if policy == ReferencePolicy::Keep {
                continue;
            }
            let Some(source) = self.log.info(referrer.document.id())? else { continue };
            let repair = repair(policy, self.lived(&source), self.lived(&deleted));
            if repair != Repair::Leave && is_mine(source.home) {
                to_repair.repairs.push((referrer, repair));
            }
        }
        Ok(to_repair)
    }

    /// What becomes of a reference; none where the schema knows of none.
    fn policy(&self, referrer: &Referrer) -> Option<ReferencePolicy> {
        let rules = self.rules.rules(&referrer.document);
        rules.field(&referrer.path).reference.as_ref().map(|reference| reference.on_delete)
    }

    fn lived<'a>(&self, info: &'a DocInfo) -> Lived<'a> {
        Lived { life: &info.life, on_delete: self.on_delete(info) }
    }

    fn on_delete(&self, info: &DocInfo) -> DeletePolicy {
        self.rules.rules(&info.name).collection().on_delete
    }

    fn is_deleted(&self, info: &DocInfo) -> bool {
        info.life.is_deleted(self.on_delete(info))
    }

    /// Some referrers of a document, after one.
    fn referrers(
        &self,
        DocId(target): DocId,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Referrers, LoadError> {
        let prefix = target.to_be_bytes();
        let from = after.map_or(Bound::Included(&prefix[..]), Bound::Excluded);
        let rows = self.log.derived(REFERRERS, (from, Bound::Unbounded), limit)?;
        let last = rows.last().filter(|(key, _)| rows.len() == limit && key.starts_with(&prefix));
        let next = last.map(|(key, _)| key.clone());
        let mut referrers = Vec::new();
        for (key, row) in rows.into_iter().take_while(|(key, _)| key.starts_with(&prefix)) {
            match Referrer::read(row) {
                Ok(referrer) => referrers.push((key, referrer)),
                Err(error) => tracing::warn!(%error, "a reference to a document cannot be read"),
            }
        }
        Ok(Referrers { referrers, next })
    }

    /// Flags the deleted documents that a document refers to, or does so no more; and it itself, where it has been
    /// deleted, or is back.
    pub(super) fn dangle(
        &self,
        turn: &Turn<'_>,
        is_turned: bool,
        last: &mut u64,
        said: &mut Said,
    ) -> Result<(), LoadError> {
        let mut targets = turn.targets();
        targets.extend(is_turned.then(|| turn.document.id()));
        for target in targets {
            let prefix = target.0.to_be_bytes();
            let gone = turn.gone.iter().filter(|key| key.space == REFERRERS && key.key.starts_with(&prefix));
            let rows = self.beginning_with(REFERRERS, &prefix, gone.count() + 1)?;
            let stays =
                |key: &Bytes| !turn.gone.iter().any(|gone| gone.space == REFERRERS && gone.key == *key);
            let is_named = turn.count(REFERRERS, &prefix) > 0 || rows.iter().any(|(key, _)| stays(key));
            let deleted =
                if is_named { self.log.info(target)?.filter(|info| self.is_deleted(info)) } else { None };
            let was_flagged = self.flag(Flag::Dangling(target), deleted.is_some(), last, said)?;
            if deleted.is_none() {
                continue;
            }
            said.dangling.push((target, !was_flagged));
            if was_flagged {
                // The others have been counted.
                let come =
                    turn.come.iter().filter(|key| key.space == REFERRERS && key.key.starts_with(&prefix));
                let rows = come.filter_map(|key| turn.after.get(*key).cloned());
                let policies = rows.filter_map(|row| self.policy(&Referrer::read(row).ok()?));
                said.counted.extend(policies.map(|policy| (REFERENCE, policy.name())));
            }
        }
        Ok(())
    }

    /// Lists references to deleted documents, after a place.
    pub(super) fn list_dangling(
        &self,
        filter: &Filter,
        after: Option<&[u8]>,
        looking: &mut Looking,
        listing: &mut Listing,
    ) -> Result<(), LoadError> {
        // A place is a referrer's key, which begins with the document that it refers to.
        let mut place = after.map(Bytes::copy_from_slice);
        loop {
            let at = place.as_ref().and_then(|place| place.get(..16)).map(Bytes::copy_from_slice);
            let from = match (&place, &at) {
                (Some(place), Some(at)) if place.len() > at.len() => Bound::Included(&at[..]),
                (_, Some(at)) => Bound::Excluded(&at[..]),
                (_, None) => Bound::Unbounded,
            };
            let Some((flag, change)) = self.log.derived(DANGLING, (from, Bound::Unbounded), 1)?.pop() else {
                return Ok(());
            };
            let target = super::indexed::target_of(&flag);
            let info = target.map(|target| self.log.info(target)).transpose()?.flatten();
            let Some(deleted) = info.filter(|info| self.is_deleted(info)) else {
                looking.looked_at += 1;
                place = Some(flag);
                continue;
            };
            let within = place.filter(|place| place.starts_with(&flag) && place.len() > flag.len());
            let Referrers { referrers, next } =
                self.referrers(deleted.name.id(), within.as_deref(), LIST_LEN_MAX)?;
            for (key, referrer) in referrers {
                looking.looked_at += 1;
                if let Some(dangling) = self.dangling_by(&key, referrer, &deleted, read_change(&change))
                    && filter.takes(&summary(&dangling))
                {
                    listing.dangling.push(dangling);
                }
                if looking.is_over(listing) {
                    listing.next = Some([&[super::rows::DANGLING_CODE], &key[..]].concat().into());
                    return Ok(());
                }
            }
            place = Some(next.unwrap_or(flag));
        }
    }

    fn dangling_by(
        &self,
        key: &[u8],
        referrer: Referrer,
        deleted: &DocInfo,
        change: u64,
    ) -> Option<Dangling> {
        let policy = self.policy(&referrer)?;
        let mut id = [0; 16];
        blake3::Hasher::new().update(key).finalize_xof().fill(&mut id);
        let deleted = deleted.life.deletion().map(|deletion| deletion.stamp);
        Some(Dangling { change, id, referrer, policy, deleted })
    }
}

fn summary(dangling: &Dangling) -> Summary {
    Summary {
        kind: REFERENCE.to_owned(),
        path: dangling.referrer.path.to_string(),
        policy: dangling.policy.name().to_owned(),
        document: dangling.referrer.document.as_str().to_owned(),
    }
}
