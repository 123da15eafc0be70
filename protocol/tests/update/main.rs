//! The strict decoder and admission, against what real Yjs and yrs documents make and against hostile bytes.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect should stop there")]

mod craft;
mod crafted;
mod cuts;
mod dropped;
mod goldens;
mod histories;
mod keystrokes;
mod mutations;
mod support;
