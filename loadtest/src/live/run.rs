//! The run itself: everybody joins, acts when it is their time, and in the end all that was written must be
//! everywhere.
//!
//! Invariant: moments come from the plan's seed alone; what the server does decides only what is received.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::dialect::Dialect;
use super::document::Document;
use super::line::Line;
use super::outcome::{Cores, Outcome};
use super::participant::{Participant, Pen, Stage};
use super::parts::Part;
use super::person::{Act, Person};
use super::profile::{Profile, Shape};
use super::tally::Tally;
use super::target::Target;
use super::watch::{self, Processors};
use crate::crowd::Crowd;
use crate::rates::Dice;
use crate::typist;

/// How long everybody may take to join before the first keystroke, and to come back after the last.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may refuse everybody before it counts as gone.
const GONE_AFTER_MICROS: u64 = 10_000_000;

/// Connections that are being made at once: a server's backlog is not the measure of it.
const CONNECTING_MAX: usize = 256;

/// How long a turn waits when nothing is due.
pub(super) const IDLE_TURN: Duration = Duration::from_millis(10);

/// Updates kept to be compared in the end may have so many bytes in all.
pub(super) const WITNESS_BYTES_MAX: usize = 64 << 20;

/// Documents of which one session is compared with what the server has.
const WITNESSES_MAX: u32 = 50;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) profile: Profile,
    pub(super) shape: Shape,
    pub(super) dialect: Dialect,
    pub(super) targets: Vec<Target>,
    pub(super) token: String,
    pub(super) warm: Duration,
    pub(super) measured: Duration,
    /// How long what was written may take to arrive after the last keystroke before it counts as lost.
    pub(super) drain: Duration,
    pub(super) seed: u64,
    /// The servers' processes.
    pub(super) pids: Vec<u32>,
    /// Which of the documents are this process's.
    pub(super) part: Part,
    /// The updates of a recorded trace, one for each edit.
    pub(super) trace: Vec<Vec<u8>>,
}

/// What a moment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A participant's next act.
    Act(usize),
    /// A participant connects.
    Connect(usize),
    /// A participant says again that it is there, as clients do: who is not heard of for 30 s is taken for gone.
    Renew(usize),
    /// All connections end.
    Herd,
}

pub(super) struct Live<'a> {
    pub(super) plan: &'a Plan,
    pub(super) documents: Vec<Document>,
    pub(super) participants: Vec<Participant>,
    /// By connection, whose it is.
    pub(super) owners: Vec<usize>,
    pub(super) start: Instant,
    /// The first intended keystroke, in microseconds from `start`.
    pub(super) zero: u64,
    pub(super) due: BinaryHeap<Reverse<(u64, Due)>>,
    pub(super) acts: Vec<Option<Act>>,
    pub(super) tally: Tally,
    pub(super) connecting: usize,
    pub(super) waiting_to_connect: Vec<usize>,
    pub(super) joined: u64,
    pub(super) witness_bytes: usize,
    /// Since when nobody has been let in though somebody tried, if that is so.
    pub(super) refused_since: Option<u64>,
    pub(super) last_refusal: String,
    pub(super) last_arrival: u64,
    pub(super) last_key: u64,
    pub(super) is_over: bool,
    pub(super) failures: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) dice: Dice,
}

/// Runs a plan; `begin` is called when everybody has joined, `tell` hears of each second as it ends.
///
/// # Errors
/// When the machine does not let the run begin. What the servers do is in the outcome.
pub(super) fn run(
    plan: &Plan,
    begin: impl FnOnce() -> Result<()>,
    mut tell: impl FnMut(&super::outcome::Sample, u64),
) -> Result<Outcome> {
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let began_unix_seconds = began.map_or(0, |since| since.as_secs());
    let mut crowd = Crowd::new().context("an event queue")?;
    let mut live = Live::new(plan);
    live.gather(&mut crowd)?;
    if live.failures.is_empty() {
        begin()?;
    }
    let cores = live.go_on(&mut crowd, &mut tell)?;
    let converged = live.settle(&mut crowd)?;
    live.judge()?;
    let traffic = crowd.traffic();
    (live.tally.counts.bytes_sent, live.tally.counts.bytes_received) = (traffic.sent, traffic.received);
    crowd.leave();
    Ok(live.outcome(began_unix_seconds, cores, converged))
}

impl<'a> Live<'a> {
    fn new(plan: &'a Plan) -> Self {
        let shape = &plan.shape;
        let documents = (0..shape.documents).map(|number| Document::new(plan.seed, number)).collect();
        let mut live = Self {
            plan,
            documents,
            participants: Vec::new(),
            owners: Vec::new(),
            start: Instant::now(),
            zero: u64::MAX,
            due: BinaryHeap::new(),
            acts: Vec::new(),
            tally: Tally::new(plan.targets.len(), plan.part.of > 1),
            connecting: 0,
            waiting_to_connect: Vec::new(),
            joined: 0,
            witness_bytes: 0,
            refused_since: None,
            last_refusal: String::new(),
            last_arrival: 0,
            last_key: 0,
            is_over: false,
            failures: Vec::new(),
            warnings: Vec::new(),
            dice: Dice::new(plan.seed ^ 0x5eed),
        };
        let here =
            (0..shape.typists + shape.watchers).filter(|number| plan.part.has(number % shape.documents));
        here.for_each(|number| live.invite(number));
        live
    }

    /// Seats a participant: documents are filled in turn, and regions in turn within each.
    fn invite(&mut self, number: u32) {
        let (plan, documents) = (self.plan, self.plan.shape.documents);
        let document = (number % documents) as usize;
        let region = (number / documents) as usize % plan.targets.len();
        let (mut pen, mut writer) = (Pen::None, None);
        if number < plan.shape.typists {
            let of = &mut self.documents[document];
            writer = of.add_writer(region);
            let place = writer.unwrap_or(0);
            pen = if plan.profile == Profile::Trace {
                of.is_trace = true;
                Pen::Trace { sent: 0, clock: 0 }
            } else {
                of.lines += 1;
                let client = of.client(place);
                let line = u32::try_from(place).unwrap_or(0);
                let seed = plan.seed ^ (u64::from(number) << 20) ^ 0x9e37;
                let person = Person::new(seed, plan.shape.keystrokes_per_second, plan.shape.manner);
                Pen::Line(Line::new(client, of.lines_client(), line), Box::new(person))
            };
        }
        let mut participant = Participant::new(document, region, pen, writer);
        // Whoever only watches a document says most of what its server sends.
        let is_first =
            number < documents || plan.shape.typists <= number && number < plan.shape.typists + documents;
        if is_first && document < WITNESSES_MAX as usize {
            participant.witness = Some(Vec::new());
        }
        self.participants.push(participant);
        self.acts.push(None);
    }

    pub(super) fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// Everybody joins who is there from the start, and each document has its empty lines.
    fn gather(&mut self, crowd: &mut Crowd) -> Result<()> {
        // A document's first participant makes its page before anybody else looks at it.
        let firsts =
            0..(0..self.plan.shape.documents).filter(|&document| self.plan.part.has(document)).count();
        self.want(firsts.clone());
        self.wait(crowd, "the first of each document to join", |live| {
            firsts.clone().all(|who| live.participants[who].stage == Stage::Joined)
        })?;
        if self.failures.is_empty() && self.plan.profile != Profile::Trace {
            self.draw_lines(crowd, firsts.clone());
        }
        let late = self.plan.shape.joins_within.is_some();
        let typists = self.participants.iter().filter(|one| !matches!(one.pen, Pen::None)).count();
        let others = firsts.end..if late { typists.max(firsts.end) } else { self.participants.len() };
        self.want(others.clone());
        self.wait(crowd, "everybody to join", |live| {
            let is_ready = |who: usize| {
                let participant = &live.participants[who];
                let has_page = participant.has_lines || live.documents[participant.document].lines == 0;
                participant.stage == Stage::Joined && has_page
            };
            (0..others.end).all(is_ready)
        })
    }

    fn draw_lines(&mut self, crowd: &mut Crowd, firsts: std::ops::Range<usize>) {
        for first in &mut self.participants[firsts] {
            let document = &self.documents[first.document];
            if document.lines == 0 {
                continue;
            }
            let (mut update, mut out) = (Vec::new(), Vec::new());
            typist::put_lines(document.lines_client(), document.lines, &mut update);
            first.has_lines = true;
            keep(first, &update, &mut self.witness_bytes);
            first.send(self.plan.dialect, document, &update, &mut out);
            if let Some(connection) = first.connection {
                crowd.send(connection, &out);
            }
        }
    }

    pub(super) fn want(&mut self, who: std::ops::Range<usize>) {
        for who in who.rev() {
            if self.participants[who].stage == Stage::Away {
                self.participants[who].stage = Stage::Coming;
                self.waiting_to_connect.push(who);
            }
        }
    }

    /// Turns until something is so; a server that lets nobody in is a failure.
    fn wait(&mut self, crowd: &mut Crowd, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + JOIN_TIMEOUT;
        while self.failures.is_empty() && !is_so(self) {
            if Instant::now() >= until {
                let joined = self.joined;
                let of = self.participants.len();
                self.failures.push(format!(
                    "after {JOIN_TIMEOUT:?} of waiting for {what}: {joined} of {of} sessions are joined{}",
                    self.why()
                ));
                break;
            }
            self.do_what_is_due(crowd, u64::MAX)?;
            self.turn(crowd, IDLE_TURN)?;
        }
        Ok(())
    }

    pub(super) fn why(&self) -> String {
        if self.last_refusal.is_empty() {
            String::new()
        } else {
            format!("; the last refusal: {}", self.last_refusal)
        }
    }

    pub(super) fn turn(&mut self, crowd: &mut Crowd, wait: Duration) -> Result<()> {
        self.connect(crowd)?;
        crowd.turn(wait, self).context("the event queue")
    }

    fn connect(&mut self, crowd: &mut Crowd) -> Result<()> {
        while self.connecting < CONNECTING_MAX
            && let Some(who) = self.waiting_to_connect.pop()
        {
            let now = self.now();
            let participant = &mut self.participants[who];
            let target = &self.plan.targets[participant.region];
            let path = target.path(&self.documents[participant.document].name, &self.plan.token);
            let connection = crowd.begin_to_connect(target.addr(), &path).context("a socket")?;
            participant.connection = Some(connection);
            participant.began_at = now;
            self.owners.push(who);
            ensure!(self.owners.len() == connection + 1, "connections are numbered in their order");
            self.connecting += 1;
        }
        Ok(())
    }

    /// From the first intended keystroke to the last: who is due acts, and in between everybody listens.
    fn go_on(
        &mut self,
        crowd: &mut Crowd,
        tell: &mut impl FnMut(&super::outcome::Sample, u64),
    ) -> Result<Cores> {
        self.zero = self.now();
        let (warm, all) = (micros(self.plan.warm), micros(self.plan.warm + self.plan.measured));
        self.tally.measured_from = self.zero + warm;
        self.schedule();
        let mut measured_since = None;
        let mut second = Processors::read(&self.plan.pids)?;
        let mut next_second = self.zero + 1_000_000;
        while self.failures.is_empty() {
            let now = self.now();
            if measured_since.is_none() && now >= self.zero + warm {
                self.tally.is_measured = true;
                self.tally.late.reset();
                measured_since = Some(Processors::read(&self.plan.pids)?);
            }
            if now >= next_second {
                let read = Processors::read(&self.plan.pids);
                let Ok(read) = read else {
                    self.failures.push("the process that is watched has ended".to_owned());
                    break;
                };
                self.sample(&read, &second, next_second, tell);
                (second, next_second) = (read, next_second + 1_000_000);
            }
            if now >= self.zero + all {
                break;
            }
            self.is_server_gone(now);
            self.do_what_is_due(crowd, self.zero + all)?;
            let next = self
                .due
                .peek()
                .map_or(u64::MAX, |Reverse((at, _))| *at)
                .min(next_second)
                .min(self.zero + all);
            let wait = Duration::from_micros(next.saturating_sub(self.now())).min(IDLE_TURN);
            self.turn(crowd, wait)?;
        }
        self.tally.is_measured = false;
        self.is_over = true;
        let cores =
            measured_since.and_then(|since| Some(Processors::read(&self.plan.pids).ok()?.since(&since)));
        Ok(cores.unwrap_or_default())
    }

    fn sample(
        &mut self,
        read: &Processors,
        before: &Processors,
        at: u64,
        tell: &mut impl FnMut(&super::outcome::Sample, u64),
    ) {
        let second = i64::try_from((at - self.zero) / 1_000_000).unwrap_or(i64::MAX) - 1;
        let is_measured = at - self.zero >= micros(self.plan.warm) + 1_000_000;
        let cores = read.since(before);
        let bytes = watch::resident_bytes(&self.plan.pids).ok().flatten();
        let missing = self.missing();
        let joined = self.joined;
        let sample = self.tally.sample(second, joined, is_measured);
        sample.server_cores = cores.server;
        sample.server_bytes = bytes;
        sample.generator_cores = cores.generator;
        tell(sample, missing);
    }

    pub(super) fn is_server_gone(&mut self, now: u64) {
        if self.refused_since.is_some_and(|since| now - since > GONE_AFTER_MICROS) {
            self.failures.push(format!(
                "the server has let nobody in for {} s{}",
                GONE_AFTER_MICROS / 1_000_000,
                self.why()
            ));
        }
    }
}

/// Keeps an update to be compared in the end, where this one is a witness and there is room.
pub(super) fn keep(one: &mut Participant, update: &[u8], bytes: &mut usize) {
    if let Some(witness) = &mut one.witness {
        *bytes += update.len();
        if *bytes > WITNESS_BYTES_MAX {
            one.witness = None;
        } else {
            witness.push(update.to_vec());
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
