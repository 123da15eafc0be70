//! Replays the transcripts in `testdata/transcripts`: a story, and what the document machine made of it.
//!
//! `QUIRE_REWRITE=1 cargo test -p quire-protocol --test document transcript` writes what the machine
//! does today into the files; the difference is then reviewed like any other change.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use quire_protocol::document::Limits;

use super::script;
use super::world::World;

/// Separates a block's commands from what came of them.
const RULE: &str = "----";

fn transcripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/transcripts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("the transcripts").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Replays a transcript: its comments and commands as they are, with what happens now.
fn replay(text: &str) -> String {
    let mut world = World::new(Limits::default());
    let mut replayed = Told(String::new());
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let mut commands = Vec::new();
        for line in block.lines().take_while(|line| *line != RULE) {
            writeln!(replayed.0, "{line}").expect("memory");
            if !line.starts_with('#') && !line.trim().is_empty() {
                commands.push(line);
            }
        }
        if !commands.is_empty() {
            let happened = script::block(&mut world, &commands);
            if !happened.is_empty() {
                writeln!(replayed.0, "{RULE}\n{}", happened.join("\n")).expect("memory");
            }
        }
        replayed.0.push('\n');
    }
    let told = std::mem::take(&mut replayed.0);
    format!("{}\n", told.trim_end())
}

/// What has been told of a transcript. A story that breaks off is printed so far.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0);
        }
    }
}

#[test]
fn every_transcript_comes_out_as_it_is_written() {
    let rewrite = std::env::var_os("QUIRE_REWRITE").is_some();
    let files = transcripts();
    assert!(!files.is_empty());
    let mut different = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a transcript");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let replayed = std::panic::catch_unwind(|| replay(&text));
        let Ok(replayed) = replayed else {
            different.push(format!("{name}: the story cannot be told to its end, see above"));
            continue;
        };
        if rewrite {
            fs::write(&file, &replayed).expect("a writable transcript");
        } else if replayed != text {
            let line = text.lines().zip(replayed.lines()).position(|(a, b)| a != b);
            let line = line.unwrap_or_else(|| text.lines().count().min(replayed.lines().count()));
            let of = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").to_owned();
            different.push(format!("{name}:{}: {:?}, now {:?}", line + 1, of(&text), of(&replayed)));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
