//! The first two messages of a link, before either side trusts the other: who I am, and a proof that I
//! know the cluster's secret.
//!
//! Each side's proof covers both hellos as they were sent, so that none can be exchanged or replayed,
//! and the side it is from, so that none can be sent back. The message authentication code is the
//! driver's: this module says what is authenticated, as in a challenge-response by HMAC (RFC 2104).
//!
//! Nothing but these two is read before the proof is found right. What comes after the versions is
//! read only when a version is shared, so that a newer hello is refused for being newer.

use super::limits::HANDSHAKE_BYTES_MAX;
use super::read_u16;
use crate::ids::{Incarnation, ReplicaId, StreamId};
use crate::lib0::{ReadError, Reader, put_var_u64};
use bytes::Bytes;
use std::ops::RangeInclusive;

/// The versions of the link's protocol that this release speaks.
pub const VERSIONS: RangeInclusive<u8> = 1..=2;

/// The first version in which peers call each other; one of an earlier version would not know what is said.
pub const CALLS_SINCE: u8 = 2;

/// What a hello begins with.
const MARK: &[u8; 6] = b"quire\x01";
/// What a proof begins with.
const PROOF_MARK: &[u8; 6] = b"quire\x02";
/// What is authenticated begins with it: a proof of this protocol is none of another.
const TRANSCRIPT_MARK: &[u8] = b"quire peer link 1\0";

const LEADER: u8 = 1;
const FOLLOWER: u8 = 2;

/// A proof: the output of HMAC with SHA-256.
pub type Proof = [u8; 32];

/// What a replica does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It takes writes.
    Leader,
    /// It takes none: it originates nothing and serves what it has received.
    Follower,
}

/// Which side of a link somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// It opened the connection.
    Dialler,
    /// It was connected to.
    Listener,
}

/// Who a replica says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions of the protocol that it speaks, from and to.
    pub versions: (u8, u8),
    /// The cluster that it belongs to.
    pub cluster: u128,
    /// The stream that it originates.
    pub stream: StreamId,
    /// What it does there.
    pub role: Role,
    /// The hash of its schema.
    pub schema: [u8; 16],
    /// Drawn at random for this connection.
    pub challenge: [u8; 32],
}

/// Why a frame is not what a link begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// More than [`HANDSHAKE_BYTES_MAX`] bytes.
    #[error("a peer's first frames have at most {HANDSHAKE_BYTES_MAX} bytes; this one has {0}")]
    TooLong(usize),
    /// It does not begin as such a frame does: something else connected.
    #[error("this is not a Quire peer")]
    Stranger,
    /// The peer speaks other versions.
    #[error(
        "the peer speaks versions {0} to {1} of the link, and this release {ours_from} to {ours_to}",
        ours_from = VERSIONS.start(), ours_to = VERSIONS.end()
    )]
    Version(u8, u8),
    /// The bytes are cut short, overlong or followed by more.
    #[error("the peer's first frame is malformed: {0}")]
    Read(#[from] ReadError),
    /// A role that no release has.
    #[error("the peer has a role of an unknown kind, {0}")]
    Role(u8),
}

impl Hello {
    /// The hello as a frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = MARK.to_vec();
        out.extend_from_slice(&[self.versions.0, self.versions.1]);
        out.extend_from_slice(&self.cluster.to_be_bytes());
        put_var_u64(&mut out, u64::from(self.stream.replica.0));
        put_var_u64(&mut out, u64::from(self.stream.incarnation.0));
        out.push(match self.role {
            Role::Leader => LEADER,
            Role::Follower => FOLLOWER,
        });
        out.extend_from_slice(&self.schema);
        out.extend_from_slice(&self.challenge);
        out.into()
    }

    /// The version that both sides are to speak, for a hello that was read: the highest that both know.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.versions.1.min(*VERSIONS.end())
    }

    /// Reads a hello, and the version that both sides are to speak: the highest that both know.
    ///
    /// # Errors
    /// When it is none, or shares no version with this release.
    pub fn decode(frame: Bytes) -> Result<(Self, u8), HandshakeError> {
        let mut reader = begin(frame, MARK)?;
        let versions = (reader.u8()?, reader.u8()?);
        let shared = versions.1.min(*VERSIONS.end());
        if shared < versions.0 || shared < *VERSIONS.start() {
            return Err(HandshakeError::Version(versions.0, versions.1));
        }
        let cluster = u128::from_be_bytes(reader.array()?);
        let stream = StreamId {
            replica: ReplicaId(read_u16(&mut reader)?),
            incarnation: Incarnation(read_u16(&mut reader)?),
        };
        let role = match reader.u8()? {
            LEADER => Role::Leader,
            FOLLOWER => Role::Follower,
            other => return Err(HandshakeError::Role(other)),
        };
        let (schema, challenge) = (reader.array()?, reader.array()?);
        reader.finish()?;
        Ok((Self { versions, cluster, stream, role, schema, challenge }, shared))
    }
}

/// A proof as a frame.
#[must_use]
pub fn encode_proof(proof: &Proof) -> Bytes {
    [&PROOF_MARK[..], proof].concat().into()
}

/// Reads a proof. Whether it is right is for whoever knows the secret to say, in constant time.
///
/// # Errors
/// When the frame is none.
pub fn decode_proof(frame: Bytes) -> Result<Proof, HandshakeError> {
    let mut reader = begin(frame, PROOF_MARK)?;
    let proof = reader.array()?;
    reader.finish()?;
    Ok(proof)
}

/// What a side's proof authenticates: the side, and both hellos as they were sent.
#[must_use]
pub fn transcript(from: Side, dialler_hello: &[u8], listener_hello: &[u8]) -> Vec<u8> {
    let mut out = TRANSCRIPT_MARK.to_vec();
    out.push(match from {
        Side::Dialler => 1,
        Side::Listener => 2,
    });
    for hello in [dialler_hello, listener_hello] {
        put_var_u64(&mut out, hello.len() as u64);
        out.extend_from_slice(hello);
    }
    out
}

/// Begins to read a frame behind its mark.
fn begin(frame: Bytes, mark: &[u8]) -> Result<Reader, HandshakeError> {
    if frame.len() > HANDSHAKE_BYTES_MAX {
        return Err(HandshakeError::TooLong(frame.len()));
    }
    let mut reader = Reader::new(frame);
    match reader.bytes(mark.len()) {
        Ok(found) if found == mark => Ok(reader),
        _ => Err(HandshakeError::Stranger),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> impl Strategy<Value = Hello> {
        let ids = (any::<u128>(), any::<u32>(), any::<bool>());
        (ids, any::<[u8; 16]>(), any::<[u8; 32]>(), 1_u8..).prop_map(|(ids, schema, challenge, to)| {
            let (cluster, stream, leads) = ids;
            let role = if leads { Role::Leader } else { Role::Follower };
            let stream = StreamId::from_u32(stream);
            Hello { versions: (1, to), cluster, stream, role, schema, challenge }
        })
    }

    proptest! {
        #[test]
        fn l2_a_hello_survives_its_frame(hello in hello(), proof: [u8; 32]) {
            prop_assert!(hello.encode().len() <= HANDSHAKE_BYTES_MAX);
            let shared = hello.versions.1.min(2);
            prop_assert_eq!(hello.version(), shared);
            prop_assert_eq!(Hello::decode(hello.encode()), Ok((hello, shared)));
            prop_assert_eq!(decode_proof(encode_proof(&proof)), Ok(proof));
        }

        #[test]
        fn l2_any_frame_is_refused_or_a_hello(bytes: Vec<u8>, changed in hello(), at: prop::sample::Index, to: u8) {
            let _ = (Hello::decode(bytes.clone().into()), decode_proof(bytes.into()));
            let mut frame = changed.encode().to_vec();
            let at = at.index(frame.len());
            frame[at] = to;
            if let Ok((read, _)) = Hello::decode(frame.clone().into()) {
                prop_assert_eq!(read.encode(), frame);
            }
        }

        #[test]
        fn l2_no_two_handshakes_have_one_transcript(
            a in prop::collection::vec(any::<u8>(), 0..9), b in prop::collection::vec(any::<u8>(), 0..9),
            c in prop::collection::vec(any::<u8>(), 0..9), d in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let same = (&a, &b) == (&c, &d);
            prop_assert_eq!(transcript(Side::Dialler, &a, &b) == transcript(Side::Dialler, &c, &d), same);
            prop_assert_ne!(transcript(Side::Dialler, &a, &b), transcript(Side::Listener, &c, &d));
        }
    }

    #[test]
    fn l2_a_stranger_a_newer_release_and_an_endless_frame_are_told_apart() {
        let refused = |frame: Vec<u8>| Hello::decode(frame.into()).expect_err("refused");
        assert_eq!(refused(b"GET / HTTP/1.1".to_vec()), HandshakeError::Stranger);
        // Whatever a newer release writes behind its versions.
        let newer = [&MARK[..], &[3, 9], b"something else"].concat();
        assert_eq!(refused(newer), HandshakeError::Version(3, 9));
        assert_eq!(refused([&MARK[..], &[0, 0]].concat()), HandshakeError::Version(0, 0));
        assert_eq!(refused(vec![0; 1025]), HandshakeError::TooLong(1025));
    }
}
