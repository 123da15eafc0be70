//! Fuzzes decoding of y-websocket frames.

#![no_main]

#[path = "../src/ysync.rs"]
mod ysync;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ysync::run(data));
