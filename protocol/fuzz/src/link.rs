//! What a peer sends before there is trust, and after.
//!
//! Uses the library only: the crate's tests run it over the committed inputs.

use bytes::Bytes;
use quire_protocol::fields::schema::{Schema, SchemaHash};
use quire_protocol::fields::{AskedOfHome, ToldByHome};
use quire_protocol::frontier::Frontier;
use quire_protocol::gate::Arrival;
use quire_protocol::ids::{Dot, ReplicaId, Seq, StreamId};
use quire_protocol::link::hello::{VERSIONS, decode_proof, encode_proof};
use quire_protocol::link::limits::{CALL_BYTES_MAX, CHUNK_BYTES_MAX, EPHEMERAL_BYTES_MAX, HEARS_MAX};
use quire_protocol::link::{Ends, Found, Hello, Input, Link, Message, Output, Piece, Role, SchemaTerms};
use quire_protocol::snapshot::SnapshotReader;
use quire_protocol::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads the bytes as everything that a peer may send.
pub(crate) fn run(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    if let Ok((hello, version)) = Hello::decode(frame.clone()) {
        assert_eq!(hello.encode(), frame, "a hello has one spelling");
        assert!(VERSIONS.contains(&version) && (hello.versions.0..=hello.versions.1).contains(&version));
    }
    if let Ok(proof) = decode_proof(frame.clone()) {
        assert_eq!(encode_proof(&proof), frame, "a proof has one spelling");
    }
    match Message::decode(frame.clone()) {
        Ok(message) => {
            assert_eq!(message.encode(), frame, "a message has one spelling");
            check(&message);
        }
        // What is refused is said to a person.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let terms = SchemaTerms::new(Arc::default(), []);
    let hash = SchemaHash::of_encoded(frame.get(2..).unwrap_or_default());
    if let Err(bye) = terms.meet(hash, frame.clone()) {
        assert!(!bye.detail.is_empty(), "what is refused is said to a person");
    }
    if let Ok(asked) = AskedOfHome::decode(frame.clone()) {
        assert!(AskedOfHome::decode(asked.encode()).is_ok(), "what is read can be said again");
    }
    if let Ok(told) = ToldByHome::decode(frame.clone()) {
        assert_eq!(ToldByHome::decode(told.encode()), Ok(told));
    }
    if let Ok(schema) = Schema::decode(frame.clone()) {
        assert_eq!(schema.encode(), frame, "a schema has one spelling");
        assert_eq!(schema.differences(&schema), []);
    }
    if let Ok(records) = SnapshotReader::default().take(&frame) {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(&mut bytes));
        assert!(frame.starts_with(&bytes), "a snapshot has one spelling");
    }
    hear(&frame, false);
    hear(&frame, true);
}

/// Has a link hear the bytes, as one frame and in pieces of the length that the first byte gives: before it knows
/// whether the peer remembers another history, or once it does.
fn hear(frame: &Bytes, is_met: bool) {
    let own = StreamId::from_u32(1 << 16 | 1);
    let received: Frontier = [Dot { stream: own, seq: Seq(9) }].into_iter().collect();
    let ends = Ends { own, peer: ReplicaId(2), role: Role::Leader, version: 2 };
    let mut out = Vec::new();
    let mut link = Link::new(Time(0), ends, received, BTreeSet::new(), 0, &mut out);
    if is_met {
        let nothing = Message::Frontier { received: Frontier::new(), hears: BTreeSet::new() };
        link.handle(Time(0), Input::Frame { frame: nothing.encode(), wall_ms: 0 }, &mut out);
    }
    let piece = usize::from(frame.first().copied().unwrap_or_default()).max(1);
    let pieces: Vec<Bytes> = frame.chunks(piece).take(64).map(|piece| frame.slice_ref(piece)).collect();
    for frame in pieces.into_iter().chain([frame.clone()]) {
        link.handle(Time(1), Input::Frame { frame, wall_ms: 1 }, &mut out);
        let asked: Vec<Output> = std::mem::take(&mut out);
        let stores = asked.iter().filter(|output| matches!(output, Output::Store(_))).count();
        for output in asked {
            let answer = match output {
                Output::BeginImport => Input::ImportBegun(true),
                Output::Stage(_) => Input::Staged,
                Output::Import(snapshot) => Input::Imported(snapshot.frontier()),
                Output::ReadSnapshot { .. } => Input::SnapshotRead(Piece::End),
                Output::Called { call, payload, .. } => Input::Return { call, payload },
                _ => continue,
            };
            link.handle(Time(1), answer, &mut out);
        }
        let gap = Arrival::Gap { from: Seq(1) };
        link.handle(Time(2), Input::Stored(vec![gap; stores]), &mut out);
        link.handle(Time(30), Input::Read(Found::Batches(Vec::new())), &mut out);
    }
    link.handle(Time(5000), Input::Tick { wall_ms: 1 }, &mut out);
}

fn check(message: &Message) {
    match message {
        Message::Frontier { hears, .. } => assert!(hears.len() <= HEARS_MAX),
        Message::Need { from, to, .. } => assert!(from.0 > 0 && from <= to),
        Message::SnapshotChunk { bytes, .. } => assert!(bytes.len() <= CHUNK_BYTES_MAX),
        Message::Ephemeral { payload, .. } => assert!(payload.len() <= EPHEMERAL_BYTES_MAX),
        Message::Call { payload, .. } | Message::Return { payload, .. } => {
            assert!(payload.len() <= CALL_BYTES_MAX);
        }
        _ => {}
    }
}
