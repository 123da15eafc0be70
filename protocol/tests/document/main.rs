//! The document machine, held to the rules of `docs/protocol.md`: stories to read, random histories, and
//! the histories that fuzzing kept.

mod editor;
#[path = "../../fuzz/src/document.rs"]
mod fuzzed;
mod histories;
mod records;
mod render;
#[path = "../../fuzz/src/replay.rs"]
mod replay;
mod script;
mod steps;
mod transcripts;
mod units;
mod world;

#[test]
fn d1_committed_histories_pass() {
    replay::replay("document", fuzzed::run);
}
