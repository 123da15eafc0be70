//! Fields, against what the writers of random histories truly knew.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect should stop there")]

mod hostile;
mod knowledge;
mod oracle;
mod pace;
mod records;
mod rows;
mod stories;
mod world;
