//! `quire token`: mints a JWT for a person or a program.
//!
//! Writes the token to stdout and nothing else; needs no running server.

use crate::auth::{Access, Claims, DocRule, JwtKey, Pattern, mint};
use crate::config::read_small;
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

#[derive(Debug, Args)]
pub(super) struct Token {
    /// The secret, or the private Ed25519 key in PEM
    #[arg(long, value_name = "FILE", env = "QUIRE_JWT_KEY_FILE")]
    jwt_key_file: PathBuf,
    /// Whom the token names
    #[arg(long, value_name = "NAME", default_value = "anonymous")]
    subject: String,
    /// Documents to read: `*` is any text within a segment, `**` across segments; may be repeated
    #[arg(long, value_name = "PATTERN")]
    read: Vec<String>,
    /// Documents to read and write; may be repeated
    #[arg(long, value_name = "PATTERN", required_unless_present = "read")]
    write: Vec<String>,
    /// How long it is good for: a number and s, m, h or d
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = parse_span)]
    expires: Duration,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("cannot read the key {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("cannot use the key {}: {error}", path.display())]
    Key { path: PathBuf, error: crate::auth::KeyError },
    #[error("{pattern:?}: {error}")]
    Pattern { pattern: String, error: crate::auth::PatternError },
    #[error("{0}")]
    Mint(#[from] crate::auth::MintError),
    #[error("the clock of this machine is before 1970")]
    Clock,
}

pub(super) fn run(token: &Token) -> Result<(), TokenError> {
    let path = &token.jwt_key_file;
    let bytes = read_small(path).map_err(|error| TokenError::Read { path: path.clone(), error })?;
    let key = JwtKey::parse(&bytes).map_err(|error| TokenError::Key { path: path.clone(), error })?;
    let rules = [(&token.read, Access::Read), (&token.write, Access::Write)];
    let mut docs = Vec::new();
    for (pattern, access) in rules.iter().flat_map(|(all, access)| all.iter().map(|one| (one, *access))) {
        Pattern::new(pattern).map_err(|error| TokenError::Pattern { pattern: pattern.clone(), error })?;
        docs.push(DocRule::new(pattern, access));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|_| TokenError::Clock)?;
    let exp = (now + token.expires).as_secs_f64().floor();
    println!("{}", mint(&Claims { sub: token.subject.clone(), exp, nbf: None, docs }, &key)?);
    Ok(())
}

/// A token that outlives its owner's interest is a leak waiting: ten years are the most.
const SPAN_SECONDS_MAX: u64 = 10 * 365 * 86_400;

fn parse_span(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    units
        .iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*seconds))
        .filter(|seconds| (1..=SPAN_SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "a number and a unit, such as 90s, 15m, 1h or 30d; at most 3650d".to_owned())
}
