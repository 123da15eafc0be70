//! What is on record as bytes: read as it was written, and from a broken disk refused or read.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quire_protocol::batch::Stamp;
use quire_protocol::fields::{
    Authorship, Base, Claim, ConflictId, Conflicting, Deletion, Held, Index, Naming, Path, Record,
    Resolution, Shown, Value, Version, Who, WriteId, Writes,
};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocName, Dot, Seq, StreamId};
use quire_protocol::life::Unseen;
use quire_protocol::update::{ClientId, ItemId, TypeKind};
use std::sync::Arc;

fn stamp() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), any::<u32>(), any::<u64>())
        .prop_map(|(hlc, stream, seq)| (Hlc(hlc), Dot { stream: StreamId::from_u32(stream), seq: Seq(seq) }))
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<f64>().prop_filter("a value has one spelling", |n| n.is_finite()).prop_map(Value::from),
        "\\PC{0,12}".prop_map(|text| Value::String(text.as_str().into())),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| vec(inner, 0..4).prop_map(|all| Value::List(all.into())))
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        4 => value().prop_map(Held::Value),
        1 => Just(Held::Deleted),
        1 => Just(Held::Unknown),
        1 => Just(Held::Subdoc),
        1 => Just(Held::Shared(TypeKind::Map)),
    ]
}

fn authorship() -> impl Strategy<Value = Authorship> {
    // A name is told or not; an empty one is none.
    let author = proptest::option::of("\\PC{1,8}");
    (stamp(), "\\PC{0,8}", author).prop_map(|(stamp, region, author)| Authorship {
        stamp,
        who: Arc::new(Who {
            region: region.as_str().into(),
            author: author.map(|author| author.as_str().into()),
        }),
    })
}

fn path() -> impl Strategy<Value = Path> {
    vec("[a-z~/ é🗝]{1,4}", 1..4).prop_map(|keys| {
        let escaped: Vec<String> = keys.iter().map(|key| key.replace('~', "~0").replace('/', "~1")).collect();
        escaped.join("/").parse().unwrap()
    })
}

fn version() -> impl Strategy<Value = Version> {
    (any::<bool>(), any::<u32>(), any::<u32>(), held(), authorship()).prop_map(
        |(is_set, client, clock, held, by)| {
            let item = ItemId { client: ClientId(client), clock };
            let write = if is_set { WriteId::Set(item) } else { WriteId::Deleted(item) };
            Version { write, held, by }
        },
    )
}

fn writes() -> impl Strategy<Value = Conflicting> {
    let base = prop_oneof![
        Just(Base::Nothing),
        held().prop_map(Base::Write),
        proptest::option::of(held()).prop_map(Base::Several),
    ];
    let shown = prop_oneof![Just(Shown::AsYjs), proptest::option::of(value()).prop_map(Shown::Value)];
    let reason = proptest::option::of("\\PC{0,20}");
    let merged = prop_oneof![
        Just(Ok(())),
        reason.prop_map(|reason| Err(reason.map(|reason| Arc::<str>::from(reason.as_str()))))
    ];
    (path(), "[a-z0-9]{1,8}", vec(version(), 0..5), any::<u32>(), base, shown, merged).prop_map(
        |(path, policy, versions, left_out, base, shown, merged)| {
            let (policy, left_out) = (policy.as_str().into(), left_out as usize);
            Conflicting::Writes(Writes { path, policy, versions, left_out, base, shown, merged })
        },
    )
}

fn deletion() -> impl Strategy<Value = Conflicting> {
    let edits = vec((any::<u64>(), stamp()), 0..4).prop_map(|edits| {
        let edits = edits.into_iter().map(|(after, (hlc, last))| Unseen {
            after: Dot { seq: Seq(after), ..last },
            last,
            hlc,
        });
        edits.collect()
    });
    (vec(stamp(), 0..4), edits, any::<bool>()).prop_map(|(deletions, edits, is_revived)| {
        Conflicting::Deletion(Deletion { deletions, edits, is_revived })
    })
}

fn record() -> impl Strategy<Value = Record> {
    let resolved = (authorship(), proptest::option::of(held()));
    let resolved = proptest::option::of(resolved.prop_map(|(by, left)| Resolution { by, left }));
    (any::<[u8; 16]>(), stamp(), prop_oneof![3 => writes(), 1 => deletion()], resolved)
        .prop_map(|(id, since, of, resolved)| Record { id: ConflictId(id), since, of, resolved })
}

fn index() -> impl Strategy<Value = Index> {
    let claim = (path(), value(), stamp()).prop_map(|(path, value, since)| Claim { path, value, since });
    let named = (path(), "[a-z/é]{1,9}", stamp()).prop_map(|(path, name, since)| Naming {
        path,
        target: DocName::new(&name).unwrap(),
        since,
    });
    (vec(claim, 0..4), vec(named, 0..4)).prop_map(|(claims, references)| Index { claims, references })
}

/// Some bytes are others, some are left out, some repeated.
#[derive(Clone, Debug)]
struct Damage {
    changes: Vec<(prop::sample::Index, u8)>,
    cut: Option<prop::sample::Index>,
    added: Vec<u8>,
}

fn damage() -> impl Strategy<Value = Damage> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = proptest::option::weighted(0.3, any::<prop::sample::Index>());
    (changes, cut, vec(any::<u8>(), 0..3)).prop_map(|(changes, cut, added)| Damage { changes, cut, added })
}

impl Damage {
    fn to(&self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        for (at, byte) in &self.changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(&self.added);
        bytes.into()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn f12_a_record_is_read_as_it_was_written(record in record(), damage in damage()) {
        let bytes = record.encode();
        prop_assert_eq!(&Record::decode(bytes.clone()).unwrap(), &record);
        // What can be read all the same can be written, and is what it says.
        if let Ok(read) = Record::decode(damage.to(&bytes)) {
            prop_assert_eq!(Record::decode(read.encode()).unwrap(), read);
        }
    }

    #[test]
    fn f12_an_index_is_read_as_it_was_written(index in index(), damage in damage()) {
        let bytes = index.encode();
        prop_assert_eq!(&Index::decode(bytes.clone()).unwrap(), &index);
        if let Ok(read) = Index::decode(damage.to(&bytes)) {
            prop_assert_eq!(Index::decode(read.encode()).unwrap(), read);
        }
    }

    #[test]
    fn f12_bytes_that_are_no_row_are_refused(bytes in vec(any::<u8>(), 0..200), version in 0..3_u8) {
        for bytes in [bytes.clone(), [&[version][..], &bytes].concat()] {
            let _ = Record::decode(bytes.clone().into());
            let _ = Index::decode(bytes.into());
        }
    }
}

#[test]
fn f12_a_count_is_not_believed_before_its_rows_could_be_there() {
    // Versions, deletions, edits, claims and references, each said to be 2^53 of them.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let head = [&[1][..], &[7; 16], &[1, 1, 1]].concat();
    let rows = [
        [&head[..], &[1, 1, b'a', 3, b'l', b'w', b'w'], &huge].concat(),
        [&head[..], &[2], &huge].concat(),
        [&head[..], &[2, 0], &huge].concat(),
    ];
    for row in rows {
        Record::decode(row.into()).unwrap_err();
    }
    for row in [[&[2][..], &huge].concat(), [&[2, 0][..], &huge].concat()] {
        Index::decode(row.into()).unwrap_err();
    }
}
