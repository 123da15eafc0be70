//! Puts what is on record of each document into the derived rows, and reads it.
//!
//! What documents say to each other is put in the same go (`flags.rs`).
//!
//! Invariant: whoever has read the changes up to a number has missed none below it.

use super::claims::Contested;
use super::flags::{CONTESTED, DANGLING};
use super::indexed::Indexed;
use super::references::{Dangling, Repairs};
use super::rows::{
    CHANGES, CONTESTED_CODE, DANGLING_CODE, Kept, LISTED, Name, Place, RECORDS, Summary, change_key,
    index_key, kind, listed_key, named, policy, read_name, record_key, status_code,
};
use bytes::Bytes;
use quire_protocol::document::Derived;
use quire_protocol::fields::{ConflictId, Index, Record, RuleBook, Rules, Status};
use quire_protocol::ids::DocName;
use quire_storage::limits::LIST_LEN_MAX;
use quire_storage::{DerivedError, DerivedKey, LoadError, Log, Position};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// So many rows are looked at for one page; a filter that few pass gives short pages, each with where to go on.
const LOOKED_AT_MAX: usize = 10_000;

/// A page ends when its conflicts have so many bytes.
const LISTED_BYTES_MAX: usize = 8 << 20;

/// Numbers of changes rise by so many in a millisecond at most, so that none is given twice, even where a crash
/// has lost the last ones.
const CHANGES_PER_MS: u64 = 256;

/// All that is on record.
pub(crate) struct Book {
    pub(super) log: Arc<dyn Log>,
    pub(super) rules: Arc<RuleBook>,
    /// The number of the last change. Held while a change is put, so that they appear in order.
    last: Mutex<u64>,
    changed: watch::Sender<u64>,
    pub(super) open: AtomicI64,
    pub(super) repairs: Repairs,
}

/// What the rows have of one open document, and what they have not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Page {
    places: BTreeMap<ConflictId, Place>,
    /// What the log had no room for: it is put with what comes next. Else the document stays due, and is derived
    /// from again when it is opened.
    owed: Vec<(DerivedKey, Option<Bytes>)>,
    /// What the rows have of what it says to others.
    pub(super) stored: Indexed,
    /// What it says to them, where that could not be put yet.
    pub(super) wanted: Option<Index>,
    /// Whether its deletion, or its return, could not be put yet.
    pub(super) is_turned: bool,
}

/// What is on record of a document that is opened.
#[derive(Debug, Default)]
pub(crate) struct OnRecord {
    pub(crate) records: Vec<(ConflictId, Bytes)>,
    pub(crate) index: Option<Bytes>,
    pub(crate) page: Page,
}

/// What a listing is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) statuses: BTreeSet<Status>,
    /// Names of documents begin with this.
    pub(crate) prefix: String,
    pub(crate) document: Option<String>,
    pub(crate) field: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) kind: Option<String>,
}

/// Why what has changed of a document is not put.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("{0}")]
    Read(LoadError),
    #[error("{0}")]
    Put(#[from] DerivedError),
}

/// Part of a listing.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) conflicts: Vec<Kept>,
    /// Values that several documents claim.
    pub(crate) contested: Vec<Contested>,
    /// References to deleted documents.
    pub(crate) dangling: Vec<Dangling>,
    /// Where to go on; none at the end.
    pub(crate) next: Option<Bytes>,
}

/// How much was looked at for a page.
#[derive(Debug)]
pub(super) struct Looking {
    pub(super) looked_at: usize,
    pub(super) bytes: usize,
    limit: usize,
}

impl Looking {
    /// Whether the page ends here.
    pub(super) fn is_over(&self, listing: &Listing) -> bool {
        listing.conflicts.len() + listing.contested.len() + listing.dangling.len() >= self.limit
            || self.looked_at >= LOOKED_AT_MAX
            || self.bytes >= LISTED_BYTES_MAX
    }
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").field("last", &*self.changed.borrow()).finish_non_exhaustive()
    }
}

impl Book {
    /// Reads how far the rows of a log go. `now_ms` is the wall clock.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn open(log: Arc<dyn Log>, rules: Arc<RuleBook>, now_ms: u64) -> Result<Self, LoadError> {
        let mut last = now_ms.saturating_mul(CHANGES_PER_MS);
        each(&log, CHANGES, &[], |key, _| {
            last = last.max(key.first_chunk().map_or(0, |change| u64::from_be_bytes(*change)));
        })?;
        let mut open = 0;
        each(&log, LISTED, &[status_code(Status::Open)], |_, _| open += 1)?;
        for flags in [CONTESTED, DANGLING] {
            each(&log, flags, &[], |_, _| open += 1)?;
        }
        let (changed, repairs) = (watch::channel(last).0, Repairs::default());
        let book = Self { log, rules, last: Mutex::new(last), changed, open: open.into(), repairs };
        book.tell_open();
        Ok(book)
    }

    /// What is on record of a document.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn read(&self, document: &DocName) -> Result<OnRecord, LoadError> {
        let doc = document.id();
        let mut on_record = OnRecord::default();
        if let Some(row) = self.row(&index_key(doc))? {
            on_record.indexed(row, &self.rules.rules(document));
        }
        each(&self.log, RECORDS, &doc.0.to_be_bytes(), |key, row| {
            let Some((_, id)) = read_name(&key) else { return };
            let read = Kept::decode(row.clone()).and_then(|kept| Ok((kept, Kept::split(row)?.2)));
            match read {
                Ok((kept, record)) => {
                    on_record.page.places.insert(id, Place::of(kept.change, &kept.record));
                    on_record.records.push((id, record));
                }
                Err(error) => {
                    tracing::warn!(?doc, %id, %error, "what is on record of a conflict cannot be read");
                }
            }
        })?;
        Ok(on_record)
    }

    pub(super) fn row(&self, key: &DerivedKey) -> Result<Option<Bytes>, LoadError> {
        let range = (Bound::Included(&key.key[..]), Bound::Included(&key.key[..]));
        Ok(self.log.derived(key.space, range, 1)?.pop().map(|(_, row)| row))
    }

    /// The first rows of a space whose keys begin with something, so many at most.
    pub(super) fn beginning_with(
        &self,
        space: u8,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, LoadError> {
        let mut rows = self.log.derived(space, (Bound::Included(prefix), Bound::Unbounded), limit)?;
        rows.retain(|(key, _)| key.starts_with(prefix));
        Ok(rows)
    }

    /// Puts what has changed of a document.
    pub(crate) fn put(&self, document: &DocName, page: &mut Page, derived: Derived) {
        let doc = document.id();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let said = self.say(document, page, &derived, &mut last);
        let mut changes = std::mem::take(&mut page.owed);
        for (id, record) in derived.records {
            let before = page.places.remove(&id);
            self.count(before, record.as_ref());
            if let Some(place) = before {
                changes.push((change_key(place.change), None));
                changes.push((listed_key((doc, id), place), None));
            }
            let Some(record) = record else {
                changes.push((record_key((doc, id)), None));
                continue;
            };
            *last += 1;
            let place = Place::of(*last, &record);
            page.places.insert(id, place);
            let summary = Summary::of(document, &record).encode();
            let kept = Kept { change: *last, document: document.clone(), record };
            changes.push((record_key((doc, id)), Some(kept.encode())));
            changes.push((change_key(*last), Some(named(&[], (doc, id)))));
            changes.push((listed_key((doc, id), place), Some(summary)));
        }
        let put = said.map_err(PutError::Read).and_then(|said| {
            let all = [&changes[..], &said.changes].concat();
            self.log.put_derived(doc, Position(derived.position), all)?;
            Ok(said)
        });
        match put {
            Ok(said) => self.is_said(page, said),
            Err(error) => {
                if !matches!(error, PutError::Put(DerivedError::Busy)) {
                    tracing::warn!(%document, %error, "what is on record of the document is not stored");
                }
                page.owed = changes;
                page.wanted = derived.index.or(page.wanted.take());
                page.is_turned |= derived.turned;
            }
        }
        let (last, _in_order) = (*last, last);
        self.changed.send_if_modified(|told| std::mem::replace(told, last) != last);
    }

    fn count(&self, before: Option<Place>, record: Option<&Record>) {
        let was_open = before.is_some_and(|place| place.status == Status::Open);
        let is_open = record.is_some_and(|record| record.status() == Status::Open);
        if was_open != is_open {
            self.open.fetch_add(if is_open { 1 } else { -1 }, Ordering::Relaxed);
            self.tell_open();
        }
        let Some(record) = record else { return };
        if before.is_none() {
            let (kind, policy) = (kind(record), policy(record).to_owned());
            metrics::counter!(crate::metrics::CONFLICTS, "kind" => kind, "policy" => policy).increment(1);
        }
        let began = record.since.0.ms();
        let (by, ended) = match record.status() {
            Status::Merged if before.is_none() && record.resolved.is_none() => {
                ("policy", crate::run::unix_ms())
            }
            Status::Resolved if was_open => {
                ("person", record.resolved.as_ref().map_or(began, |resolved| resolved.by.stamp.0.ms()))
            }
            _ => return,
        };
        #[expect(clippy::cast_precision_loss, reason = "times between two stamps are far below 2^53 ms")]
        let seconds = ended.saturating_sub(began) as f64 / 1_000.0;
        metrics::histogram!(crate::metrics::CONFLICT_RESOLUTION, "by" => by).record(seconds);
    }

    pub(super) fn tell_open(&self) {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 conflicts")]
        metrics::gauge!(crate::metrics::CONFLICTS_OPEN).set(self.open.load(Ordering::Relaxed) as f64);
    }

    /// What is on record of one conflict, and how long that is in bytes.
    fn find(&self, name: Name) -> Result<Option<(Kept, usize)>, LoadError> {
        let Some(row) = self.row(&record_key(name))? else { return Ok(None) };
        let len = row.len();
        let read = Kept::decode(row).map(|kept| (kept, len));
        let read = read.inspect_err(|error| {
            tracing::warn!(?name, %error, "what is on record of a conflict cannot be read");
        });
        Ok(read.ok())
    }

    /// Lists conflicts, open ones first, then those that were merged, then those that were resolved; of each the newest
    /// first. Then values that several documents claim and references to deleted documents, which are open. At most
    /// `limit` after where another listing ended.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn list(
        &self,
        filter: &Filter,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Listing, LoadError> {
        let mut listing = Listing::default();
        let mut looking = Looking { looked_at: 0, bytes: 0, limit };
        let mut at = Bytes::copy_from_slice(after.unwrap_or_default());
        for status in Status::ALL.into_iter().filter(|status| filter.statuses.contains(status)) {
            let code = status_code(status);
            let end = [code + 1];
            loop {
                let from = if at.first() == Some(&code) {
                    Bound::Excluded(&at[..])
                } else {
                    Bound::Included(&[code][..])
                };
                if at.first().is_some_and(|status| *status > code) {
                    break;
                }
                let rows = self.log.derived(LISTED, (from, Bound::Excluded(&end)), LIST_LEN_MAX)?;
                let Some((last, _)) = rows.last() else { break };
                let last = last.clone();
                for (key, row) in rows {
                    looking.looked_at += 1;
                    if Summary::decode(row).is_ok_and(|summary| filter.takes(&summary))
                        && let Some((kept, len)) =
                            read_name(&key).map(|name| self.find(name)).transpose()?.flatten()
                    {
                        listing.conflicts.push(kept);
                        looking.bytes += len;
                    }
                    if looking.is_over(&listing) {
                        listing.next = Some(key);
                        return Ok(listing);
                    }
                }
                at = last;
            }
        }
        if filter.statuses.contains(&Status::Open) {
            self.list_across(filter, after, &mut looking, &mut listing)?;
        }
        Ok(listing)
    }

    /// Lists what is open between documents, after where another listing ended.
    fn list_across(
        &self,
        filter: &Filter,
        after: Option<&[u8]>,
        looking: &mut Looking,
        listing: &mut Listing,
    ) -> Result<(), LoadError> {
        let (code, place) = after.and_then(<[u8]>::split_first).unzip();
        let within = |wanted: u8| place.filter(|_| code == Some(&wanted));
        if code < Some(&DANGLING_CODE) {
            self.list_contested(filter, within(CONTESTED_CODE), looking, listing)?;
        }
        if listing.next.is_none() {
            self.list_dangling(filter, within(DANGLING_CODE), looking, listing)?;
        }
        Ok(())
    }
}

impl OnRecord {
    /// Takes what the document's rows say to others. What was read by another schema, or cannot be read, is read
    /// from its fields anew.
    fn indexed(&mut self, row: Bytes, rules: &Rules) {
        self.page.stored = Indexed::decode(row).unwrap_or_default();
        if self.page.stored.is_of(rules) {
            self.index = Some(self.page.stored.index.encode());
        } else {
            self.page.wanted = Some(Index::default());
        }
    }
}

impl Filter {
    pub(super) fn takes(&self, summary: &Summary) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        summary.document.starts_with(&self.prefix)
            && is(&self.document, &summary.document)
            && is(&self.field, &summary.path)
            && is(&self.policy, &summary.policy)
            && is(&self.kind, &summary.kind)
    }
}

/// Reads all rows of a space whose keys begin with something.
fn each(
    log: &Arc<dyn Log>,
    space: u8,
    prefix: &[u8],
    mut take: impl FnMut(Bytes, Bytes),
) -> Result<(), LoadError> {
    let mut from = Bound::Included(Bytes::copy_from_slice(prefix));
    loop {
        let rows = log.derived(space, (from.as_ref().map(|key| &key[..]), Bound::Unbounded), LIST_LEN_MAX)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = Bound::Excluded(last.clone());
        for (key, row) in rows {
            if !key.starts_with(prefix) {
                return Ok(());
            }
            take(key, row);
        }
    }
}
