//! Yjs client ids for what is written without an editor.

use quire_protocol::fields::CONFLICTS_CLIENT;
use ring::rand::{SecureRandom, SystemRandom};

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
