//! What a keystroke costs: strict decoding, admission, recording and applying, and whether it costs more in
//! a long document.
//!
//! `cargo bench -p quire-protocol --bench keystroke` prints one line for each figure. Times are the thread's
//! own on the processor where the system tells them, so that other work on the machine counts little; ratios
//! are taken within one run, rounds of both sides in turn.

#![expect(clippy::disallowed_types, reason = "a benchmark measures time")]
#![expect(clippy::unwrap_used, reason = "a benchmark that meets what it did not expect should stop there")]

use bytes::Bytes;
use quire_protocol::lib0::{put_var_bytes, put_var_u64};
use quire_protocol::update::{Shape, Update};
use std::hint::black_box;
use std::time::{Duration, Instant};
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Doc, OffsetKind, Options, Transact};

/// Keystrokes that a short document takes in a round: it must stay short.
const KEYSTROKES: usize = 2_000;
/// Short documents in a round; a long one takes the keystrokes of all.
const DOCUMENTS: usize = 10;
const ROUNDS: usize = 12;
/// Letters in a row before the typist goes elsewhere, puts a letter in and takes one out. It leaves a block
/// for every 16 edits; the recorded typing of a paper leaves one for every 20.
const RUN: u32 = 64;

/// A typist who types at a distance from the last place after every run, so that the document consists of
/// many blocks.
struct Typist {
    client: u32,
    clock: u32,
}

impl Typist {
    /// The next keystroke: mostly a letter after the last one, at times a deletion.
    fn keystroke(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(24);
        if self.clock % RUN == RUN - 1 && self.clock > RUN {
            // One letter inside an older run, and a deletion there.
            let at = self.clock / RUN / 2 * RUN + 3;
            self.letter(&mut out, Some(at));
            out.extend([1]);
            put_var_u64(&mut out, self.client.into());
            out.extend([1]);
            put_var_u64(&mut out, (at + 1).into());
            out.extend([1]);
        } else {
            self.letter(&mut out, self.clock.checked_sub(1));
            out.extend([0]);
        }
        out.into()
    }

    fn letter(&mut self, out: &mut Vec<u8>, after: Option<u32>) {
        out.extend([1, 1]);
        put_var_u64(out, self.client.into());
        put_var_u64(out, self.clock.into());
        match after {
            Some(clock) => {
                out.push(0x84);
                put_var_u64(out, self.client.into());
                put_var_u64(out, clock.into());
            }
            None => {
                out.extend([0x04, 1]);
                put_var_bytes(out, b"content");
            }
        }
        put_var_bytes(out, b"a");
        self.clock += 1;
    }
}

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
        let mut document = Self { typist: Typist { client: 7, clock: 0 }, shape: Shape::new(), doc };
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

/// Time that this thread has spent on a processor, or the time of day where the system does not tell.
fn spent() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
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
