//! What a peer sends before there is trust, and after.
//!
//! Uses the library only: the crate's tests run it over the committed inputs.

use bytes::Bytes;
use quire_protocol::link::hello::{VERSIONS, decode_proof, encode_proof};
use quire_protocol::link::limits::{CHUNK_BYTES_MAX, EPHEMERAL_BYTES_MAX, HEARS_MAX};
use quire_protocol::link::{Hello, Message};

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
}

fn check(message: &Message) {
    match message {
        Message::Frontier { hears, .. } => assert!(hears.len() <= HEARS_MAX),
        Message::Need { from, to, .. } => assert!(from.0 > 0 && from <= to),
        Message::SnapshotChunk { bytes, .. } => assert!(bytes.len() <= CHUNK_BYTES_MAX),
        Message::Ephemeral { payload, .. } => assert!(payload.len() <= EPHEMERAL_BYTES_MAX),
        _ => {}
    }
}
