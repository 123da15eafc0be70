//! What peers that trust each other say: batches, what each has, how much may be sent, snapshots, pings.
//!
//! The first byte is the kind, the rest its fields; integers and frontiers have one spelling. A batch is
//! carried in the bytes it is stored in and is not looked into here.

use super::limits::{
    CALL_BYTES_MAX, CHUNK_BYTES_MAX, DETAIL_BYTES_MAX, EPHEMERAL_BYTES_MAX, FRAME_BYTES_MAX, HEARS_MAX,
};
use super::{Bye, ByeReason, read_u16};
use crate::frontier::{Frontier, FrontierError, canonical_u64};
use crate::ids::{DocId, ReplicaId, Seq, StreamId};
use crate::lib0::{ReadError, Reader, put_var_u64};
use bytes::Bytes;
use std::collections::BTreeSet;

const BYE: u8 = 3;
const FRONTIER: u8 = 4;
const BATCH: u8 = 5;
const ACK: u8 = 6;
const CREDIT: u8 = 7;
const NEED: u8 = 8;
const SNAPSHOT_OFFER: u8 = 9;
const SNAPSHOT_CHUNK: u8 = 10;
const SNAPSHOT_DONE: u8 = 11;
const PING: u8 = 12;
const PONG: u8 = 13;
const EPHEMERAL: u8 = 14;
const SNAPSHOT_WANT: u8 = 15;
// 16 is what shows a schema, which comes before all of these.
const CALL: u8 = 17;
const RETURN: u8 = 18;

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The link ends, and why.
    Bye(Bye),
    /// What I have received, and whose streams reach me without another region in between.
    Frontier {
        /// Per stream, the last entry that is durable here.
        received: Frontier,
        /// The replicas with which I have a link that works.
        hears: BTreeSet<ReplicaId>,
    },
    /// A batch, in the bytes it is stored in.
    Batch(Bytes),
    /// What I have received of the streams that it names, which is never less than I said before.
    Ack(Frontier),
    /// You may send batches and snapshots up to this many bytes, counted since the link began.
    Credit(u64),
    /// I lack these entries of a stream.
    Need {
        /// The stream.
        stream: StreamId,
        /// The first entry.
        from: Seq,
        /// The last entry.
        to: Seq,
    },
    /// You lack what my log no longer has, and can have a snapshot of all my documents instead.
    SnapshotOffer {
        /// Numbers the offers of this link; a newer one replaces those before it.
        snapshot: u64,
        /// What you must have received for my log to serve you.
        needed: Frontier,
    },
    /// Send me the snapshot.
    SnapshotWant {
        /// Which.
        snapshot: u64,
    },
    /// The next piece of a snapshot.
    SnapshotChunk {
        /// Which snapshot.
        snapshot: u64,
        /// Where in it the piece begins.
        offset: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// The snapshot's end.
    SnapshotDone {
        /// Which snapshot.
        snapshot: u64,
        /// How many bytes it had.
        bytes: u64,
        /// The first 128 bits of blake3 over them.
        hash: [u8; 16],
    },
    /// Are you there?
    Ping {
        /// Comes back with the answer.
        nonce: u64,
        /// The sender's wall clock, in milliseconds since 1970.
        at_ms: u64,
        /// The first 128 bits of blake3 over the sender's encoded frontier.
        digest: [u8; 16],
    },
    /// I am.
    Pong {
        /// The ping's.
        nonce: u64,
        /// The answerer's wall clock, in milliseconds since 1970.
        at_ms: u64,
        /// As in the ping, of the answerer.
        digest: [u8; 16],
    },
    /// Something about a document that is not kept: awareness.
    Ephemeral {
        /// The document.
        doc: DocId,
        /// An awareness update.
        payload: Bytes,
    },
    /// Do this for me, and say what came of it.
    Call {
        /// Comes back with the answer; no other call that is under way has it.
        call: u64,
        /// The document that it is about.
        doc: DocId,
        /// What is asked.
        payload: Bytes,
    },
    /// What came of a call.
    Return {
        /// Which.
        call: u64,
        /// The answer.
        payload: Bytes,
    },
}

/// Why a frame is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// More than [`FRAME_BYTES_MAX`] bytes, or a part of it beyond its own limit.
    #[error("{what} has at most {max} bytes; this one has {len}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it may be.
        max: usize,
        /// How long it is.
        len: usize,
    },
    /// A kind of message that no release with this version of the protocol sends.
    #[error("message kind {0} is unknown")]
    Unknown(u8),
    /// The bytes are cut short, overlong or followed by more.
    #[error("cannot read a message of kind {kind}: {error}")]
    Read {
        /// The message's kind.
        kind: u8,
        /// What is wrong with it.
        error: ReadError,
    },
    /// A frontier cannot be read.
    #[error("cannot read a message of kind {kind}: {error}")]
    Frontier {
        /// The message's kind.
        kind: u8,
        /// What is wrong with it.
        error: FrontierError,
    },
    /// A range of entries that holds none.
    #[error("entries {from} to {to} were asked for, which is none", from = .0.0, to = .1.0)]
    Range(Seq, Seq),
    /// The replicas that a peer hears do not rise, or are more than [`HEARS_MAX`].
    #[error("the replicas that a peer hears must rise and be at most {HEARS_MAX}")]
    Hears,
}

/// What goes wrong while the fields of one kind are read.
enum FieldError {
    Read(ReadError),
    Frontier(FrontierError),
    Message(MessageError),
}

impl From<ReadError> for FieldError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<FrontierError> for FieldError {
    fn from(error: FrontierError) -> Self {
        Self::Frontier(error)
    }
}

impl From<MessageError> for FieldError {
    fn from(error: MessageError) -> Self {
        Self::Message(error)
    }
}

impl Message {
    const fn kind(&self) -> u8 {
        match self {
            Self::Bye(_) => BYE,
            Self::Frontier { .. } => FRONTIER,
            Self::Batch(_) => BATCH,
            Self::Ack(_) => ACK,
            Self::Credit(_) => CREDIT,
            Self::Need { .. } => NEED,
            Self::SnapshotOffer { .. } => SNAPSHOT_OFFER,
            Self::SnapshotWant { .. } => SNAPSHOT_WANT,
            Self::SnapshotChunk { .. } => SNAPSHOT_CHUNK,
            Self::SnapshotDone { .. } => SNAPSHOT_DONE,
            Self::Ping { .. } => PING,
            Self::Pong { .. } => PONG,
            Self::Ephemeral { .. } => EPHEMERAL,
            Self::Call { .. } => CALL,
            Self::Return { .. } => RETURN,
        }
    }

    /// The message as a frame. A detail beyond its limit is cut.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![self.kind()];
        match self {
            Self::Bye(bye) => {
                out.push(bye.reason.code());
                let end = bye.detail.floor_char_boundary(DETAIL_BYTES_MAX);
                out.extend_from_slice(&bye.detail.as_bytes()[..end]);
            }
            Self::Frontier { received, hears } => {
                received.encode(&mut out);
                put_var_u64(&mut out, hears.len() as u64);
                for replica in hears {
                    put_var_u64(&mut out, u64::from(replica.0));
                }
            }
            Self::Batch(bytes) => out.extend_from_slice(bytes),
            Self::Ack(received) => received.encode(&mut out),
            Self::Credit(offset) => put_var_u64(&mut out, *offset),
            Self::Need { stream, from, to } => {
                put_var_u64(&mut out, u64::from(stream.to_u32()));
                put_var_u64(&mut out, from.0);
                put_var_u64(&mut out, to.0);
            }
            Self::SnapshotOffer { snapshot, needed } => {
                put_var_u64(&mut out, *snapshot);
                needed.encode(&mut out);
            }
            Self::SnapshotWant { snapshot } => put_var_u64(&mut out, *snapshot),
            Self::SnapshotChunk { snapshot, offset, bytes } => {
                put_var_u64(&mut out, *snapshot);
                put_var_u64(&mut out, *offset);
                out.extend_from_slice(bytes);
            }
            Self::SnapshotDone { snapshot, bytes, hash } => {
                put_var_u64(&mut out, *snapshot);
                put_var_u64(&mut out, *bytes);
                out.extend_from_slice(hash);
            }
            Self::Ping { nonce, at_ms, digest } | Self::Pong { nonce, at_ms, digest } => {
                put_var_u64(&mut out, *nonce);
                put_var_u64(&mut out, *at_ms);
                out.extend_from_slice(digest);
            }
            Self::Ephemeral { doc, payload } => {
                out.extend_from_slice(&doc.0.to_be_bytes());
                out.extend_from_slice(payload);
            }
            Self::Call { call, doc, payload } => {
                put_var_u64(&mut out, *call);
                out.extend_from_slice(&doc.0.to_be_bytes());
                out.extend_from_slice(payload);
            }
            Self::Return { call, payload } => {
                put_var_u64(&mut out, *call);
                out.extend_from_slice(payload);
            }
        }
        out.into()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// When it is not exactly what [`Message::encode`] gives for some message.
    pub fn decode(frame: Bytes) -> Result<Self, MessageError> {
        within("a frame", FRAME_BYTES_MAX, frame.len())?;
        let mut reader = Reader::new(frame);
        let kind = reader.u8().map_err(|error| MessageError::Read { kind: 0, error })?;
        let message = read(kind, &mut reader).and_then(|message| {
            reader.finish()?;
            Ok(message)
        });
        message.map_err(|error| match error {
            FieldError::Read(error) => MessageError::Read { kind, error },
            FieldError::Frontier(error) => MessageError::Frontier { kind, error },
            FieldError::Message(error) => error,
        })
    }
}

/// Reads a message's fields.
fn read(kind: u8, reader: &mut Reader) -> Result<Message, FieldError> {
    Ok(match kind {
        BYE => {
            let reason = ByeReason::from_code(reader.u8()?);
            let detail = rest("the reason for an end", DETAIL_BYTES_MAX, reader)?;
            let detail = std::str::from_utf8(&detail).map_err(|_| ReadError::Utf8)?;
            Message::Bye(Bye { reason, detail: detail.to_owned() })
        }
        FRONTIER => Message::Frontier { received: Frontier::decode(reader)?, hears: read_hears(reader)? },
        BATCH => Message::Batch(rest("a batch", FRAME_BYTES_MAX, reader)?),
        ACK => Message::Ack(Frontier::decode(reader)?),
        CREDIT => Message::Credit(canonical_u64(reader)?),
        NEED => {
            let raw = u32::try_from(canonical_u64(reader)?).map_err(|_| ReadError::Overflow)?;
            let stream = StreamId::from_u32(raw);
            let (from, to) = (Seq(canonical_u64(reader)?), Seq(canonical_u64(reader)?));
            if from == Seq(0) || to < from {
                return Err(MessageError::Range(from, to).into());
            }
            Message::Need { stream, from, to }
        }
        SNAPSHOT_OFFER => {
            let snapshot = canonical_u64(reader)?;
            Message::SnapshotOffer { snapshot, needed: Frontier::decode(reader)? }
        }
        SNAPSHOT_WANT => Message::SnapshotWant { snapshot: canonical_u64(reader)? },
        SNAPSHOT_CHUNK => {
            let (snapshot, offset) = (canonical_u64(reader)?, canonical_u64(reader)?);
            let bytes = rest("a piece of a snapshot", CHUNK_BYTES_MAX, reader)?;
            Message::SnapshotChunk { snapshot, offset, bytes }
        }
        SNAPSHOT_DONE => {
            let (snapshot, bytes) = (canonical_u64(reader)?, canonical_u64(reader)?);
            Message::SnapshotDone { snapshot, bytes, hash: reader.array()? }
        }
        PING | PONG => {
            let (nonce, at_ms) = (canonical_u64(reader)?, canonical_u64(reader)?);
            let digest = reader.array()?;
            if kind == PING {
                Message::Ping { nonce, at_ms, digest }
            } else {
                Message::Pong { nonce, at_ms, digest }
            }
        }
        EPHEMERAL => {
            let doc = DocId(u128::from_be_bytes(reader.array()?));
            Message::Ephemeral { doc, payload: rest("awareness", EPHEMERAL_BYTES_MAX, reader)? }
        }
        CALL => {
            let (call, doc) = (canonical_u64(reader)?, DocId(u128::from_be_bytes(reader.array()?)));
            Message::Call { call, doc, payload: rest("a call", CALL_BYTES_MAX, reader)? }
        }
        RETURN => {
            let call = canonical_u64(reader)?;
            Message::Return { call, payload: rest("the answer to a call", CALL_BYTES_MAX, reader)? }
        }
        other => return Err(MessageError::Unknown(other).into()),
    })
}

fn read_hears(reader: &mut Reader) -> Result<BTreeSet<ReplicaId>, FieldError> {
    let count = canonical_u64(reader)?;
    if count > HEARS_MAX as u64 {
        return Err(MessageError::Hears.into());
    }
    let mut hears = BTreeSet::new();
    for _ in 0..count {
        let replica = ReplicaId(read_u16(reader)?);
        if hears.last().is_some_and(|last| *last >= replica) {
            return Err(MessageError::Hears.into());
        }
        hears.insert(replica);
    }
    Ok(hears)
}

/// What is left of a frame, within a limit.
fn rest(what: &'static str, max: usize, reader: &mut Reader) -> Result<Bytes, FieldError> {
    within(what, max, reader.remaining())?;
    Ok(reader.bytes(reader.remaining())?)
}

const fn within(what: &'static str, max: usize, len: usize) -> Result<(), MessageError> {
    if len > max { Err(MessageError::TooLong { what, max, len }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Dot;
    use proptest::prelude::*;

    fn frontier() -> impl Strategy<Value = Frontier> {
        prop::collection::vec((any::<u32>(), any::<u64>()), 0..6).prop_map(|dots| {
            let dot = |(raw, seq)| Dot { stream: StreamId::from_u32(raw), seq: Seq(seq) };
            dots.into_iter().map(dot).collect()
        })
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn message() -> impl Strategy<Value = Message> {
        let numbers = (any::<u64>(), any::<u64>(), any::<[u8; 16]>());
        prop_oneof![
            (any::<u8>(), ".{0,60}").prop_map(|(code, detail)| {
                Message::Bye(Bye { reason: ByeReason::from_code(code), detail })
            }),
            (frontier(), prop::collection::btree_set(any::<u16>().prop_map(ReplicaId), 0..5))
                .prop_map(|(received, hears)| Message::Frontier { received, hears }),
            bytes().prop_map(Message::Batch),
            frontier().prop_map(Message::Ack),
            any::<u64>().prop_map(Message::Credit),
            (any::<u32>(), 1_u64.., any::<u64>()).prop_map(|(raw, from, more)| Message::Need {
                stream: StreamId::from_u32(raw),
                from: Seq(from),
                to: Seq(from.saturating_add(more)),
            }),
            (any::<u64>(), frontier())
                .prop_map(|(snapshot, needed)| Message::SnapshotOffer { snapshot, needed }),
            any::<u64>().prop_map(|snapshot| Message::SnapshotWant { snapshot }),
            (any::<u64>(), any::<u64>(), bytes())
                .prop_map(|(snapshot, offset, bytes)| Message::SnapshotChunk { snapshot, offset, bytes }),
            numbers.prop_map(|(snapshot, bytes, hash)| Message::SnapshotDone { snapshot, bytes, hash }),
            (any::<u64>(), any::<u64>(), any::<[u8; 16]>())
                .prop_map(|(nonce, at_ms, digest)| Message::Ping { nonce, at_ms, digest }),
            (any::<u64>(), any::<u64>(), any::<[u8; 16]>())
                .prop_map(|(nonce, at_ms, digest)| Message::Pong { nonce, at_ms, digest }),
            (any::<u128>(), bytes())
                .prop_map(|(doc, payload)| Message::Ephemeral { doc: DocId(doc), payload }),
            (any::<u64>(), any::<u128>(), bytes()).prop_map(|(call, doc, payload)| Message::Call {
                call,
                doc: DocId(doc),
                payload
            }),
            (any::<u64>(), bytes()).prop_map(|(call, payload)| Message::Return { call, payload }),
        ]
    }

    proptest! {
        #[test]
        fn l3_a_message_survives_its_frame(message in message()) {
            prop_assert_eq!(Message::decode(message.encode()), Ok(message));
        }

        #[test]
        fn l3_any_frame_is_refused_or_the_one_spelling_of_a_message(
            message in message(), at: prop::sample::Index, to: u8, cut in 0..6_usize, bytes: Vec<u8>,
        ) {
            let mut frame = message.encode().to_vec();
            let at = at.index(frame.len());
            frame[at] = to;
            frame.truncate(frame.len().saturating_sub(cut / 2));
            for frame in [frame, bytes] {
                if let Ok(read) = Message::decode(frame.clone().into()) {
                    prop_assert_eq!(read.encode(), frame);
                }
            }
        }
    }

    #[test]
    fn l3_what_is_beyond_its_limit_is_named() {
        let refused = |frame: Vec<u8>| Message::decode(frame.into()).expect_err("refused").to_string();
        let frontier_of_many = [&[ACK][..], &[0xff; 9], &[1]].concat();
        assert_eq!(
            refused(frontier_of_many),
            "cannot read a message of kind 6: a frontier names at most 4096 streams; this one names 18446744073709551615"
        );
        let chunk = [&[SNAPSHOT_CHUNK, 0, 0][..], &vec![0; CHUNK_BYTES_MAX + 1]].concat();
        assert_eq!(refused(chunk), "a piece of a snapshot has at most 262144 bytes; this one has 262145");
        let awareness = [&[EPHEMERAL][..], &vec![0; 16 + EPHEMERAL_BYTES_MAX + 1]].concat();
        assert_eq!(refused(awareness), "awareness has at most 1048576 bytes; this one has 1048577");
        let call = [&[CALL, 1][..], &vec![0; 16 + CALL_BYTES_MAX + 1]].concat();
        assert_eq!(refused(call), "a call has at most 262144 bytes; this one has 262145");
        let answer = [&[RETURN, 1][..], &vec![0; CALL_BYTES_MAX + 1]].concat();
        assert_eq!(refused(answer), "the answer to a call has at most 262144 bytes; this one has 262145");
        assert_eq!(refused(vec![NEED, 1, 5, 4]), "entries 5 to 4 were asked for, which is none");
        assert_eq!(refused(vec![NEED, 1, 0, 4]), "entries 0 to 4 were asked for, which is none");
        let hears = "the replicas that a peer hears must rise and be at most 256";
        assert_eq!(refused(vec![FRONTIER, 0, 2, 7, 7]), hears);
        assert_eq!(refused(vec![FRONTIER, 0, 0xff, 0x7f]), hears);
        // A hello and a proof have no place among these.
        assert_eq!(refused(vec![1]), "message kind 1 is unknown");
        assert_eq!(refused(vec![]), "cannot read a message of kind 0: the bytes end inside a value");
    }

    #[test]
    fn l3_a_batch_costs_one_byte_beyond_its_own() {
        assert_eq!(Message::Batch(Bytes::from_static(b"batch")).encode().len(), 6);
    }
}
