//! What one region is told: its settings, where each came from, and whether they make sense together.
//!
//! One table (`table::SETTINGS`) makes the flags, the `QUIRE_…` variables and the keys of
//! `quire.toml`; `collections` reads the schema and `webhooks` the webhooks, which are in the file alone. Nothing here
//! starts anything, opens a socket or touches the data directory.
//!
//! Invariant: a [`Config`] is complete and consistent, or there is none and every problem is listed.

mod check;
mod collections;
mod field;
mod file;
mod load;
mod problem;
mod reading;
mod settings;
mod table;
mod webhooks;

pub use check::{Config, Tls};
pub(crate) use file::read_small;
pub use load::{Sources, load, load_schema};
pub use problem::{Problem, Problems, Source};
pub use settings::{AuthMode, Limits, LogFormat, RegionRole, Settings};
pub(crate) use table::{SETTINGS, Setting};
