//! A schema in bytes, and the hash by which regions know that they have the same.
//!
//! The decoder takes bytes from another region and accepts one spelling of each schema. The layout is in
//! `docs/protocol.md`.

use super::field::{Field, FieldType, HomePolicy, Reference, ReferencePolicy};
use super::policy::Policy;
use super::{
    CLAIMS_AT_MAX, COLLECTION_NAME_BYTES_MAX, COLLECTIONS_MAX, Collection, DeletePolicy,
    FIELD_NAME_BYTES_MAX, FIELDS_MAX, ID_PREFIX_BYTES_MAX, IdStrategy, RANK_VALUE_BYTES_MAX, RANK_VALUES_MAX,
    SCHEMA_BYTES_MAX, SCRIPT_BYTES_MAX, Schema, SchemaError,
};
use crate::frontier::canonical_u64;
use crate::ids::ReplicaId;
use crate::lib0::{ReadError, Reader, put_var_bytes, put_var_u64};
use crate::pattern::{PATTERN_BYTES_MAX, Pattern, PatternError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// The layout that this release writes, and the only one that it reads.
const LAYOUT: u8 = 1;

// Far above the places of the policies that are said by their name alone.
const RANK: u8 = 128;
const CUSTOM: u8 = 129;

const ID_NONE: u8 = 0;
const ID_UUID: u8 = 1;
const ID_SHORT: u8 = 2;
const ID_RANGE: u8 = 3;

/// Beside an id strategy: regions follow that reserve values, at least one.
const CLAIMS: u8 = 128;

const REQUIRED: u8 = 1;
const UNIQUE: u8 = 2;

/// A schema's identity: equal schemas have the same, others do not. That of the empty schema is all zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaHash(pub [u8; 16]);

/// Why a text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a schema's hash has 32 digits out of 0-9 and a-f")]
pub struct SchemaHashError;

/// Why bytes are no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaDecodeError {
    /// More than [`SCHEMA_BYTES_MAX`] bytes.
    #[error("a schema has at most {SCHEMA_BYTES_MAX} bytes; this one has {0}")]
    TooLong(usize),
    /// The bytes are cut short, overlong or followed by more.
    #[error("cannot read a schema: {0}")]
    Read(#[from] ReadError),
    /// A layout that another release writes.
    #[error("layout {0} of a schema is unknown")]
    Layout(u8),
    /// A number that stands for nothing that this release knows.
    #[error("{0} {1} of a schema is unknown")]
    Unknown(&'static str, u8),
    /// More of something than there may be.
    #[error("a schema has at most {1} {0}; this one has {2}")]
    TooMany(&'static str, usize, u64),
    /// Fields or regions that do not rise.
    #[error("the fields of a collection must rise by name, and its regions by number")]
    Unordered,
    /// A pattern is none.
    #[error("{0}")]
    Pattern(#[from] PatternError),
    /// What was read does not go together.
    #[error("{0}")]
    Invalid(SchemaError),
}

impl Schema {
    /// The schema in bytes: its only spelling.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self).into()
    }

    /// Reads a schema.
    ///
    /// # Errors
    /// When the bytes are not exactly what [`Schema::encode`] gives for some schema.
    pub fn decode(bytes: Bytes) -> Result<Self, SchemaDecodeError> {
        if bytes.len() > SCHEMA_BYTES_MAX {
            return Err(SchemaDecodeError::TooLong(bytes.len()));
        }
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            LAYOUT => {}
            other => return Err(SchemaDecodeError::Layout(other)),
        }
        let count = count(&mut reader, "collections", COLLECTIONS_MAX)?;
        // Not with its capacity: the count is not believed before the bytes that follow could hold it.
        let mut collections = Vec::new();
        for _ in 0..count {
            collections.push(read_collection(&mut reader)?);
        }
        reader.finish()?;
        Self::new(collections).map_err(|mut errors| SchemaDecodeError::Invalid(errors.swap_remove(0)))
    }

    /// What regions compare.
    #[must_use]
    pub fn hash(&self) -> SchemaHash {
        SchemaHash::of_encoded(&self.encode())
    }
}

impl SchemaHash {
    /// That of the schema that these bytes are, whether this release can read them or not.
    #[must_use]
    pub fn of_encoded(bytes: &[u8]) -> Self {
        if bytes == [LAYOUT, 0] {
            return Self::default();
        }
        let hash = blake3::derive_key("quire schema 1", bytes);
        let mut first = [0; 16];
        first.copy_from_slice(&hash[..16]);
        Self(first)
    }
}

impl fmt::Display for SchemaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SchemaHash {
    type Err = SchemaHashError;

    fn from_str(text: &str) -> Result<Self, SchemaHashError> {
        let digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(SchemaHashError);
        }
        u128::from_str_radix(text, 16).map(|hash| Self(hash.to_be_bytes())).map_err(|_| SchemaHashError)
    }
}

pub(super) fn encode(schema: &Schema) -> Vec<u8> {
    let mut out = vec![LAYOUT];
    put_var_u64(&mut out, schema.collections().len() as u64);
    for collection in schema.collections() {
        let Collection { name, pattern, fields, default, on_delete, ids, claims_at } = collection;
        put_var_bytes(&mut out, name.as_bytes());
        put_var_bytes(&mut out, pattern.as_str().as_bytes());
        out.push(place_in(&DeletePolicy::ALL, on_delete));
        let claims = if claims_at.is_empty() { 0 } else { CLAIMS };
        match ids {
            None => out.push(ID_NONE | claims),
            Some(IdStrategy::Uuid) => out.push(ID_UUID | claims),
            Some(IdStrategy::Short { prefix }) => {
                out.push(ID_SHORT | claims);
                put_var_bytes(&mut out, prefix.as_bytes());
            }
            Some(IdStrategy::Range) => out.push(ID_RANGE | claims),
        }
        if !claims_at.is_empty() {
            put_var_u64(&mut out, claims_at.len() as u64);
            claims_at.iter().for_each(|replica| put_var_u64(&mut out, replica.0.into()));
        }
        put_merge(&mut out, default);
        put_var_u64(&mut out, fields.len() as u64);
        for (name, field) in fields {
            put_var_bytes(&mut out, name.as_bytes());
            put_merge(&mut out, field);
            out.push(if field.required { REQUIRED } else { 0 } | if field.unique { UNIQUE } else { 0 });
            out.push(field.home.as_ref().map_or(0, |home| place_in(&HomePolicy::ALL, home)));
            match &field.reference {
                None => out.push(0),
                Some(Reference { collection, on_delete }) => {
                    out.push(place_in(&ReferencePolicy::ALL, on_delete));
                    put_var_bytes(&mut out, collection.as_bytes());
                }
            }
        }
    }
    out
}

/// A type and a policy: what every field has, declared or not.
fn put_merge(out: &mut Vec<u8>, Field { ty, policy, .. }: &Field) {
    out.push(place_in(&FieldType::ALL, ty));
    match policy {
        Policy::Rank(values) => {
            out.push(RANK);
            put_var_u64(out, values.len() as u64);
            for value in values {
                put_var_bytes(out, value.as_bytes());
            }
        }
        Policy::Custom(script) => {
            out.push(CUSTOM);
            put_var_bytes(out, script.as_bytes());
        }
        plain => out.push(place_in(&Policy::PLAIN, plain)),
    }
}

/// What stands for a thing: its place in the list of all of them, from 1. The lists only ever grow at their end.
fn place_in<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let at = all.iter().position(|other| other == one).expect("the list names all there are");
    u8::try_from(at + 1).expect("the lists are short")
}

fn of_place<T: Clone>(all: &[T], what: &'static str, place: u8) -> Result<T, SchemaDecodeError> {
    let found = usize::from(place).checked_sub(1).and_then(|at| all.get(at));
    found.cloned().ok_or(SchemaDecodeError::Unknown(what, place))
}

fn read_collection(reader: &mut Reader) -> Result<Collection, SchemaDecodeError> {
    let name = text(reader, "bytes in a name", COLLECTION_NAME_BYTES_MAX)?;
    let pattern = Pattern::new(&text(reader, "bytes in a pattern", PATTERN_BYTES_MAX)?)?;
    let on_delete = of_place(&DeletePolicy::ALL, "delete policy", reader.u8()?)?;
    let kind = reader.u8()?;
    let ids = match kind & !CLAIMS {
        ID_NONE => None,
        ID_UUID => Some(IdStrategy::Uuid),
        ID_SHORT => {
            Some(IdStrategy::Short { prefix: text(reader, "bytes in a prefix", ID_PREFIX_BYTES_MAX)? })
        }
        ID_RANGE => Some(IdStrategy::Range),
        other => return Err(SchemaDecodeError::Unknown("id strategy", other)),
    };
    let claims_at = if kind & CLAIMS == 0 { BTreeSet::new() } else { read_claims_at(reader)? };
    let default = read_merge(reader)?;
    let mut fields = BTreeMap::new();
    for _ in 0..count(reader, "fields in a collection", FIELDS_MAX)? {
        let name = text(reader, "bytes in a field's name", FIELD_NAME_BYTES_MAX)?;
        if fields.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(SchemaDecodeError::Unordered);
        }
        fields.insert(name, read_field(reader)?);
    }
    Ok(Collection { name, pattern, fields, default, on_delete, ids, claims_at })
}

fn read_claims_at(reader: &mut Reader) -> Result<BTreeSet<ReplicaId>, SchemaDecodeError> {
    let mut claims_at = BTreeSet::new();
    for _ in 0..count(reader, "regions that reserve values", CLAIMS_AT_MAX)? {
        let replica = ReplicaId(u16::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)?);
        if claims_at.last().is_some_and(|last| *last >= replica) {
            return Err(SchemaDecodeError::Unordered);
        }
        claims_at.insert(replica);
    }
    // One spelling of none.
    if claims_at.is_empty() { Err(ReadError::Overflow.into()) } else { Ok(claims_at) }
}

fn read_field(reader: &mut Reader) -> Result<Field, SchemaDecodeError> {
    let merge = read_merge(reader)?;
    let flags = reader.u8()?;
    if flags & !(REQUIRED | UNIQUE) != 0 {
        return Err(SchemaDecodeError::Unknown("flags", flags));
    }
    let home = match reader.u8()? {
        0 => None,
        place => Some(of_place(&HomePolicy::ALL, "home policy", place)?),
    };
    let reference = match reader.u8()? {
        0 => None,
        place => Some(Reference {
            on_delete: of_place(&ReferencePolicy::ALL, "reference policy", place)?,
            collection: text(reader, "bytes in a name", COLLECTION_NAME_BYTES_MAX)?,
        }),
    };
    let (required, unique) = (flags & REQUIRED != 0, flags & UNIQUE != 0);
    Ok(Field { required, unique, reference, home, ..merge })
}

fn read_merge(reader: &mut Reader) -> Result<Field, SchemaDecodeError> {
    let ty = of_place(&FieldType::ALL, "type", reader.u8()?)?;
    let policy = match reader.u8()? {
        RANK => {
            let mut values = Vec::new();
            for _ in 0..count(reader, "values in a rank", RANK_VALUES_MAX)? {
                values.push(text(reader, "bytes in a value", RANK_VALUE_BYTES_MAX)?);
            }
            Policy::Rank(values)
        }
        CUSTOM => Policy::Custom(text(reader, "bytes in a script", SCRIPT_BYTES_MAX)?.into()),
        place => of_place(&Policy::PLAIN, "policy", place)?,
    };
    Ok(Field::new(ty, policy))
}

fn count(reader: &mut Reader, what: &'static str, max: usize) -> Result<usize, SchemaDecodeError> {
    let count = canonical_u64(reader)?;
    match usize::try_from(count) {
        Ok(few) if few <= max => Ok(few),
        _ => Err(SchemaDecodeError::TooMany(what, max, count)),
    }
}

fn text(reader: &mut Reader, what: &'static str, max: usize) -> Result<String, SchemaDecodeError> {
    let len = count(reader, what, max)?;
    let bytes = reader.bytes(len)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ReadError::Utf8)?;
    Ok(text.to_owned())
}
