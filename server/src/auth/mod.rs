//! Who may come in, and what they may do with which document.
//!
//! Knows tokens and patterns; never sockets, documents or the clock, which comes in as an argument.
//!
//! Invariant: without a grant there is no access, and a grant never says more than its token.

mod crypto;
mod jwt;
mod key;

pub use jwt::{AuthError, CLOCK_LEEWAY_SECONDS, Claims, DocRule, TOKEN_BYTES_MAX, mint};
pub use key::{JwtKey, KeyError, MintError, SECRET_BYTES_MIN};
pub use quire_protocol::pattern::{Pattern, PatternError};

use quire_protocol::fields::AUTHOR_BYTES_MAX;
use quire_protocol::ids::DocName;
use std::sync::Arc;

/// What a bearer may do with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read it and follow its changes.
    Read,
    /// Change it, too.
    Write,
}

/// Decides who may come in.
#[derive(Debug)]
pub struct Authenticator {
    /// `None` lets everybody write everything.
    key: Option<JwtKey>,
    /// Whether the region takes writes.
    takes_writes: bool,
}

/// What one bearer may do, and until when.
#[derive(Clone, Debug)]
pub struct Grant {
    subject: String,
    expires_at_ms: Option<u64>,
    /// `None` is everything.
    rules: Option<Vec<(Pattern, Access)>>,
    /// Whether the region takes writes, whatever the rules say.
    takes_writes: bool,
}

impl Authenticator {
    /// Lets everybody write everything.
    #[must_use]
    pub const fn everybody() -> Self {
        Self { key: None, takes_writes: true }
    }

    /// Asks for JWTs signed with a key.
    #[must_use]
    pub const fn jwt(key: JwtKey) -> Self {
        Self { key: Some(key), takes_writes: true }
    }

    /// Lets nobody write, whatever their tokens say: this region follows others.
    #[must_use]
    pub fn of_follower(self) -> Self {
        Self { takes_writes: false, ..self }
    }

    /// Whether a bearer must show a token.
    #[must_use]
    pub const fn wants_token(&self) -> bool {
        self.key.is_some()
    }

    /// Checks what a bearer shows. An empty token is none.
    ///
    /// # Errors
    /// Why the token, or its absence, gives no access.
    pub fn verify(&self, token: Option<&str>, now_ms: u64) -> Result<Grant, AuthError> {
        let takes_writes = self.takes_writes;
        let Some(key) = &self.key else { return Ok(Grant { takes_writes, ..Grant::everything() }) };
        let token = token.filter(|token| !token.is_empty()).ok_or(AuthError::Missing)?;
        let claims = jwt::verify(token, key, now_ms)?;
        let rules = claims.docs.iter().map(|rule| Ok((Pattern::new(&rule.pattern)?, rule.access)));
        let rules = rules.collect::<Result<Vec<_>, PatternError>>().map_err(AuthError::Pattern)?;
        Ok(Grant {
            expires_at_ms: Some(claims.ends_at_ms()),
            subject: claims.sub,
            rules: Some(rules),
            takes_writes,
        })
    }
}

impl Grant {
    const fn everything() -> Self {
        Self { subject: String::new(), expires_at_ms: None, rules: None, takes_writes: true }
    }

    /// Whom the token names; empty where nobody asks for tokens.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whom the token names, as the author of what is written; none where it names nobody. Cut at
    /// [`AUTHOR_BYTES_MAX`] bytes.
    #[must_use]
    pub fn author(&self) -> Option<Arc<str>> {
        let end = self.subject.floor_char_boundary(AUTHOR_BYTES_MAX);
        Some(&self.subject[..end]).filter(|subject| !subject.is_empty()).map(Arc::from)
    }

    /// When the grant ends, in Unix milliseconds, the leeway for clocks included.
    #[must_use]
    pub const fn expires_at_ms(&self) -> Option<u64> {
        self.expires_at_ms
    }

    /// Whether the grant has ended.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|end| end <= now_ms)
    }

    /// What the bearer may do with a document: the most that any matching rule gives, so that the
    /// order of the rules cannot matter.
    #[must_use]
    pub fn access(&self, name: &DocName) -> Option<Access> {
        let most = if self.takes_writes { Access::Write } else { Access::Read };
        self.granted(name).map(|access| access.min(most))
    }

    /// Whether the bearer may write every document, and so change what concerns all of them.
    #[must_use]
    pub fn covers_everything(&self) -> bool {
        match &self.rules {
            None => true,
            Some(rules) => {
                rules.iter().any(|(pattern, access)| *access == Access::Write && pattern.matches_everything())
            }
        }
    }

    fn granted(&self, name: &DocName) -> Option<Access> {
        match &self.rules {
            None => Some(Access::Write),
            Some(rules) => rules
                .iter()
                .filter(|(pattern, _)| pattern.matches(name.as_str()))
                .map(|(_, access)| *access)
                .max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn grant(rules: &[(&str, Access)]) -> Grant {
        let key = JwtKey::parse(&[7; 32]).expect("a secret");
        let docs = rules.iter().map(|(pattern, access)| DocRule::new(*pattern, *access)).collect();
        let claims = Claims { sub: "ada".into(), exp: NOW_MS as f64 / 1000.0 + 60.0, nbf: None, docs };
        let token = mint(&claims, &key).expect("a secret signs");
        Authenticator::jwt(key).verify(Some(&token), NOW_MS).expect("a good token")
    }

    #[test]
    fn the_most_permissive_rule_counts_whatever_the_order() {
        let name = DocName::new("team/plan").expect("a name");
        for rules in [
            [("team/*", Access::Read), ("**", Access::Write)],
            [("**", Access::Write), ("team/*", Access::Read)],
        ] {
            assert_eq!(grant(&rules).access(&name), Some(Access::Write));
        }
        let follower = Authenticator::everybody().of_follower().verify(None, NOW_MS).expect("everybody");
        assert_eq!(follower.access(&name), Some(Access::Read));
        assert_eq!(grant(&[("team/*", Access::Read)]).access(&name), Some(Access::Read));
        assert_eq!(grant(&[("other/*", Access::Write)]).access(&name), None);
        assert_eq!(grant(&[]).access(&name), None);
        assert!(grant(&[("a", Access::Read), ("**", Access::Write)]).covers_everything());
        for (pattern, access) in [("**", Access::Read), ("*", Access::Write), ("a/**", Access::Write)] {
            assert!(!grant(&[(pattern, access)]).covers_everything(), "{pattern}");
        }
    }

    #[test]
    fn everybody_writes_where_no_key_is_set_and_nobody_reads_without_a_token_where_one_is() {
        let name = DocName::new("a").expect("a name");
        let open = Authenticator::everybody().verify(None, NOW_MS).expect("everybody");
        assert_eq!((open.access(&name), open.expires_at_ms()), (Some(Access::Write), None));
        let closed = Authenticator::jwt(JwtKey::parse(&[7; 32]).expect("a secret"));
        assert!(matches!(closed.verify(None, NOW_MS), Err(AuthError::Missing)));
        assert!(matches!(closed.verify(Some(""), NOW_MS), Err(AuthError::Missing)));
    }

    #[test]
    fn a_grant_ends_with_its_token_and_the_leeway() {
        let grant = grant(&[]);
        let end = NOW_MS + 60_000 + CLOCK_LEEWAY_SECONDS * 1000;
        assert_eq!((grant.subject(), grant.expires_at_ms()), ("ada", Some(end)));
        assert!(!grant.is_expired(end - 1));
        assert!(grant.is_expired(end));
    }
}
