//! A run spread over processes, so that a generator has more than one core: each has some of the documents, with all
//! who are in them, and what they found is put together.
//!
//! The first process starts the others as itself with `--part`, waits until everybody has joined, and has all begin at
//! once. They talk in lines: `ready`, then `sample` and `outcome` with JSON behind.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::outcome::{Outcome, Sample, Spread};
use super::run::{self, Plan};
use crate::rates;

/// The most processes of one run.
pub(super) const PARTS_MAX: u32 = 64;

const READY: &str = "ready";
const SAMPLE: &str = "sample ";
const OUTCOME: &str = "outcome ";

/// Which of how many processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub(super) number: u32,
    pub(super) of: u32,
}

impl Part {
    /// All of a run.
    pub(super) const WHOLE: Self = Self { number: 0, of: 1 };

    pub(super) const fn has(self, document: u32) -> bool {
        document % self.of == self.number
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, of) = text.split_once('/').context("a part is NUMBER/OF")?;
        let part = Self { number: number.parse()?, of: of.parse()? };
        ensure!(part.number < part.of && part.of <= PARTS_MAX, "a part is NUMBER/OF, of at most {PARTS_MAX}");
        Ok(part)
    }
}

/// Runs a part, and tells what it finds to whoever started it.
///
/// # Errors
/// When it could not begin, or whoever started it is gone.
pub(super) fn run_part(plan: &Plan) -> Result<()> {
    let begin = || {
        say(READY, &())?;
        let mut line = String::new();
        ensure!(std::io::stdin().read_line(&mut line)? > 0, "whoever started this part is gone");
        Ok(())
    };
    let outcome = run::run(plan, begin, |sample, missing| {
        // Whoever started it ends it where it is not heard.
        let _ = say(SAMPLE, &(sample, missing));
    })?;
    say(OUTCOME, &outcome)
}

fn say(what: &str, with: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what}{}", if what == READY { String::new() } else { serde_json::to_string(with)? })?;
    out.flush()?;
    Ok(())
}

/// What a part said.
enum Said {
    Ready,
    Sample(Box<Sample>, u64),
    Outcome(Box<Outcome>),
    /// It has ended.
    End,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<Result<Said>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs all parts and puts together what they found; `tell` hears of each second.
///
/// # Errors
/// When a part cannot be started, or ends without an outcome.
pub(super) fn run_all(parts: u32, seed: u64, mut tell: impl FnMut(&Sample, u64)) -> Result<Outcome> {
    let mut processes = (0..parts)
        .map(|number| Process::start(Part { number, of: parts }, seed))
        .collect::<Result<Vec<_>>>()?;
    let mut outcomes: Vec<Option<Outcome>> = vec![None; processes.len()];
    for (process, outcome) in processes.iter_mut().zip(&mut outcomes) {
        match process.hear()? {
            Said::Ready => {}
            // It could not begin; the others are not to type beside it.
            Said::Outcome(early) => *outcome = Some(*early),
            Said::Sample(..) | Said::End => bail!("a part of the run ended before it was ready"),
        }
    }
    if outcomes.iter().all(Option::is_none) {
        for process in &mut processes {
            writeln!(process.stdin, "begin").context("a part of the run has ended")?;
        }
        follow(&mut processes, &mut outcomes, &mut tell)?;
    }
    Ok(merged(outcomes.into_iter().flatten().collect()))
}

/// Hears all parts until each has an outcome.
fn follow(
    processes: &mut [Process],
    outcomes: &mut [Option<Outcome>],
    tell: &mut impl FnMut(&Sample, u64),
) -> Result<()> {
    while outcomes.iter().any(Option::is_none) {
        let (mut samples, mut missing) = (Vec::new(), 0);
        for (process, outcome) in processes.iter_mut().zip(outcomes.iter_mut()) {
            if outcome.is_some() {
                continue;
            }
            match process.hear()? {
                Said::Sample(sample, of_part) => {
                    missing += of_part;
                    samples.push(*sample);
                }
                Said::Outcome(found) => *outcome = Some(*found),
                Said::Ready | Said::End => bail!("a part of the run ended without telling what it found"),
            }
        }
        if !samples.is_empty() {
            tell(&merged_sample(&samples), missing);
        }
    }
    Ok(())
}

impl Process {
    /// Starts this program again with the same arguments, as a part. A seed that was not given is the same in all.
    fn start(Part { number, of }: Part, seed: u64) -> Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).arg(format!("--part={number}/{of}"));
        if !std::env::args().any(|argument| argument.starts_with("--seed")) {
            command.arg(format!("--seed={seed}"));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a part of the run")?;
        let stdin = child.stdin.take().context("a part's stdin")?;
        let stdout = child.stdout.take().context("a part's stdout")?;
        let (told, said) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if told.send(read(&line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, stdin, said })
    }

    /// The next thing it says. One that has ended says no more.
    fn hear(&mut self) -> Result<Said> {
        self.said.recv().unwrap_or(Ok(Said::End))
    }
}

fn read(line: &str) -> Result<Said> {
    fn json<T: DeserializeOwned>(text: &str) -> Result<T> {
        serde_json::from_str(text).context("what a part of the run says")
    }
    if line == READY {
        Ok(Said::Ready)
    } else if let Some(text) = line.strip_prefix(SAMPLE) {
        let (sample, missing) = json(text)?;
        Ok(Said::Sample(sample, missing))
    } else if let Some(text) = line.strip_prefix(OUTCOME) {
        Ok(Said::Outcome(json(text)?))
    } else {
        bail!("a part of the run says '{line}'")
    }
}

/// What all parts found together.
fn merged(outcomes: Vec<Outcome>) -> Outcome {
    let mut outcomes = outcomes.into_iter();
    let mut whole = outcomes.next().expect("there is at least one part, and each has an outcome");
    let rest: Vec<Outcome> = outcomes.collect();
    let spread = |first: &Spread, of: fn(&Outcome) -> &Spread| merged_spread(first, rest.iter().map(of));
    whole.delivery = spread(&whole.delivery, |part| &part.delivery);
    whole.ack = spread(&whole.ack, |part| &part.ack);
    whole.join = spread(&whole.join, |part| &part.join);
    whole.generator_late = spread(&whole.generator_late, |part| &part.generator_late);
    for (at, pair) in whole.lag.iter_mut().enumerate() {
        pair.delivery =
            merged_spread(&pair.delivery, rest.iter().filter_map(|part| Some(&part.lag.get(at)?.delivery)));
    }
    for part in &rest {
        whole.passed &= part.passed;
        whole.counts += &part.counts;
        whole.cores.generator += part.cores.generator;
        whole.cores.others = (whole.cores.others - part.cores.generator).max(0.0);
        whole.converged_seconds = whole.converged_seconds.zip(part.converged_seconds).map(|(a, b)| a.max(b));
        for (all, more) in [(&mut whole.failures, &part.failures), (&mut whole.warnings, &part.warnings)] {
            let new: Vec<String> = more.iter().filter(|line| !all.contains(line)).cloned().collect();
            all.extend(new);
        }
    }
    let seconds = whole.samples.len().max(rest.iter().map(|part| part.samples.len()).max().unwrap_or(0));
    let of_second = |at: usize| {
        let first = whole.samples.get(at).into_iter();
        first.chain(rest.iter().filter_map(move |part| part.samples.get(at))).cloned().collect::<Vec<_>>()
    };
    whole.samples = (0..seconds).map(|at| merged_sample(&of_second(at))).collect();
    whole
}

fn merged_sample(samples: &[Sample]) -> Sample {
    let mut whole = samples.first().cloned().unwrap_or_default();
    let mut latency = rates::latencies();
    whole.values.clear();
    samples.iter().for_each(|sample| record(&mut latency, &sample.values));
    for sample in samples.iter().skip(1) {
        whole.sessions += sample.sessions;
        whole.typed += sample.typed;
        whole.deliveries += sample.deliveries;
        whole.generator_cores += sample.generator_cores;
        whole.server_cores = whole.server_cores.or(sample.server_cores);
        whole.server_bytes = whole.server_bytes.or(sample.server_bytes);
        whole.max = whole.max.max(sample.max);
    }
    (whole.p50, whole.p99) = (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99));
    whole
}

fn merged_spread<'a>(first: &'a Spread, rest: impl Iterator<Item = &'a Spread>) -> Spread {
    let mut histogram = rates::latencies();
    std::iter::once(first).chain(rest).for_each(|spread| record(&mut histogram, &spread.values));
    Spread::from(&histogram)
}

fn record(histogram: &mut Histogram<u64>, values: &[(u64, u64)]) {
    for &(value, count) in values {
        histogram.saturating_record_n(value, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_is_in_one_part() {
        for of in 1..6 {
            let parts: Vec<Part> = (0..of).map(|number| Part { number, of }).collect();
            for document in 0..20 {
                assert_eq!(parts.iter().filter(|part| part.has(document)).count(), 1);
            }
        }
        assert!("1/2".parse::<Part>().is_ok_and(|part| part == Part { number: 1, of: 2 }));
        assert!(["2/2", "0/0", "1", "0/65", "a/b"].iter().all(|text| text.parse::<Part>().is_err()));
    }

    #[test]
    fn distributions_of_parts_are_that_of_the_whole() {
        let (mut whole, mut parts) = (rates::latencies(), [rates::latencies(), rates::latencies()]);
        for value in 1..10_000_u64 {
            let value = value * value % 77_777 + 1;
            whole.record(value).unwrap();
            parts[(value % 3 % 2) as usize].record(value).unwrap();
        }
        let [first, second] = parts.map(|part| Spread::from(&part));
        let merged = merged_spread(&first, std::iter::once(&second));
        let of = |spread: &Spread| (spread.count, spread.p50, spread.p99, spread.p999, spread.max);
        assert_eq!(of(&merged), of(&Spread::from(&whole)));
    }
}
