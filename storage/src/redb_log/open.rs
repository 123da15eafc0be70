//! Opening a directory, or making a new one: whose it is, what format, what the journal still holds.
//!
//! A directory that cannot be opened is left as it was found: nothing is created beside a file that
//! is missing, and a file that cannot be read is never replaced by an empty one.

use super::checkpointer::Checkpoint;
use super::fault::Fault;
use super::file::{FileError, RedbFile};
use super::journal::{JOURNAL_FILES, Journal, Record};
use super::recent::Recent;
use super::rows::Identity;
use super::store::Store;
use super::{RedbLog, RedbLogOptions, decoded};
use crate::error::{Failure, FailureKind};
use crate::head::Head;
use crate::sequencer::{ReplayError, replay};
use quire_protocol::ids::{Dot, StreamId};
use redb::StorageBackend;
use std::collections::hash_map::RandomState;
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version of what the files hold.
pub(super) const FORMAT: u32 = 1;

pub(super) const STORE_FILE: &str = "store.redb";

/// The files of a directory, in the order of their making.
const FILES: [&str; 3] = [STORE_FILE, JOURNAL_FILES[0], JOURNAL_FILES[1]];

/// Refuses what another release has written.
pub(super) fn check_format(format: u32) -> Result<(), Fault> {
    if format == FORMAT {
        return Ok(());
    }
    Err(Fault::corrupt(format!(
        "it has format {format}; this release reads format {FORMAT}: use the release that wrote it, or a newer one"
    )))
}

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
        let [store, first, second] = open_files(directory)?;
        let store = redb_file(store, directory)?;
        let journal = [redb_file(first, directory)?, redb_file(second, directory)?];
        let mut log = Self::open_backends(journal, store, options)?;
        log.lock = Some(lock);
        Ok(log)
    }

    /// Opens the log over storage backends: a simulated disk, or files with faults. Two take the
    /// journal's commits in turn, the third is the store.
    ///
    /// # Errors
    /// As [`RedbLog::open`].
    pub fn open_backends(
        journal: [impl StorageBackend; 2],
        store: impl StorageBackend,
        options: &RedbLogOptions,
    ) -> Result<Self, OpenError> {
        let store = Store::new(database(store, STORE_FILE, options.store_cache_bytes)?);
        let mut journal = Journal::new(journal.map(|file| -> Box<dyn StorageBackend> { Box::new(file) }))?;
        let identity = settle_identity(&mut journal, &store, options)?;
        journal.belong_to(&identity);
        store.begin_deriving()?;
        let stream = StreamId { replica: identity.replica, incarnation: store.incarnation()? };
        let head = store.head()?;
        let checkpoint = Checkpoint::of(&head);
        let records = journal.after(checkpoint.ordinal)?;
        let recent = replayed(&store, stream, head, &records)?;
        journal.resume(&records)?;
        if store.has_staged()? {
            // The link that it came over has ended with the process.
            store.forget_staged()?;
        }
        let sizes = store.sizes()?;
        let acks = store.acks()?;
        let log = Self::start(stream, journal, store, recent, checkpoint, sizes, options)
            .map_err(|error| OpenError::Disk(format!("no thread for checkpoints: {error}").into()))?;
        log.shared.state().acks = acks;
        Ok(log)
    }
}

/// Has the records of the journal happen again after the store's head.
fn replayed(
    store: &Store,
    stream: StreamId,
    mut head: Head,
    records: &[Record],
) -> Result<Recent, OpenError> {
    let mut recent = Recent::at(head.clone());
    for record in records {
        let mut waiting = |first: Dot| match recent.batch(first) {
            Some(bytes) => Ok(decoded(bytes)?),
            None => Ok(Arc::new(store.cut()?.waiting(first)?)),
        };
        let applied = replay(&mut head, stream, record.first, &record.batches, &mut waiting);
        let applied = applied.map_err(|error| match error {
            ReplayError::Broken(text) => Fault::corrupt(format!("the journal is damaged: {text}")),
            ReplayError::Failed(Failure { kind, text }) => Fault { kind, text: text.as_ref().into() },
        })?;
        recent.adopt(record.first, &record.batches, &applied, head.clone(), record.len());
    }
    Ok(recent)
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

/// Opens the files, and creates them where there is none that holds anything.
fn open_files(directory: &Path) -> Result<[File; 3], OpenError> {
    let refused = |error: std::io::Error| refused(directory, &error);
    if !std::fs::metadata(directory).map_err(refused)?.is_dir() {
        return Err(refused(std::io::ErrorKind::NotADirectory.into()));
    }
    let (mut missing, mut holding) = (None, None);
    for file in FILES {
        let path = directory.join(file);
        if !path.try_exists().map_err(refused)? {
            missing = missing.or(Some(file));
        } else if std::fs::metadata(&path).map_err(refused)?.len() > 0 {
            holding = holding.or(Some(file));
        }
    }
    if let (Some(missing), Some(holding)) = (missing, holding) {
        let text = format!("{missing} is missing beside {holding}: restore it from a backup");
        return Err(OpenError::Damaged(text.into()));
    }
    let open = |file: &str| {
        let path = directory.join(file);
        File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(refused)
    };
    let [store, first, second] = FILES;
    let files = [open(store)?, open(first)?, open(second)?];
    if missing.is_some() {
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

/// Checks that the files are this replica's, and sets new ones up: the store, the journal, then the
/// store's note that all are, so that a crash in between is told from a file that went missing.
fn settle_identity(
    journal: &mut Journal,
    store: &Store,
    options: &RedbLogOptions,
) -> Result<Identity, OpenError> {
    let [first, second] = journal.identities()?;
    let of_store = store.identity()?;
    let found: Vec<_> = FILES.into_iter().zip([&of_store, &first, &second]).collect();
    let known = found.iter().find_map(|(file, identity)| Some((*file, (**identity)?)));
    let empty = found.iter().find(|(_, identity)| identity.is_none()).map(|(file, _)| *file);
    let identity = match known {
        None => {
            let identity = new_identity(options);
            store.set_up(&identity, options.first_incarnation)?;
            journal.set_up(&identity)?;
            identity
        }
        Some((known_by, identity)) => {
            let stranger = found.iter().find(|(_, other)| other.as_ref().is_some_and(|it| *it != identity));
            if let Some((stranger, _)) = stranger {
                let text = format!("{known_by} and {stranger} come from different directories");
                return Err(OpenError::Foreign(text.into()));
            }
            if of_store.is_some() && !store.is_ready()? {
                // Its making was cut short. What of it can be read need not be on the disk.
                journal.set_up(&identity)?;
            } else if let Some(empty) = empty {
                let text = format!("{empty} is empty: restore it from a backup");
                return Err(OpenError::Damaged(text.into()));
            }
            identity
        }
    };
    let replica = identity.replica;
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
    let replica = options.replica;
    Identity { cluster: options.cluster, replica, directory: draw() << 64 | draw() }
}
