//! When all regions show the same after a field was written in two of them at once.
//!
//! Three regions at a distance from each other, an editor in each, for every document. Two editors set one field
//! at the same moment. The conflict is seen when both of them have both writes; it is over when no editor's value,
//! nor what it is told of the conflict, changes any more. All are sockets of one thread, so that all moments are
//! read from one clock.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use yrs::types::ToJson;
use yrs::updates::decoder::Decode;
use yrs::{Any, ClientID, Doc, Map, Options as DocOptions, Out, ReadTxn, Transact, Update};

use super::Options;
use super::regions::Region;
use super::report::{Report, Row};
use crate::crowd::{Crowd, Ear};
use crate::distance::Distance;
use crate::rates;
use crate::wire::{self, Message};

const SCENARIO: &str = "conflict";
const NAME: &str = "conflict";
const REGIONS: usize = 3;
const ONE_WAY: Duration = Duration::from_millis(40);
const DOCUMENTS: usize = 20;
/// Conflicts of each document, one after the other.
const CONFLICTS: usize = 12;
/// How long nothing may change before a conflict counts as over; a document is written back every 100 ms at most.
const REST: Duration = Duration::from_millis(300);
const TURN_MAX: Duration = Duration::from_millis(1);
const WAIT: Duration = Duration::from_secs(30);
const ROOT: &str = "fields";
const FIELD: &str = "title";
const TOLD: &str = "__conflicts";

/// Conflicts in documents of three regions.
///
/// # Errors
/// When a region cannot be started or linked, or the regions do not come to show the same.
pub fn conflict(options: &Options, report: &mut Report) -> Result<()> {
    for replica in 1..=REGIONS {
        options.clear(&format!("{NAME}-{replica}"))?;
    }
    let first = Region::start(options, NAME, 1, &[])?;
    let (to_first, to_first_too) =
        (Distance::to(first.addr(), ONE_WAY)?, Distance::to(first.addr(), ONE_WAY)?);
    let second = Region::start(options, NAME, 2, &[to_first.url()])?;
    let to_second = Distance::to(second.addr(), ONE_WAY)?;
    let third = Region::start(options, NAME, 3, &[to_first_too.url(), to_second.url()])?;
    let regions = [first, second, third];
    for region in &regions {
        region.await_links(REGIONS - 1)?;
    }
    let times = measure(&regions)?;
    let late = |quantile| rates::quantile_ms(&times, quantile);
    let note = format!("{} conflicts, one way {ONE_WAY:?}; asked 2 × one way + 50 ms", times.len());
    for (figure, quantile) in [("p50", 0.5), ("p99", 0.99), ("most", 1.0)] {
        let beyond = late(quantile) - 2.0 * ONE_WAY.as_secs_f64() * 1e3;
        let note = format!("{beyond:+.1} to two ways; {note}");
        let who = "seen to shown alike everywhere".into();
        report.add(Row { scenario: SCENARIO, who, figure, value: late(quantile), unit: "ms", note });
    }
    for region in regions {
        region.end(options)?;
    }
    options.clear(NAME)
}

fn measure(regions: &[Region; REGIONS]) -> Result<hdrhistogram::Histogram<u64>> {
    let mut crowd = Crowd::new()?;
    let mut editors = Editors { all: Vec::new(), failure: None };
    for document in 0..DOCUMENTS {
        for region in regions {
            crowd.connect(region.addr(), &format!("/ws/{NAME}-{document}"))?;
            editors.all.push(Editor::new(u64::try_from(editors.all.len())? + 100));
        }
    }
    editors.until(&mut crowd, |editors| editors.all.iter().all(|editor| editor.joined))?;
    let mut times = rates::latencies();
    for round in 0..CONFLICTS {
        // Each of the three is the one that only looks on, in turn.
        let (mut values, mut frames) = (Vec::new(), Vec::new());
        for document in 0..DOCUMENTS {
            let rivals = [(round + document) % REGIONS, (round + document + 1) % REGIONS]
                .map(|region| document * REGIONS + region);
            for who in rivals {
                let value = format!("round {round} of {who}");
                frames.push((who, editors.all[who].set(&value)));
                values.push((who, value));
            }
            let writes = rivals.map(|who| editors.all[who].written());
            editors.all[rivals[0]].rival = Some(writes[1]);
            editors.all[rivals[1]].rival = Some(writes[0]);
        }
        for (who, frame) in frames {
            crowd.send(who, &frame);
        }
        editors.until(&mut crowd, |editors| editors.have_settled(&values))?;
        for pair in values.chunks(2) {
            let document = pair[0].0 / REGIONS;
            let of_document = &editors.all[document * REGIONS..(document + 1) * REGIONS];
            let seen = pair.iter().map(|(who, _)| editors.all[*who].seen).max().flatten();
            let over = of_document.iter().map(|editor| editor.changed).max().context("there are editors")?;
            let time = over.saturating_duration_since(seen.context("both saw both")?);
            times.saturating_record(u64::try_from(time.as_micros())?.max(1));
        }
    }
    crowd.leave();
    Ok(times)
}

struct Editors {
    all: Vec<Editor>,
    failure: Option<String>,
}

struct Editor {
    doc: Doc,
    joined: bool,
    /// What it shows of the field, and what it is told of its conflict.
    shows: (Option<Out>, Option<Any>),
    changed: Instant,
    /// When it had its rival's write beside its own.
    seen: Option<Instant>,
    /// The other's client, and the clock after its write.
    rival: Option<(u64, u32)>,
}

impl Editor {
    fn new(client: u64) -> Self {
        let doc = Doc::with_options(DocOptions { client_id: ClientID::new(client), ..DocOptions::default() });
        doc.get_or_insert_map(ROOT);
        Self { doc, joined: false, shows: (None, None), changed: Instant::now(), seen: None, rival: None }
    }

    /// Sets the field; returns the frame that says so.
    fn set(&mut self, value: &str) -> Vec<u8> {
        let root = self.doc.get_or_insert_map(ROOT);
        let mut txn = self.doc.transact_mut();
        root.insert(&mut txn, FIELD, value);
        let update = txn.encode_update_v1();
        drop(txn);
        (self.seen, self.rival) = (None, None);
        self.look(Instant::now());
        let mut frame = Vec::new();
        wire::put_update(&mut frame, &update);
        frame
    }

    fn take(&mut self, update: &[u8], at: Instant) -> Result<()> {
        let update = Update::decode_v1(update)?;
        self.doc.transact_mut().apply_update(update)?;
        self.look(at);
        Ok(())
    }

    fn look(&mut self, at: Instant) {
        let root = self.doc.get_or_insert_map(ROOT);
        let txn = self.doc.transact();
        let told = match root.get(&txn, TOLD) {
            Some(Out::YMap(map)) => map.get(&txn, FIELD).map(|told| told.to_json(&txn)),
            _ => None,
        };
        let shows = (root.get(&txn, FIELD), told);
        let knows = |(client, clock)| txn.state_vector().get(&ClientID::new(client)) >= clock;
        if self.seen.is_none() && self.rival.is_some_and(knows) {
            self.seen = Some(at);
        }
        if shows != self.shows {
            (self.shows, self.changed) = (shows, at);
        }
    }

    /// Its client, and the clock after its last write.
    fn written(&self) -> (u64, u32) {
        let client = self.doc.client_id();
        (client.get(), self.doc.transact().state_vector().get(&client))
    }
}

impl Editors {
    /// Whether in every document all show the same, both values are told, and nothing has changed for a while.
    fn have_settled(&self, values: &[(usize, String)]) -> bool {
        values.chunks(2).all(|pair| {
            let document = pair[0].0 / REGIONS;
            let of = &self.all[document * REGIONS..(document + 1) * REGIONS];
            of.iter().all(|editor| {
                let told = editor.shows.1.as_ref().map(Any::to_string).unwrap_or_default();
                editor.shows == of[0].shows
                    && editor.changed.elapsed() > REST
                    && pair.iter().all(|(_, value)| told.contains(value.as_str()))
            })
        })
    }

    fn until(&mut self, crowd: &mut Crowd, done: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + WAIT;
        while !done(self) {
            ensure!(Instant::now() < until, "the editors do not show the same after {WAIT:?}");
            crowd.turn(TURN_MAX, self)?;
            if let Some(why) = &self.failure {
                bail!("{why}");
            }
        }
        Ok(())
    }
}

impl Ear for Editors {
    fn opened(&mut self, _who: usize, out: &mut Vec<u8>) {
        wire::put_step1(out, &[0]);
    }

    fn heard(&mut self, who: usize, body: &[u8], at: Instant, out: &mut Vec<u8>) {
        let taken = match wire::message(body) {
            Ok(Message::Update(update)) => self.all[who].take(update, at),
            Ok(Message::Step1(_)) => {
                wire::put_step2(out, &[0, 0]);
                Ok(())
            }
            Ok(Message::Step2(_)) => {
                self.all[who].joined = true;
                Ok(())
            }
            Ok(Message::Awareness(_) | Message::Other(_)) => Ok(()),
            Ok(Message::Denied(reason)) => Err(anyhow::anyhow!("{}", String::from_utf8_lossy(reason))),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = taken {
            self.failure = Some(error.to_string());
        }
    }

    fn closed(&mut self, who: usize, why: String) {
        self.failure.get_or_insert(format!("editor {who}: {why}"));
    }
}
