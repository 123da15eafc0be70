//! Rooms full of typists at one open-loop rate: what was delivered, how late, and whether all of it was.
//!
//! Every document is a page of empty lines and every typist has a line, so what the text must be at the
//! end is known without asking anyone. A delivery is an update received by another session than its
//! author's; authors' echoes are counted apart.
//!
//! Invariant: each session receives each letter of each typist once and in order, or the run says how
//! many it did not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, Transact, Update};

use crate::crowd::{Crowd, Ear};
use crate::delivery::{self, Range};
use crate::editor::Editor;
use crate::rates::{self, Arrivals, Dice};
use crate::server::{self, Server};
use crate::typist::{self, ROOT, Typist};
use crate::wire::{self, Message};

/// The most typists in one room: their number is kept in 12 bits of their client id.
pub const TYPISTS_MAX: u32 = LINES_INDEX;

/// How long everyone may take to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long what was typed may take to arrive after the last keystroke, before it counts as lost.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a turn waits when nothing is due.
const IDLE_TURN: Duration = Duration::from_millis(10);

/// Keystrokes sent between two looks at the sockets, when behind.
const SENDS_PER_TURN_MAX: u32 = 256;

const LINES_INDEX: u32 = 0xfff;
const INDEX_MASK: u32 = 0xfff;
const CLIENT_HIGH_BIT: u32 = 0x8000_0000;

/// One trial.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many documents.
    pub documents: u32,
    /// How many typists in each.
    pub typists: u32,
    /// Keystrokes a second, of all together.
    pub rate: f64,
    /// How long they type before anything is measured.
    pub warm: Duration,
    /// How long is measured.
    pub measured: Duration,
    /// Tells this trial's documents and clients from every other's.
    pub seed: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Letters typed.
    pub typed: u64,
    /// Deliveries a second while it was measured.
    pub deliveries_per_second: f64,
    /// Letters that a session did not receive.
    pub missing: u64,
    /// Letters that a session received twice, or after a later one.
    pub misplaced: u64,
    /// From the intended keystroke to another session's socket, in microseconds.
    pub latency: Histogram<u64>,
    /// From the intended keystroke to its author's echo, in microseconds.
    pub echo: Histogram<u64>,
    /// How late the generator itself was, in microseconds.
    pub generator_late: Histogram<u64>,
    /// Cores the server used while it was measured.
    pub server_cores: f64,
    /// Cores this generator used.
    pub generator_cores: f64,
    /// Cores that everything else on the machine used.
    pub other_cores: f64,
    /// What went wrong, if something did.
    pub failure: Option<String>,
}

impl Outcome {
    /// Whether nothing was lost and 99 in 100 deliveries took less than a limit.
    #[must_use]
    pub fn passes(&self, p99_ms_max: f64) -> bool {
        self.failure.is_none()
            && self.missing == 0
            && self.misplaced == 0
            && rates::quantile_ms(&self.latency, 0.99) < p99_ms_max
    }
}

struct Room {
    name: String,
    typists: Vec<Typist>,
    /// Per typist and clock: when it was due, in microseconds since the start.
    due: Vec<Vec<u64>>,
}

/// What one session has: the next clock it expects of each typist, and whether it has the lines.
struct Session {
    next: Vec<u32>,
    joined: bool,
    has_lines: bool,
}

struct Rooms {
    plan: Plan,
    stores: bool,
    rooms: Vec<Room>,
    sessions: Vec<Session>,
    start: Instant,
    joined: usize,
    with_lines: usize,
    delivered: u64,
    echoed: u64,
    in_window: u64,
    misplaced: u64,
    latency: Histogram<u64>,
    echo: Histogram<u64>,
    failure: Option<String>,
}

/// Runs one trial against a server.
///
/// # Errors
/// When the server cannot be joined or measured; losing updates is an [`Outcome`].
pub fn run(server: &Server, stores: bool, plan: Plan) -> Result<Outcome> {
    ensure!(plan.typists < TYPISTS_MAX, "at most {} typists in a room", TYPISTS_MAX - 1);
    let mut rooms = Rooms::new(plan, stores);
    let mut crowd = Crowd::new()?;
    rooms.join(&mut crowd, server.addr())?;
    rooms.draw_lines(&mut crowd)?;
    let mut outcome = rooms.type_on(&mut crowd, server)?;
    if stores && outcome.failure.is_none() && outcome.missing == 0 {
        outcome.failure = rooms.diverged(server.addr())?;
    }
    crowd.leave();
    Ok(outcome)
}

impl Rooms {
    fn new(plan: Plan, stores: bool) -> Self {
        let room = |document: u32| {
            let base = client_base(plan.seed, document);
            let typist = |line| Typist::on_line(base | line, base | LINES_INDEX, line);
            Room {
                name: format!("room-{:08x}-{document}", plan.seed),
                typists: (0..plan.typists).map(typist).collect(),
                due: vec![Vec::new(); plan.typists as usize],
            }
        };
        Self {
            plan,
            stores,
            rooms: (0..plan.documents).map(room).collect(),
            sessions: Vec::new(),
            start: Instant::now(),
            joined: 0,
            with_lines: 0,
            delivered: 0,
            echoed: 0,
            in_window: 0,
            misplaced: 0,
            latency: rates::latencies(),
            echo: rates::latencies(),
            failure: None,
        }
    }

    fn join(&mut self, crowd: &mut Crowd, addr: SocketAddr) -> Result<()> {
        let typists = self.plan.typists as usize;
        for room in 0..self.rooms.len() {
            let path = format!("/ws/{}", self.rooms[room].name);
            for _ in 0..typists {
                self.sessions.push(Session { next: vec![0; typists], joined: false, has_lines: false });
                crowd.connect(addr, &path).context("cannot connect")?;
                crowd.turn(Duration::ZERO, self)?;
            }
        }
        self.wait(crowd, "everyone to join", |rooms| rooms.joined == rooms.sessions.len())
    }

    /// The first typist of each room makes its lines; everyone waits until they have them.
    fn draw_lines(&mut self, crowd: &mut Crowd) -> Result<()> {
        let typists = self.plan.typists;
        for document in 0..self.plan.documents {
            let (mut update, mut frame) = (Vec::new(), Vec::new());
            typist::put_lines(client_base(self.plan.seed, document) | LINES_INDEX, typists, &mut update);
            wire::put_update(&mut frame, &update);
            crowd.send(document as usize * typists as usize, &frame);
        }
        self.wait(crowd, "the empty lines", |rooms| rooms.with_lines == rooms.sessions.len())
    }

    fn wait(&mut self, crowd: &mut Crowd, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + JOIN_TIMEOUT;
        while !done(self) {
            if let Some(why) = &self.failure {
                bail!("waiting for {what}: {why}");
            }
            ensure!(Instant::now() < until, "waiting for {what}: nothing within {JOIN_TIMEOUT:?}");
            crowd.turn(IDLE_TURN, self)?;
        }
        Ok(())
    }

    fn type_on(&mut self, crowd: &mut Crowd, server: &Server) -> Result<Outcome> {
        let mut arrivals = Arrivals::per_second(self.plan.rate, u64::from(self.plan.seed));
        let mut generator_late = rates::latencies();
        self.start = Instant::now();
        self.type_until(crowd, &mut arrivals, self.plan.warm, &mut generator_late)?;
        let before = Processors::read(server)?;
        generator_late.reset();
        self.type_until(crowd, &mut arrivals, self.plan.warm + self.plan.measured, &mut generator_late)?;
        let used = Processors::read(server)?.since(&before);
        let until = Instant::now() + DRAIN_TIMEOUT;
        while self.missing() > 0 && self.failure.is_none() && Instant::now() < until {
            crowd.turn(IDLE_TURN, self)?;
        }
        Ok(Outcome {
            typed: self.typed(),
            deliveries_per_second: self.in_window as f64 / self.plan.measured.as_secs_f64(),
            missing: self.missing(),
            misplaced: self.misplaced,
            latency: self.latency.clone(),
            echo: self.echo.clone(),
            generator_late,
            server_cores: used.server / used.wall,
            generator_cores: used.generator / used.wall,
            other_cores: (used.machine - used.server - used.generator).max(0.0) / used.wall,
            failure: self.failure.clone(),
        })
    }

    /// Types whatever is due before `end`, and listens in between.
    fn type_until(
        &mut self,
        crowd: &mut Crowd,
        arrivals: &mut Arrivals,
        end: Duration,
        late: &mut Histogram<u64>,
    ) -> Result<()> {
        let end_micros = micros(end);
        let mut dice = Dice::new(u64::from(self.plan.seed) ^ end_micros);
        let (mut update, mut frame) = (Vec::new(), Vec::new());
        while self.failure.is_none() {
            let mut now = micros(self.start.elapsed());
            for _ in 0..SENDS_PER_TURN_MAX {
                let due = arrivals.next_micros();
                if due > now || due >= end_micros {
                    break;
                }
                arrivals.pass();
                update.clear();
                frame.clear();
                let who = usize::try_from(dice.below(self.sessions.len() as u64))?;
                self.keystroke(who, due, &mut update);
                wire::put_update(&mut frame, &update);
                late.saturating_record(now - due);
                crowd.send(who, &frame);
                now = micros(self.start.elapsed());
            }
            let next = arrivals.next_micros().min(end_micros);
            if next >= end_micros && now >= end_micros {
                break;
            }
            crowd.turn(Duration::from_micros(next.saturating_sub(now)).min(IDLE_TURN), self)?;
        }
        Ok(())
    }

    fn keystroke(&mut self, who: usize, due: u64, update: &mut Vec<u8>) {
        let (room, line) = (who / self.plan.typists as usize, who % self.plan.typists as usize);
        let room = &mut self.rooms[room];
        room.typists[line].put_keystroke(update);
        room.due[line].push(due);
    }

    fn typed(&self) -> u64 {
        self.rooms.iter().flat_map(|room| &room.typists).map(|typist| u64::from(typist.typed())).sum()
    }

    fn missing(&self) -> u64 {
        self.typed() * u64::from(self.plan.typists) - self.delivered - self.echoed
    }

    fn receive(&mut self, who: usize, update: &[u8], at: Instant) {
        let now = micros(at.saturating_duration_since(self.start));
        if let Err(error) = delivery::scan(update, |range| self.delivered(who, range, now)) {
            self.failure = Some(error.to_string());
        }
    }

    fn delivered(&mut self, who: usize, range: Range, now: u64) {
        let typists = self.plan.typists as usize;
        let index = range.client & INDEX_MASK;
        let session = &mut self.sessions[who];
        if index == LINES_INDEX {
            self.with_lines += usize::from(!session.has_lines);
            session.has_lines = true;
            return;
        }
        let line = index as usize;
        let due = &self.rooms[who / typists].due[line];
        let next = session.next[line];
        if range.from != next || range.to as usize > due.len() {
            self.misplaced += u64::from(range.to - range.from);
        }
        let from = range.from.max(next);
        if from >= range.to || range.to as usize > due.len() {
            return;
        }
        session.next[line] = range.to;
        let new = u64::from(range.to - from);
        let is_echo = line == who % typists;
        if is_echo {
            self.echoed += new;
        } else {
            self.delivered += new;
        }
        let (warm, end) = (micros(self.plan.warm), micros(self.plan.warm + self.plan.measured));
        if !is_echo && (warm..end).contains(&now) {
            self.in_window += new;
        }
        let histogram = if is_echo { &mut self.echo } else { &mut self.latency };
        for &due in due[from as usize..range.to as usize].iter().filter(|&&due| due >= warm) {
            histogram.saturating_record(now.saturating_sub(due).max(1));
        }
    }

    /// Joins every document anew and says which does not hold what was typed, if one does not.
    fn diverged(&self, addr: SocketAddr) -> Result<Option<String>> {
        for room in &self.rooms {
            let state = Editor::connect(addr, &format!("/ws/{}", room.name))?.join()?;
            let doc = Doc::new();
            let root = doc.get_or_insert_text(ROOT);
            let update = Update::decode_v1(&state).context("a document's state")?;
            doc.transact_mut().apply_update(update).context("a document's state")?;
            let lines = room.typists.iter().map(|typist| typist::typed_text(typist.typed()) + "\n");
            if root.get_string(&doc.transact()) != lines.collect::<String>() {
                return Ok(Some(format!("{} does not hold what was typed in it", room.name)));
            }
        }
        Ok(None)
    }
}

impl Ear for Rooms {
    fn opened(&mut self, _who: usize, out: &mut Vec<u8>) {
        if self.stores {
            wire::put_step1(out, &[0]);
        } else {
            // A relay answers nothing; one's own greeting coming back shows that one is in the room.
            wire::put_empty_awareness(out);
        }
    }

    fn heard(&mut self, who: usize, body: &[u8], at: Instant, out: &mut Vec<u8>) {
        match wire::message(body) {
            Ok(Message::Update(update)) => self.receive(who, update, at),
            Ok(Message::Step1(_)) => wire::put_step2(out, &[0, 0]),
            Ok(Message::Step2(update)) => {
                self.greet(who);
                self.receive(who, update, at);
            }
            Ok(Message::Awareness(_)) if !self.stores => self.greet(who),
            Ok(Message::Denied(reason)) => self.failure = Some(String::from_utf8_lossy(reason).into_owned()),
            Ok(Message::Awareness(_) | Message::Other(_)) => {}
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn closed(&mut self, who: usize, why: String) {
        self.failure.get_or_insert(format!("session {who}: {why}"));
    }
}

impl Rooms {
    fn greet(&mut self, who: usize) {
        let session = &mut self.sessions[who];
        self.joined += usize::from(!session.joined);
        session.joined = true;
    }
}

/// Processor seconds at one moment, or between two.
struct Processors {
    wall: f64,
    server: f64,
    generator: f64,
    machine: f64,
    at: Instant,
}

impl Processors {
    fn read(server: &Server) -> Result<Self> {
        Ok(Self {
            wall: 0.0,
            server: server.cpu_seconds()?,
            generator: server::own_cpu_seconds()?,
            machine: server::machine_cpu_seconds()?,
            at: Instant::now(),
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            wall: (self.at - before.at).as_secs_f64(),
            server: self.server - before.server,
            generator: self.generator - before.generator,
            machine: self.machine - before.machine,
            at: self.at,
        }
    }
}

/// The bits that the clients of one document share.
fn client_base(seed: u32, document: u32) -> u32 {
    let mixed = Dice::new(u64::from(seed) << 32 | u64::from(document)).next_u64();
    CLIENT_HIGH_BIT | ((mixed & 0x7fff_f000) as u32)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
