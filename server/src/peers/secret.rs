//! The secret that all regions of a cluster share, and what it proves.

use quire_protocol::link::Proof;
use quire_protocol::link::Side;
use quire_protocol::link::hello::transcript;
use ring::hmac;

/// Fewer bytes could be guessed.
const SECRET_BYTES_MIN: usize = 32;

/// The cluster's secret. Never shown.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why bytes are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {0} bytes without the blanks around them; a secret has at least {SECRET_BYTES_MIN}")]
pub struct SecretTooShort(usize);

impl Secret {
    /// What a secret is made of, for a person who gave something else.
    pub const ACCEPTED: &str =
        "a file with at least 32 bytes, the same in all regions, as `openssl rand -hex 32` writes";

    /// Reads a secret; blanks around it do not count, since editors add them.
    ///
    /// # Errors
    /// When it is too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretTooShort> {
        let bytes = bytes.trim_ascii();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(SecretTooShort(bytes.len()));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// One side's proof that it knows the secret, for one handshake.
    #[must_use]
    pub fn prove(&self, from: Side, dialler_hello: &[u8], listener_hello: &[u8]) -> Proof {
        let tag = hmac::sign(&self.0, &transcript(from, dialler_hello, listener_hello));
        let mut proof = Proof::default();
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// Whether a proof is right, in the same time whatever it is.
    #[must_use]
    pub fn verify(&self, proof: &Proof, from: Side, dialler_hello: &[u8], listener_hello: &[u8]) -> bool {
        hmac::verify(&self.0, &transcript(from, dialler_hello, listener_hello), proof).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_right_for_its_side_its_hellos_and_its_secret() {
        let secret = Secret::parse(&[7; 32]).expect("long enough");
        let proof = secret.prove(Side::Dialler, b"a", b"b");
        assert!(secret.verify(&proof, Side::Dialler, b"a", b"b"));
        assert!(!secret.verify(&proof, Side::Listener, b"a", b"b"));
        assert!(!secret.verify(&proof, Side::Dialler, b"a", b"c"));
        assert!(!secret.verify(&[0; 32], Side::Dialler, b"a", b"b"));
        let other = Secret::parse(&[8; 32]).expect("long enough");
        assert!(!other.verify(&proof, Side::Dialler, b"a", b"b"));
    }

    #[test]
    fn blanks_do_not_count_and_a_short_secret_is_refused() {
        let padded = Secret::parse(format!(" {}\n", "x".repeat(32)).as_bytes()).expect("long enough");
        let bare = Secret::parse("x".repeat(32).as_bytes()).expect("long enough");
        assert!(bare.verify(&padded.prove(Side::Listener, b"", b""), Side::Listener, b"", b""));
        assert_eq!(Secret::parse(b"   short   ").expect_err("refused"), SecretTooShort(5));
        assert!(!format!("{bare:?}").contains('x'));
    }
}
