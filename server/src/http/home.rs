//! A document's home: the region that makes its write-backs.

use super::bearer::Named;
use super::documents::written;
use super::problem::{Kind, Problem};
use crate::region::Region;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use quire_protocol::batch::{EntryKind, LifecycleChange};
use quire_protocol::ids::ReplicaId;
use quire_storage::NewEntry;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Home {
    /// The region's replica number.
    replica: u16,
}

/// Names a document's home. Of two that are named at once the one with the greater stamp stands everywhere.
pub(super) async fn put(
    State(region): State<Arc<Region>>,
    named: Named,
    Json(home): Json<Home>,
) -> Result<Response, Problem> {
    named.may_write()?;
    named.live().await?;
    let replica = ReplicaId(home.replica);
    if home.replica == 0 {
        return Err(Problem::new(Kind::BadRequest, "replica is a region's number, from 1 to 65535"));
    }
    if region.log.members().is_removed(replica) {
        return Err(Problem::new(
            Kind::Conflict,
            format!("region {} has been removed from the cluster", replica.0),
        ));
    }
    let payload = LifecycleChange::Home { replica }.encode();
    let entry = NewEntry { doc: named.name.id(), kind: EntryKind::Lifecycle, payload };
    let done = region.documents.append(entry).await;
    done.map_err(|error| Problem::new(Kind::Unavailable, error.to_string()))?;
    region.documents.rehome(named.name.id());
    Ok(written(&region, StatusCode::NO_CONTENT))
}
