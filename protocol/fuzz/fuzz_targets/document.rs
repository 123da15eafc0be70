//! Fuzzes the document machine.

#![no_main]

#[path = "../src/document.rs"]
mod document;
#[expect(dead_code, reason = "the stories of the machine's own tests use more of it")]
#[path = "../../tests/document/editor.rs"]
mod editor;
#[path = "../../tests/document/render.rs"]
mod render;
#[path = "../../tests/document/steps.rs"]
mod steps;
#[path = "../../tests/document/units.rs"]
mod units;
#[path = "../../tests/document/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|data: &[u8]| document::run(data));
