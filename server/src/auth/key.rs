//! The key that tokens are signed and verified with.
//!
//! Two kinds: a shared secret for HS256, and an Ed25519 key for EdDSA.
//!
//! Invariant: a key has one algorithm, and never verifies a token that names another.

use super::crypto;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::signature::KeyPair as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// HS256 needs a secret as long as its hash (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// What stands before the 32 bytes of an Ed25519 public key (RFC 8410).
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const ED25519_PUBLIC_BYTES: usize = 32;

/// A key for tokens.
pub struct JwtKey {
    algorithm: Algorithm,
    verifying: DecodingKey,
    /// `None` where only the public half is there.
    signing: Option<EncodingKey>,
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
        crypto::install();
        Ok(Self {
            algorithm: Algorithm::HS256,
            verifying: DecodingKey::from_secret(secret),
            signing: Some(EncodingKey::from_secret(secret)),
        })
    }

    fn parse_pem(bytes: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        let ed25519 = |public: &[u8], signing| Self {
            algorithm: Algorithm::EdDSA,
            verifying: DecodingKey::from_ed_der(public),
            signing,
        };
        if let Ok(spki) = SubjectPublicKeyInfoDer::from_pem_slice(bytes) {
            let public = spki.strip_prefix(&ED25519_SPKI_PREFIX).ok_or(KeyError::NotEd25519)?;
            let whole = public.len() == ED25519_PUBLIC_BYTES;
            return whole.then(|| ed25519(public, None)).ok_or(KeyError::NotEd25519);
        }
        let private = PrivatePkcs8KeyDer::from_pem_slice(bytes).map_err(|_| KeyError::NotEd25519)?;
        let private = private.secret_pkcs8_der();
        let pair = crypto::pair(private).map_err(|_| KeyError::NotEd25519)?;
        Ok(ed25519(pair.public_key().as_ref(), Some(EncodingKey::from_ed_der(private))))
    }

    /// The one algorithm of tokens with this key.
    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) const fn verifying(&self) -> &DecodingKey {
        &self.verifying
    }

    pub(super) fn signing(&self) -> Result<&EncodingKey, MintError> {
        self.signing.as_ref().ok_or(MintError::PublicKey)
    }
}

/// Names the algorithm alone: a key must not reach a log.
impl std::fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JwtKey({:?})", self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::super::jwt::{Claims, mint, verify};
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};

    #[test]
    fn a_pair_signs_and_its_public_half_verifies() {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key pair");
        let private = JwtKey::parse(pair.serialize_pem().as_bytes()).expect("a private key");
        let public = JwtKey::parse(pair.public_key_pem().as_bytes()).expect("a public key");
        let claims = Claims { sub: "ada".into(), exp: 60.0, nbf: None, docs: Vec::new() };
        let token = mint(&claims, &private).expect("a private key signs");
        assert_eq!(verify(&token, &public, 0), Ok(claims.clone()));
        assert_eq!(verify(&token, &private, 0), Ok(claims.clone()));
        assert_eq!(mint(&claims, &public), Err(MintError::PublicKey));
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
