//! In the end: every document, joined anew in every region, must hold what was written in it; and so must what a
//! session was sent piece by piece.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use yrs::updates::decoder::Decode;
use yrs::{Doc, GetString, ReadTxn, Transact, Update};

use super::dialect::Heard;
use super::participant::Pen;
use super::run::Live;
use crate::crowd::{Crowd, Ear};
use crate::delivery;
use crate::typist::ROOT;

/// How long regions may take to be equal, after all sessions have received everything.
const EQUAL_TIMEOUT: Duration = Duration::from_secs(20);

/// Documents that are joined at once.
pub(super) const AT_ONCE: usize = 64;

/// Of so many documents that are not as they should be it is said which.
const NAMED_MAX: usize = 3;

const TURN: Duration = Duration::from_millis(10);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lost_acknowledged: u64,
    pub(super) diverged: u64,
    pub(super) failures: Vec<String>,
}

/// One document to be joined in one region.
struct Visit {
    document: usize,
    region: usize,
}

/// Joins and compares.
///
/// # Errors
/// When this machine cannot connect.
pub(super) fn audit(live: &Live<'_>) -> Result<Found> {
    let mut found = Found::default();
    let expected: Vec<String> = (0..live.documents.len()).map(|document| expected(live, document)).collect();
    let regions = live.plan.targets.len();
    let here = (0_u32..).zip(&live.documents).filter(|(number, _)| live.plan.part.has(*number));
    let mut left: Vec<Visit> = here
        .map(|(number, _)| number as usize)
        .flat_map(|document| (0..regions).map(move |region| Visit { document, region }))
        .collect();
    let until = Instant::now() + EQUAL_TIMEOUT;
    while !left.is_empty() {
        let mut unequal = Vec::new();
        let mut states = BTreeMap::new();
        for visits in left.chunks(AT_ONCE) {
            states.extend(
                states_of(live, visits)?
                    .into_iter()
                    .zip(visits)
                    .map(|(state, visit)| ((visit.document, visit.region), state)),
            );
        }
        for visit in left {
            let state = states.remove(&(visit.document, visit.region)).flatten();
            let is_equal = state.as_deref().and_then(text).as_deref() == Some(&expected[visit.document]);
            if !is_equal {
                unequal.push((visit, state));
            }
        }
        if unequal.is_empty() || Instant::now() >= until {
            tell(live, unequal, &mut found);
            break;
        }
        left = unequal.into_iter().map(|(visit, _)| visit).collect();
    }
    witnesses(live, &expected, &mut found);
    Ok(found)
}

/// What a document must hold.
fn expected(live: &Live<'_>, document: usize) -> String {
    let mut lines = String::new();
    for one in live.participants.iter().filter(|one| one.document == document) {
        match &one.pen {
            Pen::Line(line, _) => {
                lines.push_str(&line.text());
                lines.push('\n');
            }
            Pen::Trace { sent, .. } => return merged(live.plan.trace.iter().take(*sent)).unwrap_or_default(),
            Pen::None => {}
        }
    }
    lines
}

fn merged<'a>(updates: impl Iterator<Item = &'a Vec<u8>>) -> Option<String> {
    let doc = Doc::new();
    let root = doc.get_or_insert_text(ROOT);
    {
        let mut txn = doc.transact_mut();
        for update in updates {
            txn.apply_update(Update::decode_v1(update).ok()?).ok()?;
        }
        if txn.has_missing_updates() {
            return None;
        }
    }
    Some(root.get_string(&doc.transact()))
}

fn text(state: &[u8]) -> Option<String> {
    merged(std::iter::once(&state.to_vec()))
}

fn tell(live: &Live<'_>, unequal: Vec<(Visit, Option<Vec<u8>>)>, found: &mut Found) {
    found.diverged = unequal.len() as u64;
    let named = unequal.len().min(NAMED_MAX);
    for (visit, state) in &unequal[..named] {
        let name = &live.documents[visit.document].name;
        let url = live.plan.targets[visit.region].url();
        let what =
            if state.is_some() { "does not hold what was written in it" } else { "cannot be joined anew" };
        found.failures.push(format!("{name} at {url} {what}"));
    }
    if unequal.len() > named {
        found.failures.push(format!("and {} documents more", unequal.len() - named));
    }
    for (visit, state) in unequal {
        let document = &live.documents[visit.document];
        let mut have = BTreeMap::new();
        let _ = delivery::scan(state.as_deref().unwrap_or(&[0, 0]), |range| {
            let to = have.entry(range.client).or_insert(0);
            *to = range.to.max(*to);
        });
        for (number, writer) in document.writers.iter().enumerate() {
            let is_current = |one: &&super::participant::Participant| {
                one.document == visit.document && one.writer == Some(number)
            };
            // Whoever closed a tab had been told that all of it was saved.
            let acked =
                live.participants.iter().find(is_current).map_or_else(|| writer.clock(), |one| one.acked);
            let have = have.get(&document.client(number)).copied().unwrap_or(0);
            found.lost_acknowledged += u64::from(acked.saturating_sub(have));
        }
    }
    if found.lost_acknowledged > 0 {
        found.failures.push(format!(
            "{} letters were acknowledged and are not there, counted for each region",
            found.lost_acknowledged
        ));
    }
}

/// Compares what sessions were sent, piece by piece.
fn witnesses(live: &Live<'_>, expected: &[String], found: &mut Found) {
    for one in &live.participants {
        let Some(updates) = &one.witness else { continue };
        if merged(updates.iter()).as_ref() != Some(&expected[one.document]) {
            let name = &live.documents[one.document].name;
            found.failures.push(format!("what a session of {name} was sent does not make what was written"));
        }
    }
}

/// Somebody who joins documents with nothing, and leaves.
struct Visitors<'l> {
    live: &'l Live<'l>,
    visits: &'l [Visit],
    states: Vec<Option<Vec<u8>>>,
    ended: Vec<bool>,
}

fn states_of(live: &Live<'_>, visits: &[Visit]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut crowd = Crowd::new().context("an event queue")?;
    let mut visitors =
        Visitors { live, visits, states: vec![None; visits.len()], ended: vec![false; visits.len()] };
    for visit in visits {
        let target = &live.plan.targets[visit.region];
        let path = target.path(&live.documents[visit.document].name, &live.plan.token);
        crowd.begin_to_connect(target.addr(), &path).context("a socket")?;
    }
    let until = Instant::now() + EQUAL_TIMEOUT;
    while !visitors.ended.iter().all(|&ended| ended) && Instant::now() < until {
        crowd.turn(TURN, &mut visitors)?;
    }
    crowd.leave();
    Ok(visitors.states)
}

impl Ear for Visitors<'_> {
    fn opened(&mut self, who: usize, out: &mut Vec<u8>) {
        let name = &self.live.documents[self.visits[who].document].name;
        self.live.plan.dialect.put_greeting(out, name, &self.live.plan.token, &[0]);
    }

    fn heard(&mut self, who: usize, body: &[u8], _at: Instant, out: &mut Vec<u8>) {
        let name = &self.live.documents[self.visits[who].document].name;
        match self.live.plan.dialect.hear(body, out) {
            Ok(Heard::State(state)) => {
                self.states[who] = Some(state.to_vec());
                self.ended[who] = true;
            }
            Ok(Heard::Asked(_)) => self.live.plan.dialect.put_answer(out, name, &[0, 0], 0),
            Ok(Heard::Denied(_)) | Err(_) => self.ended[who] = true,
            Ok(_) => {}
        }
    }

    fn closed(&mut self, who: usize, _why: String) {
        self.ended[who] = true;
    }
}
