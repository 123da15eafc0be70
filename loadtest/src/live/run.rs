//! The run itself: everybody joins, acts when it is their time, and in the end all that was written must be
//! everywhere.
//!
//! Invariant: moments come from the plan's seed alone; what the server does decides only what is received.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::audit;
use super::dialect::{Ack, Dialect, Heard};
use super::document::{Document, Whose};
use super::line::Line;
use super::outcome::{Cores, Outcome, Pair, Spread, Told, VERSION};
use super::participant::{Participant, Pen, Stage};
use super::person::{Act, Person};
use super::profile::{Profile, Shape};
use super::tally::Tally;
use super::target::Target;
use super::watch::{self, Processors};
use crate::crowd::{Crowd, Ear};
use crate::delivery::{self, Range};
use crate::rates::{self, Dice};
use crate::typist;
use crate::wire;

/// How long everybody may take to join before the first keystroke, and to come back after the last.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long what was written may take to arrive after the last keystroke before it counts as lost.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a server may refuse everybody before it counts as gone.
const GONE_AFTER_MICROS: u64 = 10_000_000;

/// Connections that are being made at once: a server's backlog is not the measure of it.
const CONNECTING_MAX: usize = 256;

/// Whoever was refused comes back after this, and up to as long again.
const RETRY_MICROS: u64 = 500_000;

/// Whoever lost the connection with everybody else comes back within this.
const HERD_MICROS: u64 = 1_000_000;

/// How long a turn waits when nothing is due.
const IDLE_TURN: Duration = Duration::from_millis(10);

/// Acts done between two looks at the sockets, when behind.
const ACTS_PER_TURN_MAX: usize = 256;

/// Updates kept to be compared in the end may have so many bytes in all.
const WITNESS_BYTES_MAX: usize = 64 << 20;

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
    pub(super) seed: u64,
    /// The servers' processes.
    pub(super) pids: Vec<u32>,
    /// The updates of a recorded trace, one for each edit.
    pub(super) trace: Vec<Vec<u8>>,
}

/// What a moment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A participant's next act.
    Act(usize),
    /// A participant connects.
    Connect(usize),
    /// All connections end.
    Herd,
}

pub(super) struct Live<'a> {
    pub(super) plan: &'a Plan,
    pub(super) documents: Vec<Document>,
    pub(super) participants: Vec<Participant>,
    /// By connection, whose it is.
    owners: Vec<usize>,
    start: Instant,
    /// The first intended keystroke, in microseconds from `start`.
    zero: u64,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    acts: Vec<Option<Act>>,
    tally: Tally,
    connecting: usize,
    waiting_to_connect: Vec<usize>,
    joined: u64,
    witness_bytes: usize,
    /// Since when nobody has been let in though somebody tried, if that is so.
    refused_since: Option<u64>,
    last_refusal: String,
    last_arrival: u64,
    last_key: u64,
    is_over: bool,
    failures: Vec<String>,
    warnings: Vec<String>,
    dice: Dice,
}

/// Runs a plan; `tell` hears of each second as it ends.
///
/// # Errors
/// When the machine does not let the run begin. What the servers do is in the outcome.
pub(super) fn run(plan: &Plan, mut tell: impl FnMut(&super::outcome::Sample, u64)) -> Result<Outcome> {
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let began_unix_seconds = began.map_or(0, |since| since.as_secs());
    let mut crowd = Crowd::new().context("an event queue")?;
    let mut live = Live::new(plan);
    live.gather(&mut crowd)?;
    let cores = live.go_on(&mut crowd, &mut tell)?;
    let converged = live.settle(&mut crowd)?;
    live.judge(&mut crowd)?;
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
            tally: Tally::new(plan.targets.len()),
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
        for number in 0..shape.typists + shape.watchers {
            live.invite(number);
        }
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

    fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }

    /// Everybody joins who is there from the start, and each document has its empty lines.
    fn gather(&mut self, crowd: &mut Crowd) -> Result<()> {
        // A document's first participant makes its page before anybody else looks at it.
        let firsts = 0..(self.plan.shape.documents as usize).min(self.participants.len());
        self.want(firsts.clone());
        self.wait(crowd, "the first of each document to join", |live| {
            firsts.clone().all(|who| live.participants[who].stage == Stage::Joined)
        })?;
        if self.failures.is_empty() && self.plan.profile != Profile::Trace {
            self.draw_lines(crowd);
        }
        let late = self.plan.shape.joins_within.is_some();
        let typists = self.plan.shape.typists as usize;
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

    fn draw_lines(&mut self, crowd: &mut Crowd) {
        for number in 0..self.documents.len() {
            let document = &self.documents[number];
            if document.lines == 0 {
                continue;
            }
            let (mut update, mut out) = (Vec::new(), Vec::new());
            typist::put_lines(document.lines_client(), document.lines, &mut update);
            let first = &mut self.participants[number];
            first.has_lines = true;
            keep(first, &update, &mut self.witness_bytes);
            first.send(self.plan.dialect, document, &update, &mut out);
            if let Some(connection) = first.connection {
                crowd.send(connection, &out);
            }
        }
    }

    fn want(&mut self, who: std::ops::Range<usize>) {
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

    fn why(&self) -> String {
        if self.last_refusal.is_empty() {
            String::new()
        } else {
            format!("; the last refusal: {}", self.last_refusal)
        }
    }

    fn turn(&mut self, crowd: &mut Crowd, wait: Duration) -> Result<()> {
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
        let cores = read.since(before);
        let bytes = watch::resident_bytes(&self.plan.pids).ok().flatten();
        let missing = self.missing();
        let joined = self.joined;
        let sample = self.tally.sample(second, joined);
        sample.server_cores = cores.server;
        sample.server_bytes = bytes;
        sample.generator_cores = cores.generator;
        tell(sample, missing);
    }

    fn schedule(&mut self) {
        for who in 0..self.participants.len() {
            self.plan_next_act(who);
        }
        if let Some(within) = self.plan.shape.joins_within {
            for who in 0..self.participants.len() {
                if self.participants[who].stage == Stage::Away {
                    let at = self.zero + self.dice.below(micros(within).max(1));
                    self.due.push(Reverse((at, Due::Connect(who))));
                }
            }
        }
        if let Some(every) = self.plan.shape.herd_every {
            self.due.push(Reverse((self.zero + micros(every), Due::Herd)));
        }
    }

    fn plan_next_act(&mut self, who: usize) {
        let (at, act) = match &mut self.participants[who].pen {
            Pen::Line(_, person) => person.next(),
            Pen::Trace { sent, .. } if *sent < self.plan.trace.len() => {
                let every = 1e6 / self.plan.shape.keystrokes_per_second;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole microseconds"
                )]
                let at = ((*sent + 1) as f64 * every) as u64;
                (at, Act::Key)
            }
            Pen::Trace { .. } | Pen::None => return,
        };
        self.acts[who] = Some(act);
        self.due.push(Reverse((self.zero + at, Due::Act(who))));
    }

    fn do_what_is_due(&mut self, crowd: &mut Crowd, end: u64) -> Result<()> {
        for _ in 0..ACTS_PER_TURN_MAX {
            let now = self.now();
            let Some(&Reverse((at, due))) = self.due.peek() else { break };
            if at > now || at >= end {
                break;
            }
            self.due.pop();
            match due {
                Due::Act(who) => {
                    self.tally.late.saturating_record((now - at).max(1));
                    self.act(crowd, who, at);
                    self.plan_next_act(who);
                }
                Due::Connect(who) => self.want(who..who + 1),
                Due::Herd => self.scatter(crowd, at),
            }
        }
        Ok(())
    }

    fn act(&mut self, crowd: &mut Crowd, who: usize, at: u64) {
        let Some(act) = self.acts[who].take() else { return };
        let participant = &mut self.participants[who];
        let document = &mut self.documents[participant.document];
        let mut out = Vec::new();
        match act {
            // Whoever has not seen the page yet cannot write on it.
            _ if !participant.has_lines && document.lines > 0 => {}
            Act::Offline(micros) => self.lose_network(crowd, who, at + micros),
            Act::CloseTab(micros) => self.close_tab(crowd, who, at + micros),
            Act::Cursor => {
                participant.put_cursor(self.plan.dialect, document, &mut out);
                self.tally.counts.cursor_moves += u64::from(!out.is_empty());
            }
            Act::Key | Act::Delete(_) | Act::Paste(_) | Act::Undo => {
                let mut update = Vec::new();
                let Some((new, deleted)) = write(participant, &self.plan.trace, act, &mut update) else {
                    return;
                };
                let is_offline = participant.stage == Stage::Away;
                if let Some(writer) = participant.writer {
                    document.writers[writer].writes(new, at, is_offline);
                }
                self.tally.typed(new);
                self.tally.counts.deleted += deleted;
                self.last_key = self.last_key.max(at);
                keep(participant, &update, &mut self.witness_bytes);
                participant.send(self.plan.dialect, document, &update, &mut out);
            }
        }
        if let Some(connection) = self.participants[who].connection.filter(|_| !out.is_empty()) {
            crowd.send(connection, &out);
        }
    }

    /// The network is gone for one, who goes on writing; the server is not told.
    fn lose_network(&mut self, crowd: &mut Crowd, who: usize, back_at: u64) {
        if self.participants[who].stage == Stage::Joined {
            self.tally.counts.offline_spells += 1;
            self.go(crowd, who);
            self.due.push(Reverse((back_at, Due::Connect(who))));
        }
    }

    /// Somebody closes the tab, if all they wrote is acknowledged, and opens the document anew later.
    fn close_tab(&mut self, crowd: &mut Crowd, who: usize, back_at: u64) {
        let participant = &mut self.participants[who];
        if participant.stage != Stage::Joined || !participant.is_saved() {
            return;
        }
        let document = &mut self.documents[participant.document];
        let Some(writer) = document.add_writer(participant.region) else { return };
        participant.forget(writer, document.client(writer));
        if let Some(connection) = participant.connection {
            let mut frame = Vec::new();
            wire::put_going_away(&mut frame);
            crowd.send(connection, &frame);
        }
        self.tally.counts.tab_closes += 1;
        self.go(crowd, who);
        self.due.push(Reverse((back_at, Due::Connect(who))));
    }

    fn go(&mut self, crowd: &mut Crowd, who: usize) {
        let participant = &mut self.participants[who];
        self.joined -= u64::from(participant.stage == Stage::Joined);
        self.connecting -=
            usize::from(participant.stage == Stage::Coming && participant.connection.is_some());
        participant.stage = Stage::Away;
        if let Some(connection) = participant.connection.take() {
            crowd.hang_up(connection);
        }
    }

    /// Everybody's connection ends at once; they come back within a second.
    fn scatter(&mut self, crowd: &mut Crowd, at: u64) {
        for who in 0..self.participants.len() {
            if self.participants[who].stage == Stage::Joined {
                self.go(crowd, who);
                let back_at = at + self.dice.below(HERD_MICROS);
                self.due.push(Reverse((back_at, Due::Connect(who))));
            }
        }
        if let Some(every) = self.plan.shape.herd_every {
            self.due.push(Reverse((at + micros(every), Due::Herd)));
        }
    }

    fn is_server_gone(&mut self, now: u64) {
        if self.refused_since.is_some_and(|since| now - since > GONE_AFTER_MICROS) {
            self.failures.push(format!(
                "the server has let nobody in for {} s{}",
                GONE_AFTER_MICROS / 1_000_000,
                self.why()
            ));
        }
    }

    /// Nobody writes any more: everybody comes back, and all that was written arrives. Returns the seconds from the
    /// last keystroke until it had; none when it has not.
    fn settle(&mut self, crowd: &mut Crowd) -> Result<Option<f64>> {
        if !self.failures.is_empty() {
            return Ok(None);
        }
        let coming: Vec<usize> = self
            .due
            .drain()
            .filter_map(|Reverse((_, due))| match due {
                Due::Connect(who) => Some(who),
                _ => None,
            })
            .collect();
        coming.into_iter().for_each(|who| self.want(who..who + 1));
        let until = Instant::now() + DRAIN_TIMEOUT;
        while self.failures.is_empty() && !self.is_settled() && Instant::now() < until {
            let now = self.now();
            self.is_server_gone(now);
            self.do_what_is_due(crowd, u64::MAX)?;
            self.turn(crowd, IDLE_TURN)?;
        }
        self.tally.counts.missing = self.missing();
        let seconds = self.last_arrival.saturating_sub(self.last_key) as f64 / 1e6;
        Ok(self.is_settled().then_some(seconds))
    }

    fn is_settled(&self) -> bool {
        let is_there = |one: &Participant| one.stage == Stage::Joined && one.acked >= one.clock();
        self.participants.iter().all(is_there) && self.missing() == 0
    }

    /// Letters that a session has not received: of all writers but the one that it is.
    fn missing(&self) -> u64 {
        let mut missing = 0;
        for one in &self.participants {
            // Who is away has not been sent them.
            if one.stage != Stage::Joined && !self.is_over {
                continue;
            }
            for (number, writer) in self.documents[one.document].writers.iter().enumerate() {
                if Some(number) != one.writer {
                    let clock = writer.clock();
                    missing += u64::from(clock - one.received.count(number, clock));
                }
            }
        }
        missing
    }

    /// Joins every document anew in every region, and compares.
    fn judge(&mut self, crowd: &mut Crowd) -> Result<()> {
        if self.failures.is_empty() && self.plan.shape.typists > 0 {
            let found = audit::audit(self, crowd)?;
            self.tally.counts.lost_acknowledged = found.lost_acknowledged;
            self.tally.counts.diverged = found.diverged;
            self.failures.extend(found.failures);
        }
        let counts = &self.tally.counts;
        if counts.missing > 0 {
            self.failures.push(format!(
                "{} letters did not arrive at a session within {DRAIN_TIMEOUT:?} after the last keystroke",
                counts.missing
            ));
        }
        if counts.misplaced > 0 {
            self.failures
                .push(format!("{} letters came before earlier ones of their author", counts.misplaced));
        }
        Ok(())
    }

    fn outcome(mut self, began_unix_seconds: u64, cores: Cores, converged_seconds: Option<f64>) -> Outcome {
        let plan = self.plan;
        let measured = plan.measured.as_secs_f64();
        self.tally.counts.deliveries_per_second = self.tally.counts.deliveries as f64 / measured;
        self.warn(&cores);
        let pairs = self.tally.lag.iter().enumerate().flat_map(|(from, to_each)| {
            to_each.iter().enumerate().map(move |(to, lag)| Pair { from, to, delivery: Spread::from(lag) })
        });
        let told = Told {
            profile: plan.profile.name().to_owned(),
            dialect: plan.dialect.name().to_owned(),
            urls: plan.targets.iter().map(|target| target.url().to_owned()).collect(),
            documents: plan.shape.documents,
            typists: plan.shape.typists,
            watchers: plan.shape.watchers,
            keystrokes_per_second: plan.shape.keystrokes_per_second,
            warm_seconds: plan.warm.as_secs_f64(),
            measured_seconds: measured,
            seed: plan.seed,
        };
        Outcome {
            version: VERSION,
            began_unix_seconds,
            plan: told,
            passed: self.failures.is_empty(),
            failures: self.failures,
            warnings: self.warnings,
            counts: self.tally.counts.clone(),
            delivery: Spread::from(&self.tally.delivery),
            ack: Spread::from(&self.tally.ack),
            join: Spread::from(&self.tally.join),
            generator_late: Spread::from(&self.tally.late),
            lag: pairs.collect(),
            converged_seconds,
            samples: self.tally.samples,
            cores,
        }
    }

    fn warn(&mut self, cores: &Cores) {
        const BUSY_CORES: f64 = 0.85;
        const LATE_MS: f64 = 10.0;
        if cores.generator > BUSY_CORES {
            self.warnings.push(format!(
                "the generator used {:.2} of its one core: it may be the limit that was measured",
                cores.generator
            ));
        }
        let late = rates::quantile_ms(&self.tally.late, 0.99);
        if late > LATE_MS {
            self.warnings.push(format!(
                "of 100 keystrokes one was made {late:.0} ms or more after it was due: the generator was late itself"
            ));
        }
        if self.witness_bytes >= WITNESS_BYTES_MAX {
            self.warnings.push(format!(
                "what sessions received was compared up to {} MiB only",
                WITNESS_BYTES_MAX >> 20
            ));
        }
    }
}

/// Writes what an act says; of a trace, its next edit.
fn write(one: &mut Participant, trace: &[Vec<u8>], act: Act, update: &mut Vec<u8>) -> Option<(u32, u64)> {
    let Pen::Trace { sent, clock } = &mut one.pen else { return one.write(act, update) };
    let edit = trace.get(*sent)?;
    update.extend_from_slice(edit);
    *sent += 1;
    let before = *clock;
    // What this program made can be scanned.
    let _ = delivery::scan(edit, |range| *clock = range.to);
    Some((*clock - before, 0))
}

/// Keeps an update to be compared in the end, where this one is a witness and there is room.
fn keep(one: &mut Participant, update: &[u8], bytes: &mut usize) {
    if let Some(witness) = &mut one.witness {
        *bytes += update.len();
        if *bytes > WITNESS_BYTES_MAX {
            one.witness = None;
        } else {
            witness.push(update.to_vec());
        }
    }
}

impl Live<'_> {
    fn receive(&mut self, who: usize, update: &[u8], now: u64, is_live: bool) {
        let scanned = delivery::scan(update, |range| self.letters(who, range, now, is_live));
        if let Err(error) = scanned {
            self.failures.push(format!("what a server sent cannot be read: {error}"));
            return;
        }
        keep(&mut self.participants[who], update, &mut self.witness_bytes);
    }

    fn letters(&mut self, who: usize, range: Range, now: u64, is_live: bool) {
        let one = &mut self.participants[who];
        let document = &self.documents[one.document];
        let number = match document.whose(range.client) {
            Whose::Lines => return one.has_lines = true,
            Whose::Stranger => return,
            Whose::Writer(number) => number,
        };
        let writer = &document.writers[number];
        if Some(number) == one.writer {
            if self.plan.dialect.ack() == Ack::Echo || !is_live {
                let saved = one.saved_to(range.to);
                saved
                    .into_iter()
                    .flat_map(|saved| writer.due(saved))
                    .for_each(|due| self.tally.acked(due, now));
            }
            return;
        }
        let taken = one.received.take(number, range.from..range.to);
        let new = taken.new + taken.late;
        if new == 0 {
            self.tally.counts.repeated += u64::from(taken.again);
            return;
        }
        self.last_arrival = self.last_arrival.max(now);
        self.tally.counts.repeated += u64::from(taken.again);
        self.tally.counts.misplaced += u64::from(taken.late);
        self.tally.delivered(new);
        if !is_live {
            return;
        }
        let timed = Range { client: 0, from: taken.new_from, to: range.to };
        let (since, pair) = (one.joined_at, (writer.region, one.region));
        writer.due(timed).filter(|&due| due >= since).for_each(|due| self.tally.delivery(pair, due, now));
    }

    fn hears(&mut self, who: usize, heard: Heard<'_>, now: u64, out: &mut Vec<u8>) {
        let dialect = self.plan.dialect;
        match heard {
            Heard::Nothing => {}
            Heard::Update(update) => self.receive(who, update, now, true),
            Heard::Asked(state_vector) => {
                let one = &mut self.participants[who];
                let document = &self.documents[one.document];
                if one.answer(dialect, document, state_vector, out).is_err() {
                    self.failures.push("a server's state vector cannot be read".to_owned());
                }
            }
            Heard::State(update) => {
                self.receive(who, update, now, false);
                let one = &mut self.participants[who];
                if one.stage == Stage::Coming {
                    one.joined(dialect, &self.documents[one.document], now, out);
                    self.joined += 1;
                    self.connecting -= 1;
                    self.refused_since = None;
                    self.tally.counts.joins += 1;
                    self.tally.join.saturating_record((now - one.began_at).max(1));
                }
            }
            Heard::Saved => {
                let saved = self.participants[who].saved_each();
                self.saved(who, saved, now);
            }
            Heard::SavedTo(number) => {
                let saved = self.participants[who].saved_to(u32::try_from(number).unwrap_or(u32::MAX));
                self.saved(who, saved, now);
            }
            Heard::Denied(reason) => {
                self.failures.push(format!("the server refuses: {}", String::from_utf8_lossy(reason)));
            }
        }
    }

    fn saved(&mut self, who: usize, saved: Option<Range>, now: u64) {
        let one = &self.participants[who];
        let Some((saved, writer)) = saved.zip(one.writer) else { return };
        let writer = &self.documents[one.document].writers[writer];
        writer.due(saved).for_each(|due| self.tally.acked(due, now));
    }

    /// The participant whose connection this still is.
    fn owner(&self, connection: usize) -> Option<usize> {
        let who = self.owners[connection];
        (self.participants.get(who)?.connection == Some(connection)).then_some(who)
    }
}

impl Ear for Live<'_> {
    fn opened(&mut self, connection: usize, out: &mut Vec<u8>) {
        if let Some(who) = self.owner(connection) {
            let one = &mut self.participants[who];
            one.greet(self.plan.dialect, &self.documents[one.document], &self.plan.token, out);
        }
    }

    fn heard(&mut self, connection: usize, body: &[u8], at: Instant, out: &mut Vec<u8>) {
        let Some(who) = self.owner(connection) else { return };
        let now = micros(at.saturating_duration_since(self.start));
        match self.plan.dialect.hear(body, out) {
            Ok(heard) => self.hears(who, heard, now, out),
            Err(error) => self.failures.push(format!("what a server sent cannot be read: {error}")),
        }
    }

    fn closed(&mut self, connection: usize, why: String) {
        let Some(who) = self.owner(connection) else { return };
        let now = self.now();
        let one = &mut self.participants[who];
        self.joined -= u64::from(one.stage == Stage::Joined);
        self.connecting -= usize::from(one.stage == Stage::Coming);
        (one.connection, one.stage) = (None, Stage::Away);
        self.tally.counts.refused += 1;
        self.refused_since.get_or_insert(now);
        self.last_refusal = why;
        if self.tally.counts.joins == 0 {
            self.failures.push(format!("the server lets nobody in: {}", self.last_refusal));
        }
        if matches!(one.pen, Pen::Trace { .. }) {
            self.failures.push(format!("the session of a trace has ended: {}", self.last_refusal));
        }
        let back_at = now + RETRY_MICROS + self.dice.below(RETRY_MICROS);
        self.due.push(Reverse((back_at, Due::Connect(who))));
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
