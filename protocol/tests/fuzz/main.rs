//! The fuzz targets, run over their committed inputs: seeds, and what fuzzing kept.
//!
//! The document machine's are run by its own tests, whose editors and whose world they share.

#[path = "../../fuzz/src/awareness.rs"]
mod awareness;
#[path = "../../fuzz/src/batch.rs"]
mod batch;
#[path = "../../fuzz/src/hocuspocus.rs"]
mod hocuspocus;
#[path = "../../fuzz/src/link.rs"]
mod link;
#[path = "../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../fuzz/src/state_vector.rs"]
mod state_vector;
#[path = "../../fuzz/src/update.rs"]
mod update;
#[path = "../../fuzz/src/ysync.rs"]
mod ysync;

use replay::replay;

#[test]
fn u11_committed_updates_pass() {
    replay("update", update::run);
}

#[test]
fn s5_committed_state_vectors_pass() {
    replay("state_vector", state_vector::run);
}

#[test]
fn s2_committed_frames_pass() {
    replay("ysync", ysync::run);
}

#[test]
fn a1_committed_awareness_passes() {
    replay("awareness", awareness::run);
}

#[test]
fn h3_committed_sockets_pass() {
    replay("hocuspocus", hocuspocus::run);
}

#[test]
fn committed_batches_pass() {
    replay("batch", batch::run);
}

#[test]
fn l3_committed_link_frames_pass() {
    replay("link", link::run);
}
