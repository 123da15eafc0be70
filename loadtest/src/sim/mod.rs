//! A deterministic simulator: several regions in virtual time, over the real link machine, the real log on
//! simulated disks, and real Yjs documents.
//!
//! `world` is what happens, one event after the other; `workload` and `field_edits` draw what people do and what breaks,
//! `documents` is what a region shows and `fields` what it does with their fields, `faults` breaks regions,
//! `restored` is what a disk that was set back makes of its region, `kept` what logs keep for peers,
//! `lives` deletes and restores documents, `drains` stops regions in an orderly way, `members` has them join and
//! leave, `wire` carries frames between link machines, `snapshots` gives and takes snapshots, `sessions` carries what
//! editors say, `commits` is a region's disk; `ledger` and `settle` judge, and of fields `field_checks`, by what their
//! writers knew (`truth`) and what is to come of that (`said`). `docs/verification.md` says what is checked. Nothing
//! here knows the time of day or opens a socket or a file.

mod command;
mod commits;
mod documents;
mod drains;
mod editor;
mod faults;
mod field_checks;
mod field_edits;
mod fields;
mod kept;
mod ledger;
mod lives;
mod members;
mod plant;
mod region;
mod restored;
mod rng;
mod said;
mod sessions;
mod settle;
mod snapshots;
mod topology;
mod transcript;
mod truth;
mod wire;
mod workload;
mod world;

#[cfg(feature = "planted")]
pub use command::caught;
pub use command::{Options, run};
pub use plant::{Plant, Planted};
pub use transcript::Totals;
pub use world::{Outcome, Setup, simulate};
