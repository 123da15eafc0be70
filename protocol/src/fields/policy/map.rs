//! Objects, key by key.

use super::{Base, Kind, Merged, Reason, Sides, written};
use crate::fields::Value;
use crate::update::ANY_DEPTH_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many keys a reason names; more are counted. As many as people read.
pub const KEYS_NAMED_MAX: usize = 8;

/// The longest name of a key in a reason, in bytes; a longer one is cut.
const KEY_NAMED_BYTES_MAX: usize = 64;

type Members = BTreeMap<Arc<str>, Value>;

/// Merges the objects; what is shown of a conflict has every other key merged.
pub(super) fn merge(base: Base<'_>, sides: &Sides<'_>) -> Merged {
    let (base, objects) = match objects(base, sides) {
        Ok(found) => found,
        Err(reason) => return sides.conflict(reason),
    };
    let mut conflicts = Conflicts::default();
    let merged = merge_members(base, &objects, &mut Path { names: Vec::new() }, &mut conflicts);
    let shown = Some(Value::Map(Arc::new(merged)));
    if sides.any_cleared() {
        return Merged::Conflict { shown, reason: Some(Reason::Cleared) };
    }
    if conflicts.count == 0 {
        return Merged::Value(shown);
    }
    let more = conflicts.count - conflicts.named.len();
    Merged::Conflict { shown, reason: Some(Reason::Keys { named: conflicts.named, more }) }
}

/// The base's members and those of each version that is not cleared.
fn objects<'a>(base: Base<'a>, sides: &Sides<'a>) -> Result<(Option<&'a Members>, Vec<&'a Members>), Reason> {
    let base = match base.known()? {
        None => None,
        Some(Value::Map(members)) => Some(members.as_ref()),
        Some(_) => return Err(Reason::BaseNotA(Kind::Object)),
    };
    let objects = sides.written().map(members).collect::<Option<Vec<_>>>();
    let objects = objects.ok_or(Reason::NotA(Kind::Object))?;
    // Cleared in different ways: there is no object to show.
    if objects.is_empty() { Err(Reason::Cleared) } else { Ok((base, objects)) }
}

fn members(value: &Value) -> Option<&Members> {
    match value {
        Value::Map(members) => Some(members),
        _ => None,
    }
}

/// The keys that lead to where a merge is.
struct Path<'a> {
    names: Vec<&'a str>,
}

#[derive(Default)]
struct Conflicts {
    named: Vec<Arc<str>>,
    count: usize,
}

impl Conflicts {
    fn note(&mut self, path: &Path<'_>) {
        self.count += 1;
        if self.named.len() < KEYS_NAMED_MAX {
            let mut name = path.names.join(".");
            name.truncate(name.floor_char_boundary(KEY_NAMED_BYTES_MAX));
            self.named.push(name.into());
        }
    }
}

/// `objects` come from the lowest stamp to the highest.
fn merge_members<'a>(
    base: Option<&'a Members>,
    objects: &[&'a Members],
    path: &mut Path<'a>,
    conflicts: &mut Conflicts,
) -> Members {
    let keys: BTreeSet<&Arc<str>> = objects.iter().copied().chain(base).flat_map(BTreeMap::keys).collect();
    let mut merged = Members::new();
    for key in keys {
        let before = base.and_then(|members| members.get(key));
        let after: Vec<_> = objects.iter().map(|members| members.get(key)).collect();
        path.names.push(key);
        if let Some(value) = merge_key(before, &after, path, conflicts) {
            merged.insert(Arc::clone(key), value);
        }
        path.names.pop();
    }
    merged
}

fn merge_key<'a>(
    before: Option<&'a Value>,
    after: &[Option<&'a Value>],
    path: &mut Path<'a>,
    conflicts: &mut Conflicts,
) -> Option<Value> {
    let changed: Vec<_> = after.iter().copied().filter(|value| *value != before).collect();
    let Some(latest) = changed.last().copied() else {
        return before.cloned();
    };
    if changed.iter().all(|value| *value == latest) {
        return latest.cloned();
    }
    // An object that was there, or none, under objects all round: its keys may part what the whole does not.
    let inner: Option<Vec<_>> = changed.iter().map(|value| value.and_then(members)).collect();
    let inner_base = before.map(members);
    if let Some(inner) = inner
        && inner_base != Some(None)
        && path.names.len() < ANY_DEPTH_MAX
    {
        return Some(Value::Map(Arc::new(merge_members(inner_base.flatten(), &inner, path, conflicts))));
    }
    conflicts.note(path);
    let shown = changed.iter().rev().find_map(|value| written(*value));
    shown.or_else(|| changed.iter().rev().find_map(|value| *value)).cloned()
}
