//! Yjs client ids for what is written without an editor.

use quire_protocol::fields::CONFLICTS_CLIENT;
use ring::rand::{SecureRandom, SystemRandom};

/// A Yjs client id for what a region writes: random, and among the greatest. Of what replaces the same item Yjs shows
/// that of the greatest client: so a write-back is seen though editors write on, and what they write then resolves
/// what it renders. Otherwise siblings would pile up for as long as people write without a pause.
pub(super) fn great_client() -> u32 {
    random_client() | 0xf000_0000
}

/// A Yjs client id that no editor of a document has: drawn at random, as Yjs draws its own.
///
/// # Panics
/// When the system has no randomness: then it could serve no TLS either.
pub(crate) fn random_client() -> u32 {
    loop {
        let mut bytes = [0; 4];
        SystemRandom::new().fill(&mut bytes).expect("the system has randomness");
        let client = u32::from_le_bytes(bytes);
        if client != CONFLICTS_CLIENT.0 {
            return client;
        }
    }
}
