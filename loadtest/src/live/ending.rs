//! The end of a run: everything arrives, is compared, and is told.

use std::cmp::Reverse;
use std::time::Instant;

use anyhow::Result;

use super::audit;
use super::outcome::{Cores, Outcome, Pair, Spread, Told, VERSION};
use super::participant::{Participant, Stage};
use super::person::Act;
use super::run::{Due, IDLE_TURN, Live, WITNESS_BYTES_MAX};
use crate::crowd::Crowd;
use crate::rates;

/// In so many edits more of a trace there is one that types something.
const EDITS_MORE_MAX: usize = 1_000;

impl Live<'_> {
    /// Nobody writes any more: everybody comes back, and all that was written arrives. Returns the seconds from the
    /// last keystroke until it had; none when it has not.
    pub(super) fn settle(&mut self, crowd: &mut Crowd) -> Result<Option<f64>> {
        if !self.failures.is_empty() {
            return Ok(None);
        }
        self.end_with_letters(crowd);
        let coming: Vec<usize> = self
            .due
            .drain()
            .filter_map(|Reverse((_, due))| match due {
                Due::Connect(who) => Some(who),
                _ => None,
            })
            .collect();
        coming.into_iter().for_each(|who| self.want(who..who + 1));
        let until = Instant::now() + self.plan.drain;
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

    /// Whoever deleted something last types one letter more: a deletion has no clock by which its arrival is known, and
    /// what comes after it of the same author tells.
    fn end_with_letters(&mut self, crowd: &mut Crowd) {
        let now = self.now();
        for who in 0..self.participants.len() {
            for _ in 0..EDITS_MORE_MAX {
                if !self.participants[who].ended_with_deletion() {
                    break;
                }
                self.acts[who] = Some(Act::Key);
                self.act(crowd, who, now);
            }
        }
    }

    fn is_settled(&self) -> bool {
        let is_there = |one: &Participant| one.stage == Stage::Joined && one.acked >= one.clock();
        self.participants.iter().all(is_there) && self.missing() == 0
    }

    /// Letters that a session has not received: of all writers but the one that it is.
    pub(super) fn missing(&self) -> u64 {
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
    pub(super) fn judge(&mut self) -> Result<()> {
        if self.failures.is_empty() && self.plan.shape.typists > 0 {
            let found = audit::audit(self)?;
            self.tally.counts.lost_acknowledged = found.lost_acknowledged;
            self.tally.counts.diverged = found.diverged;
            self.failures.extend(found.failures);
        }
        let within = self.plan.drain;
        let counts = &self.tally.counts;
        if counts.missing > 0 {
            self.failures.push(format!(
                "{} letters did not arrive at a session within {within:?} after the last keystroke",
                counts.missing
            ));
        }
        let away = self.participants.iter().filter(|one| one.stage != Stage::Joined).count();
        if away > 0 && self.failures.is_empty() {
            self.failures
                .push(format!("{away} sessions were not joined again within {within:?}{}", self.why()));
        }
        let unacked = self.participants.iter().map(|one| one.clock().saturating_sub(one.acked));
        let unacked: u64 = unacked.map(u64::from).sum();
        if unacked > 0 && self.failures.is_empty() {
            self.failures.push(format!("{unacked} letters were not acknowledged within {within:?}"));
        }
        Ok(())
    }

    pub(super) fn outcome(
        mut self,
        began_unix_seconds: u64,
        cores: Cores,
        converged_seconds: Option<f64>,
    ) -> Outcome {
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
        let misplaced = self.tally.counts.misplaced;
        if misplaced > 0 {
            self.warnings.push(format!(
                "{misplaced} letters came after later ones of their author: clients have to hold those back"
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
