//! Fuzzes decoding of awareness updates, and who is told what.

#![no_main]

#[path = "../src/awareness.rs"]
mod awareness;

libfuzzer_sys::fuzz_target!(|data: &[u8]| awareness::run(data));
