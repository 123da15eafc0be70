//! Writers with a document each, who type, wait for the acknowledgement, and type again.
//!
//! A closed loop: it measures what a server commits when everyone waits for their disk, and it is how
//! benchmarks fill a server with documents. The echo of a writer's own letters is the acknowledgement.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;

use crate::crowd::{Crowd, Ear};
use crate::delivery;
use crate::rates;
use crate::typist::{LETTERS, Typist};
use crate::wire::{self, Message};

/// Connections that wait for their first answer at a time: less than a listener's backlog.
const JOINING_MAX: usize = 256;

const TURN: Duration = Duration::from_millis(10);
const WRITER_CLIENT: u32 = 0xc000_0000;

/// What the writers are to do.
#[derive(Clone, Debug)]
pub struct Work {
    /// Documents are named by this and a number.
    pub prefix: String,
    /// The number of the first document.
    pub first: u32,
    /// How many writers, and documents.
    pub writers: u32,
    /// One in so many writes; the others only join.
    pub one_in: u32,
    /// Letters in one update.
    pub letters: usize,
    /// Updates of each writer; then it is done.
    pub updates: u32,
    /// Updates that a writer sends before it waits for their acknowledgement.
    pub burst: u32,
}

struct Writer {
    typist: Typist,
    joined: bool,
    left: u32,
    waiting_for: u32,
    sent: Instant,
}

/// Writers at work.
pub struct Writers {
    work: Work,
    writers: Vec<Writer>,
    piece: Vec<u8>,
    update: Vec<u8>,
    joined: usize,
    done: usize,
    waiting: bool,
    acked: u64,
    update_bytes: u64,
    latency: Histogram<u64>,
    failure: Option<String>,
}

impl Writers {
    /// Nobody is connected yet.
    #[must_use]
    pub fn new(work: Work) -> Self {
        let piece = LETTERS.iter().copied().cycle().take(work.letters).collect();
        Self {
            work,
            writers: Vec::new(),
            piece,
            update: Vec::new(),
            joined: 0,
            done: 0,
            waiting: true,
            acked: 0,
            update_bytes: 0,
            latency: rates::latencies(),
            failure: None,
        }
    }

    /// Connects all and waits until each has its document; then, or at once, they may write.
    ///
    /// # Errors
    /// When a writer is refused or the time runs out.
    pub fn join(&mut self, crowd: &mut Crowd, addr: SocketAddr, timeout: Duration) -> Result<()> {
        let until = Instant::now() + timeout;
        for number in self.work.first..self.work.first + self.work.writers {
            let typist = Typist::alone(WRITER_CLIENT | number);
            let left = if number.is_multiple_of(self.work.one_in) { self.work.updates } else { 0 };
            self.writers.push(Writer { typist, joined: false, left, waiting_for: 0, sent: Instant::now() });
            crowd.connect(addr, &format!("/ws/{}-{number}", self.work.prefix)).context("cannot connect")?;
            if self.writers.len() >= self.joined + JOINING_MAX {
                self.until(crowd, until, |writers| writers.joined + JOINING_MAX / 2 > writers.writers.len())?;
            }
        }
        self.until(crowd, until, |writers| writers.joined == writers.writers.len())
    }

    /// Lets everyone write who has something to.
    pub fn begin(&mut self, crowd: &mut Crowd) {
        self.waiting = false;
        let mut frame = Vec::new();
        for who in 0..self.writers.len() {
            frame.clear();
            self.write(who, &mut frame);
            crowd.send(who, &frame);
        }
    }

    /// Goes on until everyone is done.
    ///
    /// # Errors
    /// When a session ends or the time runs out.
    pub fn finish(&mut self, crowd: &mut Crowd, timeout: Duration) -> Result<()> {
        self.until(crowd, Instant::now() + timeout, |writers| writers.done == writers.writers.len())
    }

    /// Goes on for so long.
    ///
    /// # Errors
    /// When a session ends.
    pub fn go_on(&mut self, crowd: &mut Crowd, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            crowd.turn(TURN, self)?;
            self.check()?;
        }
        Ok(())
    }

    /// Updates acknowledged so far.
    #[must_use]
    pub const fn acked(&self) -> u64 {
        self.acked
    }

    /// The bytes of all updates sent so far, without what carried them.
    #[must_use]
    pub const fn update_bytes(&self) -> u64 {
        self.update_bytes
    }

    /// Takes the latencies of acknowledgements since the last taking, in microseconds.
    pub fn take_latency(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.latency, rates::latencies())
    }

    fn until(&mut self, crowd: &mut Crowd, until: Instant, done: impl Fn(&Self) -> bool) -> Result<()> {
        while !done(self) {
            let (joined, finished, all) = (self.joined, self.done, self.writers.len());
            ensure!(
                Instant::now() < until,
                "in time {joined} of {all} writers joined and {finished} were done"
            );
            crowd.turn(TURN, self)?;
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }

    fn write(&mut self, who: usize, out: &mut Vec<u8>) {
        let writer = &mut self.writers[who];
        if writer.left == 0 {
            self.done += 1;
            return;
        }
        writer.waiting_for = self.work.burst.min(writer.left);
        writer.left -= writer.waiting_for;
        writer.sent = Instant::now();
        for _ in 0..writer.waiting_for {
            self.update.clear();
            writer.typist.put_text(&self.piece, &mut self.update);
            self.update_bytes += self.update.len() as u64;
            wire::put_update(out, &self.update);
        }
    }

    fn receive(&mut self, who: usize, update: &[u8], at: Instant, out: &mut Vec<u8>) {
        let writer = &self.writers[who];
        let (client, typed, sent) = (writer.typist.client(), writer.typist.typed(), writer.sent);
        let mut acked = false;
        let scanned = delivery::scan(update, |range| acked |= range.client == client && range.to == typed);
        if let Err(error) = scanned {
            self.failure = Some(error.to_string());
        }
        if acked && !self.waiting {
            self.acked += u64::from(self.writers[who].waiting_for);
            let micros = at.saturating_duration_since(sent).as_micros();
            self.latency.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX).max(1));
            self.write(who, out);
        }
    }
}

impl Ear for Writers {
    fn opened(&mut self, _who: usize, out: &mut Vec<u8>) {
        wire::put_step1(out, &[0]);
    }

    fn heard(&mut self, who: usize, body: &[u8], at: Instant, out: &mut Vec<u8>) {
        match wire::message(body) {
            Ok(Message::Update(update)) => self.receive(who, update, at, out),
            Ok(Message::Step1(_)) => wire::put_step2(out, &[0, 0]),
            Ok(Message::Step2(_)) => {
                self.joined += usize::from(!self.writers[who].joined);
                self.writers[who].joined = true;
            }
            Ok(Message::Awareness(_) | Message::Other(_)) => {}
            Ok(Message::Denied(reason)) => self.failure = Some(String::from_utf8_lossy(reason).into_owned()),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn closed(&mut self, who: usize, why: String) {
        self.failure.get_or_insert(format!("writer {who}: {why}"));
    }
}
