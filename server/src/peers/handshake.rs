//! From a connection to a peer that is known: hello, hello, proof, proof; and where the schemas differ, schema,
//! schema.
//!
//! The dialler says hello first, and proves first: a listener tells nobody anything but who it is before it
//! knows whom it talks to.

use super::secret::Secret;
use super::wire::{self, Socket};
use bytes::Bytes;
use quire_protocol::fields::schema::SchemaHash;
use quire_protocol::ids::StreamId;
use quire_protocol::link::hello::{VERSIONS, decode_proof, encode_proof};
use quire_protocol::link::{
    Bye, ByeReason, HandshakeError, Hello, Message, MessageError, Role, SchemaTerms, Side, check_hello,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::sync::Arc;
use std::time::Duration;

/// Both hellos and both proofs take no longer, or something else is connected.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Who this region is to its peers.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) cluster: u128,
    pub(super) stream: StreamId,
    pub(super) role: Role,
    pub(super) schema: Arc<SchemaTerms>,
}

/// Why a connection did not become a link.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refused {
    /// This region has refused the peer.
    #[error("{}", .0.detail)]
    Here(Bye),
    /// The peer has refused this region.
    #[error("the peer refused: {}", .0.detail)]
    There(Bye),
    /// The connection broke.
    #[error("the connection broke before both sides had proved who they are: {0}")]
    Broken(String),
}

impl Refused {
    /// The reason's name, for logs, metrics and status.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Here(bye) | Self::There(bye) => bye.reason.name(),
            Self::Broken(_) => "broken",
        }
    }
}

impl Identity {
    fn hello(&self) -> Result<Hello, Refused> {
        let mut challenge = [0; 32];
        let filled = SystemRandom::new().fill(&mut challenge);
        filled.map_err(|_| Refused::Broken("the system has no randomness".to_owned()))?;
        let Self { cluster, stream, role, .. } = *self;
        let schema = self.schema.hash().0;
        let versions = (*VERSIONS.start(), *VERSIONS.end());
        Ok(Hello { versions, cluster, stream, role, schema, challenge })
    }
}

/// Finds out who has been dialled. What comes behind its proof is for the link.
pub(super) async fn dialled(
    socket: &mut Socket,
    identity: &Identity,
    secret: &Secret,
) -> Result<Hello, Refused> {
    in_time(async {
        let ours = identity.hello()?;
        let our_frame = ours.encode();
        say(socket, our_frame.clone()).await?;
        let their_frame = hear(socket).await?;
        let theirs = meet(socket, &ours, their_frame.clone()).await?;
        let proof = secret.prove(Side::Dialler, &our_frame, &their_frame);
        say(socket, encode_proof(&proof)).await?;
        let proof = read_proof(hear(socket).await?)?;
        if !secret.verify(&proof, Side::Listener, &our_frame, &their_frame) {
            return Err(refuse(socket, unproved()).await);
        }
        Ok(theirs)
    })
    .await
}

/// Finds out who has connected. The peer waits for [`welcome`] before it says more.
pub(super) async fn listened(
    socket: &mut Socket,
    identity: &Identity,
    secret: &Secret,
) -> Result<(Hello, Bytes), Refused> {
    in_time(async {
        let their_frame = hear(socket).await?;
        let ours = identity.hello()?;
        let our_frame = ours.encode();
        let theirs = meet(socket, &ours, their_frame.clone()).await?;
        say(socket, our_frame.clone()).await?;
        let proof = read_proof(hear(socket).await?)?;
        if !secret.verify(&proof, Side::Dialler, &their_frame, &our_frame) {
            return Err(refuse(socket, unproved()).await);
        }
        let proof = secret.prove(Side::Listener, &their_frame, &our_frame);
        Ok((theirs, encode_proof(&proof)))
    })
    .await
}

/// Gives a peer that has proved itself this side's proof.
pub(super) async fn welcome(socket: &mut Socket, proof: Bytes) -> Result<(), Refused> {
    in_time(say(socket, proof)).await
}

/// Finds out whether a peer that has proved itself may have a link, where its schema is another. Both show what
/// they have, the dialler first: two that wrote at once, and read nothing meanwhile, could wait for each other.
pub(super) async fn agree(
    socket: &mut Socket,
    identity: &Identity,
    peer: &Hello,
    side: Side,
) -> Result<(), Refused> {
    let (ours, theirs) = (&identity.schema, SchemaHash(peer.schema));
    if ours.hash() == theirs {
        return Ok(());
    }
    in_time(async {
        if side == Side::Dialler {
            say(socket, ours.encode()).await?;
        }
        let frame = hear(socket).await?;
        if let Some(bye) = bye_in(frame.clone()) {
            return Err(Refused::There(bye));
        }
        let met = ours.meet(theirs, frame);
        if side == Side::Listener {
            // Refused or not: the peer's operators are to see what differs, too.
            say(socket, ours.encode()).await?;
        }
        match met {
            Ok(()) => Ok(()),
            Err(bye) => Err(refuse(socket, bye).await),
        }
    })
    .await
}

async fn in_time<T>(talk: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    let late = || Refused::Broken(format!("it took longer than {} seconds", HANDSHAKE_MAX.as_secs()));
    tokio::time::timeout(HANDSHAKE_MAX, talk).await.unwrap_or_else(|_| Err(late()))
}

async fn say(socket: &mut Socket, frame: Bytes) -> Result<(), Refused> {
    wire::send(socket, frame).await.map_err(|error| Refused::Broken(error.to_string()))
}

async fn hear(socket: &mut Socket) -> Result<Bytes, Refused> {
    match wire::next(socket).await {
        Some(Ok(frame)) => Ok(frame),
        Some(Err(error)) => Err(Refused::Broken(error.to_string())),
        None => Err(Refused::Broken("the peer closed it".to_owned())),
    }
}

/// Reads and checks a hello; one that is refused is told why.
async fn meet(socket: &mut Socket, ours: &Hello, frame: Bytes) -> Result<Hello, Refused> {
    let read = Hello::decode(frame.clone());
    let met = match read {
        Ok((theirs, _version)) => check_hello(ours, &theirs).map(|()| theirs),
        Err(error) => match bye_in(frame) {
            Some(bye) => return Err(Refused::There(bye)),
            None => Err(Bye { reason: reason_of(&error), detail: error.to_string() }),
        },
    };
    match met {
        Ok(theirs) => Ok(theirs),
        Err(bye) => Err(refuse(socket, bye).await),
    }
}

fn reason_of(error: &HandshakeError) -> ByeReason {
    match error {
        HandshakeError::Version(..) => ByeReason::Version,
        _ => ByeReason::Malformed,
    }
}

fn unproved() -> Bye {
    let detail = "the other region does not know this cluster's secret".to_owned();
    Bye { reason: ByeReason::Secret, detail }
}

fn read_proof(frame: Bytes) -> Result<quire_protocol::link::Proof, Refused> {
    decode_proof(frame.clone()).map_err(|error| match bye_in(frame) {
        Some(bye) => Refused::There(bye),
        None => Refused::Here(Bye { reason: ByeReason::Malformed, detail: error.to_string() }),
    })
}

/// A refusal is the one message that may come instead.
fn bye_in(frame: Bytes) -> Option<Bye> {
    let read: Result<Message, MessageError> = Message::decode(frame);
    match read {
        Ok(Message::Bye(bye)) => Some(bye),
        _ => None,
    }
}

/// Tells a peer why there is no link.
pub(super) async fn refuse(socket: &mut Socket, bye: Bye) -> Refused {
    // Whether the peer hears it or not, it is refused.
    let _heard = wire::send(socket, Message::Bye(bye.clone()).encode()).await;
    Refused::Here(bye)
}
