//! State vectors from outside, and what a document sends to someone who claims to have them.
//!
//! Uses the library and yrs only: the crate's tests run it over the committed seeds.

use quire_protocol::update::{ClientId, StateVector, Update};
use yrs::block::ClientID;
use yrs::updates::decoder::Decode;
use yrs::{Any, Doc, Map, OffsetKind, Options, ReadTxn, Text, Transact};

/// Decodes a state vector and has a document answer it.
pub(crate) fn run(data: &[u8]) {
    let Ok(vector) = StateVector::decode(data) else { return };
    let encoded = vector.encode();
    assert_eq!(StateVector::decode(&encoded), Ok(vector.clone()));
    let by_yrs = yrs::StateVector::decode_v1(&encoded).expect("yrs reads what we write");
    assert!(
        vector.iter().all(|(ClientId(client), clock)| by_yrs.get(&ClientID::new(client.into())) == clock)
    );
    let diff = document().transact().encode_state_as_update_v1(&by_yrs);
    Update::decode(diff.into()).expect("we read what yrs writes");
}

/// A document of clients 1 to 3 with text, deletions and map entries.
fn document() -> Doc {
    let options = |client| Options {
        client_id: ClientID::new(client),
        offset_kind: OffsetKind::Utf16,
        cleanup_formatting: false,
        ..Options::default()
    };
    let whole = Doc::with_options(options(9));
    for client in 1..=3 {
        let writer = Doc::with_options(options(client));
        let (text, map) = (writer.get_or_insert_text("content"), writer.get_or_insert_map("fields"));
        let mut txn = writer.transact_mut();
        text.insert(&mut txn, 0, "a😀b女c");
        text.remove_range(&mut txn, 3, 2);
        map.insert(&mut txn, "key", Any::from(vec![Any::Null, Any::from(true)]));
        let update = yrs::Update::decode_v1(&txn.encode_update_v1()).expect("yrs wrote it");
        drop(txn);
        whole.transact_mut().apply_update(update).expect("it is whole");
    }
    whole
}
