//! Fuzzes decoding of batches, frontiers, lifecycle changes and names.

#![no_main]

#[path = "../src/batch.rs"]
mod batch;

libfuzzer_sys::fuzz_target!(|data: &[u8]| batch::run(data));
