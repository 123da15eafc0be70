//! What an idle connection with a document of its own costs, 10,000 of them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Options;
use super::report::{Report, Row};
use crate::crowd::Crowd;
use crate::writers::{Work, Writers};

const CONNECTIONS: u32 = 10_000;

/// One in so many has typed a word; the others have joined an empty document.
const ONE_IN: u32 = 10;

const WORD_LETTERS: usize = 6;
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long the server is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(3);

/// How long its idle processor time is measured.
const IDLE: Duration = Duration::from_secs(10);

const SCENARIO: &str = "10,000 idle";

/// 10,000 connections, each with its own open document.
///
/// # Errors
/// When the server cannot be started, measured, or ends a session.
pub fn idle_crowd(options: &Options, report: &mut Report) -> Result<()> {
    options.clear("idle")?;
    let server = options.quire_program("idle")?.start()?;
    let mut crowd = Crowd::new()?;
    let work = Work {
        prefix: "idle".into(),
        first: 0,
        writers: CONNECTIONS,
        one_in: ONE_IN,
        letters: WORD_LETTERS,
        updates: 1,
        burst: 1,
    };
    let mut writers = Writers::new(work);
    let before = server.resident_bytes()?;
    let started = Instant::now();
    writers.join(&mut crowd, server.addr(), TIMEOUT)?;
    let joined_in = started.elapsed().as_secs_f64();
    writers.begin(&mut crowd);
    writers.finish(&mut crowd, TIMEOUT)?;
    writers.go_on(&mut crowd, SETTLE)?;
    let after = server.resident_bytes()?;
    let cpu = server.cpu_seconds()?;
    writers.go_on(&mut crowd, IDLE)?;
    let idle_cpu = (server.cpu_seconds()? - cpu) / IDLE.as_secs_f64() * 100.0;
    let later = server.resident_bytes()?;
    let per_connection = after.saturating_sub(before) as f64 / 1024.0 / f64::from(CONNECTIONS);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let note = format!(
        "resident {:.1} MiB before, {:.1} after, {:.1} {IDLE:?} later",
        mib(before),
        mib(after),
        mib(later)
    );
    let row = Row { scenario: SCENARIO, who: "quire".into(), figure: "", value: 0.0, unit: "", note };
    report.add(Row { figure: "memory", value: per_connection, unit: "KiB/connection", ..row.clone() });
    let row = Row { note: String::new(), ..row };
    let rate = f64::from(CONNECTIONS) / joined_in;
    report.add(Row { figure: "connects with a first sync", value: rate, unit: "/s", ..row.clone() });
    report.add(Row { figure: "idle processor", value: idle_cpu, unit: "% of a core", ..row });
    crowd.leave();
    server.stop()?;
    options.clear("idle")
}
