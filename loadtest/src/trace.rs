//! Recorded editing traces, and documents with such a history.
//!
//! A trace is gzipped JSON, `{ startContent, endContent, txns: [{ patches: [[at, deleted, inserted]] }] }`,
//! its positions counted in Unicode code points. Where no folder of traces is given a made-up history of
//! the same size stands in; reports say which it was.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde::Deserialize;
use yrs::{ClientID, Doc, GetString, OffsetKind, Options, Text, Transact};

use crate::rates::Dice;
use crate::typist::ROOT;

/// The trace that joins are measured on: 182,315 inserts and 77,463 deletes of one letter.
pub const PAPER: &str = "automerge-paper.json.gz";

/// How many edits a made-up history has: as many as that trace, about.
pub const MADE_UP_EDITS: usize = 260_000;

/// Who types a trace.
pub const TRACE_CLIENT: u32 = 0x7ace_0001;

/// A recorded history of one text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The text before.
    pub start_content: String,
    /// The text after.
    pub end_content: String,
    /// The edits in order.
    pub txns: Vec<Txn>,
}

/// Edits made at once.
#[derive(Debug, Deserialize)]
pub struct Txn {
    /// Where (in code points), how many deleted, what inserted.
    pub patches: Vec<(usize, usize, String)>,
}

impl Trace {
    /// Reads a gzipped trace.
    ///
    /// # Errors
    /// When there is none at that path or it is not one.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let json = BufReader::new(GzDecoder::new(BufReader::new(file)));
        serde_json::from_reader(json).with_context(|| format!("{} is not a trace", path.display()))
    }

    /// A made-up history: runs of typing at places that move about, a third of it taken back.
    #[must_use]
    pub fn made_up(edits: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut txns = Vec::with_capacity(edits);
        let (mut text, mut at) = (Vec::new(), 0);
        while txns.len() < edits {
            if dice.below(20) == 0 {
                at = usize::try_from(dice.below(text.len() as u64 + 1)).unwrap_or(0);
            }
            if at > 0 && dice.below(10) < 3 {
                at -= 1;
                text.remove(at);
                txns.push(Txn { patches: vec![(at, 1, String::new())] });
            } else {
                let letter = b'a' + u8::try_from(dice.below(26)).unwrap_or(0);
                text.insert(at, letter);
                txns.push(Txn { patches: vec![(at, 0, char::from(letter).to_string())] });
                at += 1;
            }
        }
        let end_content = String::from_utf8_lossy(&text).into_owned();
        Self { start_content: String::new(), end_content, txns }
    }
}

/// A document with a history: the updates an editor would have sent, and what they make.
pub struct History {
    /// The document after all of them.
    pub doc: Doc,
    /// One update per edit, in order.
    pub updates: Vec<Vec<u8>>,
}

/// Types a trace into a new document.
///
/// # Errors
/// When the trace does not give its own end.
pub fn type_out(trace: &Trace) -> Result<History> {
    let history = type_some(trace, usize::MAX)?;
    let root = history.doc.get_or_insert_text(ROOT);
    let text = root.get_string(&history.doc.transact());
    ensure!(text == trace.end_content, "the trace does not give its own end");
    Ok(history)
}

/// Types the first edits of a trace, so many at most.
///
/// # Errors
/// When the trace has letters of two UTF-16 units.
pub fn type_some(trace: &Trace, edits: usize) -> Result<History> {
    let options = Options {
        offset_kind: OffsetKind::Utf16,
        ..Options::with_client_id(ClientID::new(u64::from(TRACE_CLIENT)))
    };
    let doc = Doc::with_options(options);
    let root = doc.get_or_insert_text(ROOT);
    let texts = trace.txns.iter().flat_map(|txn| txn.patches.iter().map(|patch| &patch.2));
    let all_short = texts.chain([&trace.start_content]).all(|text| text.chars().all(|c| c.len_utf16() == 1));
    ensure!(all_short, "the trace has letters of two UTF-16 units, so its positions are not Yjs's");
    let mut updates = Vec::with_capacity(trace.txns.len().min(edits));
    if !trace.start_content.is_empty() {
        let mut txn = doc.transact_mut();
        root.insert(&mut txn, 0, &trace.start_content);
        updates.push(txn.encode_update_v1());
    }
    for txn in trace.txns.iter().take(edits) {
        let mut edit = doc.transact_mut();
        for (at, deleted, inserted) in &txn.patches {
            let at = u32::try_from(*at)?;
            if *deleted > 0 {
                root.remove_range(&mut edit, at, u32::try_from(*deleted)?);
            }
            if !inserted.is_empty() {
                root.insert(&mut edit, at, inserted);
            }
        }
        updates.push(edit.encode_update_v1());
    }
    Ok(History { doc, updates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_trace_gives_its_end() {
        let trace = Trace::made_up(2_000, 5);
        let history = type_out(&trace).unwrap();
        assert_eq!(history.updates.len(), 2_000);
        assert!(trace.end_content.len() > 500);
    }
}
