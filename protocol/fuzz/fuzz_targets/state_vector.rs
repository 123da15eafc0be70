//! Fuzzes decoding of state vectors.

#![no_main]

#[path = "../src/state_vector.rs"]
mod state_vector;

libfuzzer_sys::fuzz_target!(|data: &[u8]| state_vector::run(data));
