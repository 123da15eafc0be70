//! One person's editor: a real Yjs document, its undo manager, and what it knew at each edit.
//!
//! Keeps its document whatever happens to regions, as a browser tab does.

use super::documents::{Essence, deletes};
use bytes::Bytes;
use quire_protocol::document::Live;
use quire_protocol::fields::{FIELDS_ROOT, Held, Value};
use quire_protocol::ids::DocId;
use quire_protocol::update::{Limits, Shape, TypeKind, Update};
use std::sync::Arc;
use yrs::types::Attrs;
use yrs::undo::{Options, UndoManager};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Any, Doc, Map, MapPrelim, MapRef, Out, ReadTxn, StateVector, Text, TextRef, Transact};

/// The root text that everybody types in.
pub(super) const ROOT: &str = "content";
/// The origin of what is not typed here: it is not undone.
const REMOTE: &str = "remote";

pub(super) struct Editor {
    pub(super) client: u32,
    /// The document that it has open, and its copy of it.
    pub(super) of: DocId,
    doc: Live,
    text: TextRef,
    root: MapRef,
    undo: UndoManager<()>,
    /// All that its document holds.
    pub(super) shape: Shape,
    /// The region it connects to, and its session there.
    pub(super) region: usize,
    pub(super) session: Option<u64>,
    /// It has told its region all that the region lacked.
    pub(super) told: bool,
    /// How many sessions it has had.
    pub(super) sessions: u64,
    /// Its network is there.
    pub(super) online: bool,
    /// Its tab was closed for good.
    pub(super) closed: bool,
}

impl Editor {
    pub(super) fn new(client: u32, region: usize, of: DocId) -> Self {
        let doc = Live::new(u64::from(client));
        let text = doc.get_or_insert_text(ROOT);
        let root = doc.get_or_insert_map(FIELDS_ROOT);
        // Every edit is undone by itself: the wall clock must not join any.
        let options = Options { capture_timeout_millis: 0, timestamp: Arc::new(|| 1), ..Options::default() };
        let mut undo = UndoManager::with_options(options);
        undo.expand_scope(&doc, &text);
        undo.expand_scope(&doc, &root);
        Self {
            client,
            of,
            doc,
            text,
            root,
            undo,
            shape: Shape::new(),
            region,
            session: None,
            told: false,
            sessions: 0,
            online: true,
            closed: false,
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.text.len(&self.doc.transact())
    }

    pub(super) fn types(&mut self, at: u32, what: &str) -> Update {
        let mut txn = self.doc.transact_mut();
        self.text.insert(&mut txn, at, what);
        let update = txn.encode_update_v1();
        drop(txn);
        self.made(update)
    }

    pub(super) fn deletes(&mut self, at: u32, len: u32) -> Update {
        let mut txn = self.doc.transact_mut();
        self.text.remove_range(&mut txn, at, len);
        let update = txn.encode_update_v1();
        drop(txn);
        self.made(update)
    }

    pub(super) fn formats(&mut self, at: u32, len: u32, key: &str, on: bool) -> Update {
        let mut txn = self.doc.transact_mut();
        let value = if on { Any::Bool(true) } else { Any::Null };
        self.text.format(&mut txn, at, len, Attrs::from([(key.into(), value)]));
        let update = txn.encode_update_v1();
        drop(txn);
        self.made(update)
    }

    /// Writes fields, all at once; none when that changes nothing.
    pub(super) fn writes(&mut self, edits: &[FieldEdit]) -> Option<Update> {
        let mut txn = self.doc.transact_mut();
        for FieldEdit { key, within, does } in edits {
            let map = match within {
                None => Some(self.root.clone()),
                Some(within) => match self.root.get(&txn, within) {
                    Some(Out::YMap(map)) => Some(map),
                    _ => None,
                },
            };
            let Some(map) = map else { continue };
            match does {
                Does::Set(value) => drop(map.insert(&mut txn, *key, value.clone())),
                Does::Delete => drop(map.remove(&mut txn, key)),
                Does::Nest => drop(map.insert(&mut txn, *key, MapPrelim::default())),
            }
        }
        let update = txn.encode_update_v1();
        drop(txn);
        let is_news = !decoded(update.clone().into()).is_empty();
        is_news.then(|| self.made(update))
    }

    /// What it shows under a key of a field's map.
    pub(super) fn shows(&self, keys: &[Arc<str>]) -> Held {
        shown(&self.doc, keys)
    }

    /// Undoes its last edit; none when there is nothing to undo.
    pub(super) fn undoes(&mut self) -> Option<Update> {
        let before = self.doc.transact().state_vector();
        if !self.undo.undo_blocking() {
            return None;
        }
        let update = self.doc.transact().encode_state_as_update_v1(&before);
        Some(self.made(update))
    }

    fn made(&mut self, update: Vec<u8>) -> Update {
        let update = decoded(update.into());
        self.shape.record(&update);
        update
    }

    /// Takes what its region, or the tab it is a copy of, has.
    pub(super) fn hears(&mut self, update: &Bytes) {
        self.shape.record(&decoded(update.clone()));
        let update = yrs::Update::decode_v1(update).expect("it has been checked");
        let mut txn = self.doc.transact_mut_with(REMOTE);
        txn.apply_update(update).expect("what was admitted can be applied");
    }

    /// What a state vector lacks, with every deletion.
    pub(super) fn lacking(&self, held: &[u8]) -> Bytes {
        let held = StateVector::decode_v1(held).expect("a state vector");
        self.doc.transact().encode_state_as_update_v1(&held).into()
    }

    pub(super) fn essence(&self) -> Essence {
        (self.shape.state_vector(), deletes(&self.doc))
    }

    pub(super) fn state_vector(&self) -> Vec<u8> {
        self.doc.transact().state_vector().encode_v1()
    }
}

/// What an editor does with one key of the root map of fields, or of a map within it.
pub(super) struct FieldEdit {
    pub(super) key: &'static str,
    pub(super) within: Option<&'static str>,
    pub(super) does: Does,
}

pub(super) enum Does {
    Set(Any),
    Delete,
    /// Sets an empty map.
    Nest,
}

/// What a Yjs document shows in a field.
pub(super) fn shown(doc: &Doc, keys: &[Arc<str>]) -> Held {
    let (Some((last, way)), txn) = (keys.split_last(), doc.transact()) else { return Held::Deleted };
    let mut map = txn.get_map(FIELDS_ROOT);
    for key in way {
        map = match map.and_then(|map| map.get(&txn, key)) {
            Some(Out::YMap(map)) => Some(map),
            _ => None,
        };
    }
    match map.and_then(|map| map.get(&txn, last)) {
        None => Held::Deleted,
        Some(Out::YMap(_)) => Held::Shared(TypeKind::Map),
        Some(Out::Any(any)) => Held::Value(value_of(&any)),
        Some(_) => Held::Unknown,
    }
}

/// A value as the protocol has it.
pub(super) fn value_of(any: &Any) -> Value {
    match any {
        Any::Null => Value::Null,
        Any::Undefined => Value::Undefined,
        Any::Bool(value) => Value::Bool(*value),
        Any::Number(value) => Value::from(number(*value)),
        Any::String(value) => Value::from(&**value),
        Any::Buffer(value) => Value::Bytes(Bytes::copy_from_slice(value)),
        Any::Array(values) => values.iter().map(value_of).collect(),
        Any::Map(members) => {
            let members = members.iter().map(|(key, value)| (Arc::from(key.as_str()), value_of(value)));
            Value::Map(Arc::new(members.collect()))
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody writes such numbers here")]
const fn number(value: yrs::Number) -> f64 {
    match value {
        yrs::Number::Int(value) => value as f64,
        yrs::Number::Float(value) => value,
    }
}

/// Reads what an honest editor or region made.
pub(super) fn decoded(update: Bytes) -> Update {
    Update::decode_within(update, &Limits::STORED).expect("yrs writes what the strict decoder reads")
}
