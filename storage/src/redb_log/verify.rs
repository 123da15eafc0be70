//! Checks a directory without changing it, and says what is wrong and where.
//!
//! Everything is looked at: redb's own checksums, every row's, every commit's that the store does not
//! hold, the hash chain of every stream, and
//! whether the indexes agree with what they index. What is found is told in sentences, all of it, as
//! far as it can be read.

use super::derived::{DERIVED, DUE};
use super::fault::{Fault, caught};
use super::file::{FileError, RedbFile};
use super::journal::{JOURNAL_FILES, Journal};
use super::open::{OpenError, STORE_FILE, lock_directory};
use super::overlay::Overlay;
use super::rows::{Identity, StoredRow, decode_derived, decode_doc, decode_snapshot, decode_tail};
use super::store::{DOCUMENTS, NAMES, SNAPSHOTS, TAILS};
use super::{kept, meta, rows};
use crate::derived::is_derived_from;
use crate::head::{Head, Ordinal};
use crate::limits::DERIVED_KEY_BYTES_MAX;
use crate::log::Position;
use bytes::Bytes;
use quire_protocol::batch::ChainHash;
use quire_protocol::ids::{DocId, Seq, StreamId};
use redb::{
    AccessGuard, Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata,
    StorageBackend, TableDefinition, TableError, Value,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;

/// The most problems that are told one by one; the rest are counted. A file with a broken page may
/// have thousands of one kind.
const PROBLEMS_MAX: usize = 100;

const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Documents in the store.
    pub documents: u64,
    /// Tail rows and snapshots in the store.
    pub rows: u64,
    /// Derived rows in the store, by their space.
    pub derived: BTreeMap<u8, u64>,
    /// Documents in the store that are due.
    pub due: u64,
    /// Batches in the journal and kept for peers.
    pub batches: u64,
    /// Entries received, its own among them, as far as it can be told.
    pub entries: u64,
    /// What is wrong, at most a hundred sentences.
    pub problems: Vec<String>,
    /// How many more there are.
    pub further_problems: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, text: impl fmt::Display) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text.to_string());
        } else {
            self.further_problems += 1;
        }
    }

    /// Takes note of a fault and goes on without what it kept from being read.
    fn note<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.problem(fault.text)).ok()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} documents, {} tails and snapshots, {} batches, {} entries received",
            self.documents, self.rows, self.batches, self.entries
        )?;
        if !self.derived.is_empty() || self.due > 0 {
            let rows = self.derived.iter().map(|(space, rows)| format!("{rows} in space {space}, "));
            writeln!(f, "derived rows: {}{} documents due", rows.collect::<String>(), self.due)?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        if self.further_problems > 0 {
            writeln!(f, "and {} more problems", self.further_problems)?;
        }
        if self.is_whole() {
            return write!(f, "nothing is wrong");
        }
        write!(
            f,
            "the directory was left as it is; keep a copy of it, and restore it from a backup or a peer"
        )
    }
}

/// Checks the log in a directory, which no server may have open. Changes nothing.
///
/// # Errors
/// When the directory or a file in it cannot be read at all, or a server has it open.
pub fn verify(directory: &Path) -> Result<Report, OpenError> {
    let _lock = lock_directory(directory)?;
    let mut report = Report::default();
    let store = checked_store(directory, &mut report)?;
    let head = store.as_ref().and_then(|store| {
        let head = check_store(store, &mut report);
        report.note(head).flatten()
    });
    report.entries = head.as_ref().map_or(0, |head| head.ordinal.0);
    let identity = store.as_ref().and_then(|store| {
        let identity = caught(STORE_FILE, || meta::read_identity(store));
        report.note(identity).flatten()
    });
    let files = [overlay(directory, JOURNAL_FILES[0])?, overlay(directory, JOURNAL_FILES[1])?];
    let checked = check_journal(files, identity, head, &mut report);
    report.note(checked);
    Ok(report)
}

/// A file behind an overlay: what redb repairs in it stays in memory.
fn overlay(directory: &Path, file: &str) -> Result<Overlay, OpenError> {
    let path = directory.join(file);
    File::open(&path)
        .and_then(Overlay::new)
        .map_err(|error| OpenError::Directory { path, reason: error.to_string().into() })
}

/// Opens the store and has redb check every page's checksum.
fn checked_store(directory: &Path, report: &mut Report) -> Result<Option<RedbFile>, OpenError> {
    let Some(mut store) = open_store(directory, report)? else { return Ok(None) };
    let damage = match caught(STORE_FILE, || Ok(store.check_integrity()?)) {
        Ok(true) => return Ok(Some(store)),
        Ok(false) => format!("{STORE_FILE}: pages are damaged"),
        Err(fault) => fault.text,
    };
    report.problem(format!("{damage}; what can be read all the same is checked below"));
    // As it was found: redb may have begun to repair it, or given up half-way.
    drop(store);
    open_store(directory, report)
}

fn open_store(directory: &Path, report: &mut Report) -> Result<Option<RedbFile>, OpenError> {
    let opened = overlay(directory, STORE_FILE)?;
    let store = RedbFile::open(opened, STORE_FILE, CACHE_BYTES).map_err(|error| match error {
        FileError::InUse => Fault::corrupt("in use by another process"),
        FileError::Fault(fault) => fault,
    });
    Ok(report.note(store))
}

/// Checks that the journal is the store's, and its batches, each by itself and as what follows the
/// store. What the store holds already is not looked at: it may have been written over.
fn check_journal(
    files: [Overlay; 2],
    of_store: Option<Identity>,
    head: Option<Head>,
    report: &mut Report,
) -> Result<(), Fault> {
    let mut journal = Journal::new(files.map(|file| -> Box<dyn StorageBackend> { Box::new(file) }))?;
    let identities = journal.identities()?;
    for (file, identity) in JOURNAL_FILES.into_iter().zip(&identities) {
        match (identity, &of_store) {
            (None, _) => report.problem(format!("{file} is empty")),
            (Some(identity), Some(of_store)) if identity != of_store => {
                report.problem(format!("{STORE_FILE} and {file} come from different directories"));
            }
            _ => {}
        }
    }
    let Some(identity) = of_store.or_else(|| identities.into_iter().flatten().next()) else {
        return Ok(());
    };
    journal.belong_to(&identity);
    let after = head.as_ref().map_or(Ordinal(0), |head| head.ordinal);
    let mut head = head;
    for record in journal.after(after)? {
        let mut first = record.first;
        for encoded in &record.batches {
            let entries = encoded.batch.entries.len() as u64;
            report.batches += 1;
            report.entries = report.entries.max(first.0 + entries - 1);
            if let Some(of_log) = &mut head {
                if let Err(text) = of_log.check(first, encoded) {
                    report.problem(format!("the journal is damaged: {text}"));
                    // What comes then is told by the first that does not follow.
                    head = None;
                } else {
                    of_log.receive(identity.replica, encoded);
                }
            }
            first.0 += entries;
        }
    }
    Ok(())
}

fn check_store(db: &Database, report: &mut Report) -> Result<Option<Head>, Fault> {
    let txn = caught(STORE_FILE, || Ok(db.begin_read()?))?;
    let head = caught(STORE_FILE, || match meta::read(db, meta::HEAD_KEY)? {
        Some(row) => rows::decode_head(&row),
        None => Err(Fault::corrupt("the log's head is missing")),
    });
    let head = report.note(head);
    for check in [check_documents, check_names, check_tails, check_snapshots, check_derived, check_due] {
        let checked = caught(STORE_FILE, || check(&txn, report));
        report.note(checked);
    }
    let kept = caught(STORE_FILE, || check_kept(&txn, kept::bytes(db)?, head.as_ref(), report));
    report.note(kept);
    Ok(head)
}

/// Every document's row can be read, is named as its id says, and is found by its name.
fn check_documents(txn: &ReadTransaction, report: &mut Report) -> Result<(), Fault> {
    let names = txn.open_table(NAMES)?;
    let tails = txn.open_table(TAILS)?;
    for entry in txn.open_table(DOCUMENTS)?.range::<u128>(..)? {
        let (doc, row) = entry?;
        let doc = DocId(doc.value());
        report.documents += 1;
        let read = decode_doc(&Bytes::copy_from_slice(row.value()));
        let Some(row) = report.note(read.map_err(|fault| fault.at(&format!("{STORE_FILE}: {doc:?}")))) else {
            continue;
        };
        match &row.doc.name {
            None => report.problem(format!("{STORE_FILE}: {doc:?} has entries and no name")),
            Some(name) if name.id() != doc => {
                report.problem(format!(
                    "{STORE_FILE}: {doc:?} is named {name:?}, which is another document's name"
                ));
            }
            Some(name) if names.get(name.as_str())?.is_none_or(|found| found.value() != doc.0) => {
                report.problem(format!("{STORE_FILE}: document {name:?} is not found by its name"));
            }
            Some(_) => {}
        }
        let last = tails.range((doc.0, 0)..=(doc.0, u64::MAX))?.next_back().transpose()?;
        let end = last.map_or(row.snapshot.0, |(key, _)| key.value().1.max(row.snapshot.0));
        if end < row.position.0 {
            let to = row.position.0;
            report.problem(format!(
                "{STORE_FILE}: {doc:?} has entries up to position {to}, its tails end at {end}"
            ));
        }
    }
    Ok(())
}

fn check_names(txn: &ReadTransaction, report: &mut Report) -> Result<(), Fault> {
    let names = txn.open_table(NAMES)?;
    let documents = txn.open_table(DOCUMENTS)?;
    for entry in names.range::<&str>(..)? {
        let (name, doc) = entry?;
        if documents.get(doc.value())?.is_none() {
            report.problem(format!("{STORE_FILE}: the name {:?} leads to no document", name.value()));
        }
    }
    if names.len()? > documents.len()? {
        report.problem(format!("{STORE_FILE}: there are more names than documents"));
    }
    Ok(())
}

/// Every tail can be read, lies where its key says, follows the one before, and has its document.
fn check_tails(txn: &ReadTransaction, report: &mut Report) -> Result<(), Fault> {
    let documents = txn.open_table(DOCUMENTS)?;
    let mut before: Option<(DocId, u64)> = None;
    let (mut owner, mut covered) = (String::new(), 0);
    let mut derived = Position(u64::MAX);
    let due = table_of(txn, DUE)?;
    for entry in txn.open_table(TAILS)?.range::<(u128, u64)>(..)? {
        let (key, row) = entry?;
        let (doc, last) = (DocId(key.value().0), key.value().1);
        report.rows += 1;
        let start = before.filter(|(of, _)| *of == doc).map_or(0, |(_, end)| end);
        let document = if start == 0 { documents.get(doc.0)? } else { None };
        if start == 0 {
            owner = name_of(doc, document.as_ref().map(AccessGuard::value));
            // A row that cannot be read is told of by itself.
            let row = document.as_ref().map(|row| decode_doc(&Bytes::copy_from_slice(row.value())));
            let row = row.and_then(Result::ok);
            covered = row.as_ref().map_or(u64::MAX, |row| row.snapshot.0);
            derived = row.map_or(Position(u64::MAX), |row| row.derived);
        }
        let place = format!("{STORE_FILE}: the tail of {owner} that ends at position {last}");
        if start == 0 && document.is_none() {
            report.problem(format!("{place} belongs to no document"));
        }
        before = Some((doc, last));
        let read = decode_tail(&Bytes::copy_from_slice(row.value()));
        let Some((previous, entries)) = report.note(read.map_err(|fault| fault.at(&place))) else { continue };
        // A row may follow entries that a snapshot has replaced.
        let known = start.max(covered);
        if previous.0 > known {
            report
                .problem(format!("{place} does not follow from what comes before it, which ends at {known}"));
        }
        let positions: Vec<u64> = entries.iter().map(|entry| entry.position.0).collect();
        let rising = positions.first().is_some_and(|first| *first > start)
            && positions.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || positions.last() != Some(&last) {
            report.problem(format!("{place} holds entries that are not where they should be"));
        }
        let unseen = entries.iter().rev().take_while(|entry| entry.position > derived);
        let unseen = unseen.filter(|entry| is_derived_from(entry)).map(|entry| entry.position.0).max();
        if let (Some(unseen), Some(due)) = (unseen, &due)
            && due.get(doc.0)?.is_none_or(|mark| mark.value() < unseen)
        {
            report
                .problem(format!("{place} holds what nothing was derived from, and the document is not due"));
        }
    }
    Ok(())
}

/// Every snapshot can be read and is the one its document's row tells of.
fn check_snapshots(txn: &ReadTransaction, report: &mut Report) -> Result<(), Fault> {
    let documents = txn.open_table(DOCUMENTS)?;
    for entry in txn.open_table(SNAPSHOTS)?.range::<u128>(..)? {
        let (doc, value) = entry?;
        report.rows += 1;
        let row = documents.get(doc.value())?;
        let owner = name_of(DocId(doc.value()), row.as_ref().map(AccessGuard::value));
        let place = format!("{STORE_FILE}: the snapshot of {owner}");
        let read = decode_snapshot(&Bytes::copy_from_slice(value.value()));
        let Some(read) = report.note(read.map_err(|fault| fault.at(&place))) else { continue };
        let row = row.map(|row| decode_doc(&Bytes::copy_from_slice(row.value())));
        match row {
            None => report.problem(format!("{place} belongs to no document")),
            Some(Ok(StoredRow { snapshot, .. })) if snapshot != read.position => {
                report.problem(format!("{place} is not the one that its document tells of"));
            }
            // A row that cannot be read has been told of.
            Some(_) => {}
        }
    }
    Ok(())
}

/// Every derived row can be read, and its key is as long as may be.
fn check_derived(txn: &ReadTransaction, report: &mut Report) -> Result<(), Fault> {
    let Some(derived) = table_of(txn, DERIVED)? else { return Ok(()) };
    for entry in derived.range::<(u8, &[u8])>(..)? {
        let (key, value) = entry?;
        let (space, key) = key.value();
        *report.derived.entry(space).or_default() += 1;
        let place = format!("{STORE_FILE}: the derived row {} in space {space}", key.escape_ascii());
        let read = decode_derived(space, key, &Bytes::copy_from_slice(value.value()));
        report.note(read.map_err(|fault| fault.at(&place)));
        if key.len() > DERIVED_KEY_BYTES_MAX {
            report.problem(format!("{place} has a key of {} bytes", key.len()));
        }
    }
    Ok(())
}

/// Every document that is due is there, and has entries that nothing was derived from.
fn check_due(txn: &ReadTransaction, report: &mut Report) -> Result<(), Fault> {
    let Some(due) = table_of(txn, DUE)? else { return Ok(()) };
    let documents = txn.open_table(DOCUMENTS)?;
    for entry in due.range::<u128>(..)? {
        let (doc, mark) = entry?;
        report.due += 1;
        let row = documents.get(doc.value())?;
        let owner = name_of(DocId(doc.value()), row.as_ref().map(AccessGuard::value));
        let row = row.map(|row| decode_doc(&Bytes::copy_from_slice(row.value())));
        match row {
            None => report.problem(format!("{STORE_FILE}: {owner} is due, and there is no such document")),
            Some(Ok(row)) if mark.value() <= row.derived.0 || mark.value() > row.position.0 => {
                let (mark, from, to) = (mark.value(), row.derived.0, row.position.0);
                report.problem(format!(
                    "{STORE_FILE}: {owner} is due for its entry at position {mark}, which is not between {from} and {to}"
                ));
            }
            // A row that cannot be read has been told of.
            Some(_) => {}
        }
    }
    Ok(())
}

/// A table; none in a store from before there was one.
fn table_of<K: Key + 'static, V: Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, Fault> {
    match txn.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

/// What a person calls a document: its name, or its id where its row does not tell.
fn name_of(doc: DocId, row: Option<&[u8]>) -> String {
    let row = row.and_then(|row| decode_doc(&Bytes::copy_from_slice(row)).ok());
    let name = row.and_then(|row| row.doc.name);
    name.map_or_else(|| format!("{doc:?}"), |name| format!("document {:?}", name.as_str()))
}

/// Every kept batch can be read, and those of a stream are chained and end where the log's head says.
fn check_kept(
    txn: &ReadTransaction,
    counted: u64,
    head: Option<&Head>,
    report: &mut Report,
) -> Result<(), Fault> {
    let mut bytes = 0;
    let mut ranges: BTreeMap<StreamId, (Seq, Seq)> = BTreeMap::new();
    let mut end: Option<(StreamId, Seq, ChainHash)> = None;
    for entry in txn.open_table(kept::LOG)?.range::<(u32, u64)>(..)? {
        let (key, value) = entry?;
        let (stream, first) = (StreamId::from_u32(key.value().0), Seq(key.value().1));
        let place = format!("{STORE_FILE}: the kept batch of stream {stream} at seq {}", first.0);
        report.batches += 1;
        let Some(kept) = report.note(kept::read(value.value()).map_err(|fault| fault.at(&place))) else {
            end = None;
            continue;
        };
        let batch = &kept.encoded.batch;
        bytes += kept.encoded.bytes.len() as u64;
        if (batch.stream, batch.first_seq) != (stream, first) {
            report.problem(format!("{place} is another one"));
        }
        let follows = end.filter(|(of, ..)| *of == stream);
        if follows.is_some_and(|(_, last, hash)| batch.first_seq.0 != last.0 + 1 || batch.prev_hash != hash) {
            report.problem(format!("{place} does not follow from the one before it"));
        }
        let last = batch.last_dot();
        end = Some((stream, last.seq, kept.encoded.hash()));
        if head.is_some_and(|head| !head.gate.received().covers(last)) {
            report.problem(format!("{place} lies beyond the end of its stream"));
        }
        let range = ranges.entry(stream).or_insert((first, last.seq));
        range.1 = last.seq;
    }
    for dot in head.iter().flat_map(|head| head.gate.received().iter()) {
        let applied = head.map_or(dot.seq, |head| head.gate.applied().get(dot.stream));
        let kept =
            ranges.get(&dot.stream).is_some_and(|(from, to)| from.0 <= applied.0 + 1 && *to >= dot.seq);
        if applied < dot.seq && !kept {
            let stream = dot.stream;
            report.problem(format!("{STORE_FILE}: batches of stream {stream} wait, and not all are there"));
        }
    }
    if bytes != counted && report.problems.is_empty() {
        report.problem(format!("{STORE_FILE}: {bytes} bytes are kept for peers, and {counted} are counted"));
    }
    Ok(())
}
