//! HTTP around one region: operating it, its page and its documents.
//!
//! Invariant: every error is `application/problem+json`, but for the lines of `/healthz/peers`, and no handler's panic ends the server.

mod assets;
mod at_home;
mod bearer;
mod claim;
mod conflicts;
mod create;
mod documents;
mod events;
mod fields;
mod home;
mod ids;
mod operate;
mod origin;
mod problem;
mod regions;
mod request;
mod routes;
mod seed;
mod taken;

pub(crate) use assets::embedded;
pub(crate) use at_home::answer_calls;
pub(crate) use claim::Claims;
pub(crate) use conflicts::Conflict;
pub(crate) use ids::Numbers;
pub(crate) use origin::Origins;
pub(crate) use routes::router;

use problem::{Kind, Problem};
use quire_storage::LoadError;

/// Asks the log on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot read the log");
            Err(Problem::new(Kind::Unavailable, "the log cannot be read"))
        }
        Err(error) => {
            tracing::error!(%error, "reading the log hit a bug");
            Err(Problem::new(Kind::Internal, "reading the log hit a bug; the server's log has more"))
        }
    }
}
