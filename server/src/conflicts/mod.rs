//! Conflicts across documents: what is on record of them, in the order it changed and in the order to be listed.
//!
//! Each document's machine says what is on record of it; this module keeps that in the log's derived rows. A crash
//! loses the rows since the last checkpoint, and their documents are derived from again.

mod between;
mod book;
mod claims;
mod flags;
mod indexed;
mod references;
mod rows;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use between::{Between, Contested, Dangling};
pub(crate) use book::{Book, Filter, Page};
pub(crate) use claims::{FIRST_CLAIM, UNIQUE};
pub(crate) use indexed::{Claimant, Referrer};
pub(crate) use references::REFERENCE;
pub(crate) use rows::{Kept, kind, policy};
pub(crate) use told::Told;
