//! Opening a directory, or making a new one: whose it is, what format, what the journal still holds.
//!
//! A directory that cannot be opened is left as it was found: nothing is created beside a file that
//! is missing, and a file that cannot be read is never replaced by an empty one.

use super::fault::Fault;
use super::file::{FileError, RedbFile};
use super::journal::Journal;
use super::recent::Recent;
use super::rows::Identity;
use super::store::Store;
use super::{RedbLog, RedbLogOptions};
use crate::error::FailureKind;
use quire_protocol::ids::{Incarnation, StreamId};
use redb::StorageBackend;
use std::collections::hash_map::RandomState;
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version of what both files hold.
pub(super) const FORMAT: u32 = 1;

pub(super) const JOURNAL_FILE: &str = "journal.redb";
pub(super) const STORE_FILE: &str = "store.redb";

/// Why a log could not be opened. What is stored was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The directory is missing, or may not be read or written.
    #[error("cannot use the data directory {}: {reason}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The operating system's reason.
        reason: Arc<str>,
    },
    /// Another process has it open.
    #[error("the data directory is in use by another server")]
    InUse,
    /// It belongs to another replica or cluster, or its files to different directories.
    #[error("the data directory is not this replica's: {0}")]
    Foreign(Arc<str>),
    /// What is stored is damaged, or was written by another release.
    #[error("cannot open what is stored: {0}")]
    Damaged(Arc<str>),
    /// The disk could not be read or written.
    #[error("cannot read or write the disk: {0}")]
    Disk(Arc<str>),
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FailureKind::Corrupt => Self::Damaged(fault.text.into()),
            FailureKind::Io | FailureKind::DiskFull => Self::Disk(fault.text.into()),
        }
    }
}

impl RedbLog {
    /// Opens the log in a directory, which must exist; makes a new one where it is empty.
    ///
    /// # Errors
    /// When the directory cannot be used, is in use, is another replica's, or holds what cannot be
    /// read whole.
    pub fn open(directory: &Path, options: &RedbLogOptions) -> Result<Self, OpenError> {
        let lock = lock_directory(directory)?;
        let (store, journal) = open_files(directory)?;
        let store = redb_file(store, directory)?;
        let journal = redb_file(journal, directory)?;
        let mut log = Self::open_backends(journal, store, options)?;
        log.lock = Some(lock);
        Ok(log)
    }

    /// Opens the log over two storage backends: a simulated disk, or files with faults.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn open_backends(
        journal: impl StorageBackend,
        store: impl StorageBackend,
        options: &RedbLogOptions,
    ) -> Result<Self, OpenError> {
        let store = Store::new(database(store, STORE_FILE, options.store_cache_bytes)?);
        let journal = Journal::new(database(journal, JOURNAL_FILE, options.journal_cache_bytes)?);
        let identity = settle_identity(&journal, &store, options)?;
        let mut head = store.head()?;
        let checkpoint = head.position;
        let batches = journal.after(checkpoint)?;
        let mut recent = Recent::at(head.clone());
        for placed in &batches {
            head.follow(placed).map_err(|text| Fault::corrupt(format!("{JOURNAL_FILE}: {text}")))?;
        }
        recent.adopt(batches, head);
        let sizes = store.sizes()?;
        Self::start(identity.stream, journal, store, recent, checkpoint, sizes, options)
            .map_err(|error| OpenError::Disk(format!("no thread for checkpoints: {error}").into()))
    }
}

/// Keeps other processes out for as long as the file is open.
pub(super) fn lock_directory(directory: &Path) -> Result<File, OpenError> {
    let refused = |error: std::io::Error| refused(directory, &error);
    let lock = File::open(directory).map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

fn refused(directory: &Path, error: &std::io::Error) -> OpenError {
    OpenError::Directory { path: directory.to_owned(), reason: error.to_string().into() }
}

/// Opens both files, and creates both where neither is.
fn open_files(directory: &Path) -> Result<(File, File), OpenError> {
    let refused = |error: std::io::Error| OpenError::Directory {
        path: directory.to_owned(),
        reason: error.to_string().into(),
    };
    if !std::fs::metadata(directory).map_err(refused)?.is_dir() {
        return Err(refused(std::io::ErrorKind::NotADirectory.into()));
    }
    let journal_path = directory.join(JOURNAL_FILE);
    let store_path = directory.join(STORE_FILE);
    let has_journal = journal_path.try_exists().map_err(refused)?;
    let has_store = store_path.try_exists().map_err(refused)?;
    if has_journal && !has_store {
        let text = format!("{STORE_FILE} is missing beside {JOURNAL_FILE}: restore it from a backup");
        return Err(OpenError::Damaged(text.into()));
    }
    if has_store && !has_journal && std::fs::metadata(&store_path).map_err(refused)?.len() > 0 {
        let text = format!("{JOURNAL_FILE} is missing beside {STORE_FILE}: restore it from a backup");
        return Err(OpenError::Damaged(text.into()));
    }
    let open = |path: &Path| {
        File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(refused)
    };
    let files = (open(&store_path)?, open(&journal_path)?);
    if !has_journal {
        // The files' names must be as durable as what will be acknowledged in them.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(refused)?;
    }
    Ok(files)
}

fn redb_file(file: File, directory: &Path) -> Result<redb::backends::FileBackend, OpenError> {
    redb::backends::FileBackend::new(file).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse,
        error => OpenError::Directory { path: directory.to_owned(), reason: error.to_string().into() },
    })
}

fn database(backend: impl StorageBackend, file: &str, cache_bytes: usize) -> Result<RedbFile, OpenError> {
    RedbFile::open(backend, file, cache_bytes).map_err(|error| match error {
        FileError::InUse => OpenError::InUse,
        FileError::Fault(fault) => fault.into(),
    })
}

/// Checks that both files are this replica's, and sets new ones up: the store, the journal, then the
/// store's note that both are, so that a crash in between is told from a file that went missing.
fn settle_identity(
    journal: &Journal,
    store: &Store,
    options: &RedbLogOptions,
) -> Result<Identity, OpenError> {
    let (of_journal, of_store) = (journal.identity()?, store.identity()?);
    let identity = match (of_store, of_journal) {
        (Some(of_store), Some(of_journal)) if of_store != of_journal => {
            let text = format!("{JOURNAL_FILE} and {STORE_FILE} come from different directories");
            return Err(OpenError::Foreign(text.into()));
        }
        (Some(identity), Some(_)) => identity,
        (Some(identity), None) if !store.is_ready()? => {
            journal.set_up(&identity)?;
            identity
        }
        (None, None) => {
            let identity = new_identity(options);
            store.set_up(&identity)?;
            journal.set_up(&identity)?;
            identity
        }
        (Some(_), None) => {
            return Err(OpenError::Damaged(
                format!("{JOURNAL_FILE} is empty: restore it from a backup").into(),
            ));
        }
        (None, Some(_)) => {
            return Err(OpenError::Damaged(
                format!("{STORE_FILE} is empty: restore it from a backup").into(),
            ));
        }
    };
    let replica = identity.stream.replica;
    if replica != options.replica {
        let text = format!("it is replica {}'s, and this is replica {}", replica.0, options.replica.0);
        return Err(OpenError::Foreign(text.into()));
    }
    if identity.cluster != options.cluster {
        return Err(OpenError::Foreign("it belongs to another cluster".into()));
    }
    if !store.is_ready()? {
        store.set_ready()?;
    }
    Ok(identity)
}

fn new_identity(options: &RedbLogOptions) -> Identity {
    // The standard library seeds each hasher at random, which is all the uniqueness that is asked.
    let draw = || u128::from(RandomState::new().build_hasher().finish());
    let stream = StreamId { replica: options.replica, incarnation: Incarnation(1) };
    Identity { cluster: options.cluster, stream, directory: draw() << 64 | draw() }
}
