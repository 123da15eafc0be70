//! Real updates, mutated: whatever the decoder and admission let through, yrs stands.
//!
//! `QUIRE_MUTATIONS` sets how many; `--nocapture` shows what became of them. `QUIRE_MUTANTS_OUT` names a file that
//! what was let through is written to, for `testdata/replay.mjs` to give it to Yjs.

use crate::support::{Golden, Numbers, apply, decode, doc, goldens, state_of};
use bytes::Bytes;
use quire_protocol::update::{Refusal, Shape, Update};
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use yrs::types::ToJson;
use yrs::{Doc, GetString, ReadTxn, Transact};

const MUTATIONS_BY_DEFAULT: usize = 20_000;

/// A document in the middle of a story.
struct Base {
    state: Update,
    shape: Shape,
    /// How many of the story's updates it has.
    at: usize,
}

impl Base {
    fn all(golden: &Golden) -> Vec<Self> {
        let doc = doc(900);
        let mut shape = Shape::new();
        let step = golden.updates.len().div_ceil(8);
        let mut bases = Vec::new();
        for (at, update) in golden.updates.iter().enumerate() {
            if at % step == 0 {
                bases.push(Self { state: decode(state_of(&doc)), shape: shape.clone(), at });
            }
            if let Some(fresh) = shape.admit(update.clone()).unwrap().fresh {
                shape.record(&fresh);
                apply(&doc, &fresh);
            }
        }
        bases
    }

    /// What a mutant did: refused, nothing new, or applied. The document must be whole afterwards.
    fn try_on(&self, mutant: Bytes, out: Option<&mut dyn Write>) -> Result<Outcome, Refusal> {
        let admission = self.shape.admit(Update::decode(mutant)?)?;
        let Some(fresh) = admission.fresh else { return Ok(Outcome::NothingNew) };
        let doc = doc(901);
        apply(&doc, &self.state);
        let before = state_of(&doc);
        apply(&doc, &fresh);
        let mut shape = self.shape.clone();
        shape.record(&fresh);
        assert_eq!(shape.admit(fresh.clone()).unwrap().fresh, None);
        check(&doc, &shape);
        let changed = state_of(&doc) != before;
        if let Some(out) = out {
            let text = doc.get_or_insert_text("content").get_string(&doc.transact());
            let line = [hex(self.state.encoded()), hex(fresh.encoded()), hex(text.as_bytes())].join(" ");
            writeln!(out, "{line}").unwrap();
        }
        // Everything goes: what the mutant nested or misplaced is deleted and collected.
        let deletes = shape.state_vector().iter().fold(Vec::new(), |mut out, (client, clock)| {
            for value in [u64::from(client.0), 1, 0, u64::from(clock)] {
                quire_protocol::lib0::put_var_u64(&mut out, value);
            }
            out
        });
        let mut out = vec![0];
        quire_protocol::lib0::put_var_u64(&mut out, shape.state_vector().iter().count() as u64);
        out.extend(deletes);
        apply(&doc, &decode(out));
        check(&doc, &shape);
        Ok(if changed { Outcome::Changed } else { Outcome::Unchanged })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    NothingNew,
    Unchanged,
    Changed,
}

fn check(doc: &Doc, shape: &Shape) {
    let text = doc.get_or_insert_text("content");
    let (fields, board) = (doc.get_or_insert_map("fields"), doc.get_or_insert_map("board"));
    let txn = doc.transact();
    assert!(!txn.has_missing_updates());
    // Not the root array: yrs does not stand text in what is read as an array, and a root type may hold
    // anything.
    let _seen = (text.get_string(&txn), fields.to_json(&txn), board.to_json(&txn));
    drop(txn);
    let state = decode(state_of(doc));
    let mut again = Shape::new();
    again.record(&state);
    assert_eq!(again.state_vector(), shape.state_vector());
    let reader = crate::support::doc(902);
    apply(&reader, &state);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mutate(numbers: &mut Numbers, seed: &[u8], others: &[Bytes]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let rounds = [1, 1, 1, 2, 3, 4][numbers.below(6)];
    for _ in 0..rounds {
        let at = numbers.below(bytes.len());
        let byte = u8::try_from(numbers.below(256)).unwrap();
        match numbers.below(9) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes[at] = byte,
            2 | 3 => bytes[at] = bytes[at].wrapping_add(if byte < 128 { 1 } else { 255 }),
            4 => bytes.insert(at, byte),
            5 if bytes.len() > 1 => drop(bytes.remove(at)),
            6 => {
                let len = 1 + numbers.below(12.min(bytes.len() - at));
                let piece = bytes[at..at + len].to_vec();
                let to = numbers.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            7 => {
                let to = numbers.below(bytes.len());
                bytes[to] = bytes[at];
            }
            _ => {
                let other = &others[numbers.below(others.len())];
                let from = numbers.below(other.len());
                let len = 1 + numbers.below(16.min(other.len() - from));
                let end = (at + len).min(bytes.len());
                bytes.splice(at..end, other[from..from + len].iter().copied());
            }
        }
    }
    bytes
}

#[expect(clippy::disallowed_types, reason = "what is measured is shown, and decides nothing")]
fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let started = std::time::Instant::now();
    let result = run();
    (result, started.elapsed())
}

/// The most memory that the process has held, in KiB; 0 where the system does not say.
fn peak_memory_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// By how much one mutant may make this process grow.
const MEMORY_KIB_MAX: usize = 64 << 10;

#[test]
fn u11_yrs_stands_whatever_mutant_is_let_through() {
    let count = std::env::var("QUIRE_MUTATIONS").map_or(MUTATIONS_BY_DEFAULT, |count| count.parse().unwrap());
    let goldens = goldens();
    let bases: Vec<Vec<Base>> = goldens.iter().map(Base::all).collect();
    let all: Vec<Bytes> = goldens.iter().flat_map(|g| &g.updates).map(|u| u.encoded().clone()).collect();
    let mut numbers = Numbers(0x5eed);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut slowest = (Duration::ZERO, Vec::new());
    let mut out = std::env::var("QUIRE_MUTANTS_OUT").ok().map(|path| std::fs::File::create(path).unwrap());
    let mut hungriest = (0, Vec::new());
    for _ in 0..count {
        let story = numbers.below(goldens.len());
        let base = &bases[story][numbers.below(bases[story].len())];
        let updates = &goldens[story].updates;
        let seed = match numbers.below(8) {
            0 => &goldens[story].state,
            1 => &updates[numbers.below(updates.len())],
            near => &updates[(base.at + near - 2).min(updates.len() - 1)],
        };
        let mutant = mutate(&mut numbers, seed.encoded(), &all);
        let memory = peak_memory_kib();
        let out = out.as_mut().map(|out| out as &mut dyn Write);
        let (outcome, took) =
            timed(|| catch_unwind(AssertUnwindSafe(|| base.try_on(Bytes::from(mutant.clone()), out))));
        let Ok(outcome) = outcome else {
            panic!("{} after {} updates: {:02x?}", goldens[story].name, base.at, mutant);
        };
        let label =
            outcome.map_or_else(|refusal| refusal.reason().to_owned(), |outcome| format!("{outcome:?}"));
        *outcomes.entry(label).or_default() += 1;
        let grown = peak_memory_kib() - memory;
        if grown > hungriest.0 {
            hungriest = (grown, mutant.clone());
        }
        if took > slowest.0 {
            // Again: other work on the machine must not count.
            let (_, again) = timed(|| base.try_on(Bytes::from(mutant.clone()), None));
            if took.min(again) > slowest.0 {
                slowest = (took.min(again), mutant);
            }
        }
    }
    println!("{count} mutants: {outcomes:?}");
    println!("slowest {:?}, of {} bytes", slowest.0, slowest.1.len());
    println!("most memory {} KiB, for {} bytes", hungriest.0, hungriest.1.len());
    assert!(hungriest.0 < MEMORY_KIB_MAX, "{} KiB for {:02x?}", hungriest.0, hungriest.1);
    assert!(outcomes["Changed"] > count / 50, "the mutants must reach yrs");
}
