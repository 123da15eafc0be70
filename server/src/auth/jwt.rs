//! JSON Web Tokens (RFC 7519): what a token must say, and when it counts.
//!
//! `jsonwebtoken` reads and signs them. One algorithm per key, chosen by the key and never by the
//! token; `none` is none of them. The clock is an argument, so times are checked here.
//!
//! Invariant: claims are read only from a token whose signature has been verified.

use super::Access;
use super::PatternError;
use super::key::{JwtKey, MintError};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};

/// Tokens travel in a URL and in a header: longer ones do not fit there reliably.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the clocks of who mints and who verifies may differ.
pub const CLOCK_LEEWAY_SECONDS: u64 = 30;
/// The last moment a token may name, in seconds: the end of the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// What a token says. Claims not listed here are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it names.
    pub sub: String,
    /// When it ends, in Unix seconds; fractions are allowed.
    pub exp: f64,
    /// When it begins, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<f64>,
    /// Which documents it opens.
    #[serde(default)]
    pub docs: Vec<DocRule>,
}

/// What a token gives on the documents that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocRule {
    /// The pattern, as [`super::Pattern`] reads it.
    #[serde(rename = "match")]
    pub pattern: String,
    /// What it gives.
    pub access: Access,
}

impl DocRule {
    /// A rule.
    #[must_use]
    pub fn new(pattern: impl Into<String>, access: Access) -> Self {
        Self { pattern: pattern.into(), access }
    }
}

/// Why a token gives no access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// None was shown.
    #[error("a token is needed")]
    Missing,
    /// More than [`TOKEN_BYTES_MAX`] bytes.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// Not three parts of base64url, or a header that is none.
    #[error("the token is malformed")]
    Malformed,
    /// Another algorithm than the key's.
    #[error("the token is signed with another algorithm than this server uses")]
    Algorithm,
    /// Another key, or other claims than were signed.
    #[error("the token's signature is wrong")]
    Signature,
    /// `sub`, `exp` or `docs` are missing or not what they should be.
    #[error("the token's claims are not understood")]
    Claims,
    /// A document pattern is none.
    #[error("the token's claims are not understood: {0}")]
    Pattern(PatternError),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
}

impl AuthError {
    /// A stable word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Claims | Self::Pattern(_) => "claims",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
        }
    }
}

impl Claims {
    /// When the access ends, in Unix milliseconds, the leeway for clocks included.
    pub(super) fn ends_at_ms(&self) -> u64 {
        to_ms(self.exp) + CLOCK_LEEWAY_SECONDS * 1000
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "verified claims lie between 0 and SECONDS_MAX"
)]
fn to_ms(seconds: f64) -> u64 {
    (seconds.clamp(0.0, SECONDS_MAX) * 1000.0) as u64
}

/// Verifies a token and reads its claims.
pub(super) fn verify(token: &str, key: &JwtKey, now_ms: u64) -> Result<Claims, AuthError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(AuthError::TooLong);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
    // An extension that must be understood, and is not (RFC 7515, section 4.1.11).
    if header.crit.is_some() {
        return Err(AuthError::Malformed);
    }
    let claims = jsonwebtoken::decode::<Claims>(token, key.verifying(), &validation(key))?.claims;
    let sane = |seconds: f64| (0.0..=SECONDS_MAX).contains(&seconds);
    if !sane(claims.exp) || !claims.nbf.is_none_or(sane) {
        return Err(AuthError::Claims);
    }
    if claims.ends_at_ms() <= now_ms {
        return Err(AuthError::Expired);
    }
    if claims.nbf.is_some_and(|nbf| to_ms(nbf) > now_ms + CLOCK_LEEWAY_SECONDS * 1000) {
        return Err(AuthError::NotYet);
    }
    Ok(claims)
}

/// The signature and the algorithm; what the claims mean is checked with the caller's clock.
fn validation(key: &JwtKey) -> Validation {
    let mut validation = Validation::new(key.algorithm());
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    validation
}

impl From<jsonwebtoken::errors::Error> for AuthError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidAlgorithm => Self::Algorithm,
            ErrorKind::InvalidSignature => Self::Signature,
            // The header has been read by then: it is the claims.
            ErrorKind::Json(_) => Self::Claims,
            _ => Self::Malformed,
        }
    }
}

/// Makes a token.
///
/// # Errors
/// When the key is a public one, or the token would be longer than a server accepts.
///
/// # Panics
/// Never: claims are always JSON, and a key of one algorithm always signs.
pub fn mint(claims: &Claims, key: &JwtKey) -> Result<String, MintError> {
    let header = Header::new(key.algorithm());
    let token = jsonwebtoken::encode(&header, claims, key.signing()?).expect("texts and numbers are JSON");
    if token.len() > TOKEN_BYTES_MAX { Err(MintError::TooLong(token.len())) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW_MS: u64 = 1_800_000_000_000;
    const NOW: f64 = 1_800_000_000.0;

    fn key() -> JwtKey {
        JwtKey::parse(&[7; 32]).expect("a secret")
    }

    fn claims(exp: f64) -> Claims {
        Claims { sub: "ada".into(), exp, nbf: None, docs: vec![DocRule::new("team/*", Access::Read)] }
    }

    /// A token with any header and claims, signed as it should be.
    fn token(header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let key = key();
        let signing = key.signing().expect("a secret signs");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), signing, key.algorithm());
        format!("{message}.{}", signature.expect("a secret signs"))
    }

    fn refused(token: &str) -> AuthError {
        verify(token, &key(), NOW_MS).expect_err("it should be refused")
    }

    #[test]
    fn a_minted_token_is_verified() {
        let token = mint(&claims(NOW + 60.0), &key()).expect("a secret signs");
        assert_eq!(verify(&token, &key(), NOW_MS), Ok(claims(NOW + 60.0)));
    }

    #[test]
    fn a_token_of_another_library_is_verified() {
        // The example of jwt.io's libraries: whole seconds, other claims beside ours.
        let claims = r#"{"sub":"1","name":"Ada","iat":1516239022,"exp":1800000060,"docs":[{"match":"a","access":"write"}]}"#;
        let token = token(r#"{"alg":"HS256","typ":"JWT"}"#, claims);
        let read = verify(&token, &key(), NOW_MS).expect("a good token");
        assert_eq!(read.docs, [DocRule::new("a", Access::Write)]);
    }

    #[test]
    fn the_key_chooses_the_algorithm_and_none_is_none() {
        let good = r#"{"sub":"a","exp":1800000060}"#;
        for alg in ["HS512", "EdDSA", "RS256"] {
            assert_eq!(refused(&token(&format!(r#"{{"alg":"{alg}"}}"#), good)), AuthError::Algorithm);
        }
        for alg in ["none", "None", "hs256", ""] {
            assert_eq!(refused(&token(&format!(r#"{{"alg":"{alg}"}}"#), good)), AuthError::Malformed);
        }
        let unsigned =
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(good));
        assert_eq!(refused(&unsigned), AuthError::Signature);
        assert_eq!(refused(&token(r#"{"alg":"HS256","crit":["b64"]}"#, good)), AuthError::Malformed);
    }

    #[test]
    fn claims_and_signature_cannot_be_changed() {
        let token = mint(&claims(NOW + 60.0), &key()).expect("a secret signs");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(verify(&changed, &key(), NOW_MS).is_err(), "byte {at}");
        }
        let other = JwtKey::parse(&[8; 32]).expect("a secret");
        assert_eq!(verify(&token, &other, NOW_MS), Err(AuthError::Signature));
    }

    #[test]
    fn time_counts_with_the_leeway() {
        let at = |exp: f64, nbf: Option<f64>| {
            let token = mint(&Claims { nbf, ..claims(exp) }, &key()).expect("a secret signs");
            verify(&token, &key(), NOW_MS).map(|_| ())
        };
        assert_eq!(at(NOW - 29.0, None), Ok(()));
        assert_eq!(at(NOW - 30.0, None), Err(AuthError::Expired));
        assert_eq!(at(NOW + 60.0, Some(NOW + 30.0)), Ok(()));
        assert_eq!(at(NOW + 60.0, Some(NOW + 31.0)), Err(AuthError::NotYet));
        assert_eq!(at(1e300, None), Err(AuthError::Claims));
        assert_eq!(at(-1.0, None), Err(AuthError::Claims));
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for text in ["", ".", "..", "a.b.c", "a.b.c.d", "🪶.🪶.🪶", "====.===.=="] {
            assert_eq!(refused(text), AuthError::Malformed, "{text:?}");
        }
        assert_eq!(refused(&"a".repeat(TOKEN_BYTES_MAX + 1)), AuthError::TooLong);
        let header = r#"{"alg":"HS256"}"#;
        for claims in [
            "{}",
            "[]",
            r#"{"sub":"a"}"#,
            r#"{"exp":1800000060}"#,
            r#"{"sub":"a","exp":"tomorrow"}"#,
            r#"{"sub":"a","exp":1800000060,"docs":[{"match":"a","access":"own"}]}"#,
            r#"{"sub":"a","exp":1800000060,"exp":1}"#,
        ] {
            assert_eq!(refused(&token(header, claims)), AuthError::Claims, "{claims}");
        }
    }
}
