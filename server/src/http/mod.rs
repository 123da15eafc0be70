//! HTTP around one region: operating it, its page and its documents.
//!
//! Invariant: every error is `application/problem+json`, and no handler's panic ends the server.

mod assets;
mod operate;
mod origin;
mod problem;
mod request;
mod routes;

pub(crate) use origin::Origins;
pub(crate) use routes::router;
