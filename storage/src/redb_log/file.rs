//! A redb file from opening to closing, with what redb leaves to its users in either.
//!
//! Invariant: a file that holds anything is never made anew.

use super::fault::{Fault, caught};
use redb::{BackendError, Builder, Database, StorageBackend};
use std::io::{ErrorKind, Result as IoResult};
use std::ops::{Bound, Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What every finished redb file begins with.
const REDB_MARK: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Where a redb file's header ends and its pages begin.
const HEADER_PAGE_BYTES: usize = 4096;

/// So many bytes are written before they are synced: the most that a sync of another file waits for.
const STEP_BYTES: usize = 64 * 1024;

/// The same for writing that is late. Fewer syncs are done sooner.
const HURRIED_STEP_BYTES: usize = 256 * 1024;

/// An open redb file.
#[derive(Debug)]
pub(super) struct RedbFile {
    db: Option<Database>,
    is_late: Arc<AtomicBool>,
}

/// Why a file could not be opened.
pub(super) enum FileError {
    /// Another process has it open.
    InUse,
    /// It is damaged, or the disk is.
    Fault(Fault),
}

impl RedbFile {
    /// Opens a file, repairing it after a crash, or makes a new one where there is nothing.
    pub(super) fn open(
        backend: impl StorageBackend,
        file: &str,
        cache_bytes: usize,
    ) -> Result<Self, FileError> {
        let mut in_use = false;
        let is_late = Arc::new(AtomicBool::new(false));
        let opened = caught(file, || {
            restart_creation(&backend)?;
            let is_late = Arc::clone(&is_late);
            let backend = Backing { file: backend, unsynced: AtomicUsize::new(0), is_late };
            Builder::new().set_cache_size(cache_bytes).create_with_backend(backend).map_err(|error| {
                in_use = matches!(error, redb::DatabaseError::DatabaseAlreadyOpen);
                Fault::from(error)
            })
        });
        match opened {
            Ok(db) => Ok(Self { db: Some(db), is_late }),
            Err(_) if in_use => Err(FileError::InUse),
            Err(fault) => Err(FileError::Fault(fault)),
        }
    }

    /// Says whether somebody will soon wait for what is being written.
    pub(super) fn set_late(&self, is_late: bool) {
        self.is_late.store(is_late, Ordering::Relaxed);
    }
}

impl Deref for RedbFile {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.db.as_ref().expect("open until it is dropped")
    }
}

impl DerefMut for RedbFile {
    fn deref_mut(&mut self) -> &mut Database {
        self.db.as_mut().expect("open until it is dropped")
    }
}

impl Drop for RedbFile {
    fn drop(&mut self) {
        let db = self.db.take();
        // redb writes a last commit when it closes, and panics where it meets a damaged page. What is
        // durable stays so: closing adds nothing but a quicker start.
        let _ = caught("closing", || {
            drop(db);
            Ok(())
        });
    }
}

/// A file as redb is given it: its bytes go to the disk as they are written, and it reads as zeros past its end.
///
/// A checkpoint writes tens of MiB and then syncs. What else waits for the disk, the journal first of all, would
/// wait for all of that, for a quarter of a second on the disk it was measured on. Synced in steps, it has its turn
/// in between. To sync early is always right: a crash may leave any part of what was not synced.
///
/// A damaged page can point past the end. After any failed read redb refuses everything until the file is opened
/// anew; a page of zeros is none of redb's, and stops only the operation that met it.
#[derive(Debug)]
struct Backing<B> {
    file: B,
    /// Bytes written since the last sync.
    unsynced: AtomicUsize,
    is_late: Arc<AtomicBool>,
}

impl<B: StorageBackend> StorageBackend for Backing<B> {
    fn len(&self) -> IoResult<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> IoResult<()> {
        match self.file.read(offset, out) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                out.fill(0);
                Ok(())
            }
            read => read,
        }
    }

    fn set_len(&self, len: u64) -> IoResult<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> IoResult<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn write(&self, mut offset: u64, data: &[u8]) -> IoResult<()> {
        // A large value is one page, and redb writes it at once.
        let step = if self.is_late.load(Ordering::Relaxed) { HURRIED_STEP_BYTES } else { STEP_BYTES };
        for part in data.chunks(step) {
            self.file.write(offset, part)?;
            offset += part.len() as u64;
            if self.unsynced.fetch_add(part.len(), Ordering::Relaxed) + part.len() >= step {
                self.sync_data()?;
            }
        }
        Ok(())
    }

    fn close(&self) -> IoResult<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// Empties a file whose creation was cut short, which redb would not take for one of its own.
///
/// redb writes its mark last, and its header into the first page. A file without the mark and with
/// nothing but zeros beyond that page holds no entry; any other file without it is damaged, and is
/// left as it is.
fn restart_creation(backend: &impl StorageBackend) -> Result<(), Fault> {
    let len = backend.len().map_err(redb::Error::Io)?;
    let mut mark = [0; REDB_MARK.len()];
    if len >= mark.len() as u64 {
        backend.read(0, &mut mark).map_err(redb::Error::Io)?;
    }
    if len == 0 || mark == *REDB_MARK {
        return Ok(());
    }
    let mut chunk = vec![0; HEADER_PAGE_BYTES];
    let mut at = HEADER_PAGE_BYTES as u64;
    while at < len {
        let rest = usize::try_from(len - at).unwrap_or(usize::MAX);
        let part = &mut chunk[..rest.min(HEADER_PAGE_BYTES)];
        backend.read(at, part).map_err(redb::Error::Io)?;
        if part.iter().any(|&byte| byte != 0) {
            return Ok(());
        }
        at += part.len() as u64;
    }
    backend.set_len(0).map_err(redb::Error::Io)?;
    Ok(())
}
