//! Puts what is on record of each document into the derived rows, and reads it.
//!
//! What documents say to each other is put in the same go (`flags.rs`).
//!
//! Invariant: changes are put in the order of their numbers.

use super::between::{Contested, Dangling, OVER};
use super::flags::{CONTESTED, DANGLING};
use super::indexed::Indexed;
use super::references::Repairs;
use super::rows::{
    CHANGES, CONTESTED_CODE, DANGLING_CODE, Kept, LISTED, Name, Place, RECORDS, Summary, change_key,
    index_key, kept_row, kind, listed_key, policy, read_name, record_key, status_code,
};
use super::told::Changed;
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
    /// How many conflicts between documents that are over are on record.
    pub(super) over: AtomicI64,
    pub(super) repairs: Repairs,
}

/// What the rows have of one open document, and what they have not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Page {
    places: BTreeMap<ConflictId, Place>,
    /// What the log had no room for: it is put with what comes next, or when the document is asked anything, under
    /// numbers of that time, since whoever reads changes may be past those of now. The document is due until then, so
    /// that it is asked within a minute, or is derived from again when it is opened.
    owed: Option<Derived>,
    /// What the rows have of what it says to others.
    pub(super) stored: Indexed,
    /// What it says to them, where the rows are of another schema.
    pub(super) wanted: Option<Index>,
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
        let mut over = 0;
        each(&log, OVER, &[], |_, _| over += 1)?;
        let (changed, repairs) = (watch::channel(last).0, Repairs::default());
        let (open, over, last) = (open.into(), over.into(), Mutex::new(last));
        let book = Self { log, rules, last, changed, open, over, repairs };
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
            match Kept::decode_with_record(row) {
                Ok((kept, record)) => {
                    on_record.page.places.insert(id, Place::of(kept.change, kept.first, &kept.record));
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
        let derived = page.with_owed(derived);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut change = *last;
        let said = self.say(document, page, &derived, &mut change);
        let mut rows = Vec::new();
        let mut places = Vec::with_capacity(derived.records.len());
        for (id, record) in &derived.records {
            let before = page.places.get(id).copied();
            if let Some(place) = before {
                rows.push((change_key(place.change), None));
                rows.push((listed_key((doc, *id), place), None));
            }
            let Some(record) = record else {
                rows.push((record_key((doc, *id)), None));
                places.push(None);
                continue;
            };
            change += 1;
            let place = Place::of(change, before.map_or(change, |before| before.first), record);
            places.push(Some(place));
            rows.push((record_key((doc, *id)), Some(kept_row(place, document, record))));
            rows.push((change_key(change), Some(Changed::Within((doc, *id)).row())));
            rows.push((listed_key((doc, *id), place), Some(Summary::of(document, record).encode())));
        }
        let put = said.map_err(PutError::Read).and_then(|said| {
            rows.extend(said.changes.iter().cloned());
            self.log.put_derived(doc, Position(derived.position), rows)?;
            Ok(said)
        });
        match put {
            Ok(said) => {
                for ((id, record), place) in derived.records.iter().zip(places) {
                    let before = match place {
                        Some(place) => page.places.insert(*id, place),
                        None => page.places.remove(id),
                    };
                    self.count(before, record.as_ref());
                }
                self.is_said(page, said);
                *last = change;
            }
            Err(error) => {
                if !matches!(error, PutError::Put(DerivedError::Busy)) {
                    tracing::warn!(%document, %error, "what is on record of the document is not stored");
                }
                page.owed = Some(derived);
            }
        }
        let (last, _in_order) = (*last, last);
        self.changed.send_if_modified(|told| std::mem::replace(told, last) != last);
    }

    /// Puts what the log had no room for before, if there is anything.
    pub(crate) fn put_owed(&self, document: &DocName, page: &mut Page) {
        if let Some(owed) = page.owed.take() {
            self.put(document, page, owed);
        }
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
    pub(super) fn find(&self, name: Name) -> Result<Option<(Kept, usize)>, LoadError> {
        let Some(row) = self.row(&record_key(name))? else { return Ok(None) };
        let len = row.len();
        let read = Kept::decode(row).map(|kept| (kept, len));
        let read = read.inspect_err(|error| {
            tracing::warn!(?name, %error, "what is on record of a conflict cannot be read");
        });
        Ok(read.ok())
    }

    /// The number of the last change, for whoever waits for the next.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Has all changes from now on come after one that somebody has seen, though the clock went back since.
    pub(crate) fn go_on_after(&self, change: u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = change.max(*last);
        self.changed.send_if_modified(|told| std::mem::replace(told, *last) != *last);
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

impl Page {
    /// What is to be put: what is new, and what it does not replace of what is owed.
    fn with_owed(&mut self, new: Derived) -> Derived {
        let Some(mut owed) = self.owed.take() else { return new };
        let anew: BTreeSet<ConflictId> = new.records.iter().map(|(id, _)| *id).collect();
        owed.records.retain(|(id, _)| !anew.contains(id));
        owed.records.extend(new.records);
        let (index, turned) = (new.index.or(owed.index), new.turned || owed.turned);
        Derived { position: new.position, records: owed.records, index, turned }
    }
}

impl Filter {
    /// Takes every conflict.
    pub(crate) fn all() -> Self {
        Self {
            statuses: Status::ALL.into(),
            prefix: String::new(),
            document: None,
            field: None,
            policy: None,
            kind: None,
        }
    }

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
pub(super) fn each(
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

#[cfg(test)]
mod tests {
    use super::*;
    use quire_protocol::fields::{Authorship, Conflicting, Deletion, Record, Resolution};
    use quire_protocol::hlc::Hlc;
    use quire_protocol::ids::{Dot, Incarnation, ReplicaId, Seq, StreamId};
    use quire_storage::MemoryLog;
    use quire_storage::limits::PENDING_DERIVED_BYTES_MAX;

    const STREAM: StreamId = StreamId { replica: ReplicaId(1), incarnation: Incarnation(1) };

    fn book() -> (Arc<MemoryLog>, Book) {
        let log = Arc::new(MemoryLog::new(STREAM));
        let book = Book::open(log.clone(), Arc::default(), 0).expect("readable");
        (log, book)
    }

    fn name(text: &str) -> DocName {
        DocName::new(text).expect("a name")
    }

    fn record() -> Record {
        let deletions = vec![(Hlc::from_ms(7), Dot { stream: STREAM, seq: Seq(1) })];
        let id = ConflictId::of_deletions(&deletions);
        let since = deletions[0];
        let of = Conflicting::Deletion(Deletion { deletions, edits: Vec::new(), is_revived: true });
        Record { id, since, of, resolved: None }
    }

    fn derived(records: Vec<Record>) -> Derived {
        let records = records.into_iter().map(|record| (record.id, Some(record))).collect();
        Derived { position: 0, records, index: None, turned: false }
    }

    /// What has become of which documents after a number, and the number up to which that is all.
    fn told(book: &Book, after: u64) -> (Vec<(&'static str, String)>, u64) {
        let (mut told, mut up_to) = (Vec::new(), after);
        loop {
            let changes = book.changes(up_to, &Filter::all(), 1).expect("readable");
            told.extend(changes.conflicts.iter().map(|told| (told.event(after), told.document().to_owned())));
            if changes.up_to == up_to {
                return (told, up_to);
            }
            up_to = changes.up_to;
        }
    }

    #[test]
    fn a_change_is_told_of_once_as_it_is_by_then() {
        let (_log, book) = book();
        let (mut page, a) = (Page::default(), name("a"));
        book.put(&a, &mut page, derived(vec![record()]));
        book.put(&name("b"), &mut Page::default(), derived(vec![record()]));
        let (first, seen) = told(&book, 0);
        assert_eq!(first, [("opened", "a".to_owned()), ("opened", "b".to_owned())]);

        let mut record = record();
        record.since.0 = Hlc::from_ms(8);
        book.put(&a, &mut page, derived(vec![record.clone()]));
        assert_eq!(told(&book, seen).0, [("changed", "a".to_owned())]);
        let by = Authorship { stamp: record.since, who: Arc::default() };
        record.resolved = Some(Resolution { by, left: None });
        book.put(&a, &mut page, derived(vec![record.clone()]));
        assert_eq!(told(&book, seen).0, [("resolved", "a".to_owned())]);
        assert_eq!(told(&book, 0).0, [("opened", "b".to_owned()), ("resolved", "a".to_owned())]);

        let gone = Derived { position: 0, records: vec![(record.id, None)], index: None, turned: false };
        book.put(&a, &mut page, gone);
        assert_eq!(told(&book, seen).0, []);
    }

    #[test]
    fn what_waited_for_room_is_not_missed_by_who_has_read_on() {
        let (log, book) = book();
        let key = DerivedKey { space: 200, key: Bytes::from_static(b"all the room there is") };
        let row = Bytes::from(vec![0; PENDING_DERIVED_BYTES_MAX]);
        log.put_derived(quire_protocol::ids::DocId(7), Position(0), vec![(key, Some(row))])
            .expect("alone it may be longer");
        let (mut page, a) = (Page::default(), name("a"));
        book.put(&a, &mut page, derived(vec![record()]));
        assert!(page.owed.is_some(), "there is no room");
        let (none, seen) = told(&book, 0);
        assert_eq!(none, []);

        log.checkpoint().expect("in memory");
        book.put(&name("b"), &mut Page::default(), derived(vec![record()]));
        let (others, seen) = told(&book, seen);
        assert_eq!(others, [("opened", "b".to_owned())]);
        book.put_owed(&a, &mut page);
        assert_eq!(told(&book, seen).0, [("opened", "a".to_owned())]);
        assert!(page.owed.is_none());
    }
}
