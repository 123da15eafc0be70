//! Values that no two documents of a collection may have: which claims are of the same one.
//!
//! Pure. Of the claims of one value the least stamp has it, and of one stamp the least document: so every region that
//! has the same entries names the same one.

use super::path::Path;
use super::rules::Rules;
use super::state::Shown;
use super::tracker::Tracker;
use super::value::Value;
use crate::batch::Stamp;

/// The value of a field that no other document of the collection may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The field.
    pub path: Path,
    /// Its value.
    pub value: Value,
    /// Since when the field has it: of documents that claim one value, that of the least stamp has it.
    pub since: Stamp,
}

/// Names a value of a field across the documents of a collection: equal values of one field have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub [u8; 16]);

/// Integers of a `BigInt` up to here, either way, are the same as those of a number.
const SAME_INTEGER_MAX: u64 = (1 << 53) - 1;

impl Claim {
    /// What a field claims as it is shown; none where it is not unique, or has no value that could be.
    #[must_use]
    pub fn of(tracker: &Tracker, rules: &Rules, path: &Path) -> Option<Self> {
        let field = Some(rules.field(path)).filter(|field| field.unique)?;
        let shown = tracker.state(path, rules.policy(path))?.shown;
        let Shown::Value(Some(value)) = shown else { return None };
        let is_one = field.ty.accepts(Some(&value)) && !matches!(value, Value::Null | Value::Undefined);
        let since = tracker.shown_since(path, &value).filter(|_| is_one)?;
        Some(Self { path: path.clone(), value, since })
    }
}

impl ClaimId {
    /// The name of a value of a collection's field. Texts are equal when they are to the letter, numbers when they
    /// are as numbers, however they are written.
    #[must_use]
    pub fn of(collection: &str, path: &Path, value: &Value) -> Self {
        let mut encoded = Vec::new();
        match value {
            #[expect(clippy::cast_precision_loss, reason = "so far every integer is a double")]
            Value::BigInt(integer) if integer.unsigned_abs() <= SAME_INTEGER_MAX => {
                Value::from(*integer as f64).encode(&mut encoded);
            }
            value => value.encode(&mut encoded),
        }
        let mut hasher = blake3::Hasher::new_derive_key("quire 2026 unique value");
        for part in [collection.as_bytes(), path.to_string().as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(&encoded);
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(collection: &str, path: &str, value: &Value) -> ClaimId {
        ClaimId::of(collection, &path.parse().expect("a path"), value)
    }

    #[test]
    fn numbers_are_one_value_however_they_are_written_and_texts_are_to_the_letter() {
        let of = |value: &Value| id("tasks", "number", value);
        assert_eq!(of(&Value::from(1.0)), of(&Value::BigInt(1)));
        assert_eq!(of(&Value::from(-0.0)), of(&Value::from(0.0)));
        assert_ne!(of(&Value::BigInt(1 << 60)), of(&Value::BigInt((1 << 60) + 1)));
        assert_ne!(of(&Value::from(1.0)), of(&Value::from("1")));
        assert_ne!(of(&Value::from("plan")), of(&Value::from("Plan")));
        assert_ne!(of(&Value::from("plan")), of(&Value::from("plan ")));
    }

    #[test]
    fn one_value_of_two_fields_or_collections_is_two() {
        let plan = Value::from("plan");
        assert_ne!(id("tasks", "slug", &plan), id("tasks", "title", &plan));
        assert_ne!(id("tasks", "slug", &plan), id("pages", "slug", &plan));
        assert_ne!(id("ab", "c", &plan), id("a", "bc", &plan));
    }
}
