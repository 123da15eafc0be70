//! What a keystroke costs: strict decoding, admission, recording and applying, and whether it costs more in
//! a long document.
//!
//! `cargo bench -p quire-protocol --bench keystroke` prints one line for each figure. Times are the thread's
//! own on the processor, so that other work on the machine counts little; ratios are taken within one run,
//! rounds of both sides in turn.

#![expect(clippy::unwrap_used, reason = "a benchmark that meets what it did not expect should stop there")]

mod support;

use bytes::Bytes;
use quire_protocol::update::{Shape, Update};
use std::hint::black_box;
use std::time::Duration;
use support::{Typist, spent};
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, Transact};

/// Keystrokes that a short document takes in a round: it must stay short.
const KEYSTROKES: usize = 2_000;
/// Short documents in a round; a long one takes the keystrokes of all.
const DOCUMENTS: usize = 10;
const ROUNDS: usize = 12;
/// Letters in a row. It leaves a block for every 16 edits; the recorded typing of a paper leaves one for
/// every 20.
const RUN: u32 = 64;
/// A document that has been typed in for a while.
struct Document {
    typist: Typist,
    shape: Shape,
    doc: Doc,
}

impl Document {
    fn of(edits: usize) -> Self {
        let options =
            Options { offset_kind: OffsetKind::Utf16, cleanup_formatting: false, ..Options::default() };
        let doc = Doc::with_options(Options { client_id: ClientID::new(1), ..options });
        let mut document = Self { typist: Typist::new(7, RUN), shape: Shape::new(), doc };
        for _ in 0..edits {
            let bytes = document.typist.keystroke();
            let update = document.admit(bytes);
            document.apply(update.encoded());
        }
        document
    }

    fn admit(&mut self, bytes: Bytes) -> Update {
        let update = Update::decode(bytes).unwrap();
        let admission = self.shape.admit(update).unwrap();
        assert!(!admission.missing);
        let fresh = admission.fresh.unwrap();
        self.shape.record(&fresh);
        fresh
    }

    fn apply(&self, bytes: &[u8]) {
        let update = yrs::Update::decode_v1(bytes).unwrap();
        self.doc.transact_mut().apply_update(update).unwrap();
    }
}

/// Time spent, of all rounds together.
#[derive(Default)]
struct Times {
    admission: Duration,
    apply: Duration,
    both: Duration,
    keystrokes: u32,
}

impl Times {
    /// Times keystrokes twice: admission and yrs apart, then each keystroke through both.
    fn round(&mut self, documents: &mut [Document], keystrokes: usize) {
        let written = type_in(documents, keystrokes);
        let mut admitted = Vec::with_capacity(documents.len() * keystrokes);
        let started = spent();
        for (document, bytes) in documents.iter_mut().zip(written) {
            admitted.push(bytes.into_iter().map(|bytes| document.admit(bytes)).collect::<Vec<_>>());
        }
        let between = spent();
        for (document, updates) in documents.iter_mut().zip(&admitted) {
            updates.iter().for_each(|update| document.apply(update.encoded()));
        }
        self.apply += spent() - between;
        self.admission += between - started;
        black_box(admitted);

        let written = type_in(documents, keystrokes);
        let started = spent();
        for (document, bytes) in documents.iter_mut().zip(written) {
            for bytes in bytes {
                let update = document.admit(bytes);
                document.apply(update.encoded());
            }
        }
        self.both += spent() - started;
        self.keystrokes += u32::try_from(documents.len() * keystrokes).unwrap();
    }

    fn print(&self, edits: &str) {
        let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(self.keystrokes);
        println!("document of {edits} edits");
        println!("  decode, admit, record   {:8.0} ns a keystroke", each(self.admission));
        println!("  yrs decode and apply    {:8.0} ns a keystroke", each(self.apply));
        println!(
            "  all of it               {:8.0} ns a keystroke, {:.0}/s",
            each(self.both),
            1e9 / each(self.both)
        );
    }
}

fn type_in(documents: &mut [Document], keystrokes: usize) -> Vec<Vec<Bytes>> {
    let each = |document: &mut Document| (0..keystrokes).map(|_| document.typist.keystroke()).collect();
    documents.iter_mut().map(each).collect()
}

fn main() {
    let mut long = [Document::of(1_000_000)];
    let (mut in_short, mut in_long) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let mut short: Vec<Document> = (0..DOCUMENTS).map(|_| Document::of(1_000)).collect();
        in_short.round(&mut short, KEYSTROKES);
        in_long.round(&mut long, KEYSTROKES * DOCUMENTS);
    }
    in_short.print("1,000");
    in_long.print("1,000,000");
    println!("a keystroke in 1,000,000 edits : in 1,000");
    println!("  admission {:.2}", in_long.admission.as_secs_f64() / in_short.admission.as_secs_f64());
    println!("  all of it {:.2}", in_long.both.as_secs_f64() / in_short.both.as_secs_f64());
}
