//! Conflicts across documents: what is on record of them, in the order it changed and in the order to be listed.
//!
//! Each document's machine says what is on record of it; this module keeps that in the log's derived rows. A crash
//! loses the rows since the last checkpoint, and their documents are derived from again.

mod book;
mod rows;

pub(crate) use book::{Book, Filter, Page};
pub(crate) use rows::{Kept, kind, policy};
