//! The document machine, held to the rules of `docs/protocol.md`: stories to read, and random histories.

mod editor;
mod histories;
mod render;
mod script;
mod steps;
mod transcripts;
mod units;
mod world;
