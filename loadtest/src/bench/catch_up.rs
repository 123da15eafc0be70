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

/// How often the other region comes back, after a first time: what a disk takes changes from minute to minute.
const RETURNS: u32 = 4;
/// How long the live typist is listened to before each of them.
const IDLE: Duration = Duration::from_secs(5);
/// A fast typist, and still far below what a region can take.
const TYPE_EVERY: Duration = Duration::from_millis(5);
const TYPIST_HERE: u32 = 0xb000_0002;
/// The first of those at the region that comes back.
const TYPIST_THERE: u32 = 0xb000_0003;

/// What is not in the store yet.
const LOG_MEMORY: &str = "quire_log_memory_bytes";

/// One run of it: what was missed.
struct Missed {
    who: &'static str,
    work: Work,
}

/// Latencies of acknowledgements, in microseconds.
type Acks = Histogram<u64>;

/// What was seen while the other region came back.
struct Seen {
    /// In all of its returns but the first.
    entries: u64,
    seconds: f64,
    /// How the sender's memory grew when the peer came back first, and at most when it came back again.
    memory_grew: [u64; 2],
    idle: Acks,
    /// Of a typist at the region that sends, and of one at the region that has come back.
    live: [Acks; 2],
}

/// One return of the other region.
struct Return {
    began: Instant,
    ended: Instant,
    entries: u64,
    memory_grew: u64,
    /// Of a typist at the region that has come back.
    there: Acks,
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
        let megabytes = f64::from(work.updates * work.writers * RETURNS) * work.letters as f64 / 1e6;
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
    let p99 = |acks| rates::quantile_ms(acks, 0.99);
    let idle = p99(&seen.idle);
    let figures = ["ack p99 : idle, sender", "ack p99 : idle, receiver"];
    for (figure, live) in figures.into_iter().zip(&seen.live) {
        let note = format!(
            "{:.2} ms over {}, idle {idle:.2} ms over {}; asked 2 at most",
            p99(live),
            live.len(),
            seen.idle.len()
        );
        report.add(Row { figure, value: p99(live) / idle, unit: "", note, ..row.clone() });
    }
    let [first, again] = seen.memory_grew.map(|bytes| bytes as f64 / f64::from(1 << 20));
    let note = format!("resident; {first:.1} when the peer came first, and the store's cache was empty");
    report.add(Row { figure: "the sender's memory grew", value: again, unit: "MiB", note, ..row.clone() });
}

/// Links two regions, writes at the first while the second is away, and has it come back: once as it was, and
/// then with nothing, again and again, while there is typing at both.
fn come_back(options: &Options, work: Work) -> Result<Seen> {
    let names = [1, 2].map(|replica| format!("{NAME}-{replica}"));
    names.iter().try_for_each(|name| options.clear(name))?;
    let here = Region::start(options, NAME, 1, &[])?;
    let distance = Distance::to(here.addr(), Duration::ZERO)?;
    let away = Region::start(options, NAME, 2, &[distance.url()])?;
    away.await_links(1)?;
    away.server.stop()?;
    here.write(work)?;
    let first = come(options, &here, &distance, TYPIST_THERE)?;
    regions::wait(ENTRIES_TIMEOUT, "the checkpoint", || {
        Ok((regions::metric(here.addr(), LOG_MEMORY)? == 0.0).then_some(()))
    })?;
    let is_over = AtomicBool::new(false);
    let (returns, typed) = std::thread::scope(|scope| {
        let typist = scope.spawn(|| type_until(TYPIST_HERE, here.addr(), &is_over));
        let returns = (1..=RETURNS).map(|n| {
            let from = Instant::now();
            std::thread::sleep(IDLE);
            Ok((from..Instant::now(), come(options, &here, &distance, TYPIST_THERE + n)?))
        });
        let returns: Result<Vec<_>> = returns.collect();
        is_over.store(true, Ordering::Relaxed);
        (returns, typist.join())
    });
    let returns = returns?;
    let typed = typed.ok().context("the typist panicked")??;
    here.end(options)?;
    let during = |is_in: &dyn Fn(Instant) -> bool| {
        let mut acks = rates::latencies();
        typed.iter().filter(|(at, _)| is_in(*at)).for_each(|(_, micros)| acks.saturating_record(*micros));
        acks
    };
    let idle = during(&|at| returns.iter().any(|(idle, _)| idle.contains(&at)));
    let live = during(&|at| returns.iter().any(|(_, back)| (back.began..back.ended).contains(&at)));
    let mut there = rates::latencies();
    for (_, back) in &returns {
        there.add(&back.there)?;
    }
    let most = returns.iter().map(|(_, back)| back.memory_grew).max().unwrap_or(0);
    Ok(Seen {
        entries: returns.iter().map(|(_, back)| back.entries).sum(),
        seconds: returns.iter().map(|(_, back)| (back.ended - back.began).as_secs_f64()).sum(),
        memory_grew: [first.memory_grew, most],
        idle,
        live: [live, there],
    })
}

/// Has the region that was away come back, waits until it has what it missed, and ends it.
fn come(options: &Options, here: &Region, distance: &Distance, typist: u32) -> Result<Return> {
    let memory = here.server.resident_bytes()?;
    let dialled_before = distance.dialled();
    let back = Region::start(options, NAME, 2, &[distance.url()])?;
    let began = regions::wait(ENTRIES_TIMEOUT, "the link", || {
        Ok(distance.dialled().filter(|_| distance.dialled() != dialled_before))
    })?;
    let is_over = AtomicBool::new(false);
    let (measured, typed) = std::thread::scope(|scope| {
        let typed = scope.spawn(|| type_until(typist, back.addr(), &is_over));
        let measured = missed(here, &back, memory);
        is_over.store(true, Ordering::Relaxed);
        (measured, typed.join())
    });
    let (entries, ended, memory_grew) = measured?;
    let mut there = rates::latencies();
    for (_, micros) in typed.ok().context("the typist panicked")?? {
        there.saturating_record(micros);
    }
    back.end(options)?;
    Ok(Return { began, ended, entries, memory_grew, there })
}

/// Waits until it has what it missed; returns how many entries that were, when it had them, and by how much
/// the sender's memory was above `memory` at most.
fn missed(here: &Region, back: &Region, memory: u64) -> Result<(u64, Instant, u64)> {
    let written = here.status()?.applied(1);
    let mut most = memory;
    let ended = regions::wait(ENTRIES_TIMEOUT, "what was missed", || {
        most = most.max(here.server.resident_bytes()?);
        Ok((back.status()?.applied(1) >= written).then(Instant::now))
    })?;
    Ok((written.saturating_sub(1), ended, most - memory))
}

/// Types until it is over; when each keystroke was sent, and how many microseconds later it was acknowledged.
fn type_until(client: u32, addr: SocketAddr, is_over: &AtomicBool) -> Result<Vec<(Instant, u64)>> {
    let mut acks = Vec::new();
    let mut editor = Editor::connect(addr, "/ws/live")?;
    editor.join()?;
    let mut typist = Typist::alone(client);
    let mut update = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        update.clear();
        typist.put_keystroke(&mut update);
        let sent = Instant::now();
        editor.send(|out| wire::put_update(out, &update))?;
        while !editor.hear(|message| acknowledges(message, client, typist.typed()))? {}
        acks.push((sent, u64::try_from(sent.elapsed().as_micros())?));
        std::thread::sleep(TYPE_EVERY);
    }
    Ok(acks)
}

fn acknowledges(message: Message<'_>, client: u32, typed: u32) -> bool {
    let mut acked = false;
    if let Message::Update(update) = message {
        let found = |range: delivery::Range| acked |= range.client == client && range.to == typed;
        return delivery::scan(update, found).is_ok() && acked;
    }
    acked
}
