//! Frames, writes and answers in words, for people who read transcripts.

use std::fmt;

use bytes::Bytes;
use quire_protocol::awareness;
use quire_protocol::close::CloseReason;
use quire_protocol::document::{Answer, Dialect, Refused, Write};
use quire_protocol::fields::FieldsEntry;
use quire_protocol::lib0::Reader;
use quire_protocol::update::{Clocks, Content, StateVector, Update};
use quire_protocol::ysync::{self, Message};

/// A frame of the server, read as a client of its dialect does.
#[derive(Debug)]
pub(crate) enum Said {
    Sync(Message),
    Awareness(Bytes),
    Status(bool),
    Denied(String),
}

/// Reads one frame of the server.
///
/// # Panics
/// When it is not exactly one message of the dialect.
pub(crate) fn read(dialect: &Dialect, frame: &Bytes) -> Said {
    let mut reader = Reader::new(frame.clone());
    if let Dialect::Hocuspocus(address) = dialect {
        assert_eq!(reader.var_str().expect("an address").as_str(), address.as_str());
    }
    let said = match reader.var_u64().expect("a type") {
        0 => Said::Sync(ysync::parse_sync(&mut reader).expect("a sync message")),
        1 => Said::Awareness(reader.var_bytes().expect("an awareness update")),
        2 => {
            assert_eq!(reader.var_u64(), Ok(0), "only a denial is sent");
            Said::Denied(reader.var_str().expect("a reason").as_str().to_owned())
        }
        8 => Said::Status(reader.var_u64().expect("a status") == 1),
        other => panic!("the server sent a message of type {other}"),
    };
    reader.finish().expect("one message a frame");
    said
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync(message) => f.write_str(&sync(message)),
            Self::Awareness(states) => f.write_str(&presence(states)),
            Self::Status(true) => f.write_str("saved"),
            Self::Status(false) => f.write_str("not saved"),
            Self::Denied(reason) => write!(f, "denied: {reason}"),
        }
    }
}

pub(crate) fn sync(message: &Message) -> String {
    let update = |bytes: &Bytes| Update::decode(bytes.clone()).map_or("garbage".to_owned(), |u| updates(&u));
    match message {
        Message::SyncStep1(held) => format!("has {}?", vector(held)),
        Message::SyncStep2(bytes) => format!("state {}", update(bytes)),
        Message::Update(bytes) => format!("update {}", update(bytes)),
        Message::Awareness(states) => presence(states),
        Message::QueryAwareness => "who is here?".to_owned(),
    }
}

pub(crate) fn vector(bytes: &[u8]) -> String {
    let Ok(held) = StateVector::decode(bytes) else { return "garbage".to_owned() };
    let held: Vec<String> = held.iter().map(|(client, clock)| format!("{client}:{clock}")).collect();
    if held.is_empty() { "nothing".to_owned() } else { held.join(" ") }
}

pub(crate) fn presence(states: &Bytes) -> String {
    let Ok(states) = awareness::decode(states.clone()) else { return "awareness garbage".to_owned() };
    let states: Vec<String> =
        states.iter().map(|s| format!("{}@{} {}", s.client, s.clock, s.json.as_str())).collect();
    if states.is_empty() {
        "awareness of nobody".to_owned()
    } else {
        format!("awareness {}", states.join(", "))
    }
}

/// What an update holds: the name of each block's first unit and its content, then deletions.
pub(crate) fn updates(update: &Update) -> String {
    let mut parts = Vec::new();
    for item in update.items() {
        let Clocks { start, end } = item.clocks();
        let what = match item.content() {
            Content::String => {
                let text = Reader::new(Bytes::copy_from_slice(item.content_bytes())).var_str();
                shortened(text.expect("a text").as_str())
            }
            Content::Gc => format!("gone×{}", end - start),
            Content::Deleted => format!("deleted×{}", end - start),
            Content::Format => "format".to_owned(),
            Content::Any => format!("value{}", item.key().map_or(String::new(), |key| format!(" of {key}"))),
            other => format!("{other:?}"),
        };
        parts.push(format!("{} {what}", item.id()));
    }
    for (client, ranges) in update.deletes() {
        let ranges: Vec<String> =
            ranges.iter().map(|range| format!("{}..{}", range.start, range.end)).collect();
        parts.push(format!("without {client}:{}", ranges.join(",")));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// The longest text that a transcript shows whole.
const TEXT_MAX: usize = 24;

fn shortened(text: &str) -> String {
    if text.chars().count() <= TEXT_MAX {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(TEXT_MAX / 2).collect();
    format!("{start:?}… ({} bytes)", text.len())
}

pub(crate) fn writes(writes: &[Write]) -> String {
    let words = writes.iter().map(|write| match write {
        Write::Create => "create".to_owned(),
        Write::Update(bytes) => updates(&Update::decode(bytes.clone()).expect("it was admitted")),
        Write::Fields(payload) => {
            let entry = FieldsEntry::decode(payload).expect("it was admitted");
            let marks: Vec<String> = entry.marks.iter().map(|mark| mark.write.to_string()).collect();
            let update = updates(&Update::decode(entry.update).expect("it was admitted"));
            format!("{update} fields({})", marks.join(" "))
        }
        Write::Graph(_) => "graph".to_owned(),
        Write::Delete { .. } => "delete".to_owned(),
        Write::Restore => "restore".to_owned(),
    });
    words.collect::<Vec<_>>().join("; ")
}

pub(crate) fn close(reason: &CloseReason) -> String {
    format!("{} {}", reason.code(), reason.text())
}

pub(crate) fn answer(answer: &Result<Answer, Refused>) -> String {
    match answer {
        Ok(Answer::Update(bytes)) => {
            format!("state {}", updates(&Update::decode(bytes.clone()).expect("a state can be read")))
        }
        Ok(Answer::Text(text)) => text.as_ref().map_or("no such text".to_owned(), |text| format!("{text:?}")),
        Ok(Answer::Info { sessions, state_vector, .. }) => {
            format!("{sessions} sessions, holds {}", vector(&state_vector.encode()))
        }
        Ok(Answer::Fields(views)) => {
            let views =
                views.iter().map(|view| format!("{}: {} versions", view.path, view.state.versions.len()));
            views.collect::<Vec<_>>().join("; ")
        }
        Ok(Answer::Saved { changed: true }) => "saved".to_owned(),
        Ok(Answer::Saved { changed: false }) => "nothing to save".to_owned(),
        Err(Refused::Reason(reason)) => format!("refused: {}", close(reason)),
        Err(missing) => format!("refused: {missing}"),
    }
}
