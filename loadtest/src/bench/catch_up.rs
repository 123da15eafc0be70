//! How fast a region that was away gets what another has written, and what that costs the other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::Options;
use super::regions::{self, ENTRIES_TIMEOUT, Region};
use super::report::{Report, Row};
use crate::delivery;
use crate::distance::Distance;
use crate::editor::Editor;
use crate::rates;
use crate::typist::Typist;
use crate::wire::{self, Message};
use crate::writers::Work;

const SCENARIO: &str = "catch-up";
const NAME: &str = "catch-up";

const WRITERS: u32 = 50;
const BURST: u32 = 200;
const LARGE_LETTERS: usize = 4_096;
/// Large entries are that many times fewer.
const LARGE_ONE_IN: u32 = 20;
/// Large entries are sent in bursts that many times smaller.
const LARGE_BURST: u32 = BURST / 20;

/// How long the live typist is listened to before the other region comes back.
const IDLE: Duration = Duration::from_secs(5);
/// A fast typist, and still far below what a region can take.
const TYPE_EVERY: Duration = Duration::from_millis(5);
const TYPIST_CLIENT: u32 = 0xb000_0002;

/// One run of it: what was missed.
struct Missed {
    who: &'static str,
    work: Work,
}

/// What was seen while the other region came back.
struct Seen {
    entries: u64,
    seconds: f64,
    memory_grew: u64,
    live: Histogram<u64>,
    idle: Histogram<u64>,
}

/// A region misses keystrokes, and then large entries.
///
/// # Errors
/// When a region cannot be started, linked or asked.
pub fn catch_up(options: &Options, report: &mut Report) -> Result<()> {
    let work = |prefix: &str, letters, entries: u32, burst| Work {
        prefix: prefix.into(),
        first: 0,
        writers: WRITERS,
        one_in: 1,
        letters,
        updates: entries / WRITERS,
        burst,
    };
    let large = options.entries / LARGE_ONE_IN;
    let runs = [
        Missed { who: "keystrokes", work: work("small", 1, options.entries, BURST) },
        Missed { who: "entries of 4 KiB", work: work("large", LARGE_LETTERS, large, LARGE_BURST) },
    ];
    for Missed { who, work } in runs {
        let is_large = work.letters == LARGE_LETTERS;
        let megabytes = f64::from(work.updates * work.writers) * work.letters as f64 / 1e6;
        let seen = come_back(options, work)?;
        let row = Row {
            scenario: SCENARIO,
            who: who.into(),
            figure: "applied",
            value: seen.entries as f64 / seen.seconds,
            unit: "entries/s",
            note: format!("{} entries in {:.2} s; asked 100,000 of keystrokes", seen.entries, seen.seconds),
        };
        report.add(row.clone());
        if is_large {
            let (value, note) = (megabytes / seen.seconds, format!("{megabytes:.0} MB; asked 20"));
            report.add(Row { figure: "content", value, unit: "MB/s", note, ..row.clone() });
        }
        tell_cost(report, &row, &seen);
    }
    options.clear(NAME)
}

fn tell_cost(report: &mut Report, row: &Row, seen: &Seen) {
    let [live, idle] = [&seen.live, &seen.idle].map(|acks| rates::quantile_ms(acks, 0.99));
    let q = |a: &Histogram<u64>| [0.5, 0.9, 0.98, 0.99, 1.0].map(|x| rates::quantile_ms(a, x));
    eprintln!("QQ live {:?} idle {:?}", q(&seen.live), q(&seen.idle));
    let note = format!(
        "{live:.2} ms over {}, idle {idle:.2} ms over {}; asked 2 at most",
        seen.live.len(),
        seen.idle.len()
    );
    report.add(Row { figure: "live ack p99 : idle", value: live / idle, unit: "", note, ..row.clone() });
    let value = seen.memory_grew as f64 / f64::from(1 << 20);
    let note = "resident, the most above what it was before the link".to_owned();
    report.add(Row { figure: "the sender's memory grew", value, unit: "MiB", note, ..row.clone() });
}

/// Links two regions, writes at the first while the second is away, and has it come back.
fn come_back(options: &Options, work: Work) -> Result<Seen> {
    for replica in 1..=2 {
        options.clear(&format!("{NAME}-{replica}"))?;
    }
    let here = Region::start(options, NAME, 1, &[])?;
    let distance = Distance::to(here.addr(), Duration::ZERO)?;
    let away = Region::start(options, NAME, 2, &[distance.url()])?;
    away.await_links(1)?;
    away.server.stop()?;
    here.write(work)?;
    let has_linked = AtomicBool::new(false);
    let is_over = AtomicBool::new(false);
    let (measured, typed) = std::thread::scope(|scope| {
        let typist = scope.spawn(|| type_until(here.addr(), &has_linked, &is_over));
        std::thread::sleep(IDLE);
        let measured = measure(options, &here, &distance, &has_linked);
        is_over.store(true, Ordering::Relaxed);
        (measured, typist.join())
    });
    let (entries, seconds, memory_grew, back) = measured?;
    let [idle, live] = typed.ok().context("the typist panicked")??;
    back.end(options)?;
    here.end(options)?;
    Ok(Seen { entries, seconds, memory_grew, live, idle })
}

/// Starts the region that was away; returns entries, seconds, how the sender's memory grew, and the region.
fn measure(
    options: &Options,
    here: &Region,
    distance: &Distance,
    has_linked: &AtomicBool,
) -> Result<(u64, f64, u64, Region)> {
    let memory = here.server.resident_bytes()?;
    let dialled_before = distance.dialled();
    let back = Region::start(options, NAME, 2, &[distance.url()])?;
    let began = regions::wait(ENTRIES_TIMEOUT, "the link", || {
        Ok(distance.dialled().filter(|_| distance.dialled() != dialled_before))
    })?;
    has_linked.store(true, Ordering::Relaxed);
    let written = here.status()?.applied(1);
    let mut most = memory;
    let missed = written.saturating_sub(1);
    let ended = regions::wait(ENTRIES_TIMEOUT, "what was missed", || {
        most = most.max(here.server.resident_bytes()?);
        Ok((back.status()?.applied(1) >= written).then(Instant::now))
    })?;
    Ok((missed, (ended - began).as_secs_f64(), most - memory, back))
}

/// Types until it is over; the latencies of acknowledgements before the link and after it.
fn type_until(
    addr: SocketAddr,
    has_linked: &AtomicBool,
    is_over: &AtomicBool,
) -> Result<[Histogram<u64>; 2]> {
    let mut acks = [rates::latencies(), rates::latencies()];
    let mut editor = Editor::connect(addr, "/ws/live")?;
    editor.join()?;
    let mut typist = Typist::alone(TYPIST_CLIENT);
    let mut update = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let during = usize::from(has_linked.load(Ordering::Relaxed));
        update.clear();
        typist.put_keystroke(&mut update);
        let sent = Instant::now();
        editor.send(|out| wire::put_update(out, &update))?;
        while !editor.hear(|message| acknowledges(message, typist.typed()))? {}
        acks[during].saturating_record(u64::try_from(sent.elapsed().as_micros())?);
        std::thread::sleep(TYPE_EVERY);
    }
    Ok(acks)
}

fn acknowledges(message: Message<'_>, typed: u32) -> bool {
    let mut acked = false;
    if let Message::Update(update) = message {
        let found = |range: delivery::Range| acked |= range.client == TYPIST_CLIENT && range.to == typed;
        return delivery::scan(update, found).is_ok() && acked;
    }
    acked
}
