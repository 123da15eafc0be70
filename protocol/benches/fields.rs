//! What following a document's fields costs the document machine that takes updates.
//!
//! `cargo bench -p quire-protocol --bench fields` prints one line for each figure. Times are the thread's own on
//! the processor, and ratios are taken within one run, rounds of both sides in turn. The disk answers at once.
//!
//! What there is without fields is an equal document whose map has another name: the same updates, the same
//! machine, and nothing to follow. Of a document without fields all that following costs is one look at each
//! update, which is timed by itself and told as a share. The disk is left out: with it, and sockets, the same is
//! asked by `quire-loadtest bench --only fields`.
//!
//! And what a write-back takes: from the entry of another region that makes a conflict to the append that resolves
//! or shows it, policy by policy.

#![expect(clippy::unwrap_used, reason = "a benchmark that meets what it did not expect should stop there")]

mod support;

use bytes::Bytes;
use quire_protocol::document::{Access, Dialect, Document, Input, Limits, Opened, Output, Stored, Write};
use quire_protocol::fields::schema::{Collection, Field, FieldType, Policy, Schema};
use quire_protocol::fields::{FIELDS_ROOT, FieldsEntry, Graph, Rules, Tracker, Value};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocName, Dot, Seq, SessionId, StreamId};
use quire_protocol::lib0::{put_var_bytes, put_var_u64};
use quire_protocol::time::Time;
use quire_protocol::update::Update;
use quire_protocol::ysync::Message;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use support::{Typist, spent};

/// Documents in a round, and updates that each takes.
const DOCUMENTS: u32 = 10;
const UPDATES: u32 = 2_000;
const ROUNDS: u32 = 12;
/// Updates that reach the machine before it is quiet: what a burst costs once is shared by so many.
const BURSTS: [usize; 2] = [1, 16];
const KEYS: u32 = 10;
/// Writes before those that are timed, of a document that has been used for a long time.
const LONG: u32 = 50_000;
/// A name that the machine does not follow, as long as [`FIELDS_ROOT`].
const OTHER_ROOT: &str = "others";
const SESSION: SessionId = SessionId(1);
const RUN: u32 = 64;
/// Write-backs of each policy that are timed.
const WRITE_BACKS: u32 = 50;

fn main() {
    assert_eq!(OTHER_ROOT.len(), FIELDS_ROOT.len());
    no_fields();
    for burst in BURSTS {
        compare("text beside ten fields", burst, 0, Kind::Text);
        compare("one field in each update", burst, 0, Kind::Writes { keys: 1 });
        compare("three fields in each update", burst, 0, Kind::Writes { keys: 3 });
    }
    compare("text beside ten fields written 50,000 times", 16, LONG, Kind::Text);
    compare("one field in each update, after 50,000", 16, LONG, Kind::Writes { keys: 1 });
    write_backs();
}

/// One document, its machine and its disk.
struct Machine {
    document: Document,
    seq: u64,
    out: Vec<Output>,
}

impl Machine {
    fn new(rules: Rules) -> Self {
        let mut out = Vec::new();
        let stored = Stored { client: 9, rules, ..Stored::default() };
        let document = Document::load(Time(0), Limits::default(), stored, &mut out).unwrap();
        let mut machine = Self { document, seq: 0, out };
        let (dialect, access) = (Dialect::YWebsocket, Access::Write);
        let opened = Opened { session: SESSION, dialect, access, expires: None, author: None };
        machine.hear(Input::Opened(opened));
        machine.hear(Input::Message(SESSION, Message::SyncStep1(Bytes::from_static(&[0]))));
        machine.quiet(Time(0));
        machine
    }

    fn hear(&mut self, input: Input) {
        self.document.handle(Time(0), input, &mut self.out);
    }

    fn take(&mut self, updates: &[Bytes]) {
        for update in updates {
            self.hear(Input::Message(SESSION, Message::Update(update.clone())));
        }
        self.quiet(Time(0));
    }

    /// Ends a burst, and answers as a disk does that is never late.
    fn quiet(&mut self, now: Time) {
        loop {
            self.document.handle(now, Input::Quiet, &mut self.out);
            let mut writes = 0;
            for output in self.out.drain(..) {
                match output {
                    Output::Append(some) => writes += some.len(),
                    Output::Close(_, reason) => panic!("{reason}"),
                    other => drop(black_box(other)),
                }
            }
            if writes == 0 {
                return;
            }
            self.seq += writes as u64;
            let last = (Hlc(self.seq), Dot { stream: StreamId::from_u32(1), seq: Seq(self.seq) });
            self.document.handle(now, Input::Committed { writes, position: self.seq, last }, &mut self.out);
        }
    }
}

/// A client that sets keys of a root map.
struct Setter {
    client: u32,
    clock: u32,
    root: &'static str,
    /// The last item of each key.
    last: Vec<Option<u32>>,
    next: u32,
}

impl Setter {
    fn new(client: u32, root: &'static str) -> Self {
        Self { client, clock: 0, root, last: vec![None; KEYS as usize], next: 0 }
    }

    /// The update of one transaction that sets so many keys, each of them the next.
    fn write(&mut self, keys: u32) -> Bytes {
        let mut out = vec![1];
        put_var_u64(&mut out, keys.into());
        put_var_u64(&mut out, self.client.into());
        put_var_u64(&mut out, self.clock.into());
        let mut replaced = Vec::new();
        for _ in 0..keys {
            let key = self.next % KEYS;
            match self.last[key as usize].replace(self.clock) {
                Some(origin) => {
                    out.push(0x88);
                    put_var_u64(&mut out, self.client.into());
                    put_var_u64(&mut out, origin.into());
                    replaced.push(origin);
                }
                None => {
                    out.extend([0x28, 1]);
                    put_var_bytes(&mut out, self.root.as_bytes());
                    put_var_bytes(&mut out, format!("key{key}").as_bytes());
                }
            }
            out.push(1);
            Value::from(format!("value {:014}", self.clock).as_str()).encode(&mut out);
            (self.clock, self.next) = (self.clock + 1, self.next + 1);
        }
        out.push(u8::from(!replaced.is_empty()));
        if !replaced.is_empty() {
            replaced.sort_unstable();
            put_var_u64(&mut out, self.client.into());
            put_var_u64(&mut out, replaced.len() as u64);
            for clock in replaced {
                put_var_u64(&mut out, clock.into());
                out.push(1);
            }
        }
        out.into()
    }
}

/// What is timed.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Writes { keys: u32 },
}

/// A document whose map has some keys, and who goes on writing in it.
struct Written {
    machine: Machine,
    setter: Setter,
    typist: Typist,
}

impl Written {
    fn new(root: &'static str, before: u32) -> Self {
        let (machine, setter, typist) =
            (Machine::new(Rules::default()), Setter::new(7, root), Typist::new(8, RUN));
        let mut written = Self { machine, setter, typist };
        let updates: Vec<Bytes> = (0..before.max(KEYS)).map(|_| written.setter.write(1)).collect();
        updates.chunks(16).for_each(|burst| written.machine.take(burst));
        written
    }

    fn time(&mut self, kind: Kind, burst: usize) -> Duration {
        let update = |_| match kind {
            Kind::Text => self.typist.keystroke(),
            Kind::Writes { keys } => self.setter.write(keys),
        };
        let updates: Vec<Bytes> = (0..UPDATES).map(update).collect();
        let started = spent();
        updates.chunks(burst).for_each(|burst| self.machine.take(burst));
        spent() - started
    }
}

/// The same updates in a map that is followed and in one that is not.
fn compare(what: &str, burst: usize, before: u32, kind: Kind) {
    let (rounds, documents) = if before > 0 { (6, 2) } else { (ROUNDS, DOCUMENTS) };
    let (mut fields, mut others) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        for _ in 0..documents {
            others += Written::new(OTHER_ROOT, before).time(kind, burst);
            fields += Written::new(FIELDS_ROOT, before).time(kind, burst);
        }
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(rounds * documents * UPDATES);
    let (fields, others) = (each(fields), each(others));
    println!("{what}, {burst} a burst");
    println!("  followed : not {:.3}  {fields:.0} ns : {others:.0} ns an update", fields / others);
}

/// What one look at an update costs where there are no fields, and taking the update altogether.
fn no_fields() {
    for burst in BURSTS {
        let (mut all, mut looks) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            for _ in 0..DOCUMENTS {
                let (mut machine, mut typist) = (Machine::new(Rules::default()), Typist::new(8, RUN));
                let updates: Vec<Bytes> = (0..UPDATES).map(|_| typist.keystroke()).collect();
                let decoded: Vec<Update> =
                    updates.iter().map(|bytes| Update::decode(bytes.clone()).unwrap()).collect();
                let started = spent();
                updates.chunks(burst).for_each(|burst| machine.take(burst));
                let between = spent();
                let mut tracker = Tracker::new(Graph::new());
                let mut admitted = 0;
                for burst in decoded.chunks(burst) {
                    for update in burst {
                        black_box(tracker.admit(black_box(update), update));
                        admitted += 1;
                    }
                    tracker.committed(admitted, admitted);
                }
                looks += spent() - between;
                all += between - started;
            }
        }
        let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(ROUNDS * DOCUMENTS * UPDATES);
        println!("text in a document without fields, {burst} a burst");
        println!(
            "  share {:.2} %  {:.0} ns of {:.0} ns an update",
            100.0 * looks.as_secs_f64() / all.as_secs_f64(),
            each(looks),
            each(all)
        );
    }
}

/// What two regions wrote at once, on what.
struct Case {
    name: &'static str,
    ty: FieldType,
    policy: Policy,
    values: [Value; 3],
}

/// Conflicts of each policy. Text is of a hundred kilobytes, and each side changes fifty lines of it, or all.
fn cases() -> Vec<Case> {
    let text = |change: &dyn Fn(usize) -> Option<&'static str>| {
        let line = |at| match change(at) {
            Some(word) => format!("line {at} was {word} by somebody just now, and says so at some length\n"),
            None => format!("line {at} of a text that two people change in two regions at one time\n"),
        };
        Value::from((0..1_450).map(line).collect::<String>().as_str())
    };
    let some = |by, of: usize| text(&move |at| (at % 29 == of).then_some(by));
    let numbers = [1.0, 2.0, 3.0].map(Value::from);
    let words = ["todo", "doing", "done"].map(Value::from);
    let list = |items: &[f64]| items.iter().map(|&item| Value::from(item)).collect::<Value>();
    let object = |members: &[(&str, f64)]| {
        let members = members.iter().map(|&(key, value)| (Arc::from(key), Value::from(value)));
        Value::Map(Arc::new(members.collect()))
    };
    let script = "fn merge(base, versions) { versions[0].value + versions[1].value - base }";
    let case = |name, ty, policy, values| Case { name, ty, policy, values };
    vec![
        case("siblings", FieldType::Any, Policy::Siblings, words.clone()),
        case("lww", FieldType::Any, Policy::Lww, words.clone()),
        case(
            "rank",
            FieldType::String,
            Policy::Rank(["todo", "doing", "done"].map(String::from).into()),
            words,
        ),
        case("counter", FieldType::Number, Policy::Counter, numbers.clone()),
        case("max", FieldType::Number, Policy::Max, numbers.clone()),
        case("min", FieldType::Number, Policy::Min, numbers.clone()),
        case("custom", FieldType::Number, Policy::Custom(script.into()), numbers),
        case("set", FieldType::List, Policy::Set, [&[1.0][..], &[1.0, 2.0], &[3.0]].map(list)),
        case(
            "map",
            FieldType::Object,
            Policy::Map,
            [&[("a", 1.0)][..], &[("a", 2.0)], &[("a", 1.0), ("b", 2.0)]].map(object),
        ),
        case(
            "text3, fifty lines of 100 kB each",
            FieldType::String,
            Policy::Text3,
            [text(&|_| None), some("changed", 3), some("rewritten", 17)],
        ),
        case(
            "text3, all of 100 kB",
            FieldType::String,
            Policy::Text3,
            [text(&|_| None), text(&|_| Some("changed")), text(&|_| Some("rewritten"))],
        ),
    ]
}

fn write_backs() {
    println!("a write-back, from the entry that makes the conflict to the append");
    let mut means = Vec::new();
    for case in cases() {
        let mut times: Vec<Duration> = (0..WRITE_BACKS).map(|_| write_back(&case)).collect();
        times.sort_unstable();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let mean = millis(times.iter().sum::<Duration>()) / f64::from(WRITE_BACKS);
        let (median, most) = (millis(times[times.len() / 2]), millis(times[times.len() - 1]));
        println!("  {:34} mean {mean:.3} ms, median {median:.3}, most {most:.3}", case.name);
        means.push(mean);
    }
    println!("  {:34} mean {:.3} ms", "all of these", means.iter().sum::<f64>() / means.len() as f64);
}

fn write_back(case: &Case) -> Duration {
    let mut collection = Collection::new("measured", "**").unwrap();
    collection.fields.insert("field".into(), Field::new(case.ty, case.policy.clone()));
    let schema = Schema::new(vec![collection]).unwrap();
    let mut machine = Machine::new(Rules::of(&schema, &DocName::new("document").unwrap()));
    machine.hear(Input::Duty(true));
    let [base, here, there] = &case.values;
    machine.take(&[set(7, 0, None, base)]);
    machine.take(&[set(7, 1, Some((7, 0)), here)]);
    let update = set(8, 0, Some((7, 0)), there);
    let entry = FieldsEntry { region: "there".into(), author: None, marks: Vec::new(), update };
    let stamp = (Hlc(1_000), Dot { stream: StreamId::from_u32(2), seq: Seq(1) });
    let applied = Input::Applied { write: Write::Fields(entry.encode()), position: machine.seq + 1, stamp };
    machine.out.clear();
    let started = spent();
    machine.document.handle(Time(1_000), applied, &mut machine.out);
    machine.document.handle(Time(1_000), Input::Quiet, &mut machine.out);
    let time = spent() - started;
    let appends = |output: &Output| matches!(output, Output::Append(_));
    assert!(machine.out.iter().any(appends), "{} is written back at once", case.name);
    time
}

/// The update that sets the one field, in place of what.
fn set(client: u32, clock: u32, origin: Option<(u32, u32)>, value: &Value) -> Bytes {
    let mut out = vec![1, 1];
    put_var_u64(&mut out, client.into());
    put_var_u64(&mut out, clock.into());
    match origin {
        Some((client, clock)) => {
            out.push(0x88);
            put_var_u64(&mut out, client.into());
            put_var_u64(&mut out, clock.into());
        }
        None => {
            out.extend([0x28, 1]);
            put_var_bytes(&mut out, FIELDS_ROOT.as_bytes());
            put_var_bytes(&mut out, b"field");
        }
    }
    out.push(1);
    value.encode(&mut out);
    match origin {
        Some((client, clock)) => {
            out.push(1);
            for value in [client, 1, clock, 1] {
                put_var_u64(&mut out, value.into());
            }
        }
        None => out.push(0),
    }
    out.into()
}
