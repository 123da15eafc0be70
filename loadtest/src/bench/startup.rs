//! How long a server takes to listen: over many documents, and after `kill -9` at a gibibyte.
//!
//! The file system's cache is warm, as after a crash of the process alone; what a cold machine adds is
//! the disk's affair.

use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::report::{Report, Row};
use crate::crowd::Crowd;
use crate::disk;
use crate::rates::median;
use crate::server::{Program, Server};
use crate::writers::{Work, Writers};

const MANY: u32 = 100_000;
const FEW: u32 = 100;

/// Documents written at a time.
const CROWD: u32 = 2_000;

const WORD_LETTERS: usize = 6;
const TIMEOUT: Duration = Duration::from_secs(300);

const GIBIBYTE: u64 = 1 << 30;
const PASTE_LETTERS: usize = 16 << 10;
const PASTES: u32 = 8;
const PASTERS: u32 = 500;

/// How long writers are at work when the server is killed.
const BEFORE_KILL: Duration = Duration::from_millis(500);

/// Start-up over 100,000 documents against over 100.
///
/// # Errors
/// When the server cannot be started or filled.
pub fn many_documents(options: &Options, report: &mut Report) -> Result<()> {
    let scenario = "start-up";
    let programs = [("start-few", FEW), ("start-many", MANY)].map(|(dir, documents)| -> Result<Program> {
        options.clear(dir)?;
        let program = options.quire_program(dir)?;
        let server = program.start()?;
        for first in (0..documents).step_by(CROWD as usize) {
            let writers = CROWD.min(documents - first);
            write(&server, work("stored", first, writers, WORD_LETTERS, 1))?;
        }
        server.stop()?;
        Ok(program)
    });
    let [few, many] = programs;
    let (few, many) = (few?, many?);
    let (mut few_ms, mut many_ms, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.repeats {
        let (few, many) = (start_ms(&few)?, start_ms(&many)?);
        few_ms.push(few);
        many_ms.push(many);
        ratios.push(many / few);
    }
    let figures = [
        ("over 100 documents", &few_ms, "ms"),
        ("over 100,000 documents", &many_ms, "ms"),
        ("100,000 : 100", &ratios, ""),
    ];
    for (figure, values, unit) in figures {
        let (value, note) = (median(values), super::spread(values));
        report.add(Row { scenario, who: "quire".into(), figure, value, unit, note });
    }
    options.clear("start-few")?;
    options.clear("start-many")
}

/// Start-up after `kill -9` under load, over a directory of a gibibyte.
///
/// # Errors
/// When the server cannot be started or filled.
pub fn after_kill(options: &Options, report: &mut Report) -> Result<()> {
    let dir = "gibibyte";
    options.clear(dir)?;
    let program = options.quire_program(dir)?;
    let mut server = program.start()?;
    let mut first = 0;
    while disk::dir_bytes(&options.data_dir(dir)?)? < GIBIBYTE {
        write(&server, work("pasted", first, PASTERS, PASTE_LETTERS, PASTES))?;
        first += PASTERS;
    }
    let bytes = disk::dir_bytes(&options.data_dir(dir)?)?;
    let mut times = Vec::new();
    for _ in 0..options.repeats {
        let mut crowd = Crowd::new()?;
        let mut writers = Writers::new(work("killed", first, CROWD, 1, u32::MAX));
        writers.join(&mut crowd, server.addr(), TIMEOUT)?;
        writers.begin(&mut crowd);
        writers.go_on(&mut crowd, BEFORE_KILL)?;
        server.kill()?;
        server = program.start()?;
        times.push(server.started_in().as_secs_f64() * 1e3);
        first += CROWD;
    }
    let note =
        format!("{}; {:.2} GiB in the directory", super::spread(&times), bytes as f64 / GIBIBYTE as f64);
    let (scenario, who) = ("start-up", "quire".into());
    report.add(Row {
        scenario,
        who,
        figure: "after kill -9 at 1 GiB",
        value: median(&times),
        unit: "ms",
        note,
    });
    drop(server);
    options.clear(dir)
}

fn work(prefix: &str, first: u32, writers: u32, letters: usize, updates: u32) -> Work {
    Work { prefix: prefix.into(), first, writers, one_in: 1, letters, updates, burst: 1 }
}

fn write(server: &Server, work: Work) -> Result<()> {
    let mut crowd = Crowd::new()?;
    let mut writers = Writers::new(work);
    writers.join(&mut crowd, server.addr(), TIMEOUT)?;
    writers.begin(&mut crowd);
    writers.finish(&mut crowd, TIMEOUT)?;
    crowd.leave();
    Ok(())
}

fn start_ms(program: &Program) -> Result<f64> {
    let server = program.start()?;
    let ms = server.started_in().as_secs_f64() * 1e3;
    server.stop()?;
    Ok(ms)
}
