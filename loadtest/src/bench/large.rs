//! A document with a history of 260,000 edits: how long joining it takes, and what a keystroke in it costs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use yrs::updates::decoder::Decode;
use yrs::{ClientID, Doc, GetString, OffsetKind, ReadTxn, StateVector, Text, Transact, Update};

use super::Options;
use super::report::{Report, Row};
use crate::delivery;
use crate::editor::Editor;
use crate::rates::median;
use crate::server::{Program, Server};
use crate::trace::{self, Trace};
use crate::typist::{LETTERS, ROOT};
use crate::wire::{self, Message};

/// Updates sent before the echo of the last of them is waited for.
const WINDOW: usize = 64;

/// Keystrokes in one measurement of the server's processor time, which is counted in hundredths of a second.
const KEYSTROKES: usize = 20_000;

/// Joins of one kind in a repeat.
const JOINS: usize = 20;

const EDITS_SEED: u64 = 260_000;
const LARGE: &str = "/ws/large";

/// Joins, warm and just after a restart; then keystrokes there and in an empty document.
///
/// # Errors
/// When the server cannot be started, or does not hold what was typed.
pub fn large_document(options: &Options, report: &mut Report) -> Result<()> {
    let (trace, scenario) = match std::env::var_os("QUIRE_TRACES").map(PathBuf::from) {
        Some(dir) => (Trace::read(&dir.join(trace::PAPER))?, "automerge-paper"),
        None => (Trace::made_up(trace::MADE_UP_EDITS, EDITS_SEED), "made-up history"),
    };
    let history = trace::type_out(&trace)?;
    options.clear("large")?;
    let program = options.quire_program("large")?.with_history_limits();
    let server = program.start()?;
    let mut editor = Editor::connect(server.addr(), LARGE)?;
    editor.join()?;
    let started = Instant::now();
    pipeline(&mut editor, u64::from(trace::TRACE_CLIENT), &history.updates)?;
    let typed_in = started.elapsed().as_secs_f64();
    drop(editor);
    let who = "quire".to_owned();
    let row = Row { scenario, who, figure: "", value: 0.0, unit: "ms", note: String::new() };
    let edits = history.updates.len() as f64;
    let note = format!("{edits} edits by one session, {WINDOW} under way");
    report.add(Row { figure: "history typed", value: edits / typed_in, unit: "/s", note, ..row.clone() });
    let server = joins(options, report, &row, &program, server, &trace.end_content)?;
    keystrokes(options, report, &row, &server, &history.doc)?;
    server.stop()?;
    options.clear("large")
}

fn joins(
    options: &Options,
    report: &mut Report,
    row: &Row,
    program: &Program,
    mut server: Server,
    text: &str,
) -> Result<Server> {
    let (mut warm, mut cold, mut killed, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..options.repeats {
        for _ in 0..JOINS {
            warm.push(join_ms(server.addr(), text, &mut bytes)?);
        }
        server.stop()?;
        server = program.start()?;
        cold.push(join_ms(server.addr(), text, &mut bytes)?);
        server.kill()?;
        server = program.start()?;
        killed.push(join_ms(server.addr(), text, &mut bytes)?);
    }
    for (figure, times) in
        [("join, warm", warm), ("join after a restart", cold), ("join after kill -9", killed)]
    {
        let note = format!("{}; {bytes} B of state", super::spread(&times));
        report.add(Row { figure, value: median(&times), note, ..row.clone() });
    }
    Ok(server)
}

/// From connecting until the state is there, in milliseconds; checks the text afterwards.
fn join_ms(addr: SocketAddr, text: &str, bytes: &mut usize) -> Result<f64> {
    let started = Instant::now();
    let state = Editor::connect(addr, LARGE)?.join()?;
    let ms = started.elapsed().as_secs_f64() * 1e3;
    *bytes = state.len();
    let doc = Doc::new();
    let root = doc.get_or_insert_text(ROOT);
    doc.transact_mut().apply_update(Update::decode_v1(&state)?)?;
    ensure!(root.get_string(&doc.transact()) == text, "the document does not hold what was typed in it");
    Ok(ms)
}

fn keystrokes(options: &Options, report: &mut Report, row: &Row, server: &Server, large: &Doc) -> Result<()> {
    let state = large.transact().encode_state_as_update_v1(&StateVector::default());
    let (mut in_large, mut in_empty, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for repeat in 0..options.repeats {
        let client = 0xa000_0000 + u64::from(repeat);
        let large = typed_in_the_middle(client, Some(&state))?;
        let empty = typed_in_the_middle(client, None)?;
        let micros_large = keystroke_micros(server, LARGE, client, &large)?;
        let micros_empty = keystroke_micros(server, &format!("/ws/empty-{repeat}"), client, &empty)?;
        in_large.push(micros_large);
        in_empty.push(micros_empty);
        ratios.push(micros_large / micros_empty);
    }
    let figures = [
        ("keystroke in it, server CPU", &in_large, "µs"),
        ("keystroke in an empty document", &in_empty, "µs"),
        ("large : empty", &ratios, ""),
    ];
    for (figure, values, unit) in figures {
        report.add(Row { figure, value: median(values), unit, note: super::spread(values), ..row.clone() });
    }
    Ok(())
}

/// The updates of letters typed one after the other in the middle of a document, as yrs makes them.
fn typed_in_the_middle(client: u64, state: Option<&[u8]>) -> Result<Vec<Vec<u8>>> {
    let options = yrs::Options {
        offset_kind: OffsetKind::Utf16,
        ..yrs::Options::with_client_id(ClientID::new(client))
    };
    let doc = Doc::with_options(options);
    let root = doc.get_or_insert_text(ROOT);
    if let Some(state) = state {
        doc.transact_mut().apply_update(Update::decode_v1(state)?)?;
    }
    let middle = root.len(&doc.transact()) / 2;
    let mut updates = Vec::with_capacity(KEYSTROKES);
    for (at, &letter) in (middle..).zip(LETTERS.iter().cycle().take(KEYSTROKES)) {
        let mut txn = doc.transact_mut();
        root.insert(&mut txn, at, char::from(letter).encode_utf8(&mut [0; 4]));
        updates.push(txn.encode_update_v1());
    }
    Ok(updates)
}

fn keystroke_micros(server: &Server, path: &str, client: u64, updates: &[Vec<u8>]) -> Result<f64> {
    let mut editor = Editor::connect(server.addr(), path)?;
    editor.join()?;
    let before = server.cpu_seconds()?;
    pipeline(&mut editor, client, updates)?;
    Ok((server.cpu_seconds()? - before) * 1e6 / updates.len() as f64)
}

/// Sends updates of one client, a window at a time, each window once the one before is acknowledged.
fn pipeline(editor: &mut Editor, client: u64, updates: &[Vec<u8>]) -> Result<()> {
    let mut acked = 0;
    for window in updates.chunks(WINDOW) {
        let mut wanted = 0;
        for update in window {
            delivery::scan(update, |range| wanted = wanted.max(range.to)).context("an update of our own")?;
        }
        editor.send(|out| window.iter().for_each(|update| wire::put_update(out, update)))?;
        // A window of deletions alone moves no clock; the next one waits for both.
        while acked < wanted {
            acked = acked.max(editor.hear(|message| reached(message, client))?);
        }
    }
    Ok(())
}

/// Up to which clock of a client a message reaches.
fn reached(message: Message<'_>, client: u64) -> u32 {
    let mut to = 0;
    if let Message::Update(update) | Message::Step2(update) = message {
        let scanned = delivery::scan(update, |range| {
            if u64::from(range.client) == client {
                to = to.max(range.to);
            }
        });
        if scanned.is_err() {
            return 0;
        }
    }
    to
}
