//! The regions of the cluster: how it goes between this one and each of the others.

use super::bearer::Bearer;
use super::problem::{Kind, Problem, Worded};
use crate::auth::Grant;
use crate::config::RegionRole;
use crate::peers::{MemberError, NoLink, PeerProblem, PeerStatus, RefusedStatus, Removal, accept};
use crate::region::Region;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use quire_protocol::ids::ReplicaId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Serialize)]
struct Regions {
    /// This region.
    region: Here,
    /// The others, as this one sees them.
    peers: Vec<PeerStatus>,
    /// Who dialled it of late and was turned away.
    refused: Vec<RefusedStatus>,
    /// The regions that were removed from the cluster.
    removed: Vec<u16>,
}

#[derive(Serialize)]
struct Here {
    name: String,
    replica: u16,
    incarnation: u16,
    cluster: String,
    role: &'static str,
    /// The hash of its schema.
    schema: String,
    /// Why no people should be sent here at this moment; none when they may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    unready: Option<String>,
    /// Entries that have come from other regions and wait for their causes.
    waiting_entries: u64,
    /// Per stream, the last entry that is durable here, and the last that documents show.
    streams: Vec<StreamStatus>,
}

#[derive(Serialize)]
struct StreamStatus {
    replica: u16,
    incarnation: u16,
    received: u64,
    applied: u64,
}

/// This region, and how it goes between it and each of the others.
pub(super) async fn list(State(region): State<Arc<Region>>, _bearer: Bearer) -> Response {
    let (settings, own) = (&region.settings, region.log.stream());
    let (received, applied) = (region.log.received(), region.log.applied());
    let streams = received.iter().map(|dot| StreamStatus {
        replica: dot.stream.replica.0,
        incarnation: dot.stream.incarnation.0,
        received: dot.seq.0,
        applied: applied.get(dot.stream).0,
    });
    let here = Here {
        name: settings.region.clone(),
        replica: own.replica.0,
        incarnation: own.incarnation.0,
        cluster: settings.cluster.clone(),
        role: match settings.role {
            RegionRole::Leader => "leader",
            RegionRole::Follower => "follower",
        },
        schema: settings.schema.hash().to_string(),
        unready: region.unready(),
        waiting_entries: region.log.stats().waiting,
        streams: streams.collect(),
    };
    let (peers, refused) = (region.peers.status(), region.peers.turned_away());
    Json(Regions { region: here, peers, refused, removed: region.peers.removed_members() }).into_response()
}

/// How a region is removed.
#[derive(Deserialize)]
pub(super) struct Leaving {
    /// It is gone for good.
    #[serde(default)]
    lost: bool,
}

/// Says that a region belongs to the cluster.
pub(super) async fn add(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    Path(replica): Path<u16>,
) -> Result<StatusCode, Problem> {
    operates(&grant)?;
    region.peers.add_member(ReplicaId(replica)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a region out of the cluster.
pub(super) async fn remove(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    Path(replica): Path<u16>,
    Query(leaving): Query<Leaving>,
) -> Result<StatusCode, Problem> {
    operates(&grant)?;
    let removal = if leaving.lost { Removal::Lost } else { Removal::Orderly };
    region.peers.remove_member(ReplicaId(replica), removal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses a bearer who may not write everything: who belongs to the cluster concerns every document.
fn operates(grant: &Grant) -> Result<(), Problem> {
    let refused =
        || Problem::new(Kind::Forbidden, "only a token that covers ** with write changes the members");
    grant.covers_everything().then_some(()).ok_or_else(refused)
}

impl From<MemberError> for Problem {
    fn from(error: MemberError) -> Self {
        let kind = match &error {
            MemberError::Alone => Kind::NotFound,
            MemberError::Follower => Kind::Forbidden,
            MemberError::Own | MemberError::Away(_) | MemberError::Here(_) => Kind::Conflict,
            MemberError::Behind(_) | MemberError::Append(_) => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

/// Whether this region has a link to every other one: a line for each pair, and what is wrong where it has
/// not. It serves its own editors whatever this says.
pub(super) async fn health(State(region): State<Arc<Region>>) -> Response {
    let own = region.log.stream().replica.0;
    let peers = region.peers.status();
    let mut text = String::new();
    for peer in &peers {
        text.push_str(&line(own, &peer.who(), peer.problem.as_ref()));
    }
    if peers.is_empty() {
        text.push_str("ok: this region has no peers\n");
    }
    // Anybody may dial and be turned away: no stranger makes a region look unwell.
    for RefusedStatus { address, problem, .. } in region.peers.turned_away() {
        text.push_str(&line(own, &format!("whoever dials from {address}"), Some(&problem)));
    }
    let well = peers.iter().all(|peer| peer.problem.is_none());
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Extension(Worded), text).into_response()
}

/// How it goes between this region and another.
fn line(own: u16, other: &str, problem: Option<&PeerProblem>) -> String {
    match problem {
        None => format!("region {own} and {other}: ok\n"),
        Some(PeerProblem { kind, cause, remedy }) => {
            format!("region {own} and {other}: {kind}: {cause}; {remedy}\n")
        }
    }
}

/// Another region has dialled this one.
pub(super) async fn peer(
    State(region): State<Arc<Region>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response {
    match accept(&region.peers, request, address) {
        Ok(response) => response,
        Err(error @ NoLink::Full) => Problem::new(Kind::Unavailable, error.to_string()).into_response(),
        Err(error @ NoLink::Alone) => Problem::new(Kind::NotFound, error.to_string()).into_response(),
        Err(error @ NoLink::NoWebSocket) => Problem::new(Kind::BadRequest, error.to_string()).into_response(),
    }
}
