//! One y-websocket frame from outside, and what it carries.
//!
//! Uses the library only: the crate's tests run it over the committed inputs.

use bytes::Bytes;
use quire_protocol::awareness;
use quire_protocol::close::{CloseReason, REASON_BYTES_MAX};
use quire_protocol::update::{StateVector, Update};
use quire_protocol::ysync::{Message, Reply, parse};

/// A frame that is nothing but a question for everybody's awareness.
const QUERY: &[u8] = &[3];

/// Parses a frame, writes it again, and reads what is in it.
pub(crate) fn run(data: &[u8]) {
    let message = match parse(Bytes::copy_from_slice(data)) {
        Ok(message) => message,
        Err(error) => return fits(&CloseReason::Frame(error)),
    };
    assert!(message.body_len() < data.len(), "a body lies within its frame");
    let again = write(&message);
    assert!(again.len() <= data.len(), "we write the shortest spelling");
    assert_eq!(parse(again.into()), Ok(message.clone()), "a message survives its frame");
    if let Err(reason) = look_into(message) {
        fits(&reason);
    }
}

fn write(message: &Message) -> Vec<u8> {
    let mut frame = Vec::new();
    match message {
        Message::SyncStep1(body) => Reply::SyncStep1(body).put(&mut frame),
        Message::SyncStep2(body) => Reply::SyncStep2(body).put(&mut frame),
        Message::Update(body) => Reply::Update(body).put(&mut frame),
        Message::Awareness(body) => Reply::Awareness(body).put(&mut frame),
        Message::QueryAwareness => frame.extend_from_slice(QUERY),
    }
    frame
}

/// Decodes a message's content, which says what closes the session where it is wrong.
fn look_into(message: Message) -> Result<(), CloseReason> {
    match message {
        Message::SyncStep1(body) => {
            StateVector::decode(&body).map_err(|_| CloseReason::StateVector)?;
        }
        Message::SyncStep2(body) | Message::Update(body) => {
            Update::decode(body).map_err(CloseReason::Update)?;
        }
        Message::Awareness(body) => {
            awareness::decode(body).map_err(CloseReason::Awareness)?;
        }
        Message::QueryAwareness => {}
    }
    Ok(())
}

/// Whatever was wrong, the client is told in a close frame, and not to come back with the same.
fn fits(reason: &CloseReason) {
    assert!(reason.text().len() <= REASON_BYTES_MAX);
    assert!(reason.is_permanent(), "trying again would not help: {reason}");
}
