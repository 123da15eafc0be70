//! What went wrong inside redb, in the few kinds that the log reacts to.
//!
//! redb does not verify checksums when it reads, so a damaged page can make it panic. `caught` turns
//! such a panic into an error of the one operation that met the page; the process goes on.

use crate::error::{Failure, FailureKind, LoadError};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why something that went through redb did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

impl Fault {
    /// Bytes are not what was written.
    pub(crate) fn corrupt(text: impl Into<String>) -> Self {
        Self { kind: FailureKind::Corrupt, text: text.into() }
    }

    /// The fault with where it happened in front.
    pub(crate) fn at(self, place: &str) -> Self {
        Self { kind: self.kind, text: format!("{place}: {}", self.text) }
    }
}

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        let error = error.into();
        let kind = match &error {
            redb::Error::Io(io) => match io.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    FailureKind::DiskFull
                }
                // What redb says of a file that is none of its own, or shorter than it should be.
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof => FailureKind::Corrupt,
                _ => FailureKind::Io,
            },
            redb::Error::PreviousIo => FailureKind::Io,
            // Everything else means that a table, a value or a page is not what this code wrote.
            _ => FailureKind::Corrupt,
        };
        Self { kind, text: error.to_string() }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { kind: fault.kind, text: fault.text.into() }
    }
}

impl From<Fault> for LoadError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FailureKind::Corrupt => Self::Corrupt(fault.text.into()),
            FailureKind::Io | FailureKind::DiskFull => Self::Disk(fault.text.into()),
        }
    }
}

/// Runs an operation on redb, and reports a panic in it as corruption.
///
/// # Errors
/// The operation's own, or `Corrupt` after a panic.
pub(crate) fn caught<T>(place: &str, operation: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // Unwind safety: what the operation was changing is a redb transaction, which a panic aborts, or
    // belongs to the operation alone. Nothing half-made is looked at afterwards.
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(result) => result.map_err(|fault| fault.at(place)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            Err(Fault::corrupt(format!("{place}: a damaged page stopped a read ({text})")))
        }
    }
}
