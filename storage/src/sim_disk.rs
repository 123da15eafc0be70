//! A disk in memory that loses power, tears writes and fails, for tests and simulations.
//!
//! The files of a log on one disk, with one count of operations over all, so that a fault can be put at any
//! of them. What was written since a file's last sync may be lost, in any combination and torn at any
//! sector; what was synced is kept. The same seed loses the same.
//!
//! Invariant: a crash never changes what a completed sync covered.

use redb::StorageBackend;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What happens to writes that were not synced when power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// None of them reached the disk.
    Lost,
    /// All of them did.
    Kept,
    /// Some sectors of some of them did, as the seed has it.
    Torn {
        /// The same seed loses the same.
        seed: u64,
    },
}

/// A disk with the files of a log.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    files: [SimFile; 3],
    operations: u64,
    written_bytes: u64,
    /// Power goes before this operation; it and all later ones fail.
    cut_at: Option<u64>,
    /// This operation fails, and later ones do not. A sync that fails has the disk forget what it
    /// was to cover, which is still read until power goes: some systems take their pages for written.
    fail_at: Option<(u64, ErrorKind)>,
    /// Counts power cycles: what was opened before one touches the disk no more.
    life: u64,
}

#[derive(Debug, Default)]
struct SimFile {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// One of the files, open since the last power cycle.
#[derive(Debug)]
struct OpenFile {
    inner: Arc<Mutex<Inner>>,
    index: usize,
    life: u64,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds the bytes of the journal's two files and the store.
    #[must_use]
    pub fn holding(contents: [Vec<u8>; 3]) -> Self {
        let files =
            contents.map(|durable| SimFile { current: durable.clone(), durable, unsynced: Vec::new() });
        let inner = Inner { files, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Opens the journal's files.
    #[must_use]
    pub fn journal(&self) -> [impl StorageBackend + use<>; 2] {
        [self.open(0), self.open(1)]
    }

    /// Opens the store's file.
    #[must_use]
    pub fn store(&self) -> impl StorageBackend + use<> {
        self.open(2)
    }

    /// How many writes, changes of length and syncs there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.inner().written_bytes
    }

    /// Has power go before an operation.
    pub fn cut_at(&self, operation: u64) {
        self.inner().cut_at = Some(operation);
    }

    /// Has one operation fail, and later ones succeed. What a failed sync was to cover is read until
    /// power goes, and no later sync covers it.
    pub fn fail_at(&self, operation: u64, kind: ErrorKind) {
        self.inner().fail_at = Some((operation, kind));
    }

    /// The bytes of the journal's files (0 and 1) or the store (2), as they would be read.
    #[must_use]
    pub fn contents(&self, file: usize) -> Vec<u8> {
        self.inner().files[file].current.clone()
    }

    /// Kills the process alone, and ends all faults. What was written is still read, synced or not.
    pub fn kill(&self) {
        let mut inner = self.inner();
        inner.life += 1;
        inner.cut_at = None;
        inner.fail_at = None;
    }

    /// Loses power, and comes back without faults. What is still open can write no more.
    pub fn crash(&self, unsynced: Unsynced) {
        let mut inner = self.inner();
        inner.life += 1;
        inner.cut_at = None;
        inner.fail_at = None;
        let mut rng = match unsynced {
            Unsynced::Torn { seed } => SplitMix(seed),
            Unsynced::Lost | Unsynced::Kept => SplitMix(0),
        };
        for file in &mut inner.files {
            for change in std::mem::take(&mut file.unsynced) {
                match unsynced {
                    Unsynced::Lost => {}
                    Unsynced::Kept => change.apply(&mut file.durable),
                    Unsynced::Torn { .. } => change.apply_torn(&mut file.durable, &mut rng),
                }
            }
            file.current.clone_from(&file.durable);
        }
    }

    fn open(&self, index: usize) -> OpenFile {
        let life = self.inner().life;
        OpenFile { inner: Arc::clone(&self.inner), index, life }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Counts an operation, and fails it if it is to fail.
    fn operate(&mut self, life: u64) -> Result<()> {
        if life != self.life {
            return Err(from_before());
        }
        let operation = self.operations;
        if self.cut_at.is_some_and(|cut| operation >= cut) {
            return Err(Error::other("the power is gone"));
        }
        self.operations += 1;
        match self.fail_at {
            Some((at, kind)) if at == operation => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => to.resize(*len, 0),
            Self::Write { offset, data } => write(to, *offset, data),
        }
    }

    /// Applies some sectors of a write, or a change of length or not.
    fn apply_torn(&self, to: &mut Vec<u8>, rng: &mut SplitMix) {
        match self {
            Self::SetLen(len) if !rng.next().is_multiple_of(4) => to.resize(*len, 0),
            Self::SetLen(_) => {}
            Self::Write { offset, data } => {
                // Whole writes are kept or lost most of the time, so that both meet in one file.
                let fate = rng.next() % 3;
                for (i, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    if fate == 0 || fate == 1 && rng.next().is_multiple_of(2) {
                        write(to, offset + i * SECTOR_BYTES, sector);
                    }
                }
            }
        }
    }
}

/// Writes what lies within the file: a write past an end that was not made durable is lost with it.
fn write(to: &mut [u8], offset: usize, data: &[u8]) {
    let end = to.len().min(offset + data.len());
    if offset < end {
        to[offset..end].copy_from_slice(&data[..end - offset]);
    }
}

/// A process that is gone reads and writes nothing.
fn from_before() -> Error {
    Error::other("the power was lost since this file was opened")
}

fn index(value: u64) -> Result<usize> {
    usize::try_from(value).map_err(|_| ErrorKind::FileTooLarge.into())
}

impl StorageBackend for OpenFile {
    fn len(&self) -> Result<u64> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(inner.files[self.index].current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.life != self.life {
            return Err(from_before());
        }
        let start = index(offset)?;
        let bytes = inner.files[self.index].current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.operate(self.life)?;
        let change = Change::SetLen(index(len)?);
        let file = &mut inner.files[self.index];
        change.apply(&mut file.current);
        file.unsynced.push(change);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let here = inner.life == self.life;
        let powered = inner.cut_at.is_none_or(|cut| inner.operations < cut);
        let synced = inner.operate(self.life);
        let file = &mut inner.files[self.index];
        if synced.is_ok() {
            for change in std::mem::take(&mut file.unsynced) {
                change.apply(&mut file.durable);
            }
        } else if here && powered {
            // A file's length is not in its pages: it stays to be synced.
            file.unsynced.retain(|change| matches!(change, Change::SetLen(_)));
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.operate(self.life)?;
        inner.written_bytes += data.len() as u64;
        let change = Change::Write { offset: index(offset)?, data: data.to_vec() };
        let file = &mut inner.files[self.index];
        change.apply(&mut file.current);
        file.unsynced.push(change);
        Ok(())
    }
}

/// Numbers that look random, from a seed.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_loses_what_was_not() {
        let disk = SimDisk::new();
        let [file, _] = disk.journal();
        file.set_len(4096).expect("power");
        file.write(0, &[1; 2048]).expect("power");
        file.sync_data().expect("power");
        file.write(1024, &[2; 2048]).expect("power");
        disk.crash(Unsynced::Lost);
        assert_eq!(disk.contents(0)[..2048], [1; 2048]);
        assert!(file.write(0, &[3]).is_err(), "a handle from before the crash");
        assert!(file.read(0, &mut [0]).is_err(), "a handle from before the crash");

        let [file, _] = disk.journal();
        file.write(1024, &[2; 2048]).expect("power");
        disk.crash(Unsynced::Torn { seed: 4 });
        assert_eq!(disk.contents(0)[..1024], [1; 1024]);
        assert!(disk.contents(0)[1024..3072].chunks(512).all(|s| s.iter().all(|byte| *byte == s[0])));
    }
}
