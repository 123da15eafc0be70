//! What the disk itself takes: one append of 4 KiB and one fdatasync, over and over.
//!
//! Acknowledgements cannot be quicker than the disk, so they are quoted against it, measured in the
//! same run and the same file system.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::rates;

/// The size of one append: a page.
pub const APPEND_BYTES: usize = 4096;

/// The latencies of so many synced appends to a new file in a directory, in microseconds.
///
/// # Errors
/// When the file cannot be written.
pub fn synced_appends(dir: &Path, appends: u32) -> io::Result<Histogram<u64>> {
    let path = dir.join("fdatasync.tmp");
    let mut file = File::create(&path)?;
    let page = [0x5a_u8; APPEND_BYTES];
    let mut histogram = rates::latencies();
    for _ in 0..appends {
        let started = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        histogram.saturating_record(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    std::fs::remove_file(&path)?;
    Ok(histogram)
}

/// The bytes of all files in a directory and below.
///
/// # Errors
/// When it cannot be read.
pub fn dir_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { dir_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(bytes)
}
