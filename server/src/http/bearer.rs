//! What a request may do: its token, the document it names, the frontier it brings.
//!
//! Invariant: a handler that has a [`Grant`] has checked a token, if this server asks for one.

use super::problem::{Kind, Problem};
use crate::auth::{Access, Grant};
use crate::config::RegionRole;
use crate::documents::Lease;
use crate::region::Region;
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use quire_protocol::fields::schema::DeletePolicy;
use quire_protocol::frontier::Frontier;
use quire_protocol::ids::DocName;
use quire_storage::DocInfo;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Names the frontier that a read must have seen.
const AFTER: &str = "quire-after";
/// How long a read waits for its frontier before it says that this region is stale, and a write that was made at
/// its document's home for this region to show it.
const AFTER_WAIT_MAX: Duration = Duration::from_secs(5);

/// What the bearer of the request's token may do.
pub(super) struct Bearer(pub(super) Grant);

impl FromRequestParts<Arc<Region>> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, region: &Arc<Region>) -> Result<Self, Problem> {
        let token = token(&parts.headers);
        let granted = region.authenticator.verify(token, crate::run::unix_ms());
        granted.map(Self).map_err(|error| {
            metrics::counter!(crate::metrics::AUTH_REFUSED, "reason" => error.label()).increment(1);
            Problem::new(Kind::Unauthorized, error.to_string())
        })
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The region holds what the request has seen elsewhere.
pub(super) struct After;

impl FromRequestParts<Arc<Region>> for After {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, region: &Arc<Region>) -> Result<Self, Problem> {
        wait_for(region, &parts.headers).await.map(|()| Self)
    }
}

/// A document that the request names and may use, whether or not it exists.
pub(super) struct Named {
    pub(super) name: DocName,
    pub(super) region: Arc<Region>,
    granted: Access,
    /// What the bearer may do with others.
    pub(super) grant: Grant,
}

impl FromRequestParts<Arc<Region>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, region: &Arc<Region>) -> Result<Self, Problem> {
        let Bearer(grant) = Bearer::from_request_parts(parts, region).await?;
        // A route may name more than the document.
        let Path(mut named) = Path::<BTreeMap<String, String>>::from_request_parts(parts, region)
            .await
            .map_err(|_| Problem::new(Kind::BadRequest, "the document's name is not UTF-8"))?;
        let name = named.remove("name").unwrap_or_default();
        let named = Self::new(region, &grant, &name)?;
        wait_for(region, &parts.headers).await?;
        Ok(named)
    }
}

impl Named {
    /// A document by its name, for a bearer who may at least read it.
    pub(super) fn new(region: &Arc<Region>, grant: &Grant, name: &str) -> Result<Self, Problem> {
        let name = DocName::new(name).map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))?;
        let granted = grant
            .access(&name)
            .ok_or_else(|| Problem::new(Kind::Forbidden, "the token does not cover this document"))?;
        Ok(Self { name, region: region.clone(), granted, grant: grant.clone() })
    }

    /// Refuses a bearer who may only read.
    pub(super) fn may_write(&self) -> Result<(), Problem> {
        match self.granted {
            Access::Write => Ok(()),
            Access::Read if self.region.settings.role == RegionRole::Follower => Err(Problem::new(
                Kind::Forbidden,
                "this region follows others and takes no writes: write to a leader",
            )),
            Access::Read => Err(Problem::new(Kind::Forbidden, "the token allows reading this document only")),
        }
    }

    /// What the log knows of the document, if it exists.
    pub(super) async fn stored(&self) -> Result<Option<DocInfo>, Problem> {
        let (log, id) = (self.region.log.clone(), self.name.id());
        super::blocking(move || log.info(id)).await
    }

    /// What the log knows of the document.
    pub(super) async fn existing(&self) -> Result<DocInfo, Problem> {
        let missing = || Problem::new(Kind::NotFound, "there is no document of this name");
        self.stored().await?.ok_or_else(missing)
    }

    /// What the log knows of the document, which must exist and not be deleted.
    pub(super) async fn live(&self) -> Result<DocInfo, Problem> {
        let info = self.existing().await?;
        if info.life.is_deleted(self.on_delete()) {
            return Err(Problem::new(Kind::Deleted, "the document has been deleted; it can be restored"));
        }
        Ok(info)
    }

    /// The document, which must exist and not be deleted, open.
    pub(super) async fn open_existing(&self) -> Result<Lease, Problem> {
        self.live().await?;
        self.open()
    }

    /// What comes of edits that the document's deletion had not seen.
    pub(super) fn on_delete(&self) -> DeletePolicy {
        self.region.documents.on_delete(&self.name)
    }

    /// The document, open, be it new or not.
    pub(super) fn open(&self) -> Result<Lease, Problem> {
        let open = self.region.documents.open(&self.name);
        open.map_err(|error| Problem::new(Kind::Unavailable, error.to_string()))
    }
}

/// Waits until this region holds what the request has seen elsewhere.
async fn wait_for(region: &Region, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = headers.get(AFTER) else { return Ok(()) };
    let frontier = token.to_str().ok().and_then(|token| Frontier::from_token(token).ok());
    let frontier = frontier
        .ok_or_else(|| Problem::new(Kind::BadRequest, "Quire-After is no token that a write returned"))?;
    if shows_in_time(region, &frontier).await {
        Ok(())
    } else {
        let detail = "this region has not received what Quire-After names; try again, or elsewhere";
        Err(Problem::new(Kind::Stale, detail))
    }
}

/// Waits for this region to show something, and says whether it does.
pub(super) async fn shows_in_time(region: &Region, frontier: &Frontier) -> bool {
    tokio::time::timeout(AFTER_WAIT_MAX, region.shows(frontier)).await.is_ok()
}
