//! Making documents over HTTP: under a name, or under a new one in a collection or behind a prefix.
//!
//! Invariant: a document that was made under a new name is nobody else's.

use super::bearer::{Bearer, Named};
use super::documents::{FRONTIER, saved};
use super::ids::Strategy;
use super::problem::{Kind, Problem};
use super::seed::Seed;
use crate::auth::Grant;
use crate::region::Region;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse as _, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use quire_protocol::document::Request;
use quire_protocol::fields::schema::Collection;
use quire_protocol::ids::DocName;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Creation {
    /// The name; without one, a new id behind the prefix.
    name: Option<String>,
    prefix: Option<String>,
    /// The collection, in place of a prefix: its pattern up to the first star.
    collection: Option<String>,
    /// How the id is made; without it, as the collection says.
    id: Option<Strategy>,
    seed: Option<Seed>,
}

/// A new id is given by nobody else, but somebody may have made a document of that name by hand. Whoever does so
/// more often than that in a row has to wait for the next request.
const NAMES_MAX: usize = 16;

#[derive(Serialize)]
struct Created {
    name: String,
    /// Whether this request made it; an existing document is left as it is.
    created: bool,
}

/// Makes a document, once: where it exists, its content stays and the seed is not applied.
pub(super) async fn create(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    Json(creation): Json<Creation>,
) -> Result<Response, Problem> {
    let Creation { name, prefix, collection, id, seed } = creation;
    let Some(name) = name else {
        let place = Place::new(&region, prefix, collection.as_deref())?;
        return create_new(&region, &grant, &place, id, seed).await;
    };
    if prefix.is_some() || collection.is_some() || id.is_some() {
        let text = "give a name, or what a new one is made of: prefix, collection, id";
        return Err(Problem::new(Kind::BadRequest, text));
    }
    let named = Named::new(&region, &grant, &name)?;
    let seed = seed.map(|seed| seed.into_update(&named.name)).transpose()?;
    let created = make(&named, seed).await?;
    Ok(made(&region, &named, created))
}

/// Where new documents are to be: in a collection, behind a prefix.
struct Place<'a> {
    prefix: String,
    /// The one that was asked for.
    collection: Option<&'a Collection>,
}

impl<'a> Place<'a> {
    fn new(region: &'a Region, prefix: Option<String>, collection: Option<&str>) -> Result<Self, Problem> {
        let schema = &region.settings.schema;
        let collection = collection
            .map(|name| {
                let text = || format!("the schema has no collection {name:?}");
                schema.collection_named(name).ok_or_else(|| Problem::new(Kind::BadRequest, text()))
            })
            .transpose()?;
        let of_pattern = |collection: &Collection| {
            let pattern = collection.pattern.as_str();
            pattern[..pattern.find('*').unwrap_or(pattern.len())].to_owned()
        };
        let prefix = prefix.or_else(|| collection.map(of_pattern)).unwrap_or_default();
        Ok(Self { prefix, collection })
    }

    /// The name of a new document here.
    async fn name(&self, region: &Region, id: Option<Strategy>) -> Result<String, Problem> {
        let schema = &region.settings.schema;
        let parsed = |id: &str| {
            let name = DocName::new(&format!("{}{id}", self.prefix));
            name.map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))
        };
        // Which collection it is depends on the name, and the name on the collection: every id is one segment.
        let of_name = match self.collection {
            Some(collection) => collection,
            None => schema.collection(&parsed("0")?),
        };
        let strategy = id.unwrap_or_else(|| Strategy::of(of_name));
        let name = parsed(&strategy.next(region, of_name).await?)?;
        let belongs = schema.collection(&name);
        if let Some(wanted) = self.collection.filter(|wanted| wanted.name != belongs.name) {
            let (wanted, pattern) = (&wanted.name, wanted.pattern.as_str());
            return Err(Problem::new(
                Kind::BadRequest,
                format!(
                    "a document {name} would belong to collection {}, not {wanted}, whose pattern is {pattern}: give \
                     a prefix",
                    belongs.name
                ),
            ));
        }
        Ok(name.to_string())
    }
}

/// Makes a document under a name that nobody has had.
async fn create_new(
    region: &Arc<Region>,
    grant: &Grant,
    place: &Place<'_>,
    id: Option<Strategy>,
    seed: Option<Seed>,
) -> Result<Response, Problem> {
    // Whoever may not write there is to learn that before a number is taken.
    Named::new(region, grant, &format!("{}0", place.prefix))?.may_write()?;
    for _ in 0..NAMES_MAX {
        let named = Named::new(region, grant, &place.name(region, id).await?)?;
        if named.stored().await?.is_some() {
            continue;
        }
        let seed = seed.clone().map(|seed| seed.into_update(&named.name)).transpose()?;
        if make(&named, seed).await? {
            return Ok(made(region, &named, true));
        }
    }
    Err(Problem::new(Kind::Conflict, "somebody has made documents under the next names: try again"))
}

/// Makes a document with a first content, if it does not exist yet; says whether it has.
pub(super) async fn make(named: &Named, seed: Option<Bytes>) -> Result<bool, Problem> {
    named.may_write()?;
    saved(&named.open()?.ask(Request::Create(seed)).await?)
}

/// The answer to whoever wanted a document.
pub(super) fn made(region: &Region, named: &Named, created: bool) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let name = named.name.to_string();
    let location = format!("/v1/docs/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC));
    let headers = [(LOCATION, location), (FRONTIER, region.log.applied().to_token())];
    (status, headers, Json(Created { name, created })).into_response()
}
