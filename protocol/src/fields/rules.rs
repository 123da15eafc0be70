//! The rules that a document's fields are merged by: its collection's, ready for use.

use super::path::Path;
use super::policy::Policy;
use super::policy::script::Script;
use super::schema::{self, Collection, Field, Schema};
use crate::ids::DocName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a schema says of one document.
#[derive(Clone, Debug)]
pub struct Rules {
    collection: Arc<Collection>,
    policies: Arc<BTreeMap<String, Policy>>,
    default: Policy,
    hash: [u8; 16],
}

impl Default for Rules {
    /// Those of a document of no collection: every field keeps its siblings.
    fn default() -> Self {
        let name = DocName::new("default").expect("a valid name");
        Self::of(&Schema::default(), &name)
    }
}

/// The rules of every document, made ready once.
#[derive(Debug)]
pub struct RuleBook {
    schema: Arc<Schema>,
    /// By the collection's name.
    rules: BTreeMap<String, Rules>,
}

impl Default for RuleBook {
    /// Those of a schema that declares nothing.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl RuleBook {
    /// The rules that a schema gives.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        let collections = schema.collections().iter();
        let rules = collections.map(|one| (one.name.clone(), Rules::new(one, schema.hash().0)));
        Self { rules: rules.collect(), schema }
    }

    /// The rules of a document.
    #[must_use]
    pub fn rules(&self, name: &DocName) -> Rules {
        let collection = self.schema.collection(name);
        let known = self.rules.get(&collection.name).cloned();
        known.unwrap_or_else(|| Rules::new(collection, self.schema.hash().0))
    }
}

impl Rules {
    /// The rules of a document.
    #[must_use]
    pub fn of(schema: &Schema, name: &DocName) -> Self {
        Self::new(schema.collection(name), schema.hash().0)
    }

    fn new(collection: &Collection, hash: [u8; 16]) -> Self {
        let policies = collection.fields.iter().map(|(name, field)| (name.clone(), ready(&field.policy)));
        Self {
            policies: Arc::new(policies.collect()),
            default: ready(&collection.default.policy),
            hash,
            collection: Arc::new(collection.clone()),
        }
    }

    /// How a field is merged.
    #[must_use]
    pub fn policy(&self, path: &Path) -> &Policy {
        self.policies.get(&path.to_string()).unwrap_or(&self.default)
    }

    /// What is said of a field.
    #[must_use]
    pub fn field(&self, path: &Path) -> &Field {
        self.collection.field(&path.to_string())
    }

    /// The document's collection.
    #[must_use]
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Whether a field says something to other documents.
    #[must_use]
    pub fn are_indexed(&self) -> bool {
        self.collection.fields.values().any(|field| field.unique || field.reference.is_some())
    }

    /// The schema's hash.
    #[must_use]
    pub const fn hash(&self) -> [u8; 16] {
        self.hash
    }
}

fn ready(policy: &schema::Policy) -> Policy {
    match policy {
        schema::Policy::Lww => Policy::Lww,
        schema::Policy::Siblings => Policy::Siblings,
        schema::Policy::Set => Policy::Set,
        schema::Policy::Counter => Policy::Counter,
        schema::Policy::Max => Policy::Max,
        schema::Policy::Min => Policy::Min,
        schema::Policy::Rank(order) => {
            Policy::Rank(order.iter().map(|value| value.as_str().into()).collect())
        }
        schema::Policy::Map => Policy::Map,
        schema::Policy::Text3 => Policy::Text3,
        // Whoever reads a configuration compiles its scripts first: what fails here was never served.
        schema::Policy::Custom(source) => {
            Script::compile(source).map_or(Policy::Siblings, |script| Policy::Custom(Arc::new(script)))
        }
    }
}
