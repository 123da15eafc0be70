//! Which parts of a schema go together.
//!
//! Looks at everything before it answers: who wrote the schema is told of all that is wrong at once.

use super::field::{Field, FieldType, ReferencePolicy};
use super::policy::Policy;
use super::{
    CLAIMS_AT_MAX, COLLECTION_NAME_BYTES_MAX, COLLECTIONS_MAX, Collection, DEFAULT_COLLECTION,
    FIELD_NAME_BYTES_MAX, FIELDS_MAX, ID_PREFIX_BYTES_MAX, IdStrategy, RANK_VALUE_BYTES_MAX, RANK_VALUES_MAX,
    SCHEMA_BYTES_MAX, SCRIPT_BYTES_MAX, Schema, codec,
};
use crate::ids::ReplicaId;
use std::collections::BTreeSet;

/// One thing that is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {wrong}", place(*.collection, .field.as_deref()))]
pub struct SchemaError {
    /// The place of the collection among the others, from 0; none when it is the schema as a whole.
    pub collection: Option<usize>,
    /// The field; none when it is the collection as a whole, or what holds of fields that are not declared.
    pub field: Option<String>,
    /// What is wrong there.
    pub wrong: Wrong,
}

/// What may be wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// More than [`COLLECTIONS_MAX`].
    #[error("a schema has at most {COLLECTIONS_MAX} collections; this one has {0}")]
    Collections(usize),
    /// More than [`FIELDS_MAX`].
    #[error("a collection declares at most {FIELDS_MAX} fields; this one declares {0}")]
    Fields(usize),
    /// More than [`SCHEMA_BYTES_MAX`].
    #[error("a schema has at most {SCHEMA_BYTES_MAX} bytes, scripts included; this one has {0}")]
    Bytes(usize),
    /// No name for a collection.
    #[error(
        "a collection's name has 1 to {COLLECTION_NAME_BYTES_MAX} characters out of a-z, A-Z, 0-9, '-', '_' and \
         '.', and is not {DEFAULT_COLLECTION}, which means all other documents"
    )]
    CollectionName,
    /// Two collections with one name.
    #[error("another collection has this name")]
    SameName,
    /// No document can belong to the collection.
    #[error("no document can belong to it: {0} stands before it and has all that its pattern matches")]
    NeverReached(String),
    /// No name for a field.
    #[error(
        "a field's name has 1 to {FIELD_NAME_BYTES_MAX} bytes, no control characters, and does not begin with __"
    )]
    FieldName,
    /// The policy cannot merge such values.
    #[error("policy {} does not go with type {}, but with {}", .0, .1, names(.2))]
    Type(&'static str, FieldType, &'static [FieldType]),
    /// The values of a `rank` are no order.
    #[error("rank orders 1 to {RANK_VALUES_MAX} different values of at most {RANK_VALUE_BYTES_MAX} bytes")]
    Rank,
    /// A script of no or too many bytes.
    #[error("a script has 1 to {SCRIPT_BYTES_MAX} bytes; this one has {0}")]
    Script(usize),
    /// Values that cannot be told equal at a glance cannot be unique.
    #[error("only a string, number, integer, boolean or timestamp can be unique; this field is of type {0}")]
    Unique(FieldType),
    /// A document's name is a string.
    #[error("a reference is of type string; this field is of type {0}")]
    ReferenceType(FieldType),
    /// A reference to a collection that is not declared.
    #[error("there is no collection {0:?} to refer to")]
    ReferenceTo(String),
    /// A required field cannot become null.
    #[error("a required field cannot become null when what it refers to is deleted: use keep or cascade")]
    NullRequired,
    /// Something is asked of fields that are not declared.
    #[error("fields that are not declared have a type and a policy, and nothing else is asked of them")]
    Undeclared,
    /// No prefix for ids.
    #[error("the prefix of short ids has 1 to {ID_PREFIX_BYTES_MAX} characters out of a-z, A-Z and 0-9")]
    Prefix,
    /// Too many regions at which values are reserved, or one that can be none.
    #[error("values are reserved at up to {CLAIMS_AT_MAX} regions, by their replica numbers from 1 on")]
    ClaimsAt,
    /// Nothing that could be reserved.
    #[error("values are reserved at regions, and no field of the collection is unique")]
    NothingToClaim,
}

fn place(collection: Option<usize>, field: Option<&str>) -> String {
    match (collection, field) {
        (None, _) => "the schema".to_owned(),
        (Some(at), None) => format!("collection {}", at + 1),
        (Some(at), Some(field)) => format!("collection {}, field `{field}`", at + 1),
    }
}

fn names(types: &[FieldType]) -> String {
    let names: Vec<_> = types.iter().map(|ty| ty.name()).collect();
    names.join(" or ")
}

/// Everything that is wrong with a schema.
pub(super) fn check(schema: &Schema) -> Vec<SchemaError> {
    let mut errors = Vec::new();
    let collections = schema.collections();
    if collections.len() > COLLECTIONS_MAX {
        let wrong = Wrong::Collections(collections.len());
        errors.push(SchemaError { collection: None, field: None, wrong });
    }
    for (at, collection) in collections.iter().enumerate() {
        let mut problem = |field: Option<&str>, wrong| {
            errors.push(SchemaError { collection: Some(at), field: field.map(str::to_owned), wrong });
        };
        check_collection(collection, &collections[..at], &mut |wrong| problem(None, wrong));
        check_undeclared(&collection.default, &mut |wrong| problem(None, wrong));
        for (name, field) in &collection.fields {
            let mut problem = |wrong| problem(Some(name), wrong);
            if !is_field_name(name) {
                problem(Wrong::FieldName);
            }
            check_field(schema, field, &mut problem);
        }
    }
    // What is beyond a limit of its own is told of as that.
    let bytes = codec::encode(schema).len();
    if errors.is_empty() && bytes > SCHEMA_BYTES_MAX {
        errors.push(SchemaError { collection: None, field: None, wrong: Wrong::Bytes(bytes) });
    }
    errors
}

fn check_collection(collection: &Collection, before: &[Collection], problem: &mut dyn FnMut(Wrong)) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = &collection.name;
    if !(1..=COLLECTION_NAME_BYTES_MAX).contains(&name.len())
        || !name.bytes().all(allowed)
        || name == DEFAULT_COLLECTION
    {
        problem(Wrong::CollectionName);
    } else if before.iter().any(|one| one.name == *name) {
        problem(Wrong::SameName);
    }
    let has_all = |one: &&Collection| one.pattern.matches_everything() || one.pattern == collection.pattern;
    if let Some(one) = before.iter().find(has_all) {
        problem(Wrong::NeverReached(one.name.clone()));
    }
    if collection.fields.len() > FIELDS_MAX {
        problem(Wrong::Fields(collection.fields.len()));
    }
    if let Some(IdStrategy::Short { prefix }) = &collection.ids
        && (!(1..=ID_PREFIX_BYTES_MAX).contains(&prefix.len())
            || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    {
        problem(Wrong::Prefix);
    }
    if collection.claims_at.len() > CLAIMS_AT_MAX || collection.claims_at.contains(&ReplicaId(0)) {
        problem(Wrong::ClaimsAt);
    }
    if !collection.claims_at.is_empty() && !collection.fields.values().any(|field| field.unique) {
        problem(Wrong::NothingToClaim);
    }
}

/// `__conflicts` and what else may come to stand among the fields beside them begin so.
fn is_field_name(name: &str) -> bool {
    (1..=FIELD_NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with("__")
        && !name.chars().any(char::is_control)
}

fn check_undeclared(field: &Field, problem: &mut dyn FnMut(Wrong)) {
    if *field != Field::new(field.ty, field.policy.clone()) {
        problem(Wrong::Undeclared);
    }
    check_policy(field, problem);
}

fn check_policy(field: &Field, problem: &mut dyn FnMut(Wrong)) {
    let Field { ty, policy, .. } = field;
    if !policy.goes_with(*ty) {
        problem(Wrong::Type(policy.name(), *ty, policy.types()));
    }
    match policy {
        Policy::Rank(values) => {
            let different: BTreeSet<_> = values.iter().collect();
            let few = (1..=RANK_VALUES_MAX).contains(&values.len());
            if !few
                || different.len() < values.len()
                || values.iter().any(|one| one.len() > RANK_VALUE_BYTES_MAX)
            {
                problem(Wrong::Rank);
            }
        }
        Policy::Custom(script) if script.is_empty() || script.len() > SCRIPT_BYTES_MAX => {
            problem(Wrong::Script(script.len()));
        }
        _ => {}
    }
}

fn check_field(schema: &Schema, field: &Field, problem: &mut dyn FnMut(Wrong)) {
    check_policy(field, problem);
    if field.unique && !field.ty.is_scalar() {
        problem(Wrong::Unique(field.ty));
    }
    if let Some(reference) = &field.reference {
        if field.ty != FieldType::String {
            problem(Wrong::ReferenceType(field.ty));
        }
        if schema.collection_named(&reference.collection).is_none() {
            problem(Wrong::ReferenceTo(reference.collection.clone()));
        }
        if field.required && reference.on_delete == ReferencePolicy::Null {
            problem(Wrong::NullRequired);
        }
    }
}
