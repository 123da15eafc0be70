//! What following fields costs a server that takes updates, as they say who only wants text.
//!
//! The same updates are written to documents whose map is named `fields` and to others where it has another name,
//! in turn, on one server: what is left between the two is following them. Everyone waits for their disk.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Options;
use super::report::{Report, Row};
use crate::crowd::{Crowd, Ear};
use crate::delivery;
use crate::rates::median;
use crate::server::Server;
use crate::setter::{KEYS, Setter};
use crate::typist::Typist;
use crate::wire::{self, Message};

const SCENARIO: &str = "fields";
const NAME: &str = "fields";
const FOLLOWED: &str = "fields";
const NOT_FOLLOWED: &str = "others";
const DOCUMENTS: u32 = 50;
/// Updates that a writer sends before it waits for their acknowledgement.
const BURST: u32 = 20;
/// A burst ends with text where both are written.
const BOTH_EACH: u32 = 10;
const TURN_MAX: Duration = Duration::from_millis(5);
const TURNS_EACH: u32 = 4;
const MEASURED: Duration = Duration::from_millis(500);
const WAIT: Duration = Duration::from_secs(30);
const SETTER_CLIENT: u32 = 0xd000_0000;
const TYPIST_CLIENT: u32 = 0xe000_0000;

/// Text beside fields, and fields, against the same where nothing is followed.
///
/// # Errors
/// When the server cannot be started or measured, or ends a session.
pub fn ingest(options: &Options, report: &mut Report) -> Result<()> {
    options.clear(NAME)?;
    let server = options.quire_program(NAME)?.with_history_limits().start()?;
    for (who, kind) in [
        ("text beside ten fields", Kind::Text),
        ("a field in each tenth update", Kind::Both),
        ("a field in each update", Kind::Fields),
    ] {
        let mut followed = Side::join(server.addr(), FOLLOWED, kind)?;
        let mut others = Side::join(server.addr(), NOT_FOLLOWED, kind)?;
        let (mut rates, mut ratios, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for repeat in 0..=options.repeats * TURNS_EACH {
            let [with, without] = [followed.go_on(&server)?, others.go_on(&server)?];
            // What is written first is not measured.
            if repeat > 0 {
                rates.push(with.per_second);
                ratios.push(without.per_second / with.per_second);
                cpu.push(with.server_micros / without.server_micros);
            }
        }
        let note = format!(
            "{}; {:.0} updates/s with; server CPU per update {:.3}, {}",
            super::spread(&ratios),
            median(&rates),
            median(&cpu),
            super::spread(&cpu)
        );
        let figure = "updates/s without : with";
        report.add(Row {
            scenario: SCENARIO,
            who: who.into(),
            figure,
            value: median(&ratios),
            unit: "",
            note,
        });
    }
    server.stop()?;
    options.clear(NAME)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    /// A field in one of [`BOTH_EACH`] updates, text in the others.
    Both,
    Fields,
}

/// What one side did in its turn.
struct Done {
    per_second: f64,
    server_micros: f64,
}

/// Writers of one side, a document each.
struct Side {
    crowd: Crowd,
    writers: Writers,
}

struct Writers {
    kind: Kind,
    setters: Vec<Setter>,
    typists: Vec<Typist>,
    joined: Vec<bool>,
    /// Who has sent a burst that is not acknowledged.
    waiting: Vec<bool>,
    stopping: bool,
    acked: u64,
    failure: Option<String>,
}

impl Side {
    /// Connects all, and has each document's map filled.
    fn join(addr: SocketAddr, root: &'static str, kind: Kind) -> Result<Self> {
        let mut crowd = Crowd::new()?;
        for number in 0..DOCUMENTS {
            let kind = match kind {
                Kind::Text => "text",
                Kind::Both => "both",
                Kind::Fields => "set",
            };
            crowd.connect(addr, &format!("/ws/{kind}-{root}-{number}"))?;
        }
        let all = || 0..DOCUMENTS;
        let writers = Writers {
            kind: Kind::Fields,
            setters: all().map(|number| Setter::new(SETTER_CLIENT | number, root)).collect(),
            typists: all().map(|number| Typist::alone(TYPIST_CLIENT | number)).collect(),
            joined: vec![false; DOCUMENTS as usize],
            waiting: vec![false; DOCUMENTS as usize],
            stopping: true,
            acked: 0,
            failure: None,
        };
        let mut side = Self { crowd, writers };
        side.until(|writers| writers.joined.iter().all(|&joined| joined))?;
        side.begin();
        side.until(|writers| writers.waiting.iter().all(|&waiting| !waiting))?;
        const { assert!(BURST >= KEYS, "the first burst sets every key") };
        side.writers.kind = kind;
        Ok(side)
    }

    fn begin(&mut self) {
        for who in 0..self.writers.waiting.len() {
            let mut frames = Vec::new();
            self.writers.write(who, &mut frames);
            self.crowd.send(who, &frames);
        }
    }

    /// Writes for a while, and waits until all of it is acknowledged.
    fn go_on(&mut self, server: &Server) -> Result<Done> {
        let (began, cpu, acked) = (Instant::now(), server.cpu_seconds()?, self.writers.acked);
        self.writers.stopping = false;
        self.begin();
        while began.elapsed() < MEASURED {
            self.crowd.turn(TURN_MAX, &mut self.writers)?;
            self.writers.check()?;
        }
        self.writers.stopping = true;
        self.until(|writers| writers.waiting.iter().all(|&waiting| !waiting))?;
        let acked = (self.writers.acked - acked) as f64;
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), server.cpu_seconds()? - cpu);
        Ok(Done { per_second: acked / seconds, server_micros: cpu * 1e6 / acked })
    }

    fn until(&mut self, done: impl Fn(&Writers) -> bool) -> Result<()> {
        let until = Instant::now() + WAIT;
        while !done(&self.writers) {
            ensure!(Instant::now() < until, "a writer waits for more than {WAIT:?}");
            self.crowd.turn(TURN_MAX, &mut self.writers)?;
            self.writers.check()?;
        }
        Ok(())
    }
}

impl Writers {
    fn check(&self) -> Result<()> {
        self.failure.as_ref().map_or(Ok(()), |why| bail!("{why}"))
    }

    fn write(&mut self, who: usize, out: &mut Vec<u8>) {
        let mut update = Vec::new();
        for number in 0..BURST {
            update.clear();
            match self.kind {
                Kind::Both if number % BOTH_EACH == 0 => self.setters[who].put_next(&mut update),
                Kind::Text | Kind::Both => self.typists[who].put_keystroke(&mut update),
                Kind::Fields => self.setters[who].put_next(&mut update),
            }
            wire::put_update(out, &update);
        }
        self.waiting[who] = true;
    }

    fn receive(&mut self, who: usize, update: &[u8], out: &mut Vec<u8>) {
        let number = u32::try_from(who).unwrap_or(u32::MAX);
        let (client, last) = match self.kind {
            Kind::Text | Kind::Both => (TYPIST_CLIENT | number, self.typists[who].typed()),
            Kind::Fields => (SETTER_CLIENT | number, self.setters[who].set()),
        };
        let mut is_last = false;
        let scanned = delivery::scan(update, |range| is_last |= range.client == client && range.to == last);
        if let Err(error) = scanned {
            self.failure = Some(error.to_string());
        }
        if is_last && std::mem::take(&mut self.waiting[who]) {
            self.acked += u64::from(BURST);
            if !self.stopping {
                self.write(who, out);
            }
        }
    }
}

impl Ear for Writers {
    fn opened(&mut self, _who: usize, out: &mut Vec<u8>) {
        wire::put_step1(out, &[0]);
    }

    fn heard(&mut self, who: usize, body: &[u8], _at: Instant, out: &mut Vec<u8>) {
        match wire::message(body) {
            Ok(Message::Update(update)) => self.receive(who, update, out),
            Ok(Message::Step1(_)) => wire::put_step2(out, &[0, 0]),
            Ok(Message::Step2(_)) => self.joined[who] = true,
            Ok(Message::Awareness(_) | Message::Other(_)) => {}
            Ok(Message::Denied(reason)) => self.failure = Some(String::from_utf8_lossy(reason).into_owned()),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    fn closed(&mut self, who: usize, why: String) {
        self.failure.get_or_insert(format!("writer {who}: {why}"));
    }
}
