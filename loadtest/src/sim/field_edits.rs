//! What people do to fields in a run, in editors and over HTTP.

use super::editor::{Does, FieldEdit};
use super::plant::Plant;
use super::world::World;
use quire_protocol::fields::{ConflictId, Edit, FieldVersion, Held, Number, Path, Value};
use quire_protocol::ids::DocId;
use std::sync::Arc;
use yrs::Any;

/// The keys that people write; few enough to be written at once. What the rules do not name keeps its siblings.
const KEYS: [&str; 8] = ["title", "title", "status", "votes", "note", "tags", "top", "stage"];
/// A key that holds a map, and keys within it.
const MAP: &str = "place";
const WITHIN: [&str; 2] = ["city", "street"];
const STAGES: [&str; 3] = ["todo", "doing", "done"];
/// Versions and conflicts that somebody has read and may yet write on, in a run.
const READ_MAX: usize = 12;

/// What somebody has read of a field over HTTP.
pub(super) struct ReadField {
    doc: DocId,
    path: Path,
    version: FieldVersion,
    conflict: ConflictId,
}

impl World {
    /// An editor writes one field or several, all at once.
    pub(super) fn writes_fields(&mut self, editor: usize) {
        let count = if self.rng.percent(25) { 2 + self.rng.index(2) } else { 1 };
        let edits: Vec<FieldEdit> = (0..count).map(|_| self.draw_edit(editor)).collect();
        let Some(update) = self.editors[editor].writes(&edits) else { return };
        self.totals.field_edits += 1;
        let told: Vec<String> = edits.iter().map(FieldEdit::told).collect();
        self.say_of(editor, format_args!("{}", told.join(", ")));
        self.edited(editor, &update);
    }

    fn draw_edit(&mut self, editor: usize) -> FieldEdit {
        let is_within = self.rng.percent(20);
        let (key, within) = if is_within {
            (WITHIN[self.rng.index(WITHIN.len())], Some(MAP))
        } else {
            (KEYS[self.rng.index(KEYS.len())], None)
        };
        if is_within && self.editors[editor].shows(&[MAP.into()]) == Held::Deleted || self.rng.percent(2) {
            // Sometimes a key that holds plain values otherwise.
            let key = if is_within { MAP } else { key };
            return FieldEdit { key, within: None, does: Does::Nest };
        }
        if self.rng.percent(15) {
            return FieldEdit { key, within, does: Does::Delete };
        }
        let keys: Vec<Arc<str>> = within.into_iter().chain([key]).map(Arc::from).collect();
        let shown = self.editors[editor].shows(&keys);
        let value = any_of(&self.draw_value(key, &shown));
        FieldEdit { key, within, does: Does::Set(value) }
    }

    /// A value that somebody may write who is shown this.
    fn draw_value(&mut self, key: &str, shown: &Held) -> Value {
        let number = self.next_number();
        let old = match shown {
            Held::Value(value) => value.clone(),
            _ => Value::Null,
        };
        match (key, old) {
            // Not all that is written is of its field's type.
            _ if self.rng.percent(3) => Value::Bool(self.rng.percent(50)),
            ("votes", old) => {
                let was = if let Value::Number(was) = old { was } else { Number::new(0.0) };
                Value::from(was.get() + [1.0, 1.0, 2.0, -1.0][self.rng.index(4)])
            }
            ("top", _) => Value::from([1.0, 2.0, 3.0, 5.0, 8.0][self.rng.index(5)]),
            ("stage", _) => Value::from(STAGES[self.rng.index(3)]),
            ("note", Value::String(old)) if old.len() < 400 => {
                let mut lines: Vec<&str> = old.lines().collect();
                let line = format!("line {number}");
                let at = self.rng.index(lines.len() + 1);
                lines.insert(at, &line);
                Value::from(lines.join("\n").as_str())
            }
            ("tags", Value::List(old)) if old.len() < 8 => {
                let stays = old.iter().filter(|_| self.rng.percent(80)).cloned().collect::<Vec<_>>();
                stays.into_iter().chain([Value::from(format!("tag {number}").as_str())]).collect()
            }
            ("tags", _) => [Value::from(format!("tag {number}").as_str())].into_iter().collect(),
            _ => Value::from(format!("{key} {number}").as_str()),
        }
    }

    /// Somebody reads fields over HTTP, and writes or resolves one then, or later and elsewhere.
    pub(super) fn goes_without_editor(&mut self, at: usize) {
        let doc = self.draw_document();
        let region = &self.regions[at];
        let is_there = region.takes_writes() && !region.shows.get(doc).is_deleted();
        if !is_there || !region.log.as_ref().is_some_and(|log| log.info(doc).is_ok_and(|info| info.is_some()))
        {
            return;
        }
        self.reads_fields(at, doc);
        if self.rng.percent(30) { self.resolves(at) } else { self.patches(at, doc) }
    }

    fn reads_fields(&mut self, at: usize, doc: DocId) {
        let open = self.regions[at].shows.get(doc);
        let paths: Vec<Path> = open.fields.tracker.paths().into_iter().collect();
        if paths.is_empty() {
            return;
        }
        // Whoever reads looks at what is in conflict first.
        let contested = |path: &&Path| open.field(path).is_some_and(|state| state.versions.len() > 1);
        let of_these: Vec<&Path> = paths.iter().filter(contested).collect();
        let path = match &of_these[..] {
            [] => paths[self.rng.index(paths.len())].clone(),
            some => some[self.rng.index(some.len())].clone(),
        };
        let Some(state) = open.field(&path) else { return };
        let conflict = state.conflict_id(&path);
        self.workload.read_fields.push(ReadField { doc, path, version: state.version(), conflict });
        if self.workload.read_fields.len() > READ_MAX {
            self.workload.read_fields.remove(0);
        }
    }

    /// Writes one field or two, on what was read some time or on what is there.
    fn patches(&mut self, at: usize, doc: DocId) {
        let author = format!("person {}", self.next_number());
        let mut edits: Vec<Edit> = Vec::new();
        for _ in 0..=self.rng.index(2) {
            let of_doc = self.workload.read_fields.iter().filter(|read| read.doc == doc);
            let read: Vec<(Path, FieldVersion)> =
                of_doc.map(|read| (read.path.clone(), read.version.clone())).collect();
            let (path, on) = if read.is_empty() || self.rng.percent(40) {
                (Path::of(KEYS[self.rng.index(KEYS.len())]), None)
            } else {
                let (path, version) = read[self.rng.index(read.len())].clone();
                (path, Some(version).filter(|_| self.rng.percent(80)))
            };
            let value = self.draw_edited(at, doc, &path);
            if edits.iter().all(|edit| edit.path != path) {
                edits.push(Edit { path, value, on });
            }
        }
        if self.edit_fields(at, doc, &edits, &author) {
            self.totals.field_edits += 1;
            self.say(format_args!("{author} writes {edits:?} in region {at}"));
        }
    }

    fn draw_edited(&mut self, at: usize, doc: DocId, path: &Path) -> Option<Value> {
        let shown = self.regions[at].shows.get(doc).fields.tracker.shows(path).unwrap_or(Held::Deleted);
        let key = path.keys().last().cloned().unwrap_or_default();
        (!self.rng.percent(15)).then(|| self.draw_value(&key, &shown))
    }

    /// Resolves a conflict that was read some time.
    fn resolves(&mut self, at: usize) {
        if self.workload.read_fields.is_empty() {
            return;
        }
        let author = format!("person {}", self.next_number());
        let number = self.rng.index(self.workload.read_fields.len());
        let ReadField { doc, path, conflict, .. } = &self.workload.read_fields[number];
        let (doc, path, conflict) = (*doc, path.clone(), *conflict);
        let open = self.regions[at].shows.get(doc);
        let Some(on) = open.fields.tracker.conflict(&path, conflict).filter(|_| !open.is_deleted()) else {
            return;
        };
        let value = self.draw_edited(at, doc, &path);
        let edit = Edit { path, value, on: Some(on) };
        if self.resolve_field(at, doc, &edit, &author) {
            self.totals.field_edits += 1;
            self.say(format_args!("{author} resolves {conflict} in region {at}"));
        }
    }

    fn resolve_field(&mut self, at: usize, doc: DocId, edit: &Edit, author: &str) -> bool {
        let current = self.regions[at].shows.get(doc).field(&edit.path).map(|state| state.version());
        let made = if self.planted.is(Plant::ResolvesUnseen) { current } else { edit.on.clone() };
        let made = Edit { on: made, ..edit.clone() };
        self.edit_fields_as(at, doc, std::slice::from_ref(edit), &[made], author)
    }
}

impl FieldEdit {
    fn told(&self) -> String {
        let key = self.within.map_or_else(|| self.key.to_owned(), |within| format!("{within}/{}", self.key));
        match &self.does {
            Does::Set(value) => format!("sets {key} to {value:?}"),
            Does::Delete => format!("deletes {key}"),
            Does::Nest => format!("sets {key} to an empty map"),
        }
    }
}

/// A value as yrs has it.
fn any_of(value: &Value) -> Any {
    match value {
        Value::Bool(value) => Any::Bool(*value),
        Value::Number(value) => Any::from(value.get()),
        Value::String(value) => Any::String(value.clone()),
        Value::List(values) => Any::Array(values.iter().map(any_of).collect()),
        _ => Any::Null,
    }
}
