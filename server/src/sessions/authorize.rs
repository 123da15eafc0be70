//! What a token allows a session: the server's authenticator, in the machines' words.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use quire_protocol::close::CloseReason;
use quire_protocol::document::Access;
use quire_protocol::ids::DocName;
use quire_protocol::time::Time;

use crate::auth::{self, AuthError, Authenticator};

/// What a token allows on one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Reading, or writing as well.
    pub access: Access,
    /// When the token's time is over.
    pub expires: Option<Time>,
    /// Whom the token names, if it names somebody.
    pub author: Option<Arc<str>>,
}

/// What the bearer of a token may do with a document at this moment.
///
/// # Errors
/// The reason to give the client when that is nothing.
pub(super) fn authorize(
    authenticator: &Authenticator,
    document: &DocName,
    token: Option<&str>,
    now: Time,
) -> Result<Granted, CloseReason> {
    let unix_ms = unix_ms();
    let grant = authenticator.verify(token, unix_ms).map_err(|error| match error {
        AuthError::Expired => CloseReason::Expired,
        other => CloseReason::Unauthorized(other.to_string()),
    })?;
    let access = match grant.access(document).ok_or(CloseReason::Forbidden)? {
        auth::Access::Read => Access::Read,
        auth::Access::Write => Access::Write,
    };
    let expires = grant.expires_at_ms().map(|end| now.after(end.saturating_sub(unix_ms)));
    Ok(Granted { access, expires, author: grant.author() })
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
