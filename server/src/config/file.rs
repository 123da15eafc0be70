//! Small files an operator names: a configuration, a key, a certificate.
//!
//! Invariant: reading never takes more memory than the stated bound, whatever the path leads to.

use std::fs::File;
use std::io::{Error, Read as _};
use std::path::Path;

/// No configuration, key or certificate chain is longer.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file of at most a mebibyte.
///
/// # Errors
/// When it cannot be read, or is longer.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
