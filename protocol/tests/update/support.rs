//! Golden files, yrs documents, and what they hold.

use bytes::Bytes;
use quire_protocol::update::{ClientId, Clocks, Shape, Update};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use yrs::block::ClientID;
use yrs::types::ToJson;
use yrs::types::text::YChange;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Doc, GetString, OffsetKind, Options, Out, ReadTxn, StateVector, Text, Transact, XmlFragment, XmlOut,
};

/// A story told by real Yjs documents.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) updates: Vec<Update>,
    pub(crate) state: Update,
    json: Value,
}

pub(crate) fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(path)
}

pub(crate) fn read_json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(testdata(path)).unwrap()).unwrap()
}

pub(crate) fn unhex(value: &Value) -> Bytes {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn decode(bytes: impl Into<Bytes>) -> Update {
    Update::decode(bytes.into()).unwrap()
}

pub(crate) fn goldens() -> Vec<Golden> {
    let mut names: Vec<String> = std::fs::read_dir(testdata("updates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.into_iter().map(Golden::read).collect()
}

impl Golden {
    fn read(file: String) -> Self {
        let json = read_json(&format!("updates/{file}"));
        let updates = json["updates"].as_array().unwrap().iter();
        let updates = updates.enumerate().map(|(at, hex)| {
            Update::decode(unhex(hex)).unwrap_or_else(|refusal| panic!("update {at} of {file}: {refusal}"))
        });
        let (updates, state) = (updates.collect(), decode(unhex(&json["state"])));
        Self { name: file, updates, state, json }
    }

    /// Checks that a document holds what the Yjs documents hold.
    pub(crate) fn check(&self, doc: &Doc) {
        let name = &self.name;
        for (root, expected) in self.json["content"].as_object().unwrap() {
            match expected["kind"].as_str().unwrap() {
                "text" => {
                    let text = doc.get_or_insert_text(root.as_str());
                    let txn = doc.transact();
                    let whole = expected["text"].as_str().unwrap();
                    assert_eq!(text.get_string(&txn).replace('\u{fffc}', ""), whole, "{name}");
                    assert_eq!(delta(&text.diff(&txn, YChange::identity), &txn), expected["delta"], "{name}");
                }
                "map" => {
                    let map = doc.get_or_insert_map(root.as_str());
                    assert_same(&map.to_json(&doc.transact()), &expected["json"], name);
                }
                "array" => {
                    let array = doc.get_or_insert_array(root.as_str());
                    assert_same(&array.to_json(&doc.transact()), &expected["json"], name);
                }
                "xml" => {
                    let xml = doc.get_or_insert_xml_fragment(root.as_str());
                    let txn = doc.transact();
                    let written: String = xml
                        .children(&txn)
                        .map(|child| match child {
                            XmlOut::Element(element) => element.get_string(&txn),
                            XmlOut::Fragment(fragment) => fragment.get_string(&txn),
                            XmlOut::Text(text) => text.get_string(&txn),
                        })
                        .collect();
                    assert_eq!(letters(&written), letters(expected["text"].as_str().unwrap()), "{name}");
                }
                kind => panic!("{kind}"),
            }
        }
        assert!(!doc.transact().has_missing_updates(), "{name}");
        let state = decode(doc.transact().encode_state_as_update_v1(&StateVector::default()));
        assert_eq!(deleted_units(&state), self.deleted_units(), "{name}");
        let mut shape = Shape::new();
        shape.record(&state);
        let clocks: BTreeMap<String, u64> =
            shape.state_vector().iter().map(|(client, clock)| (client.to_string(), clock.into())).collect();
        assert_eq!(serde_json::to_value(clocks).unwrap(), self.json["clocks"], "{name}");
    }

    fn deleted_units(&self) -> BTreeSet<(ClientId, u32)> {
        let mut units = BTreeSet::new();
        for (client, ranges) in self.json["deletes"].as_object().unwrap() {
            for range in ranges.as_array().unwrap() {
                let clock = |at: usize| u32::try_from(range[at].as_u64().unwrap()).unwrap();
                units.extend((clock(0)..clock(1)).map(|unit| (ClientId(client.parse().unwrap()), unit)));
            }
        }
        units
    }
}

/// What a text holds, as Yjs writes it.
fn delta<T: ReadTxn>(diff: &[yrs::types::text::Diff<YChange>], txn: &T) -> Value {
    let mut delta = Vec::new();
    for part in diff {
        let insert = match &part.insert {
            Out::Any(any) => json_of(any),
            Out::YMap(map) => json_of(&map.to_json(txn)),
            other => panic!("{}", other.to_string()),
        };
        let mut op = serde_json::Map::from_iter([("insert".to_owned(), insert)]);
        if let Some(attributes) = &part.attributes {
            let attributes = attributes.iter().map(|(key, value)| (key.to_string(), json_of(value)));
            op.insert("attributes".to_owned(), attributes.collect::<serde_json::Map<_, _>>().into());
        }
        delta.push(Value::Object(op));
    }
    Value::Array(delta)
}

fn json_of(any: &Any) -> Value {
    serde_json::to_value(any).unwrap()
}

/// Compares values as JavaScript prints them: numbers by value, what JSON cannot hold left out.
fn assert_same(found: &Any, expected: &Value, name: &str) {
    assert_eq!(plain(&serde_json::to_value(found).unwrap()), plain(expected), "{name}");
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => serde_json::json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => {
            // JavaScript drops undefined members and prints bytes as an object; neither compares.
            let kept = members.iter().filter(|(key, value)| !value.is_null() && *key != "bytes");
            Value::Object(kept.map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        other => other.clone(),
    }
}

/// A text's characters in order: yrs and Yjs write attributes in different orders.
fn letters(text: &str) -> Vec<char> {
    let mut letters: Vec<char> = text.chars().filter(|letter| !letter.is_whitespace()).collect();
    letters.sort_unstable();
    letters
}

pub(crate) fn doc(client: u64) -> Doc {
    let options = Options { offset_kind: OffsetKind::Utf16, cleanup_formatting: false, ..Options::default() };
    Doc::with_options(Options { client_id: ClientID::new(client), ..options })
}

pub(crate) fn apply(doc: &Doc, update: &Update) {
    let update = yrs::Update::decode_v1(update.encoded()).expect("it was admitted");
    doc.transact_mut().apply_update(update).expect("it was admitted");
}

pub(crate) fn state_of(doc: &Doc) -> Vec<u8> {
    doc.transact().encode_state_as_update_v1(&StateVector::default())
}

pub(crate) fn deleted_units(update: &Update) -> BTreeSet<(ClientId, u32)> {
    let units = |(client, ranges): (ClientId, &[Clocks])| {
        let clocks: Vec<u32> = ranges.iter().flat_map(|range| range.start..range.end).collect();
        clocks.into_iter().map(move |clock| (client, clock)).collect::<Vec<_>>()
    };
    update.deletes().flat_map(units).collect()
}

/// A fixed sequence of numbers: xorshift.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(below).unwrap()).unwrap()
    }
}
