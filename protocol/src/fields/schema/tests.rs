//! Schemas from outside and schemas of operators: what is read, what is refused, what is told.

use super::*;
use crate::ids::ReplicaId;
use bytes::Bytes;
use proptest::prelude::*;

fn policy() -> impl Strategy<Value = Policy> {
    let values = Just(vec!["todo", "doing", "done"]).prop_shuffle();
    let rank = (values, 1..=3_usize);
    prop_oneof![
        4 => prop::sample::select(Policy::PLAIN.to_vec()),
        1 => rank.prop_map(|(values, len)| Policy::Rank(values[..len].iter().map(|one| (*one).into()).collect())),
        1 => prop::sample::select(vec!["versions[0]", "base"]).prop_map(|script| Policy::Custom(script.into())),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    let home = prop::option::of(prop::sample::select(HomePolicy::ALL.to_vec()));
    let refers = prop::option::of(("[ab]", prop::sample::select(ReferencePolicy::ALL.to_vec())));
    (policy(), any::<prop::sample::Index>(), any::<(bool, bool)>(), home, refers).prop_map(
        |(policy, ty, (required, unique), home, refers)| {
            let ty = *ty.get(policy.types());
            let reference = refers.map(|(collection, on_delete)| Reference { collection, on_delete });
            let reference = reference.filter(|one| {
                ty == FieldType::String && !(required && one.on_delete == ReferencePolicy::Null)
            });
            Field { ty, policy, required, unique: unique && ty.is_scalar(), reference, home }
        },
    )
}

fn collection(name: &'static str) -> impl Strategy<Value = Collection> {
    let ids = prop_oneof![
        Just(None),
        Just(Some(IdStrategy::Uuid)),
        Just(Some(IdStrategy::Range)),
        "[A-C]".prop_map(|prefix| Some(IdStrategy::Short { prefix })),
    ];
    let fields = prop::collection::btree_map("[tü ]{1,2}", field(), 0..4);
    let pattern = prop::sample::select(vec!["*", "**", "*/x"]);
    let on_delete = prop::sample::select(DeletePolicy::ALL.to_vec());
    let claims = prop::collection::btree_set((1..4_u16).prop_map(ReplicaId), 0..3);
    (fields, field(), ids, pattern, on_delete, claims).prop_map(
        move |(fields, default, ids, pattern, on_delete, claims_at)| {
            let made = Collection::new(name, &format!("{name}/{pattern}")).expect("a pattern");
            let default = Field::new(default.ty, default.policy);
            with_claims(Collection { fields, default, ids, on_delete, claims_at, ..made })
        },
    )
}

/// Where nothing is unique nothing is reserved.
fn with_claims(mut collection: Collection) -> Collection {
    if !collection.fields.values().any(|field| field.unique) {
        collection.claims_at.clear();
    }
    collection
}

/// Schemas of `a` and `b`, which every reference is to, and perhaps `c`.
fn collections() -> impl Strategy<Value = Vec<Collection>> {
    (collection("a"), collection("b"), prop::option::of(collection("c")))
        .prop_map(|(a, b, c)| [Some(a), Some(b), c].into_iter().flatten().collect::<Vec<_>>())
        .prop_shuffle()
}

fn schema() -> impl Strategy<Value = Schema> {
    prop_oneof![
        1 => Just(Schema::default()),
        9 => collections().prop_map(|all| Schema::new(all).expect("valid")),
    ]
}

/// A schema, and one that is the same or differs from it in one thing or in a few.
fn pair() -> impl Strategy<Value = (Schema, Schema)> {
    let change = (any::<prop::sample::Index>(), field(), collection("a"), 0..10_usize);
    (schema(), change).prop_map(|(schema, (at, field, other, change))| {
        let mut all = schema.collections().to_vec();
        if all.is_empty() {
            return (schema.clone(), schema);
        }
        let last = all.len() - 1;
        let one = &mut all[at.index(last + 1)];
        match change {
            0 => all.rotate_left(1),
            1 => one.on_delete = other.on_delete,
            2 => one.ids = other.ids,
            3 => one.default = other.default,
            4 => one.pattern = Pattern::new(&format!("{}/?", one.name)).expect("a pattern"),
            5 => drop(one.fields.pop_first()),
            6 => drop(one.fields.insert("t".to_owned(), field)),
            7 => drop(one.fields.first_entry().map(|mut one| one.insert(field))),
            8 => one.claims_at = other.claims_at,
            _ => {}
        }
        let all = all.into_iter().map(with_claims).collect();
        (schema, Schema::new(all).expect("still valid"))
    })
}

proptest! {
    #[test]
    fn a_schema_survives_its_bytes_and_its_hash_its_text(schema in schema()) {
        prop_assert_eq!(Schema::decode(schema.encode()), Ok(schema.clone()));
        prop_assert_eq!(schema.hash().to_string().parse(), Ok(schema.hash()));
    }

    #[test]
    fn any_bytes_are_refused_or_the_only_spelling_of_a_schema(
        schema in schema(), at: prop::sample::Index, to: u8, cut in 0..6_usize, bytes: Vec<u8>,
    ) {
        let mut changed = schema.encode().to_vec();
        let at = at.index(changed.len());
        changed[at] = to;
        changed.truncate(changed.len().saturating_sub(cut / 2));
        for bytes in [changed, [&[1][..], &bytes].concat(), bytes] {
            if let Ok(read) = Schema::decode(bytes.clone().into()) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }

    #[test]
    fn hashes_differ_exactly_where_a_difference_is_named(near in pair(), far in (schema(), schema())) {
        for (here, there) in [near, far] {
            let (found, back) = (here.differences(&there), there.differences(&here));
            prop_assert_eq!(here.hash() != there.hash(), !found.is_empty());
            prop_assert_eq!(here == there, found.is_empty());
            prop_assert_eq!(found.len(), back.len());
            for difference in &found {
                let said = difference.to_string();
                prop_assert!(said.len() <= 2 * 120 + 400, "{}", said);
                if let What::Differs { here, there, .. } = &difference.what {
                    prop_assert_ne!(here, there);
                }
            }
        }
    }
}

fn tasks(title: Policy) -> Collection {
    let mut tasks = Collection::new("tasks", "tasks/*").expect("a pattern");
    tasks.fields.insert("title".to_owned(), Field::new(FieldType::String, title));
    tasks
}

fn named(text: &str) -> DocName {
    DocName::new(text).expect("a name")
}

#[test]
fn a_document_belongs_to_the_first_collection_that_matches() {
    let archived = Collection::new("archived", "tasks/old-*").expect("a pattern");
    let schema = Schema::new(vec![archived, tasks(Policy::Text3)]).expect("valid");
    assert_eq!(schema.collection(&named("tasks/old-1")).name, "archived");
    assert_eq!(schema.collection(&named("tasks/1")).name, "tasks");
    assert_eq!(schema.collection(&named("tasks/1")).field("title").policy, Policy::Text3);
    assert_eq!(schema.collection(&named("tasks/1")).field("colour"), &Field::default());
    let other = schema.collection(&named("notes/1"));
    assert_eq!((other.name.as_str(), other.on_delete), (DEFAULT_COLLECTION, DeletePolicy::Revive));
    assert_eq!(other.field("title"), &Field::new(FieldType::Any, Policy::Siblings));
}

#[test]
fn differences_name_the_collection_the_field_and_what_differs() {
    let here = Schema::new(vec![tasks(Policy::Lww)]).expect("valid");
    let mut changed = tasks(Policy::Text3);
    changed.fields.insert("due".to_owned(), Field::new(FieldType::Timestamp, Policy::Max));
    changed.default = Field::new(FieldType::Any, Policy::Lww);
    let people = Collection::new("people", "people/*").expect("a pattern");
    let there = Schema::new(vec![people, changed]).expect("valid");
    let said: Vec<_> = here.differences(&there).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "collection `tasks`, field `due`: only there",
            "collection `tasks`, field `title`: policy lww here, text3 there",
            "collection `tasks`, other fields: policy siblings here, lww there",
            "collection `people`: only there",
        ]
    );
    let said = there.differences(&here)[0].to_string();
    assert_eq!(said, "collection `people`: only here");
}

#[test]
fn long_values_are_cut_and_still_told_apart() {
    let rank = |last: &str| {
        let values = (0..30).map(|at| format!("value {at}")).chain([last.to_owned()]);
        Schema::new(vec![tasks(Policy::Rank(values.collect()))]).expect("valid")
    };
    let found = rank("é").differences(&rank("è"));
    let [Difference { what: What::Differs { here, there, .. }, .. }] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(here.starts_with("rank value 0 < value 1") && here.len() < 120, "{here}");
    assert_ne!(here, there);
}

#[test]
fn the_empty_schema_has_the_hash_of_regions_that_know_of_none() {
    assert_eq!(Schema::default().hash(), SchemaHash([0; 16]));
    assert_ne!(Schema::new(vec![tasks(Policy::Lww)]).expect("valid").hash(), SchemaHash::default());
    for text in ["", "0", &"0".repeat(31), &"A".repeat(32), &format!("+{}", "0".repeat(31)), &"é".repeat(16)]
    {
        assert_eq!(text.parse::<SchemaHash>(), Err(SchemaHashError), "{text}");
    }
}

/// A change of layout would part every cluster: it needs a new number of the layout.
#[test]
fn the_layout_stays_as_it_is() {
    let mut one = tasks(Policy::Rank(vec!["a".to_owned(), "b".to_owned()]));
    one.ids = Some(IdStrategy::Short { prefix: "T".to_owned() });
    let reference = Reference { collection: "tasks".to_owned(), on_delete: ReferencePolicy::Cascade };
    let parent =
        Field { reference: Some(reference), unique: true, ..Field::new(FieldType::String, Policy::Lww) };
    one.fields.insert("parent".to_owned(), parent);
    let expected = [
        &[1, 1, 5][..],
        b"tasks\x07tasks/*",
        &[1, 2, 1, b'T', 1, 1, 2, 6],
        b"parent",
        &[2, 2, 2, 0, 3, 5],
        b"tasks\x05title",
        &[2, 128, 2, 1, b'a', 1, b'b', 0, 0, 0],
    ];
    let schema = Schema::new(vec![one]).expect("valid");
    assert_eq!(schema.encode(), expected.concat());
    assert_eq!(schema.hash().to_string(), "912a30f0c85fd87e159b5f5ac0e28a4c");
}

#[test]
fn what_does_not_go_together_is_listed_at_once() {
    let mut one = tasks(Policy::Counter);
    one.name = "a task".to_owned();
    one.ids = Some(IdStrategy::Short { prefix: "É".to_owned() });
    one.default.required = true;
    let asked = [
        ("__conflicts", Field::default()),
        ("any", Field { unique: true, ..Field::default() }),
        ("rank", Field::new(FieldType::String, Policy::Rank(vec!["a".to_owned(), "a".to_owned()]))),
        ("script", Field::new(FieldType::Any, Policy::Custom("".into()))),
    ];
    one.fields.extend(asked.map(|(name, field)| (name.to_owned(), field)));
    let to = |collection: &str| {
        Some(Reference { collection: collection.to_owned(), on_delete: ReferencePolicy::Null })
    };
    one.fields.insert("to".to_owned(), Field { reference: to("people"), required: true, ..Field::default() });
    let (all, none) = (Collection::new("all", "**"), Collection::new("all", "notes"));
    let schema = vec![one, all.expect("a pattern"), none.expect("a pattern")];
    let said: Vec<_> = Schema::new(schema).expect_err("wrong").iter().map(ToString::to_string).collect();
    let expected = [
        "collection 1: a collection's name has",
        "collection 1: the prefix of short ids has",
        "collection 1: fields that are not declared",
        "collection 1, field `__conflicts`: a field's name has",
        "collection 1, field `any`: only a string, number, integer, boolean or timestamp can be unique",
        "collection 1, field `rank`: rank orders",
        "collection 1, field `script`: a script has 1 to 65536 bytes; this one has 0",
        "collection 1, field `title`: policy counter does not go with type string, but with number or integer",
        "collection 1, field `to`: a reference is of type string; this field is of type any",
        "collection 1, field `to`: there is no collection \"people\" to refer to",
        "collection 1, field `to`: a required field cannot become null",
        "collection 3: another collection has this name",
        "collection 3: no document can belong to it: all stands before it",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said:?} does not begin with {expected:?}");
    }
}

#[test]
fn more_than_a_schema_may_hold_is_refused() {
    let named = |at: usize| Collection::new(format!("c{at}"), &format!("c{at}/*")).expect("a pattern");
    let wrong = |all: Vec<Collection>| Schema::new(all).expect_err("too much").swap_remove(0).wrong;
    assert_eq!(wrong((0..=COLLECTIONS_MAX).map(named).collect()), Wrong::Collections(COLLECTIONS_MAX + 1));
    let mut many = named(0);
    many.fields.extend((0..=FIELDS_MAX).map(|at| (at.to_string(), Field::default())));
    assert_eq!(wrong(vec![many]), Wrong::Fields(FIELDS_MAX + 1));
    let script = |len: usize| Field::new(FieldType::Any, Policy::Custom(" ".repeat(len).into()));
    let mut long = named(0);
    long.fields.insert("a".to_owned(), script(SCRIPT_BYTES_MAX + 1));
    assert_eq!(wrong(vec![long.clone()]), Wrong::Script(SCRIPT_BYTES_MAX + 1));
    long.fields.extend(["a", "b", "c", "d"].map(|name| (name.to_owned(), script(SCRIPT_BYTES_MAX))));
    assert!(matches!(wrong(vec![long]), Wrong::Bytes(bytes) if bytes > SCHEMA_BYTES_MAX));
}

#[test]
fn what_is_beyond_a_limit_is_refused_before_it_is_read() {
    let refused = |bytes: &[u8]| Schema::decode(Bytes::copy_from_slice(bytes)).expect_err("refused");
    assert_eq!(refused(&vec![1; SCHEMA_BYTES_MAX + 1]), SchemaDecodeError::TooLong(SCHEMA_BYTES_MAX + 1));
    assert_eq!(refused(&[2, 0]), SchemaDecodeError::Layout(2));
    assert_eq!(refused(&[1, 0xff, 0x7f]), SchemaDecodeError::TooMany("collections", COLLECTIONS_MAX, 0x3fff));
    let name_of_many = refused(&[1, 1, 0xff, 0x7f]);
    assert_eq!(
        name_of_many,
        SchemaDecodeError::TooMany("bytes in a name", COLLECTION_NAME_BYTES_MAX, 0x3fff)
    );
    assert_eq!(refused(&[1, 0, 0]), SchemaDecodeError::Read(crate::lib0::ReadError::Trailing));
    // One collection, `c` of pattern `c`, with a field `a` twice.
    let field = [1, b'a', 1, 1, 0, 0, 0];
    let one = [&[1, 1, 1, b'c', 1, b'c', 1, 0, 1, 1, 1][..], &field].concat();
    assert!(Schema::decode(one.into()).is_ok());
    let twice = [&[1, 1, 1, b'c', 1, b'c', 1, 0, 1, 1, 2][..], &field, &field].concat();
    assert_eq!(refused(&twice), SchemaDecodeError::Unordered);
}
