//! Fuzzes decoding of Hocuspocus frames, and the machine behind a socket.

#![no_main]

#[path = "../src/hocuspocus.rs"]
mod hocuspocus;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hocuspocus::run(data));
