//! What opening a long document costs, part by part: the work between a restart and its first joiner.
//!
//! `cargo bench -p quire-protocol --bench open` prints the median and the range of each part's own
//! processor time.

#![expect(clippy::unwrap_used, reason = "a benchmark that meets what it did not expect should stop there")]

mod support;

use bytes::Bytes;
use quire_protocol::document::{Document, Kept, Limits, Stored};
use quire_protocol::time::Time;
use quire_protocol::update::{Shape, Update, merge};
use std::hint::black_box;
use std::time::Duration;
use support::{Typist, spent};
use yrs::updates::decoder::Decode;
use yrs::{Doc, ReadTxn, StateVector, Transact};

/// Of the longest of the recorded documents.
const EDITS: usize = 260_000;
/// Edits since the last snapshot: about the most that there are before the next one.
const TAIL: usize = 7_000;
/// Letters in a row: of a typist who types much in one place, and of one who seldom does.
const RUNS: [u32; 2] = [64, 8];
const ROUNDS: usize = 21;

fn main() {
    RUNS.into_iter().for_each(open);
}

fn open(run: u32) {
    let stored = stored(run);
    let snapshot = stored.snapshot.clone().unwrap();
    let decoded = Update::decode(snapshot.clone()).unwrap();
    println!(
        "{run} letters in a row: a snapshot of {} bytes and {} blocks, a tail of {} updates",
        snapshot.len(),
        decoded.block_count(),
        stored.tail.len()
    );
    let mut with_snapshot = Shape::new();
    with_snapshot.record(&decoded);
    let tail: Vec<Update> = stored.tail.iter().map(|kept| Update::decode(bytes_of(kept)).unwrap()).collect();
    let all: Vec<Update> = std::iter::once(decoded.clone()).chain(tail.iter().cloned()).collect();

    part("decode the snapshot", || Update::decode(snapshot.clone()).unwrap());
    part("record it", || {
        let mut shape = Shape::new();
        shape.record(&decoded);
        shape
    });
    part("decode the tail", || {
        stored.tail.iter().map(|kept| Update::decode(bytes_of(kept)).unwrap()).collect::<Vec<_>>()
    });
    part("record it", || {
        let mut shape = with_snapshot.clone();
        tail.iter().for_each(|update| shape.record(update));
        shape
    });
    part("merge both", || merge(&all));
    let live = Doc::new();
    for update in &all {
        live.transact_mut().apply_update(yrs::Update::decode_v1(update.encoded()).unwrap()).unwrap();
    }
    part("encode a snapshot, by yrs", || live.transact().encode_state_as_update_v1(&StateVector::default()));
    part("open the document: all of it", || {
        Document::load(Time(0), Limits::default(), stored.clone(), &mut Vec::new()).unwrap()
    });
}

/// A document as the log holds it.
fn stored(run: u32) -> Stored {
    let doc = Doc::new();
    let mut typist = Typist::new(7, run);
    let typed: Vec<Bytes> = (0..EDITS).map(|_| typist.keystroke()).collect();
    let (old, tail) = typed.split_at(EDITS - TAIL);
    let mut txn = doc.transact_mut();
    for update in old {
        txn.apply_update(yrs::Update::decode_v1(update).unwrap()).unwrap();
    }
    drop(txn);
    let snapshot = doc.transact().encode_state_as_update_v1(&StateVector::default());
    Stored {
        exists: true,
        snapshot: Some(snapshot.into()),
        tail: tail.iter().cloned().map(Kept::Update).collect(),
        ..Stored::default()
    }
}

fn bytes_of(kept: &Kept) -> Bytes {
    match kept {
        Kept::Update(bytes) => bytes.clone(),
        other => panic!("nobody writes fields here: {other:?}"),
    }
}

fn part<T>(name: &str, mut work: impl FnMut() -> T) {
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = spent();
        let done = work();
        times.push(spent() - started);
        black_box(done);
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "  {name:32} {:7.2} ms  {:.2} to {:.2}",
        ms(times[ROUNDS / 2]),
        ms(times[0]),
        ms(times[ROUNDS - 1])
    );
}
