//! The secret that a webhook shares with its receiver, and what it proves.

use ring::hmac;
use std::fmt::Write as _;

/// Fewer bytes could be guessed.
const SECRET_BYTES_MIN: usize = 32;

/// What a webhook is signed with. Never shown.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// Why bytes are no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has {0} bytes without the blanks around them; a secret has at least {SECRET_BYTES_MIN}")]
pub struct SecretTooShort(usize);

impl SigningKey {
    /// What a secret is made of, for a person who gave something else.
    pub const ACCEPTED: &str =
        "a file with at least 32 bytes, the same for the receiver, as `openssl rand -hex 32` writes";

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

    /// What `Quire-Signature` says of a body that is sent at a time, in Unix seconds.
    pub(super) fn signature(&self, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{timestamp}.").as_bytes());
        context.update(body);
        let mut text = "v1=".to_owned();
        for byte in context.sign().as_ref() {
            // A string takes whatever is written to it.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_the_time_and_the_body() {
        let key = SigningKey::parse(b" 0123456789abcdef0123456789abcdef\n").expect("long enough");
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        let expected = "v1=417adf36b901772f658597a76d329694e335e65fc0849d7715c3ca33406309b5";
        assert_eq!(key.signature(1_700_000_000, b"{}"), expected);
        assert_ne!(key.signature(1_700_000_001, b"{}"), expected);
        assert_ne!(key.signature(1_700_000_000, b"{ }"), expected);
        assert!(SigningKey::parse(b"   short   ").is_err());
        assert!(!format!("{key:?}").contains('0'));
    }
}
