//! What a region writes on top of siblings, so that every editor is shown the same and can resolve it.
//!
//! A write-back is one item with the merged or the shown value. Whoever edits the field next replaces it, and has
//! seen what it renders. Beside it stands what is in conflict, under [`CONFLICTS_KEY`], for editors that show it.
//!
//! Invariant: for one set of siblings regions of one schema write back [`WRITE_BACKS_MAX`] times at most, so that
//! regions which do not agree, on a schema or by a mistake, cannot write for ever.

use super::compose::{Composer, Holds};
use super::graph::{Graph, Place, RegisterIx};
use super::held::Held;
use super::path::Path;
use super::policy::Policy;
use super::register::{NodeIx, Register};
use super::state::{FieldState, SIBLINGS_MAX, Shown, Version, state};
use super::value::Value;
use super::write::{Mark, MarkKind, WriteBackMark, WriteId};
use crate::update::{ClientId, ItemId, TypeKind};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The key of the root map under which editors find what is in conflict: a map with, for each field, an object
/// of the conflict's id, its versions and its base.
pub const CONFLICTS_KEY: &str = "__conflicts";

/// The Yjs client that makes the map of conflicts. Every region makes it as the same item.
pub const CONFLICTS_CLIENT: ClientId = ClientId(1);

/// The key of the root map under which each Yjs client that writes back has its first item. Nothing is shown there.
pub const WRITERS_KEY: &str = "__writers";

/// So often one set of siblings is written back by one schema. Once is enough, but where a region comes to know
/// of an earlier entry that carries the same write: then what is shown may be another.
pub(super) const WRITE_BACKS_MAX: usize = 8;

/// A longer version is shown by its length alone; the whole is to be had over HTTP.
pub const VERSION_BYTES_MAX: usize = 4 << 10;

/// So many versions of a conflict are shown to editors.
pub const VERSIONS_SHOWN_MAX: usize = 64;

/// Items that are to be written, with what is to be said about them.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) composer: Composer,
    pub(super) marks: Vec<Mark>,
    /// The next clock of each client that writes.
    pub(super) clocks: BTreeMap<ClientId, u32>,
}

/// An update to be admitted, with marks of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drafted {
    /// The update.
    pub update: Bytes,
    /// What is to be said about its writes.
    pub marks: Vec<Mark>,
}

impl Draft {
    pub(super) fn finish(self) -> Option<Drafted> {
        let Self { composer, marks, .. } = self;
        (!composer.is_empty() || !marks.is_empty()).then(|| Drafted { update: composer.finish(), marks })
    }

    /// The next item of a client, whose next clock is this when it has written nothing here.
    pub(super) fn next(&mut self, client: ClientId, clock: impl FnOnce() -> u32) -> ItemId {
        let next = self.clocks.entry(client).or_insert_with(clock);
        let item = ItemId { client, clock: *next };
        *next += 1;
        item
    }
}

/// Who writes back.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// A Yjs client that nobody else is, and that writes nothing else.
    pub client: ClientId,
    /// The schema that it merges by.
    pub schema: [u8; 16],
}

/// Writes for whoever is the writer; `next_clock` tells a client's next clock in the document.
pub(super) struct WriteBack<'a> {
    pub(super) graph: &'a Graph,
    pub(super) writer: Writer,
    pub(super) next_clock: &'a dyn Fn(ClientId) -> u32,
    pub(super) draft: Draft,
}

impl<'a> WriteBack<'a> {
    /// Writes what one field needs, if anything.
    pub(super) fn field(&mut self, path: &Path, policy: &Policy) {
        let Some(ix) = self.graph.at(path) else { return };
        let register = self.graph.register(ix);
        if !register.is_contested() && self.told(path).is_none() {
            return;
        }
        let Some(state) = state(register, policy) else { return };
        self.value(ix, &state);
        self.conflict(path, &state);
    }

    fn value(&mut self, ix: RegisterIx, state: &FieldState) {
        let register = self.graph.register(ix);
        let Some(tail) = register.tail() else { return };
        let Shown::Value(shown) = &state.shown else { return };
        let of: Vec<NodeIx> =
            state.versions.iter().filter_map(|version| register.find(version.write)).collect();
        let is_shown = shows(register, tail) == *shown;
        let marked = register.write(tail).id.item();
        let is_alone = of[..] == [tail] || register.is_deletion_of(&of, tail);
        if is_shown && is_alone || of.len() > SIBLINGS_MAX {
            return;
        }
        let write_backs = register.write_backs(&of);
        let of_own = write_backs
            .iter()
            .filter(|&&ix| register.write(ix).write_back().is_some_and(|by| by.schema == self.writer.schema));
        let of_own = of_own.count();
        // Where another schema has had the last word, one answer is enough.
        let is_own = register.write(tail).write_back().is_some_and(|by| by.schema == self.writer.schema);
        let max = if is_own || !write_backs.contains(&tail) { WRITE_BACKS_MAX } else { 1 };
        if is_shown && write_backs.contains(&tail) || of_own >= max {
            return;
        }
        let kind = MarkKind::WriteBack(WriteBackMark { schema: self.writer.schema, absent: shown.is_none() });
        let sees = state.versions.iter().map(|version| version.write).collect();
        let holds = shown.as_ref().map_or(Holds::Nothing, Holds::Value);
        let write = WriteId::Set(self.set(self.graph.place(ix), Some(marked), holds));
        if !is_deleted(register, tail) {
            self.draft.composer.delete(marked);
        }
        self.draft.marks.push(Mark { write, kind, sees });
    }

    /// Shows editors what is in conflict, or that nothing is any more.
    fn conflict(&mut self, path: &Path, state: &FieldState) {
        let key: Arc<str> = path.to_string().into();
        let map = self.conflicts_map();
        let shown = self.told(path);
        let is_shown = shown.filter(|(tail, register)| !is_deleted(register, *tail));
        if state.conflict.is_none() {
            if let Some((tail, register)) = is_shown {
                self.draft.composer.delete(register.write(tail).id.item());
            }
            return;
        }
        let value = rendered(path, state);
        if is_shown.is_some_and(|(tail, register)| shows(register, tail).as_ref() == Some(&value)) {
            return;
        }
        // Where somebody else tells of the same conflict otherwise, neither has the last word for ever.
        if shown.is_some_and(|(tail, register)| is_told_enough(register, tail, &value)) {
            return;
        }
        let origin = shown.map(|(tail, register)| register.write(tail).id.item());
        let map = map.unwrap_or_else(|| self.make_conflicts_map());
        if let Some((tail, register)) = is_shown {
            self.draft.composer.delete(register.write(tail).id.item());
        }
        self.set(&(Some(map), key), origin, Holds::Value(&value));
    }

    /// What editors were told last of a field, which may have been deleted since.
    fn told(&self, path: &Path) -> Option<(NodeIx, &'a Register)> {
        let register = self.graph.register_of(&(Some(self.conflicts_map()?), path.to_string().into()))?;
        Some((register.tail()?, register))
    }

    /// Says, before the first item of its client, that this one writes back. Where the region's disk is lost before
    /// another region has what it said beside its write-backs, whoever is given one by an editor still knows what it is.
    fn sign(&mut self) {
        let client = self.writer.client;
        if self.draft.clocks.contains_key(&client) || (self.next_clock)(client) > 0 {
            return;
        }
        let place = (None, WRITERS_KEY.into());
        let item = self.draft.next(client, || 0);
        self.draft.composer.set(item, &place, self.graph.tail(&place), Holds::Nothing);
    }

    fn set(&mut self, place: &Place, origin: Option<ItemId>, holds: Holds<'_>) -> ItemId {
        self.sign();
        let client = self.writer.client;
        let item = self.draft.next(client, || (self.next_clock)(client));
        self.draft.composer.set(item, place, origin, holds);
        item
    }

    /// The map of conflicts that editors see; none when there is none yet, or somebody deleted it.
    fn conflicts_map(&self) -> Option<ItemId> {
        if let Some(&clock) = self.draft.clocks.get(&CONFLICTS_CLIENT) {
            return Some(ItemId { client: CONFLICTS_CLIENT, clock: clock - 1 });
        }
        let register = self.graph.register_of(&conflicts_place())?;
        let tail = register.tail()?;
        let is_map = register.write(tail).held == Held::Shared(TypeKind::Map);
        (is_map && !is_deleted(register, tail)).then(|| register.write(tail).id.item())
    }

    fn make_conflicts_map(&mut self) -> ItemId {
        let place = conflicts_place();
        let register = self.graph.register_of(&place);
        let origin = register.and_then(|register| Some(register.write(register.tail()?).id.item()));
        let item = self.draft.next(CONFLICTS_CLIENT, || (self.next_clock)(CONFLICTS_CLIENT));
        self.draft.composer.set(item, &place, origin, Holds::Map);
        item
    }
}

/// The fields that editors are told are in conflict.
pub(super) fn told(graph: &Graph) -> impl Iterator<Item = Path> {
    let map = graph.tail(&conflicts_place());
    let keys = map.into_iter().flat_map(|map| {
        let of_map = (Some(map), Arc::from(""))..;
        graph.by_place.range(of_map).take_while(move |((at, _), _)| *at == Some(map))
    });
    keys.filter_map(|((_, key), &ix)| {
        let register = graph.register(ix);
        register.tail().filter(|&tail| !is_deleted(register, tail)).and_then(|_| key.parse().ok())
    })
}

/// The field of which a register tells editors, if it is one that does.
pub(super) fn told_by(graph: &Graph, ix: RegisterIx) -> Option<Path> {
    let (map, key) = graph.place(ix);
    map.filter(|&map| graph.tail(&conflicts_place()) == Some(map))?;
    key.parse().ok()
}

fn conflicts_place() -> Place {
    (None, CONFLICTS_KEY.into())
}

/// Whether the key was deleted when this item held its value, or it never held one.
pub(super) fn is_deleted(register: &Register, ix: NodeIx) -> bool {
    let write = register.write(ix);
    *write.left() == Held::Deleted || register.is_deleted(write.id.item())
}

/// What Yjs shows while this item is the last, as far as it is plain.
fn shows(register: &Register, tail: NodeIx) -> Option<Value> {
    match register.write(tail).left() {
        Held::Value(value) if !is_deleted(register, tail) => Some(value.clone()),
        _ => None,
    }
}

/// Whether the last [`WRITE_BACKS_MAX`] that were told all tell of the conflict that this does.
fn is_told_enough(register: &Register, tail: NodeIx, value: &Value) -> bool {
    let id = |value: &Value| match value {
        Value::Map(members) => members.get("id").cloned(),
        _ => None,
    };
    let up = |&ix: &NodeIx| register.find(WriteId::Set(register.write(ix).origin?));
    let told = std::iter::successors(Some(tail), up).take(WRITE_BACKS_MAX);
    let same =
        told.filter(|&ix| matches!(&register.write(ix).held, Held::Value(told) if id(told) == id(value)));
    same.count() == WRITE_BACKS_MAX
}

/// What editors are told of a conflict.
fn rendered(path: &Path, state: &FieldState) -> Value {
    let versions: Value = state.versions.iter().take(VERSIONS_SHOWN_MAX).map(version).collect();
    let mut members: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    members.insert("id".into(), Value::from(state.conflict_id(path).to_string().as_str()));
    members.insert("versions".into(), versions);
    if let super::state::Base::Write(held) | super::state::Base::Several(Some(held)) = &state.base {
        members.insert("base".into(), spelt(held));
    }
    if let Some(Some(reason)) = &state.conflict {
        members.insert("reason".into(), Value::from(reason.to_string().as_str()));
    }
    Value::Map(Arc::new(members))
}

fn version(version: &Version) -> Value {
    let (hlc, _) = version.by.stamp;
    let author = version.by.who.author.clone();
    let author = author.unwrap_or_else(|| format!("client {}", version.write.item().client).into());
    let mut members: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    #[expect(clippy::cast_precision_loss, reason = "a time in milliseconds has 48 bits")]
    members.insert("timestamp".into(), Value::from(hlc.ms() as f64));
    members.insert("origin".into(), Value::String(version.by.who.region.clone()));
    members.insert("author".into(), Value::String(author));
    members.insert("write".into(), Value::from(version.write.to_string().as_str()));
    match &version.held {
        Held::Deleted => members.insert("deleted".into(), Value::Bool(true)),
        held => members.insert("value".into(), spelt(held)),
    };
    Value::Map(Arc::new(members))
}

/// A value as it is shown among others: in full while it is short.
fn spelt(held: &Held) -> Value {
    let about = |name: &str, value: Value| Value::Map(Arc::new([(Arc::from(name), value)].into()));
    match held {
        #[expect(clippy::cast_precision_loss, reason = "no value is that long")]
        Held::Value(value) => match value.encoded_len() {
            long if long > VERSION_BYTES_MAX => about("$bytes_left_out", Value::from(long as f64)),
            _ => value.clone(),
        },
        Held::Shared(_) => about("$shared", Value::Bool(true)),
        Held::Subdoc => about("$document", Value::Bool(true)),
        Held::Deleted => Value::Null,
        Held::Unknown => about("$unknown", Value::Bool(true)),
    }
}
