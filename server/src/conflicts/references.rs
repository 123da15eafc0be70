//! Fields that name documents which are deleted, and what is to be done about them.
//!
//! Invariant: a deleted document that others refer to is flagged, and the flag outlives a crash as those rows do. So
//! whatever is lost of the queue is found again.

use super::between::{Between, DANGLERS, Dangling, Standing, dangler_key};
use super::book::{Book, Filter, Listing, Looking};
use super::flags::{DANGLING, Flag, Said, Turn, read_standing};
use super::indexed::{REFERRERS, Referrer};
use super::rows::{Summary, change_key};
use super::told::Changed;
use bytes::Bytes;
use quire_protocol::fields::Status;
use quire_protocol::fields::reference::{Lived, Repair, repair};
use quire_protocol::fields::schema::{DeletePolicy, ReferencePolicy};
use quire_protocol::ids::{DocId, ReplicaId};
use quire_storage::limits::LIST_LEN_MAX;
use quire_storage::{DocInfo, LoadError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// What a reference to a deleted document is called.
pub(crate) const REFERENCE: &str = "reference";

/// So many deleted documents wait to have references to them repaired. What finds no room is found by its flag.
const REPAIRS_MAX: usize = 10_000;

/// When a document is deleted so many references to it are told of, about: a put has room for them, and holds up what
/// other documents put for some tens of milliseconds. The others are listed.
const REFERENCES_TOLD_MAX: usize = 10_000;

/// Of one document so many referrers are looked at in one go.
const REFERRERS_AT_ONCE: usize = 100;

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

/// References to a document, as rows by their referrers' keys.
#[derive(Default)]
struct References {
    there: BTreeMap<Bytes, Bytes>,
    gone: BTreeSet<Bytes>,
    /// Those that are told of as dangling.
    told: BTreeMap<Bytes, Bytes>,
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
            referrers.extend(read_referrer(row).map(|referrer| (key, referrer)));
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
            let was_flagged = self.flag(Flag::Dangling(target), deleted.is_some(), last, said)?.is_some();
            let of = match is_turned && target == turn.document.id() {
                true => self.all_references(target, turn)?,
                false => self.touched_references(target, turn)?,
            };
            let begun = self.tell_references(of, deleted.as_ref(), last, said);
            if deleted.is_none() {
                continue;
            }
            said.dangling.push((target, !was_flagged));
            if was_flagged {
                // The others have been counted.
                said.counted.extend(begun.into_iter().map(|policy| (REFERENCE, policy.name())));
            }
        }
        Ok(())
    }

    /// The references to a document that a change brings or takes away.
    fn touched_references(&self, target: DocId, turn: &Turn<'_>) -> Result<References, LoadError> {
        let mut references = References::default();
        for key in turn.touched_of(REFERRERS, &target.0.to_be_bytes()) {
            match turn.after.get(key) {
                Some(row) => drop(references.there.insert(key.key.clone(), row.clone())),
                None => drop(references.gone.insert(key.key.clone())),
            }
            if let Some(row) = self.row(&dangler_key(&key.key))? {
                references.told.insert(key.key.clone(), row);
            }
        }
        Ok(references)
    }

    /// The references to a document, those that the rest of the change brings or takes away among them.
    fn all_references(&self, target: DocId, turn: &Turn<'_>) -> Result<References, LoadError> {
        let prefix = target.0.to_be_bytes();
        let mut references = References::default();
        let mut after: Option<Bytes> = None;
        while references.there.len() < REFERENCES_TOLD_MAX {
            let from =
                after.as_ref().map_or(Bound::Included(&prefix[..]), |after| Bound::Excluded(&after[..]));
            let rows = self.log.derived(REFERRERS, (from, Bound::Unbounded), LIST_LEN_MAX)?;
            let Some((last, _)) = rows.last() else { break };
            let is_end = !last.starts_with(&prefix);
            after = Some(last.clone());
            references.there.extend(rows.into_iter().filter(|(key, _)| key.starts_with(&prefix)));
            if is_end {
                break;
            }
        }
        super::book::each(&self.log, DANGLERS, &prefix, |key, row| drop(references.told.insert(key, row)))?;
        let References { there, gone, .. } = self.touched_references(target, turn)?;
        references.there.retain(|key, _| !gone.contains(key));
        references.there.extend(there);
        references.gone = gone;
        Ok(references)
    }

    /// Has it told which references dangle from now on, and which do so no more; gives the policies of the former.
    fn tell_references(
        &self,
        References { there, gone, told }: References,
        deleted: Option<&DocInfo>,
        last: &mut u64,
        said: &mut Said,
    ) -> Vec<ReferencePolicy> {
        let told: BTreeMap<Bytes, Dangling> =
            told.into_iter().filter_map(|(key, row)| Some((key, read_dangling(row)?))).collect();
        for (key, dangling) in &told {
            if deleted.is_none() || gone.contains(key) {
                said.changes.push((dangler_key(key), None));
                said.changes.push((change_key(dangling.standing.change), None));
                said.ends(Between::Dangling(dangling.clone()), last);
            }
        }
        let mut begun = Vec::new();
        let Some(deleted) = deleted else { return begun };
        for (key, row) in there {
            let Some(referrer) = read_referrer(row) else { continue };
            let before = told.get(&key).map(|before| (before.standing, before.deleted));
            let standing = Standing::open(*last + 1, before.map_or(*last + 1, |(before, _)| before.first));
            let Some(dangling) = self.dangling_by(referrer, deleted, standing) else { continue };
            match before {
                // A field that is a list has named it all along.
                Some((_, before)) if before == dangling.deleted => continue,
                Some((before, _)) => said.changes.push((change_key(before.change), None)),
                None => begun.push(dangling.policy),
            }
            *last = standing.change;
            said.changes.push((dangler_key(&key), Some(Between::Dangling(dangling).row())));
            said.changes.push((change_key(*last), Some(Changed::Dangling(key).row())));
        }
        begun
    }

    /// A reference that was read as it is by the schema now; none where that knows of none.
    pub(super) fn as_now(&self, dangling: Dangling) -> Option<Between> {
        let policy = self.policy(&dangling.referrer)?;
        Some(Between::Dangling(Dangling { policy, ..dangling }))
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
                let told = self.row(&dangler_key(&key))?.and_then(read_dangling);
                let standing = told.map_or_else(|| read_standing(&change), |told| told.standing);
                if let Some(dangling) = self.dangling_by(referrer, &deleted, standing)
                    && filter.takes_dangling(&dangling)
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

    fn dangling_by(&self, referrer: Referrer, deleted: &DocInfo, standing: Standing) -> Option<Dangling> {
        let policy = self.policy(&referrer)?;
        let deleted = deleted.life.deletion().map(|deletion| deletion.stamp);
        Some(Dangling { standing, referrer, policy, deleted })
    }
}

impl Filter {
    pub(super) fn takes_dangling(&self, dangling: &Dangling) -> bool {
        self.takes(&Summary {
            kind: REFERENCE.to_owned(),
            path: dangling.referrer.path.to_string(),
            policy: dangling.policy.name().to_owned(),
            document: dangling.referrer.document.as_str().to_owned(),
        })
    }
}

fn read_referrer(row: Bytes) -> Option<Referrer> {
    let read = Referrer::read(row);
    read.inspect_err(|error| tracing::warn!(%error, "a reference to a document cannot be read")).ok()
}

fn read_dangling(row: Bytes) -> Option<Dangling> {
    match Between::read(row, Status::Open) {
        Ok(Between::Dangling(dangling)) => Some(dangling),
        Ok(Between::Contested(_)) => None,
        Err(error) => {
            tracing::warn!(%error, "a reference to a deleted document cannot be read");
            None
        }
    }
}
