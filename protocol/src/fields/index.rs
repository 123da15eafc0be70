//! What a document's fields say to other documents: values that no other may have, and documents that they name.

use super::claim::Claim;
use super::path::Path;
use super::rules::Rules;
use super::schema::Reference;
use super::state::Shown;
use super::tracker::Tracker;
use super::value::Value;
use crate::batch::{Stamp, put_stamp, read_stamp};
use crate::ids::DocName;
use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use bytes::Bytes;

/// So many documents that one field names are followed; the others are not repaired when they are deleted.
pub const REFERENCES_MAX: usize = 1_000;

/// What a document's fields say to other documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The values of its unique fields, in the order of their paths.
    pub claims: Vec<Claim>,
    /// The documents that its fields name, in that order.
    pub references: Vec<Naming>,
}

/// A document that a field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The field.
    pub path: Path,
    /// The document.
    pub target: DocName,
    /// Since when the field has held the value that names it. One that is a list may have named it before.
    pub since: Stamp,
}

const VERSION: u8 = 2;

impl Index {
    /// Of a document's fields as they are shown.
    #[must_use]
    pub fn of(tracker: &Tracker, rules: &Rules) -> Self {
        let mut index = Self::default();
        let named = rules.collection().fields.iter();
        for (name, field) in named.filter(|(_, field)| field.unique || field.reference.is_some()) {
            let Ok(path) = name.parse::<Path>() else { continue };
            index.claims.extend(Claim::of(tracker, rules, &path));
            if field.reference.is_some()
                && let Some(state) = tracker.state(&path, rules.policy(&path))
                && let Shown::Value(Some(value)) = state.shown
                && let Some(since) = tracker.shown_since(&path, &value)
            {
                let names = Reference::names(&value);
                index.references.extend(names.map(|target| Naming { path: path.clone(), target, since }));
            }
        }
        index
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.references.is_empty()
    }

    /// The index as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        put_var_u64(&mut out, self.claims.len() as u64);
        for Claim { path, value, since } in &self.claims {
            put_var_bytes(&mut out, path.to_string().as_bytes());
            value.encode(&mut out);
            put_stamp(&mut out, *since);
        }
        put_var_u64(&mut out, self.references.len() as u64);
        for Naming { path, target, since } in &self.references {
            put_var_bytes(&mut out, path.to_string().as_bytes());
            put_var_bytes(&mut out, target.as_str().as_bytes());
            put_stamp(&mut out, *since);
        }
        out.into()
    }

    /// Reads what [`Index::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are no index.
    pub fn decode(bytes: Bytes) -> Result<Self, ReadError> {
        let reader = &mut Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(ReadError::Overflow);
        }
        let mut index = Self::default();
        for _ in 0..reader.var_u64()? {
            let (path, value) = (read_path(reader)?, Value::decode(reader)?);
            index.claims.push(Claim { path, value, since: read_stamp(reader)? });
        }
        for _ in 0..reader.var_u64()? {
            let path = read_path(reader)?;
            let target = DocName::new(reader.var_str()?.as_str()).map_err(|_| ReadError::Overflow)?;
            index.references.push(Naming { path, target, since: read_stamp(reader)? });
        }
        reader.finish()?;
        Ok(index)
    }
}

fn read_path(reader: &mut Reader) -> Result<Path, ReadError> {
    reader.var_str()?.as_str().parse().map_err(|_| ReadError::Overflow)
}

impl Reference {
    /// The documents that a value names: a name, or a list of names. What is no name is not one.
    pub fn names(value: &Value) -> impl Iterator<Item = DocName> {
        let values: &[Value] = match value {
            Value::List(values) => values,
            one => std::slice::from_ref(one),
        };
        let names = values.iter().take(REFERENCES_MAX).filter_map(|value| match value {
            Value::String(name) => DocName::new(name).ok(),
            _ => None,
        });
        names.collect::<Vec<_>>().into_iter()
    }
}
