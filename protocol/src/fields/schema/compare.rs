//! Where two schemas differ, for the operators of the two regions that have them.
//!
//! Invariant: there is no difference exactly when both schemas are equal.

use super::field::Field;
use super::policy::short_hash;
use super::{Collection, Schema};
use std::collections::BTreeSet;
use std::fmt;

/// Longer values are cut in messages, with a hash that tells them apart.
const SHOWN_BYTES_MAX: usize = 80;

/// One thing in which a schema here differs from another there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub place: Place,
    /// What.
    pub what: What,
}

/// A place in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The collections that both have, as a list.
    Collections,
    /// A collection, by its name.
    Collection(String),
    /// A declared field of a collection.
    Field {
        /// The collection's name.
        collection: String,
        /// The field's name.
        field: String,
    },
    /// The fields of a collection that it does not declare.
    Undeclared(String),
}

/// How two schemas differ in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Only the schema here has it.
    OnlyHere,
    /// Only the schema there has it.
    OnlyThere,
    /// Both have it, and not alike.
    Differs {
        /// In what.
        aspect: Aspect,
        /// How it is here, in words.
        here: String,
        /// How it is there.
        there: String,
    },
}

/// What may be said of a collection or a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// In which order collections stand.
    Order,
    /// Which documents belong to it.
    Pattern,
    /// What a deletion does.
    OnDelete,
    /// How new documents are named.
    Ids,
    /// Where unique values are reserved.
    ClaimsAt,
    /// Which values are valid.
    Type,
    /// How concurrent writes are merged.
    Policy,
    /// Whether it must be there.
    Required,
    /// Whether values must differ.
    Unique,
    /// Which documents it names.
    Reference,
    /// What becomes of writes that do not reach the home.
    Home,
}

impl Schema {
    /// Where this schema differs from another, in the order of this one; nothing when both are equal.
    #[must_use]
    pub fn differences(&self, there: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        for here in self.collections() {
            match there.collection_named(&here.name) {
                Some(there) => compare_collections(here, there, &mut found),
                None => found.push(only(Place::Collection(here.name.clone()), What::OnlyHere)),
            }
        }
        for there in there.collections() {
            if self.collection_named(&there.name).is_none() {
                found.push(only(Place::Collection(there.name.clone()), What::OnlyThere));
            }
        }
        let order = |one: &Self, other: &Self| -> Vec<String> {
            let both = one.collections().iter().filter(|each| other.collection_named(&each.name).is_some());
            both.map(|each| each.name.clone()).collect()
        };
        let (here, there) = (order(self, there), order(there, self));
        Comparing { place: &Place::Collections, found: &mut found }.aspect(
            Aspect::Order,
            &here,
            &there,
            |names| names.join(", "),
        );
        found
    }
}

const fn only(place: Place, what: What) -> Difference {
    Difference { place, what }
}

/// Two things of one kind that stand in the same place.
struct Comparing<'a> {
    place: &'a Place,
    found: &'a mut Vec<Difference>,
}

impl Comparing<'_> {
    fn aspect<T: PartialEq>(&mut self, aspect: Aspect, here: &T, there: &T, show: impl Fn(&T) -> String) {
        if here != there {
            let (here, there) = (shown(show(here)), shown(show(there)));
            let what = What::Differs { aspect, here, there };
            self.found.push(Difference { place: self.place.clone(), what });
        }
    }
}

fn compare_collections(here: &Collection, there: &Collection, found: &mut Vec<Difference>) {
    let name = || here.name.clone();
    let place = Place::Collection(name());
    let mut comparing = Comparing { place: &place, found };
    comparing.aspect(Aspect::Pattern, &here.pattern, &there.pattern, |pattern| pattern.as_str().to_owned());
    comparing.aspect(Aspect::OnDelete, &here.on_delete, &there.on_delete, |policy| policy.name().to_owned());
    comparing.aspect(Aspect::Ids, &here.ids, &there.ids, optional);
    comparing.aspect(Aspect::ClaimsAt, &here.claims_at, &there.claims_at, |replicas| {
        let numbers: Vec<_> = replicas.iter().map(|replica| replica.0.to_string()).collect();
        if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") }
    });
    let names: BTreeSet<_> = here.fields.keys().chain(there.fields.keys()).collect();
    for field in names {
        let place = Place::Field { collection: name(), field: field.clone() };
        match (here.fields.get(field), there.fields.get(field)) {
            (Some(here), Some(there)) => compare_fields(&place, here, there, found),
            (Some(_), None) => found.push(only(place, What::OnlyHere)),
            (None, _) => found.push(only(place, What::OnlyThere)),
        }
    }
    compare_fields(&Place::Undeclared(name()), &here.default, &there.default, found);
}

fn compare_fields(place: &Place, here: &Field, there: &Field, found: &mut Vec<Difference>) {
    let yes_or_no = |on: &bool| if *on { "yes" } else { "no" }.to_owned();
    let mut comparing = Comparing { place, found };
    comparing.aspect(Aspect::Type, &here.ty, &there.ty, ToString::to_string);
    comparing.aspect(Aspect::Policy, &here.policy, &there.policy, ToString::to_string);
    comparing.aspect(Aspect::Required, &here.required, &there.required, yes_or_no);
    comparing.aspect(Aspect::Unique, &here.unique, &there.unique, yes_or_no);
    comparing.aspect(Aspect::Reference, &here.reference, &there.reference, optional);
    comparing.aspect(
        Aspect::Home,
        &here.home.map(|home| home.name()),
        &there.home.map(|home| home.name()),
        optional,
    );
}

fn optional<T: fmt::Display>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// What fits into a message; what does not is told apart by its hash.
fn shown(text: String) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
    format!("{}… ({})", &text[..end], short_hash(&text))
}

impl Aspect {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Pattern => "pattern",
            Self::OnDelete => "on-delete",
            Self::Ids => "ids",
            Self::ClaimsAt => "claims-at",
            Self::Type => "type",
            Self::Policy => "policy",
            Self::Required => "required",
            Self::Unique => "unique",
            Self::Reference => "reference",
            Self::Home => "home",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collections => f.write_str("collections"),
            Self::Collection(name) => write!(f, "collection `{name}`"),
            Self::Field { collection, field } => write!(f, "collection `{collection}`, field `{field}`"),
            Self::Undeclared(collection) => write!(f, "collection `{collection}`, other fields"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        match &self.what {
            What::OnlyHere => f.write_str("only here"),
            What::OnlyThere => f.write_str("only there"),
            What::Differs { aspect, here, there } => {
                write!(f, "{} {here} here, {there} there", aspect.name())
            }
        }
    }
}
