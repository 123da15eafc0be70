//! Whether two replicas with different schemas may have a link, and what their operators are told if not.
//!
//! Said only where the hashes of both hellos differ, and only once both have proved who they are: a schema is
//! nobody else's business. Each side shows its schema and the hashes of those that it gets on with besides it;
//! both decide by the same four things, so they decide alike, and each can say what differs from its own side.

use super::limits::PREVIOUS_SCHEMAS_MAX;
use super::{Bye, ByeReason};
use crate::fields::schema::{SCHEMA_BYTES_MAX, Schema, SchemaHash};
use crate::frontier::canonical_u64;
use crate::lib0::{ReadError, Reader, put_var_u64};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the frame begins with, as a message does with its kind.
const KIND: u8 = 16;

/// The longest such frame.
const FRAME_BYTES_MAX: usize = 2 + 16 * PREVIOUS_SCHEMAS_MAX + SCHEMA_BYTES_MAX;

/// Differences that are spelt out; a person who has mended these asks again.
const TOLD_MAX: usize = 4;

/// A replica's schema, and those besides it that its peers may have.
#[derive(Clone, Debug)]
pub struct SchemaTerms {
    schema: Arc<Schema>,
    hash: SchemaHash,
    previous: BTreeSet<SchemaHash>,
}

/// Why a frame does not say what a peer's schema is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// More bytes than the longest schema takes.
    #[error("a peer's schema comes in at most {FRAME_BYTES_MAX} bytes; this frame has {0}")]
    TooLong(usize),
    /// Another message.
    #[error("a peer with another schema shows it first; this message is of kind {0}")]
    Kind(u8),
    /// The bytes are cut short or overlong.
    #[error("cannot read a peer's schema: {0}")]
    Read(#[from] ReadError),
    /// Earlier schemas that do not rise, or more than [`PREVIOUS_SCHEMAS_MAX`].
    #[error("a peer's earlier schemas must rise and be at most {PREVIOUS_SCHEMAS_MAX}")]
    Previous,
    /// The schema's hash is another than the peer has said.
    #[error("the peer's schema is not the one that its hello names")]
    Hash,
}

impl SchemaTerms {
    /// A schema, and the hashes of those that a peer may have instead.
    ///
    /// # Panics
    /// When these are more than [`PREVIOUS_SCHEMAS_MAX`].
    #[must_use]
    pub fn new(schema: Arc<Schema>, previous: impl IntoIterator<Item = SchemaHash>) -> Self {
        let (hash, previous) = (schema.hash(), previous.into_iter().collect::<BTreeSet<_>>());
        assert!(previous.len() <= PREVIOUS_SCHEMAS_MAX);
        Self { schema, hash, previous }
    }

    /// The schema's hash, which the hello says.
    #[must_use]
    pub const fn hash(&self) -> SchemaHash {
        self.hash
    }

    /// What a peer is told whose hello says another hash.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![KIND];
        put_var_u64(&mut out, self.previous.len() as u64);
        for hash in &self.previous {
            out.extend_from_slice(&hash.0);
        }
        out.extend_from_slice(&self.schema.encode());
        out.into()
    }

    /// Decides whether there is a link to a peer whose hello says this hash, and which has told this.
    ///
    /// # Errors
    /// Why there is none: where the schemas differ, as seen from this side.
    pub fn meet(&self, said: SchemaHash, frame: Bytes) -> Result<(), Bye> {
        let malformed = |error: TermsError| Bye { reason: ByeReason::Malformed, detail: error.to_string() };
        let (previous, schema) = read(frame).map_err(malformed)?;
        if SchemaHash::of_encoded(&schema) != said {
            return Err(malformed(TermsError::Hash));
        }
        // By the hashes alone: one that this release cannot read may be the next one that it is to have.
        if said == self.hash || self.previous.contains(&said) || previous.contains(&self.hash) {
            return Ok(());
        }
        let detail = match Schema::decode(schema) {
            Ok(there) => told(&self.schema, &there),
            Err(error) => format!("the schemas differ, and this release cannot read the other: {error}"),
        };
        Err(Bye { reason: ByeReason::Schema, detail })
    }
}

fn read(frame: Bytes) -> Result<(BTreeSet<SchemaHash>, Bytes), TermsError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(TermsError::TooLong(frame.len()));
    }
    let mut reader = Reader::new(frame);
    match reader.u8()? {
        KIND => {}
        other => return Err(TermsError::Kind(other)),
    }
    let count = canonical_u64(&mut reader)?;
    if count > PREVIOUS_SCHEMAS_MAX as u64 {
        return Err(TermsError::Previous);
    }
    let mut previous = BTreeSet::new();
    for _ in 0..count {
        let hash = SchemaHash(reader.array()?);
        if previous.last().is_some_and(|last| *last >= hash) {
            return Err(TermsError::Previous);
        }
        previous.insert(hash);
    }
    let schema = reader.bytes(reader.remaining())?;
    Ok((previous, schema))
}

fn told(here: &Schema, there: &Schema) -> String {
    let found = here.differences(there);
    let some: Vec<_> = found.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    let more = match found.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("the schemas differ: {}{more}", some.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::schema::{Collection, Field, FieldType, Policy};
    use proptest::prelude::*;

    /// A schema of tasks, whose title is merged so, with so many more fields.
    fn schema(title: Policy, more: usize) -> Arc<Schema> {
        let mut tasks = Collection::new("tasks", "tasks/*").expect("a pattern");
        tasks.fields.insert("title".to_owned(), Field::new(FieldType::String, title));
        tasks.fields.extend((0..more).map(|at| (format!("field {at}"), Field::default())));
        Arc::new(Schema::new(vec![tasks]).expect("valid"))
    }

    fn alone(schema: Arc<Schema>) -> SchemaTerms {
        SchemaTerms::new(schema, [])
    }

    /// What both say when they meet.
    fn meeting(a: &SchemaTerms, b: &SchemaTerms) -> [Result<(), Bye>; 2] {
        [a.meet(b.hash(), b.encode()), b.meet(a.hash(), a.encode())]
    }

    #[test]
    fn l16_both_sides_name_the_collection_the_field_and_what_differs() {
        let told = |met: Result<(), Bye>| {
            let Bye { reason, detail } = met.expect_err("refused");
            assert_eq!(reason, ByeReason::Schema);
            detail
        };
        let (a, b) = (alone(schema(Policy::Lww, 0)), alone(schema(Policy::Text3, 1)));
        let [at_a, at_b] = meeting(&a, &b).map(told);
        let only = "the schemas differ: collection `tasks`, field `field 0`: only";
        let title = "collection `tasks`, field `title`: policy";
        assert_eq!(at_a, format!("{only} there; {title} lww here, text3 there"));
        assert_eq!(at_b, format!("{only} here; {title} text3 here, lww there"));

        let none = alone(Arc::default());
        let [at_a, at_none] = meeting(&a, &none).map(told);
        assert_eq!(at_a, "the schemas differ: collection `tasks`: only here");
        assert_eq!(at_none, "the schemas differ: collection `tasks`: only there");
        let far = alone(schema(Policy::Lww, 9));
        assert!(told(a.meet(far.hash(), far.encode())).ends_with("only there; and 5 more"));
    }

    #[test]
    fn l16_a_region_that_names_the_others_schema_has_a_link() {
        let (old, new) = (schema(Policy::Lww, 0), schema(Policy::Text3, 0));
        let rolled = SchemaTerms::new(new.clone(), [SchemaHash([9; 16]), old.hash()]);
        assert_eq!(meeting(&rolled, &alone(old)), [Ok(()), Ok(())]);
        assert_eq!(meeting(&rolled, &alone(new)), [Ok(()), Ok(())]);
        // What it gets on with is no bridge: these two would have to name each other.
        let other = alone(schema(Policy::Custom("base".into()), 0));
        let [at_rolled, at_other] = meeting(&rolled, &other);
        assert!(at_rolled.is_err() && at_other.is_err());
    }

    #[test]
    fn l16_a_schema_of_a_newer_release_is_let_in_by_its_hash() {
        // A layout that this release cannot read.
        let schema = Bytes::from_static(&[2, 7, 7]);
        let hash = SchemaHash::of_encoded(&schema);
        let frame: Bytes = [&[KIND, 0][..], &schema].concat().into();
        let own = self::schema(Policy::Lww, 0);
        let refused = alone(own.clone()).meet(hash, frame.clone()).expect_err("refused");
        assert_eq!(refused.reason, ByeReason::Schema);
        assert_eq!(
            refused.detail,
            "the schemas differ, and this release cannot read the other: layout 2 of a schema is unknown"
        );
        assert_eq!(SchemaTerms::new(own, [hash]).meet(hash, frame), Ok(()));
    }

    #[test]
    fn l16_what_shows_no_schema_is_malformed() {
        let own = alone(schema(Policy::Lww, 0));
        let other = alone(schema(Policy::Text3, 0));
        let refused = |frame: Vec<u8>| {
            let Bye { reason, detail } = own.meet(other.hash(), frame.into()).expect_err("refused");
            assert_eq!(reason, ByeReason::Malformed);
            detail
        };
        let another = alone(schema(Policy::Text3, 1)).encode().to_vec();
        assert_eq!(refused(another), TermsError::Hash.to_string());
        assert_eq!(refused(vec![4, 0, 0]), TermsError::Kind(4).to_string());
        assert_eq!(refused(vec![KIND, 9]), TermsError::Previous.to_string());
        assert_eq!(refused([&[KIND, 2][..], &[0; 32]].concat()), TermsError::Previous.to_string());
        assert_eq!(refused(vec![KIND, 1, 0]), TermsError::Read(ReadError::End).to_string());
        let long = vec![KIND; FRAME_BYTES_MAX + 1];
        assert_eq!(refused(long), TermsError::TooLong(FRAME_BYTES_MAX + 1).to_string());
    }

    proptest! {
        #[test]
        fn l16_any_frame_is_refused_or_read(
            bytes: Vec<u8>, previous in prop::collection::btree_set(any::<[u8; 16]>(), 0..=PREVIOUS_SCHEMAS_MAX),
        ) {
            let own = SchemaTerms::new(schema(Policy::Lww, 2), previous.into_iter().map(SchemaHash));
            let (said, rest) = read(own.encode()).expect("its own");
            prop_assert_eq!((said, rest), (own.previous.clone(), own.schema.encode()));
            for frame in [bytes.clone(), [&[KIND, 0][..], &bytes].concat()] {
                let hash = SchemaHash::of_encoded(frame.get(2..).unwrap_or_default());
                let _refused_or_read = own.meet(hash, frame.into());
            }
        }
    }
}
