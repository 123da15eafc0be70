//! How long a lone writer waits for the acknowledgement, against one fdatasync of the same disk.

use std::time::Instant;

use anyhow::Result;

use super::Options;
use super::report::{Report, Row};
use crate::delivery;
use crate::disk;
use crate::editor::Editor;
use crate::rates::{self, median};
use crate::typist::Typist;
use crate::wire::{self, Message};

/// Keystrokes, and synced appends, in a block; blocks of both alternate, so both see the same disk.
const BLOCK: u32 = 300;
const CLIENT: u32 = 0xb000_0001;
const SCENARIO: &str = "lone writer";

/// One writer, one document, the next letter once the last is acknowledged.
///
/// # Errors
/// When the server cannot be started or ends the session.
pub fn lone_writer(options: &Options, report: &mut Report) -> Result<()> {
    options.clear("lone")?;
    let server = options.quire_program("lone")?.start()?;
    let dir = options.data_dir("lone-disk")?;
    let mut editor = Editor::connect(server.addr(), "/ws/lone")?;
    editor.join()?;
    let mut typist = Typist::alone(CLIENT);
    let (mut acks, mut syncs) = (Vec::new(), Vec::new());
    type_block(&mut editor, &mut typist)?;
    for _ in 0..options.repeats {
        let sync = disk::synced_appends(&dir, BLOCK)?;
        syncs.push([0.5, 0.99].map(|q| rates::quantile_ms(&sync, q)));
        acks.push(type_block(&mut editor, &mut typist)?);
    }
    let of = |blocks: &[[f64; 2]], index: usize| blocks.iter().map(|block| block[index]).collect::<Vec<_>>();
    for (index, figure) in [(0, "p50"), (1, "p99")] {
        let (ack, sync) = (of(&acks, index), of(&syncs, index));
        let row = |who: &str, value, unit, note| Row {
            scenario: SCENARIO,
            who: who.into(),
            figure,
            value,
            unit,
            note,
        };
        report.add(row("fdatasync of 4 KiB", median(&sync), "ms", super::spread(&sync)));
        report.add(row("quire's ack", median(&ack), "ms", super::spread(&ack)));
        let ratios: Vec<_> = ack.iter().zip(&sync).map(|(ack, sync)| ack / sync).collect();
        report.add(row("ack : fdatasync", median(&ratios), "", super::spread(&ratios)));
    }
    drop(editor);
    server.stop()?;
    options.clear("lone-disk")?;
    options.clear("lone")
}

/// The p50 and p99 of a block of keystrokes, in milliseconds.
fn type_block(editor: &mut Editor, typist: &mut Typist) -> Result<[f64; 2]> {
    let mut histogram = rates::latencies();
    for _ in 0..BLOCK {
        let mut update = Vec::new();
        typist.put_keystroke(&mut update);
        let started = Instant::now();
        editor.send(|out| wire::put_update(out, &update))?;
        while !editor.hear(|message| acknowledges(message, typist.typed()))? {}
        histogram.saturating_record(u64::try_from(started.elapsed().as_micros())?);
    }
    Ok([0.5, 0.99].map(|q| rates::quantile_ms(&histogram, q)))
}

fn acknowledges(message: Message<'_>, typed: u32) -> bool {
    let mut acked = false;
    if let Message::Update(update) = message {
        let scanned = delivery::scan(update, |range| acked |= range.client == CLIENT && range.to == typed);
        acked &= scanned.is_ok();
    }
    acked
}
