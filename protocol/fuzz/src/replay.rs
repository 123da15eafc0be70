//! Runs a fuzz target over the inputs that are committed: seeds from real documents, and what fuzzing kept.

use std::path::Path;

/// The folders of committed inputs, each with one folder for each target.
const FOLDERS: [&str; 2] = ["seeds", "kept"];

pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let mut inputs = Vec::new();
    for folder in FOLDERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
        if let Ok(entries) = std::fs::read_dir(folder) {
            inputs.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
    }
    inputs.sort();
    assert!(!inputs.is_empty(), "{target} has no inputs");
    for input in inputs {
        // Shown where the run stops.
        println!("{}", input.display());
        run(&std::fs::read(input).expect("a readable input"));
    }
}
