//! The key that tokens are signed and verified with.
//!
//! Two kinds: a shared secret for HS256, and an Ed25519 key for EdDSA. The cryptography is ring's,
//! which TLS brings along; a JWT library would bring RSA and the NIST curves for tokens that are
//! refused here anyway, and reads the process's clock by itself.
//!
//! Invariant: a key has one algorithm, and never verifies a token that names another.

use ring::hmac;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// HS256 needs a secret as long as its hash (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// What stands before the 32 bytes of an Ed25519 public key (RFC 8410).
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const ED25519_PUBLIC_BYTES: usize = 32;

/// A key for tokens.
pub struct JwtKey(Kind);

enum Kind {
    Secret(hmac::Key),
    Public([u8; ED25519_PUBLIC_BYTES]),
    Pair(Ed25519KeyPair),
}

/// Why a file holds no key for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A secret that could be guessed.
    #[error("the secret has {0} bytes; HS256 needs at least {SECRET_BYTES_MIN}")]
    SecretTooShort(usize),
    /// PEM, but no Ed25519 key.
    #[error("the PEM holds no Ed25519 key")]
    NotEd25519,
}

/// Why a token could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// Only the public half is there.
    #[error("a public key cannot sign; give the private key or the secret")]
    PublicKey,
    /// The token would be longer than any server takes.
    #[error("the token has {0} bytes; at most {max} are accepted", max = super::TOKEN_BYTES_MAX)]
    TooLong(usize),
}

impl JwtKey {
    /// What [`JwtKey::parse`] takes, for a person.
    pub const ACCEPTED: &str =
        "a file with an Ed25519 key in PEM (public, or private as PKCS #8), or a secret of at least 32 bytes";

    /// Reads a key: PEM is an Ed25519 key, everything else is a secret, less the end of its last line.
    ///
    /// # Errors
    /// When the secret is too short or the PEM holds another kind of key.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Self::parse_pem(bytes);
        }
        let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::SecretTooShort(secret.len()));
        }
        Ok(Self(Kind::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret))))
    }

    fn parse_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        if let Ok(spki) = SubjectPublicKeyInfoDer::from_pem_slice(bytes) {
            let public = spki.strip_prefix(&ED25519_SPKI_PREFIX).ok_or(KeyError::NotEd25519)?;
            return Ok(Self(Kind::Public(public.try_into().map_err(|_| KeyError::NotEd25519)?)));
        }
        let private = PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|_| KeyError::NotEd25519)?;
        // OpenSSL writes the private half alone, which the checked form refuses.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(private.secret_pkcs8_der());
        Ok(Self(Kind::Pair(pair.map_err(|_| KeyError::NotEd25519)?)))
    }

    /// The algorithm's name in a token's header.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self.0 {
            Kind::Secret(_) => "HS256",
            Kind::Public(_) | Kind::Pair(_) => "EdDSA",
        }
    }

    /// Whether a signature over a message is this key's. Secrets are compared in constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let ed25519 =
            |public: &[u8]| UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok();
        match &self.0 {
            Kind::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Kind::Public(public) => ed25519(public),
            Kind::Pair(pair) => ed25519(pair.public_key().as_ref()),
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, MintError> {
        match &self.0 {
            Kind::Secret(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Kind::Pair(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Kind::Public(_) => Err(MintError::PublicKey),
        }
    }
}

/// Names the algorithm alone: a key must not reach a log.
impl std::fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JwtKey({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};

    #[test]
    fn a_pair_signs_and_its_public_half_verifies() {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key pair");
        let private = JwtKey::parse(pair.serialize_pem().as_bytes()).expect("a private key");
        let public = JwtKey::parse(pair.public_key_pem().as_bytes()).expect("a public key");
        let signature = private.sign(b"message").expect("a private key signs");
        assert!(public.verifies(b"message", &signature));
        assert!(private.verifies(b"message", &signature));
        assert!(!public.verifies(b"another", &signature));
        assert_eq!(public.sign(b"message"), Err(MintError::PublicKey));
        assert_eq!((public.algorithm(), private.algorithm()), ("EdDSA", "EdDSA"));
        assert_eq!(pair.der_bytes().len(), ED25519_PUBLIC_BYTES);
    }

    #[test]
    fn short_secrets_and_other_kinds_of_keys_are_refused() {
        assert_eq!(JwtKey::parse(&[1; 31]).err(), Some(KeyError::SecretTooShort(31)));
        assert_eq!(
            JwtKey::parse(b"31 bytes and the end of a line.\r\n").err(),
            Some(KeyError::SecretTooShort(31))
        );
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key pair");
        assert_eq!(JwtKey::parse(other.serialize_pem().as_bytes()).err(), Some(KeyError::NotEd25519));
        assert_eq!(JwtKey::parse(other.public_key_pem().as_bytes()).err(), Some(KeyError::NotEd25519));
        assert_eq!(JwtKey::parse(b"-----BEGIN NONSENSE-----").err(), Some(KeyError::NotEd25519));
    }

    #[test]
    fn a_key_does_not_show_itself() {
        let key = JwtKey::parse(b"a secret that must never reach a log file").expect("a secret");
        assert_eq!(format!("{key:?}"), "JwtKey(HS256)");
    }
}
