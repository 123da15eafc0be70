//! A file that is read and never written: what is written stays in memory, over the file.
//!
//! redb repairs what it opens after a crash, and while it checks. Behind an overlay it may do so, and
//! the file stays as it was found.
//!
//! Invariant: no method changes the file.

use redb::StorageBackend;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{ErrorKind, Result};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BLOCK_BYTES: u64 = 4096;

#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    file_len: u64,
    state: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> Result<Self> {
        let len = file.metadata()?.len();
        let state = Mutex::new(Written { len, blocks: BTreeMap::new() });
        Ok(Self { file, file_len: len, state })
    }

    fn state(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as the file has it; zeros past its end.
    fn stored(&self, block: u64) -> Result<Vec<u8>> {
        let start = block * BLOCK_BYTES;
        let within = self.file_len.saturating_sub(start).min(BLOCK_BYTES);
        let mut bytes = vec![0; index(BLOCK_BYTES)?];
        self.file.read_exact_at(&mut bytes[..index(within)?], start)?;
        Ok(bytes)
    }
}

fn index(value: u64) -> Result<usize> {
    usize::try_from(value).map_err(|_| ErrorKind::FileTooLarge.into())
}

/// A block, the part of it that is meant, and the part of the caller's bytes that goes there.
type Part = (u64, Range<usize>, Range<usize>);

/// The blocks that a range touches.
fn parts(offset: u64, len: usize) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let within = index(at % BLOCK_BYTES)?;
        let part = (index(BLOCK_BYTES)? - within).min(len - done);
        parts.push((at / BLOCK_BYTES, within..within + part, done..done + part));
        done += part;
    }
    Ok(parts)
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let state = self.state();
        if offset + out.len() as u64 > state.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for (block, within, part) in parts(offset, out.len())? {
            match state.blocks.get(&block) {
                Some(written) => out[part].copy_from_slice(&written[within]),
                None => out[part].copy_from_slice(&self.stored(block)?[within]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.state();
        if len < state.len {
            // What lies beyond must read as zeros, should the length grow again.
            let first = len / BLOCK_BYTES;
            for block in first..state.len.div_ceil(BLOCK_BYTES) {
                let mut bytes = match state.blocks.remove(&block) {
                    Some(written) => written,
                    None => self.stored(block)?,
                };
                let from = if block == first { index(len % BLOCK_BYTES)? } else { 0 };
                bytes[from..].fill(0);
                state.blocks.insert(block, bytes);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut state = self.state();
        for (block, within, part) in parts(offset, data.len())? {
            let bytes = match state.blocks.entry(block) {
                Entry::Occupied(written) => written.into_mut(),
                Entry::Vacant(vacant) => vacant.insert(self.stored(block)?),
            };
            bytes[within].copy_from_slice(&data[part]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_overlay_reads_like_a_file_and_leaves_the_file_alone(
            stored in proptest::collection::vec(any::<u8>(), 0..9000),
            changes in proptest::collection::vec((0..12_000_usize, 0..6000_usize, any::<u8>()), 0..8),
        ) {
            let mut expected = stored.clone();
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("file");
            std::fs::write(&path, &stored).expect("written");
            let overlay = Overlay::new(File::open(&path).expect("opens")).expect("readable");
            for (at, len, value) in changes {
                if value < 60 {
                    expected.resize(at, 0);
                    overlay.set_len(at as u64).expect("in memory");
                } else if at + len <= expected.len() {
                    expected[at..at + len].fill(value);
                    overlay.write(at as u64, &vec![value; len]).expect("in memory");
                }
                let mut read = vec![0; expected.len()];
                overlay.read(0, &mut read).expect("within");
                prop_assert!(read == expected);
            }
            prop_assert!(std::fs::read(&path).expect("readable") == stored);
        }
    }
}
