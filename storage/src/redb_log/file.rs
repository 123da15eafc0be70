//! A redb file from opening to closing, with what redb leaves to its users in either.
//!
//! Invariant: a file that holds anything is never made anew.

use super::fault::{Fault, caught};
use redb::{Builder, Database, StorageBackend};
use std::ops::{Deref, DerefMut};

/// What every finished redb file begins with.
const REDB_MARK: &[u8; 9] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Where a redb file's header ends and its pages begin.
const HEADER_PAGE_BYTES: usize = 4096;

/// An open redb file.
#[derive(Debug)]
pub(super) struct RedbFile(Option<Database>);

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
        let opened = caught(file, || {
            restart_creation(&backend)?;
            Builder::new().set_cache_size(cache_bytes).create_with_backend(backend).map_err(|error| {
                in_use = matches!(error, redb::DatabaseError::DatabaseAlreadyOpen);
                Fault::from(error)
            })
        });
        match opened {
            Ok(db) => Ok(Self(Some(db))),
            Err(_) if in_use => Err(FileError::InUse),
            Err(fault) => Err(FileError::Fault(fault)),
        }
    }
}

impl Deref for RedbFile {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("open until it is dropped")
    }
}

impl DerefMut for RedbFile {
    fn deref_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("open until it is dropped")
    }
}

impl Drop for RedbFile {
    fn drop(&mut self) {
        let db = self.0.take();
        // redb writes a last commit when it closes, and panics where it meets a damaged page. What is
        // durable stays so: closing adds nothing but a quicker start.
        let _ = caught("closing", || {
            drop(db);
            Ok(())
        });
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
