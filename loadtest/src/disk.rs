//! What the disk itself takes: one append of 4 KiB and one fdatasync, over and over.
//!
//! Acknowledgements cannot be quicker than the disk, so they are quoted against it, measured in the
//! same run and the same file system. So are the bytes that reach its device.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::rates;

/// The size of one append: a page.
pub const APPEND_BYTES: usize = 4096;

/// What the kernel counts a device's reads and writes in, whatever the device's own sectors are.
const SECTOR_BYTES: u64 = 512;

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

/// The bytes written so far to the device that a directory lies on, by whomever.
///
/// What the kernel counts for one process says less: it charges a write with all of the cached folio
/// that it falls in, of which only the changed blocks go to the disk.
///
/// # Errors
/// When the kernel does not count them, as where the directory is on no block device.
pub fn device_written_bytes(dir: &Path) -> io::Result<u64> {
    let device = std::fs::metadata(dir)?.dev();
    let stat = format!("/sys/dev/block/{}:{}/stat", rustix::fs::major(device), rustix::fs::minor(device));
    // The seventh figure: https://docs.kernel.org/block/stat.html
    let stat = std::fs::read_to_string(stat)?;
    let sectors = stat.split_ascii_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok());
    Ok(sectors.ok_or(io::ErrorKind::InvalidData)? * SECTOR_BYTES)
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
