//! What a document's fields say to other documents, as rows: the values that it claims, and whom it refers to.
//!
//! ```text
//! indexes   = doc                               → version u8 = 3 · schema's hash · collection · an index
//! claims    = claim · since · doc               → version u8 = 1 · name · path · value
//! referrers = target · doc · field's hash       → version u8 = 2 · name · path · target's name · a stamp
//! since     = hlc u64 · stream u32 · seq u64
//! ```
//!
//! Invariant: the rows of a document are a function of its row in `indexes`.

use super::rows::index_key;
use bytes::Bytes;
use quire_protocol::batch::{Stamp, put_stamp, read_stamp};
use quire_protocol::fields::{Claim, ClaimId, Index, Naming, Path, Rules, Value};
use quire_protocol::hlc::Hlc;
use quire_protocol::ids::{DocId, DocName, Dot, Seq, StreamId};
use quire_protocol::lib0::{ReadError, Reader, put_var_bytes};
use quire_storage::DerivedKey;
use std::collections::BTreeMap;

/// Claims of values that no two documents may have, by value.
pub(super) const CLAIMS: u8 = 5;
/// Who refers to a document.
pub(super) const REFERRERS: u8 = 7;

const INDEXED_VERSION: u8 = 3;
const CLAIM_VERSION: u8 = 1;
const REFERRER_VERSION: u8 = 2;

/// What a document says to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexed {
    /// The schema that it was read by.
    schema: [u8; 16],
    /// The document's collection by that schema.
    collection: String,
    pub(super) index: Index,
}

/// A document that claims a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    pub(crate) document: DocName,
    pub(crate) path: Path,
    pub(crate) value: Value,
    pub(crate) since: Stamp,
}

/// A field that names another document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referrer {
    pub(crate) document: DocName,
    pub(crate) path: Path,
    pub(crate) target: DocName,
    /// Since when the field has held what names it.
    pub(crate) since: Stamp,
}

impl Indexed {
    pub(super) fn new(rules: &Rules, index: Index) -> Self {
        Self { schema: rules.hash(), collection: rules.collection().name.clone(), index }
    }

    /// Whether it was read by this schema.
    pub(super) fn is_of(&self, rules: &Rules) -> bool {
        self.schema == rules.hash()
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![INDEXED_VERSION];
        out.extend_from_slice(&self.schema);
        put_var_bytes(&mut out, self.collection.as_bytes());
        out.extend_from_slice(&self.index.encode());
        out.into()
    }

    pub(super) fn decode(row: Bytes) -> Result<Self, ReadError> {
        let mut reader = Reader::new(row);
        if reader.u8()? != INDEXED_VERSION {
            return Err(ReadError::Overflow);
        }
        let schema = reader.array()?;
        let collection = reader.var_str()?.as_str().to_owned();
        let index = Index::decode(reader.bytes(reader.remaining())?)?;
        Ok(Self { schema, collection, index })
    }

    /// All rows of a document.
    pub(super) fn rows(&self, document: &DocName) -> BTreeMap<DerivedKey, Bytes> {
        let doc = document.id();
        let mut rows = BTreeMap::new();
        if !self.index.is_empty() {
            rows.insert(index_key(doc), self.encode());
        }
        for Claim { path, value, since } in self.index.claims.iter().cloned() {
            let id = ClaimId::of(&self.collection, &path, &value);
            let claimant = Claimant { document: document.clone(), path, value, since };
            rows.insert(claim_key(id, since, doc), claimant.row());
        }
        for Naming { path, target, since } in self.index.references.iter().cloned() {
            let referrer = Referrer { document: document.clone(), path, target, since };
            rows.insert(DerivedKey { space: REFERRERS, key: referrer.key() }, referrer.row());
        }
        rows
    }
}

fn named_row(version: u8, texts: &[&str]) -> Vec<u8> {
    let mut row = vec![version];
    texts.iter().for_each(|text| put_var_bytes(&mut row, text.as_bytes()));
    row
}

fn claim_key(ClaimId(id): ClaimId, (Hlc(hlc), dot): Stamp, doc: DocId) -> DerivedKey {
    let since =
        [&hlc.to_be_bytes()[..], &dot.stream.to_u32().to_be_bytes(), &dot.seq.0.to_be_bytes()].concat();
    DerivedKey { space: CLAIMS, key: [&id[..], &since, &doc.0.to_be_bytes()].concat().into() }
}

/// What a key of a claim begins with.
pub(super) fn claim_of(key: &[u8]) -> Option<ClaimId> {
    key.first_chunk().copied().map(ClaimId)
}

/// Since when whoever a key of a claim is of claims the value.
pub(super) fn since_of(key: &[u8]) -> Result<Stamp, ReadError> {
    let mut key = Reader::new(Bytes::copy_from_slice(key));
    let _id: [u8; 16] = key.array()?;
    let hlc = Hlc(u64::from_be_bytes(key.array()?));
    let stream = StreamId::from_u32(u32::from_be_bytes(key.array()?));
    Ok((hlc, Dot { stream, seq: Seq(u64::from_be_bytes(key.array()?)) }))
}

/// The document that a key of a referrer begins with.
pub(super) fn target_of(key: &[u8]) -> Option<DocId> {
    key.first_chunk().map(|target| DocId(u128::from_be_bytes(*target)))
}

impl Claimant {
    pub(super) fn row(&self) -> Bytes {
        let mut row = named_row(CLAIM_VERSION, &[self.document.as_str(), &self.path.to_string()]);
        self.value.encode(&mut row);
        row.into()
    }

    pub(super) fn read(since: Stamp, row: Bytes) -> Result<Self, ReadError> {
        let mut reader = Reader::new(row);
        let (document, path) = read_named(&mut reader, CLAIM_VERSION)?;
        let value = Value::decode(&mut reader)?;
        reader.finish()?;
        Ok(Self { document, path, value, since })
    }
}

impl Referrer {
    pub(super) fn key(&self) -> Bytes {
        let field = blake3::hash(self.path.to_string().as_bytes());
        let (DocId(target), DocId(doc)) = (self.target.id(), self.document.id());
        [&target.to_be_bytes()[..], &doc.to_be_bytes(), &field.as_bytes()[..16]].concat().into()
    }

    pub(super) fn row(&self) -> Bytes {
        let texts = [self.document.as_str(), &self.path.to_string(), self.target.as_str()];
        let mut row = named_row(REFERRER_VERSION, &texts);
        put_stamp(&mut row, self.since);
        row.into()
    }

    pub(super) fn read(row: Bytes) -> Result<Self, ReadError> {
        let mut reader = Reader::new(row);
        let (document, path) = read_named(&mut reader, REFERRER_VERSION)?;
        let (target, since) = (read_doc(&mut reader)?, read_stamp(&mut reader)?);
        reader.finish()?;
        Ok(Self { document, path, target, since })
    }
}

fn read_named(reader: &mut Reader, version: u8) -> Result<(DocName, Path), ReadError> {
    if reader.u8()? != version {
        return Err(ReadError::Overflow);
    }
    let document = read_doc(reader)?;
    let path = reader.var_str()?.as_str().parse().map_err(|_| ReadError::Overflow)?;
    Ok((document, path))
}

fn read_doc(reader: &mut Reader) -> Result<DocName, ReadError> {
    DocName::new(reader.var_str()?.as_str()).map_err(|_| ReadError::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexed() -> Indexed {
        let stream = StreamId::from_u32(7 << 16 | 3);
        let path: Path = "slug".parse().expect("a path");
        let since = (Hlc(9), Dot { stream, seq: Seq(4) });
        let claims = vec![Claim { path: path.clone(), value: "plan".into(), since }];
        let target = DocName::new("people/ada").expect("a name");
        let index = Index { claims, references: vec![Naming { path, target, since }] };
        Indexed { schema: [3; 16], collection: "tasks".to_owned(), index }
    }

    #[test]
    fn what_a_document_says_comes_back_from_its_rows() {
        let (indexed, document) = (indexed(), DocName::new("tasks/1").expect("a name"));
        assert_eq!(Indexed::decode(indexed.encode()), Ok(indexed.clone()));
        let rows = indexed.rows(&document);
        assert_eq!(rows.len(), 3);
        for (DerivedKey { space, key }, row) in rows {
            match space {
                CLAIMS => {
                    let claim = &indexed.index.claims[0];
                    let id = ClaimId::of("tasks", &claim.path, &claim.value);
                    assert_eq!(claim_of(&key), Some(id));
                    let since = since_of(&key).expect("a claim's key");
                    let Claimant { document: of, path, value, since } =
                        Claimant::read(since, row).expect("a claim");
                    assert_eq!(of, document);
                    assert_eq!(Claim { path, value, since }, *claim);
                }
                REFERRERS => {
                    let Referrer { document: of, path, target, since } =
                        Referrer::read(row).expect("a reference");
                    assert_eq!((of, target_of(&key)), (document.clone(), Some(target.id())));
                    assert_eq!(Naming { path, target, since }, indexed.index.references[0]);
                }
                _ => assert_eq!(DerivedKey { space, key }, index_key(document.id())),
            }
        }
    }

    #[test]
    fn claims_of_one_value_are_in_the_order_of_their_stamps() {
        let stamp = |hlc, replica: u32, seq| {
            (Hlc(hlc), Dot { stream: StreamId::from_u32(replica << 16 | 1), seq: Seq(seq) })
        };
        let stamps = [
            stamp(1, 900, 1),
            stamp(255, 2, 70_000),
            stamp(256, 1, 3),
            stamp(256, 1, 258),
            stamp(256, 300, 1),
        ];
        let keys = stamps.map(|since| claim_key(ClaimId([5; 16]), since, DocId(1)).key);
        assert!(stamps.is_sorted() && keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn what_is_no_row_is_refused() {
        let (bytes, document) = (indexed().encode(), DocName::new("tasks/1").expect("a name"));
        for len in 0..bytes.len() {
            assert!(Indexed::decode(bytes.slice(..len)).is_err(), "{len}");
        }
        for row in indexed().rows(&document).into_values() {
            for len in 0..row.len() {
                assert!(Claimant::read(indexed().index.claims[0].since, row.slice(..len)).is_err());
                assert!(Referrer::read(row.slice(..len)).is_err());
            }
        }
    }
}
