//! Webhooks: conflicts that have changed, sent to addresses that the configuration names.
//!
//! Each is a cursor over the changes on record: it sends one after the other, keeps on disk how far it has come, and
//! goes on there after a restart. It tries until an answer is final, so that what follows comes in order.
//!
//! Invariant: a change is behind a cursor on disk only when its receiver has taken it, refused it, or not asked for it.

mod cursor;
mod sender;
mod signing;

pub use cursor::CursorError;
pub(crate) use sender::start;
pub use signing::{SecretTooShort, SigningKey};

use axum::http::Uri;
use quire_protocol::fields::Status;
use std::collections::BTreeSet;

/// Where conflicts that have changed are sent, and which.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The address, `http` or `https`.
    pub url: Uri,
    /// What it is signed with.
    pub key: SigningKey,
    /// Only conflicts that stand so now.
    pub statuses: BTreeSet<Status>,
    /// Only of documents whose names begin with this.
    pub prefix: String,
}
