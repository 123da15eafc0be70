//! When an edit of one region is seen at another, 50 ms away, counted from its commit.
//!
//! The commit is seen from outside, by the writer's own echo. Writer and reader are two sockets of one
//! thread, so both moments are read from one clock.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;

use super::Options;
use super::regions::{self, Region};
use super::report::{Report, Row};
use crate::crowd::{Crowd, Ear};
use crate::delivery;
use crate::disk;
use crate::distance::Distance;
use crate::rates::{self, Arrivals, median};
use crate::typist::Typist;
use crate::wire::{self, Message};

const SCENARIO: &str = "lag";
const NAME: &str = "lag";
const CLIENT: u32 = 0xb000_0003;

const ONE_WAY: Duration = Duration::from_millis(50);
const UPDATES_PER_SECOND: f64 = 1_000.0;
const TURN_MAX: Duration = Duration::from_millis(1);
/// What is typed first is not measured.
const WARM: Duration = Duration::from_secs(2);
const LAST_WAIT: Duration = Duration::from_secs(10);
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Synced appends before and after, each.
const SYNCS: u32 = 300;
const LAG_SERIES: &str = "quire_replication_lag_seconds{origin=\"1\"}";
const ASK_LAG_EVERY: Duration = Duration::from_secs(1);

const WRITER: usize = 0;
const READER: usize = 1;

/// Two sockets, one at each region.
struct Pair {
    typist: Typist,
    joined: [bool; 2],
    /// By clock, when the letter was seen at the origin.
    acked: Vec<Option<Instant>>,
    /// By clock, when it was seen at the other region.
    shown: Vec<Option<Instant>>,
    failure: Option<String>,
}

/// A thousand updates a second at one of two regions.
///
/// # Errors
/// When a region cannot be started or linked, or an update is lost.
pub fn lag(options: &Options, report: &mut Report) -> Result<()> {
    for replica in 1..=2 {
        options.clear(&format!("{NAME}-{replica}"))?;
    }
    let dir = options.data_dir(NAME)?;
    let mut syncs = disk::synced_appends(&dir, SYNCS)?;
    let origin = Region::start(options, NAME, 1, &[])?;
    let distance = Distance::to(origin.addr(), ONE_WAY)?;
    let other = Region::start(options, NAME, 2, &[distance.url()])?;
    for region in [&origin, &other] {
        region.await_links(1)?;
    }
    let is_over = AtomicBool::new(false);
    let (lags, told) = std::thread::scope(|scope| {
        let told = scope.spawn(|| watch(other.addr(), &is_over));
        let lags = type_across(&origin, &other, Duration::from_secs(options.lag_seconds.into()));
        is_over.store(true, Ordering::Relaxed);
        (lags, told.join())
    });
    syncs.add(disk::synced_appends(&dir, SYNCS)?)?;
    let told = told.ok().context("the watcher panicked")??;
    tell(report, &lags?, &syncs, &told);
    for region in [other, origin] {
        region.end(options)?;
    }
    options.clear(NAME)
}

fn tell(report: &mut Report, lags: &Histogram<u64>, syncs: &Histogram<u64>, told: &[f64]) {
    for (figure, quantile, beside) in [("p50", 0.5, 5.0), ("p99", 0.99, 10.0)] {
        let sync = rates::quantile_ms(syncs, quantile);
        let asked = ONE_WAY.as_secs_f64() * 1e3 + beside + 2.0 * sync;
        let value = rates::quantile_ms(lags, quantile);
        let note = format!("asked {asked:.1}, with fdatasync {sync:.2}; {} updates", lags.len());
        let who = "commit to remote editor".into();
        report.add(Row { scenario: SCENARIO, who, figure, value, unit: "ms", note });
    }
    let outside = rates::quantile_ms(lags, 0.5);
    let note = format!("outside {outside:.1}; {}; asked within 10 of it", super::spread(told));
    let (who, figure, value) = ("quire_replication_lag_seconds".into(), "median", median(told));
    report.add(Row { scenario: SCENARIO, who, figure, value, unit: "ms", note });
}

/// What the other region tells of its lag meanwhile, in milliseconds.
fn watch(addr: SocketAddr, is_over: &AtomicBool) -> Result<Vec<f64>> {
    let mut told = Vec::new();
    let began = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(ASK_LAG_EVERY);
        // The first canaries are from before the typing.
        if began.elapsed() > WARM + Duration::from_secs(5) {
            told.push(regions::metric(addr, LAG_SERIES)? * 1e3);
        }
    }
    Ok(told)
}

/// Types at one region and listens at the other.
fn type_across(origin: &Region, other: &Region, time: Duration) -> Result<Histogram<u64>> {
    let mut crowd = Crowd::new()?;
    let mut pair = Pair {
        typist: Typist::alone(CLIENT),
        joined: [false; 2],
        acked: Vec::new(),
        shown: Vec::new(),
        failure: None,
    };
    for region in [origin, other] {
        crowd.connect(region.addr(), &format!("/ws/{NAME}"))?;
    }
    pair.until(&mut crowd, JOIN_TIMEOUT, |pair| pair.joined == [true; 2])?;
    let mut arrivals = Arrivals::per_second(UPDATES_PER_SECOND, 1);
    let began = Instant::now();
    let mut first_measured = 0;
    while began.elapsed() < WARM + time {
        if began.elapsed() < WARM {
            first_measured = pair.acked.len();
        }
        pair.type_due(&mut crowd, &mut arrivals, began.elapsed());
        let due = Duration::from_micros(arrivals.next_micros());
        crowd.turn(due.saturating_sub(began.elapsed()).min(TURN_MAX), &mut pair)?;
        pair.check()?;
    }
    pair.until(&mut crowd, LAST_WAIT, Pair::has_seen_all)?;
    crowd.leave();
    let mut lags = rates::latencies();
    for (acked, shown) in pair.acked.iter().zip(&pair.shown).skip(first_measured) {
        let (Some(acked), Some(shown)) = (acked, shown) else { bail!("an update was not seen") };
        let micros = shown.saturating_duration_since(*acked).as_micros();
        lags.saturating_record(u64::try_from(micros)?.max(1));
    }
    Ok(lags)
}

impl Pair {
    fn type_due(&mut self, crowd: &mut Crowd, arrivals: &mut Arrivals, now: Duration) {
        let (mut update, mut frames) = (Vec::new(), Vec::new());
        while Duration::from_micros(arrivals.next_micros()) <= now {
            arrivals.pass();
            update.clear();
            self.typist.put_keystroke(&mut update);
            wire::put_update(&mut frames, &update);
            self.acked.push(None);
            self.shown.push(None);
        }
        crowd.send(WRITER, &frames);
    }

    fn has_seen_all(&self) -> bool {
        self.acked.iter().chain(&self.shown).all(Option::is_some)
    }

    fn check(&self) -> Result<()> {
        self.failure.as_ref().map_or(Ok(()), |why| bail!("{why}"))
    }

    fn until(&mut self, crowd: &mut Crowd, timeout: Duration, done: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + timeout;
        while !done(self) {
            ensure!(Instant::now() < until, "an editor waits for more than {timeout:?}");
            crowd.turn(TURN_MAX, self)?;
            self.check()?;
        }
        Ok(())
    }

    fn see(&mut self, who: usize, update: &[u8], at: Instant) {
        let seen = if who == READER { &mut self.shown } else { &mut self.acked };
        let scanned = delivery::scan(update, |range| {
            if range.client == CLIENT {
                for letter in seen.iter_mut().take(range.to as usize).skip(range.from as usize) {
                    letter.get_or_insert(at);
                }
            }
        });
        if let Err(error) = scanned {
            self.failure = Some(error.to_string());
        }
    }
}

impl Ear for Pair {
    fn opened(&mut self, _who: usize, out: &mut Vec<u8>) {
        wire::put_step1(out, &[0]);
    }

    fn heard(&mut self, who: usize, body: &[u8], at: Instant, out: &mut Vec<u8>) {
        match wire::message(body) {
            Ok(Message::Update(update)) => self.see(who, update, at),
            Ok(Message::Step1(_)) => wire::put_step2(out, &[0, 0]),
            Ok(Message::Step2(_)) => self.joined[who] = true,
            Ok(Message::Awareness(_) | Message::Other(_)) => {}
            Ok(Message::Denied(reason)) => self.failure = Some(String::from_utf8_lossy(reason).into_owned()),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn closed(&mut self, who: usize, why: String) {
        self.failure.get_or_insert(format!("editor {who}: {why}"));
    }
}
