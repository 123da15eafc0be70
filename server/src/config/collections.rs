//! The schema in `quire.toml`: `[[collections]]`, their fields, and the scripts they name.
//!
//! Reading goes on past a problem with what can be made of the rest, so that no problem hides another and
//! none leads to a second one.
//!
//! Invariant: a schema that was read without a problem is valid, and its scripts have been checked.

use super::file::read_small;
use super::problem::Problem;
use super::reading::{At, FileText, Keys, Reading, did_you_mean};
use quire_protocol::fields::policy::script::Script;
use quire_protocol::fields::schema::{
    Collection, DeletePolicy, Field, FieldType, HomePolicy, IdStrategy, Policy, Reference, ReferencePolicy,
    Schema, SchemaError, Wrong,
};
use quire_protocol::ids::ReplicaId;
use quire_protocol::pattern::Pattern;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The key of the file that holds the schema.
pub(super) const COLLECTIONS: &str = "collections";

const COLLECTION_KEYS: &[&str] = &["name", "pattern", "on-delete", "ids", "claims-at", "default", "fields"];
const FIELD_KEYS: &[&str] =
    &["type", "policy", "script", "script-file", "required", "unique", "reference", "home"];
const REFERENCE_KEYS: &[&str] = &["collection", "on-delete"];

const POLICIES: &str = "siblings, lww, text3, set, counter, max, min, map, { rank = [\"first\", \"last\"] }, or custom \
                        with a script or a script-file";

/// Looks at a script before anything starts: what passes here can be run.
///
/// # Errors
/// What is wrong with it, in a sentence without its full stop.
fn check_script(script: &str) -> Result<(), String> {
    if script.trim().is_empty() {
        return Err("the script is empty".to_owned());
    }
    Script::compile(script).map(drop).map_err(|error| error.to_string())
}

/// Reads the schema; adds what is wrong with it to the problems, by its line.
pub(super) fn read(file: FileText<'_>, value: &Spanned<DeValue<'_>>, problems: &mut Vec<Problem>) -> Schema {
    let mut reading = Reading::new(file);
    let schema = reading.schema(value);
    reading.tell(problems);
    schema
}

/// Where the parts of a collection or of a field stand, for what is found wrong when all have been read.
#[derive(Default)]
struct Places {
    own: Option<At>,
    keys: BTreeMap<&'static str, At>,
    fields: BTreeMap<String, Places>,
}

impl Places {
    fn of(own: &At, keys: &Keys<'_>) -> Self {
        let keys = keys.iter().map(|(key, (at, _))| (*key, at.clone())).collect();
        Self { own: Some(own.clone()), keys, fields: BTreeMap::new() }
    }
}

impl Reading<'_> {
    fn schema(&mut self, value: &Spanned<DeValue<'_>>) -> Schema {
        let at = At { key: COLLECTIONS.to_owned(), byte: value.span().start };
        let DeValue::Array(all) = value.get_ref() else {
            self.problem(&at, "collections are a list of tables", Some("[[collections]]"));
            return Schema::default();
        };
        let (mut collections, mut places) = (Vec::new(), Vec::new());
        for (number, one) in all.iter().enumerate() {
            let at = At { key: format!("{COLLECTIONS}[{}]", number + 1), byte: one.span().start };
            let (collection, place) = self.collection(&at, number, one);
            collections.push(collection);
            places.push(place);
        }
        Schema::new(collections).unwrap_or_else(|errors| {
            for error in errors {
                self.error(&error, &at, &places);
            }
            Schema::default()
        })
    }

    /// Tells of what does not go together, at the key that says it.
    fn error(&mut self, error: &SchemaError, schema: &At, places: &[Places]) {
        let collection = error.collection.and_then(|at| places.get(at));
        let field = error.field.as_ref().and_then(|field| collection?.fields.get(field));
        let place = field.or(collection);
        let key = keys_of(&error.wrong).iter().find_map(|key| place?.keys.get(key));
        let at = key.or_else(|| place?.own.as_ref()).unwrap_or(schema);
        self.problem(at, error.wrong.to_string(), None);
    }

    fn collection(&mut self, at: &At, number: usize, value: &Spanned<DeValue<'_>>) -> (Collection, Places) {
        // Until they are read; different from all others, so that they lead to no second problem.
        let (mut name, pattern) =
            (format!("collection-{}", number + 1), format!("collection {}", number + 1));
        let unread = |name: &str| Collection::new(name, &pattern).expect("a short text is a pattern");
        let Some(table) = self.table(at, value) else { return (unread(&name), Places::default()) };
        let given = table.get("name").and_then(|name| name.get_ref().as_str()).map(str::to_owned);
        let at = given
            .map_or_else(|| at.clone(), |name| At { key: format!("{COLLECTIONS}.{name}"), byte: at.byte });
        let keys = self.keys(&at, table, COLLECTION_KEYS);
        let mut places = Places::of(&at, &keys);
        match keys.get("name") {
            Some((at, value)) => name = self.text(at, value).unwrap_or(name),
            None => self.problem(&at, "a name is missing", Some("name = \"tasks\"")),
        }
        let mut collection = unread(&name);
        match keys.get("pattern") {
            Some((at, value)) => match self.text(at, value).map(|text| Pattern::new(&text)) {
                Some(Ok(pattern)) => collection.pattern = pattern,
                Some(Err(error)) => self.problem(at, error.to_string(), None),
                None => {}
            },
            None => {
                let accepted =
                    "document names in which * stands for any text within one segment, ** across segments";
                self.problem(&at, "a pattern is missing", Some(accepted));
            }
        }
        if let Some((at, value)) = keys.get("on-delete") {
            collection.on_delete =
                self.one_of(at, value, &DeletePolicy::ALL, |one| one.name()).unwrap_or_default();
        }
        if let Some((at, value)) = keys.get("ids") {
            collection.ids = self.ids(at, value);
        }
        if let Some((at, value)) = keys.get("claims-at") {
            collection.claims_at = self.replicas(at, value);
        }
        if let Some((at, value)) = keys.get("default") {
            collection.default = self.field(at, value).0;
        }
        if let Some((at, value)) = keys.get("fields")
            && let Some(fields) = self.table(at, value)
        {
            for (name, value) in fields {
                let at = at.under(name.get_ref(), name.span().start);
                let (field, place) = self.field(&at, value);
                collection.fields.insert(name.get_ref().clone().into_owned(), field);
                places.fields.insert(name.get_ref().clone().into_owned(), place);
            }
        }
        (collection, places)
    }

    fn field(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> (Field, Places) {
        let Some(table) = self.table(at, value) else { return (Field::default(), Places::default()) };
        let keys = self.keys(at, table, FIELD_KEYS);
        let places = Places::of(at, &keys);
        let ty = keys
            .get("type")
            .and_then(|(at, value)| self.one_of(at, value, &FieldType::ALL, |one| one.name()));
        let policy = self.policy(&keys);
        let mut switch =
            |key| keys.get(key).and_then(|(at, value)| self.switch(at, value)).unwrap_or_default();
        let (required, unique) = (switch("required"), switch("unique"));
        let reference = keys.get("reference").and_then(|(at, value)| self.reference(at, value));
        let home = keys
            .get("home")
            .and_then(|(at, value)| self.one_of(at, value, &HomePolicy::ALL, |one| one.name()));
        // A document's name is a string; and most policies go with one type only.
        let implied = if reference.is_some() { FieldType::String } else { policy.types()[0] };
        let ty = ty.unwrap_or(implied);
        (Field { ty, policy, required, unique, reference, home }, places)
    }

    fn policy(&mut self, keys: &Keys<'_>) -> Policy {
        let script = self.script(keys);
        let said = keys.get("policy").map(|(at, value)| (at, value.get_ref()));
        let script_at = ["script", "script-file"].iter().find_map(|key| keys.get(key)).map(|(at, _)| at);
        let is_custom = matches!(said, Some((_, DeValue::String(name))) if name.as_ref() == "custom");
        if let Some(at) = script_at.filter(|_| !is_custom) {
            self.problem(at, "a script is given, and the policy is another", Some("policy = \"custom\""));
        }
        let Some((at, value)) = said else { return Policy::default() };
        match value {
            DeValue::String(name) if is_custom => match (script, script_at) {
                (Some(script), _) => Policy::Custom(script.into()),
                (None, None) => {
                    self.problem(at, format!("{name} needs a script"), Some("script or script-file"));
                    Policy::default()
                }
                // It could not be read, and that has been told.
                (None, Some(_)) => Policy::default(),
            },
            DeValue::String(name) => self.plain_policy(at, name),
            DeValue::Table(table) => self.rank(at, table),
            _ => {
                self.other_kind(at, POLICIES);
                Policy::default()
            }
        }
    }

    fn plain_policy(&mut self, at: &At, name: &str) -> Policy {
        if let Some(policy) = Policy::PLAIN.iter().find(|policy| policy.name() == name) {
            return policy.clone();
        }
        let names = Policy::PLAIN.iter().map(Policy::name).chain(["rank", "custom"]);
        let message = match did_you_mean(name, names) {
            Some("rank") => "rank needs the order of its values".to_owned(),
            Some(meant) => format!("there is no policy {name:?}; did you mean {meant}?"),
            None => format!("there is no policy {name:?}"),
        };
        self.problem(at, message, Some(POLICIES));
        Policy::default()
    }

    fn rank(&mut self, at: &At, table: &DeTable<'_>) -> Policy {
        let keys = self.keys(at, table, &["rank"]);
        let Some((at, value)) = keys.get("rank") else {
            if table.is_empty() {
                self.problem(at, "it says nothing", Some(POLICIES));
            }
            return Policy::default();
        };
        let values = match value.get_ref() {
            DeValue::Array(all) => all.iter().map(|one| one.get_ref().as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        values.map(Policy::Rank).unwrap_or_else(|| {
            self.other_kind(at, "a list of texts, of which a later one goes over an earlier one");
            Policy::default()
        })
    }

    fn script(&mut self, keys: &Keys<'_>) -> Option<String> {
        let (at, script) = match (keys.get("script"), keys.get("script-file")) {
            (Some((at, value)), None) => (at, self.text(at, value)?),
            (None, Some((at, value))) => {
                let name = self.text(at, value)?;
                // Relative to the file that names it, wherever the server is started.
                let path = self.file.path.parent().unwrap_or(Path::new("")).join(name);
                let read = read_small(&path).map_err(|error| error.to_string());
                let text =
                    read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
                match text {
                    Ok(text) => (at, text),
                    Err(error) => {
                        self.problem(at, format!("cannot read {}: {error}", path.display()), None);
                        return None;
                    }
                }
            }
            (Some(_), Some((at, _))) => {
                self.problem(at, "a script is given twice", Some("script or script-file"));
                return None;
            }
            (None, None) => return None,
        };
        match check_script(&script) {
            Ok(()) => Some(script),
            Err(reason) => {
                self.problem(at, reason, None);
                None
            }
        }
    }

    fn reference(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<Reference> {
        if let DeValue::String(name) = value.get_ref() {
            let on_delete = ReferencePolicy::default();
            return Some(Reference { collection: name.clone().into_owned(), on_delete });
        }
        let DeValue::Table(table) = value.get_ref() else {
            self.other_kind(at, "a collection's name, or { collection = \"people\", on-delete = \"null\" }");
            return None;
        };
        let keys = self.keys(at, table, REFERENCE_KEYS);
        let on_delete = keys
            .get("on-delete")
            .and_then(|(at, value)| self.one_of(at, value, &ReferencePolicy::ALL, |one| one.name()));
        let Some((at, value)) = keys.get("collection") else {
            self.problem(at, "a collection is missing", Some("{ collection = \"people\" }"));
            return None;
        };
        let collection = self.text(at, value)?;
        Some(Reference { collection, on_delete: on_delete.unwrap_or_default() })
    }

    fn ids(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> Option<IdStrategy> {
        const ACCEPTED: &str = "uuid, range, or { short = \"EU\" }";
        match value.get_ref() {
            DeValue::String(name) if name == "uuid" => Some(IdStrategy::Uuid),
            DeValue::String(name) if name == "range" => Some(IdStrategy::Range),
            DeValue::Table(table) => {
                let keys = self.keys(at, table, &["short"]);
                let Some((at, value)) = keys.get("short") else {
                    if table.is_empty() {
                        self.problem(at, "it says nothing", Some(ACCEPTED));
                    }
                    return None;
                };
                self.text(at, value).map(|prefix| IdStrategy::Short { prefix })
            }
            DeValue::String(name) => {
                self.problem(at, format!("{name:?} is not accepted"), Some(ACCEPTED));
                None
            }
            _ => {
                self.other_kind(at, ACCEPTED);
                None
            }
        }
    }

    fn replicas(&mut self, at: &At, value: &Spanned<DeValue<'_>>) -> BTreeSet<ReplicaId> {
        const ACCEPTED: &str = "replica numbers, as in [1, 2]";
        let number = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse().ok().map(ReplicaId),
            _ => None,
        };
        let DeValue::Array(all) = value.get_ref() else {
            self.other_kind(at, ACCEPTED);
            return BTreeSet::new();
        };
        all.iter().map(number).collect::<Option<_>>().unwrap_or_else(|| {
            self.problem(at, "one of these is no replica's number", Some(ACCEPTED));
            BTreeSet::new()
        })
    }
}

/// The keys that may have led to an error, the likeliest first.
const fn keys_of(wrong: &Wrong) -> &'static [&'static str] {
    match wrong {
        Wrong::Collections(_) | Wrong::Bytes(_) | Wrong::FieldName => &[],
        Wrong::Fields(_) => &["fields"],
        Wrong::CollectionName | Wrong::SameName => &["name"],
        Wrong::NeverReached(_) => &["pattern"],
        Wrong::Type(..) => &["policy", "type"],
        Wrong::Rank => &["policy"],
        Wrong::Script(_) => &["script", "script-file"],
        Wrong::Unique(_) => &["unique"],
        Wrong::ReferenceType(_) => &["type", "reference"],
        Wrong::ReferenceTo(_) | Wrong::NullRequired => &["reference"],
        Wrong::Undeclared => &["default"],
        Wrong::Prefix => &["ids"],
        Wrong::ClaimsAt | Wrong::NothingToClaim => &["claims-at"],
    }
}
