//! Values of unique fields that are reserved before they are written: a claim.
//!
//! A value is claimed at one region, which the schema gives for it, and that region makes the write. So of two who
//! claim one value at once, wherever they are, one gets it and the other hears so. Whoever writes the field without a
//! claim is not held to that: such a write is judged afterwards, as in every unique field.
//!
//! Invariant: while this region gives a value away, what it knows of who has it is all that it has committed.

use super::at_home::{self, Answered, Made};
use super::bearer::{Bearer, Named};
use super::fields::{InPath, tell, value_of, version_of};
use super::problem::{Kind, Problem};
use crate::region::Region;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use quire_protocol::document::{Answer, FieldView, Request};
use quire_protocol::fields::{
    Asked, AskedOfHome, ClaimId, Claiming, Edit, Path, Shown, ToldByHome, Value, home,
};
use quire_protocol::ids::{DocName, Dot, ReplicaId};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of so many values one is given away at a time each; those of one lot wait for each other.
const LOTS: usize = 64;

/// So many values that were given away are remembered. Beyond it those are forgotten that must be on record since,
/// and where there are none claims are put off.
const GIVEN_MAX: usize = 10_000;

/// What was given away is on record within a moment, and after this time at the latest.
const ON_RECORD_AFTER: Duration = Duration::from_secs(60);

/// The values that this region has given away of late.
#[derive(Debug)]
pub(crate) struct Claims {
    lots: [tokio::sync::Mutex<()>; LOTS],
    given: Mutex<HashMap<ClaimId, (DocName, Instant)>>,
}

impl Default for Claims {
    fn default() -> Self {
        Self { lots: std::array::from_fn(|_| tokio::sync::Mutex::new(())), given: Mutex::default() }
    }
}

impl Claims {
    /// The document that a value was given to and that may not be on record yet.
    fn given_to(&self, id: ClaimId) -> Option<DocName> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.get(&id).map(|(document, _)| document.clone())
    }

    /// Remembers whom a value is given to, and returns to whom it was before; none where there is no room.
    fn give(&self, id: ClaimId, document: &DocName) -> Option<Before> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= GIVEN_MAX {
            given.retain(|_, (_, at)| at.elapsed() < ON_RECORD_AFTER);
        }
        let has_room = given.len() < GIVEN_MAX || given.contains_key(&id);
        has_room.then(|| Before(given.insert(id, (document.clone(), Instant::now()))))
    }

    /// The value was not given after all: it is whose it was before.
    fn take_back(&self, id: ClaimId, Before(before): Before) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        match before {
            Some(before) => drop(given.insert(id, before)),
            None => drop(given.remove(&id)),
        }
    }
}

/// Whom a value had been given to, and when.
#[derive(Debug)]
struct Before(Option<(DocName, Instant)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    value: serde_json::Value,
    /// The version that it must be made on; without one, the current.
    version: Option<String>,
}

/// Gives a field a value that no other document of its collection has, or says that one has it.
pub(super) async fn claim(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    named: Named,
    InPath(path): InPath,
    Json(Body { value, version }): Json<Body>,
) -> Result<Response, Problem> {
    named.may_write()?;
    let value = value_of(&path.to_string(), Some(value), false)?;
    let value = value.filter(|value| !matches!(value, Value::Null)).ok_or_else(|| {
        Problem::new(Kind::Unprocessable, format!("field `{path}`: nothing but a value can be claimed"))
    })?;
    let on = version.as_deref().map(version_of).transpose()?;
    let (id, home) = reserved_at(&region, &named.name, &path, &value)?;
    let author = grant.author();
    let claiming = Claiming { document: named.name.clone(), path: path.clone(), value, on };
    if home == region.log.stream().replica {
        make(&region, id, claiming, author).await?;
        return tell(&region, &named, vec![path]).await;
    }
    let asked = AskedOfHome { seen: region.log.applied(), author, asked: Asked::Claim(claiming) };
    match at_home::ask(&region, named.name.id(), home, asked.encode()).await? {
        Answered::Made(Made::Unshown(frontier)) => Ok(at_home::accepted(&region, &frontier)),
        Answered::Made(_) => tell(&region, &named, vec![path]).await,
        Answered::Here => {
            let detail =
                "the regions do not have one schema yet, and so not one place for each value: try again";
            Err(Problem::new(Kind::HomeUnreachable, detail))
        }
        Answered::Unmade(undone) => {
            let at = format!("field `{path}`: the value is reserved at region {}", home.0);
            Err(undone.problem(&at, "try again later"))
        }
    }
}

/// A value's name, and the region at which it is reserved.
fn reserved_at(
    region: &Region,
    document: &DocName,
    path: &Path,
    value: &Value,
) -> Result<(ClaimId, ReplicaId), Problem> {
    let rules = region.documents.rules(document);
    let (field, collection) = (rules.field(path), rules.collection());
    let refuse = |detail: String| Problem::new(Kind::Unprocessable, detail);
    if !field.unique {
        return Err(refuse(format!("field `{path}` is not unique in collection `{}`", collection.name)));
    }
    if !field.ty.accepts(Some(value)) {
        return Err(refuse(format!("field `{path}` takes a value of type {}", field.ty.name())));
    }
    let id = ClaimId::of(&collection.name, path, value);
    let home = home::of_value(id.0, &collection.claims_at).ok_or_else(|| {
        let name = &collection.name;
        refuse(format!("collection `{name}` reserves no values: name regions under claims-at in the schema"))
    })?;
    Ok((id, home))
}

/// Makes a claim of another region's, where this is the region at which the value is reserved.
pub(super) async fn answer(region: &Arc<Region>, claiming: Claiming, author: Option<Arc<str>>) -> ToldByHome {
    let (id, home) = match reserved_at(region, &claiming.document, &claiming.path, &claiming.value) {
        Ok(reserved) => reserved,
        Err(problem) => return problem.tell(),
    };
    let own = region.log.stream();
    if home != own.replica {
        return ToldByHome::Elsewhere(Some(home));
    }
    match make(region, id, claiming, author).await {
        Ok(()) => {
            let last = Dot { stream: own, seq: region.log.applied().get(own) };
            ToldByHome::Written([last].into_iter().collect())
        }
        Err(problem) => problem.tell(),
    }
}

/// The document that a value was given to, where that is not on record and the document has the value still.
async fn given_to(region: &Arc<Region>, id: ClaimId, path: &Path, value: &Value) -> Option<DocName> {
    let document = region.claims.given_to(id)?;
    let lease = region.documents.open(&document).ok();
    let shown = match lease {
        Some(lease) => lease.ask(Request::Fields(Some(vec![path.clone()]))).await.ok(),
        None => None,
    };
    match shown {
        Some(Answer::Fields(views)) => {
            let has = |view: &FieldView| matches!(&view.state.shown, Shown::Value(Some(it)) if it == value);
            views.iter().any(has).then_some(document)
        }
        // Who cannot be asked may have it.
        _ => Some(document),
    }
}

/// Writes a value that nobody else has, as far as this region, at which it is reserved, has given it away. Goes on
/// when whoever asked has gone: until the write is on disk or refused nobody else is given the value.
async fn make(
    region: &Arc<Region>,
    id: ClaimId,
    claiming: Claiming,
    author: Option<Arc<str>>,
) -> Result<(), Problem> {
    let making = tokio::spawn(make_alone(region.clone(), id, claiming, author));
    making.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a claim hit a bug");
        Err(Problem::new(Kind::Internal, "the claim hit a bug; the server's log has more"))
    })
}

async fn make_alone(
    region: Arc<Region>,
    id: ClaimId,
    Claiming { document, path, value, on }: Claiming,
    author: Option<Arc<str>>,
) -> Result<(), Problem> {
    let claims = &region.claims;
    let _lot = claims.lots[usize::from(id.0[0]) % LOTS].lock().await;
    // A disk that is an older copy lacks values that this region has given away; its peers have them.
    if !region.documents.has_derived_all() || !region.peers.knows_own_past() {
        let detail = "this region has just started and gives no value away before it knows who has which, from its \
                      log and from a peer: try again in a moment";
        return Err(Problem::new(Kind::NotYet, detail));
    }
    if holder(&region, id, &document, &path, &value).await?.is_some_and(|holder| holder != document) {
        let detail = format!("field `{path}`: another document of the collection has this value");
        return Err(Problem::new(Kind::Taken, detail));
    }
    let Some(before) = claims.give(id, &document) else {
        let detail = "too many values were given away at once: try again in a moment";
        return Err(Problem::new(Kind::NotYet, detail));
    };
    let is_exact = on.is_some();
    let edits = vec![Edit { path, value: Some(value), on }];
    let written = match region.documents.open(&document) {
        Ok(lease) => lease.ask(Request::EditFields { edits, is_exact, author }).await.map_err(Problem::from),
        Err(error) => Err(Problem::new(Kind::NotYet, error.to_string())),
    };
    match written {
        Ok(_) => Ok(()),
        // What the disk was given may be on it.
        Err(problem) if problem.is_unknown() => Err(problem),
        Err(problem) => {
            claims.take_back(id, before);
            Err(problem)
        }
    }
}

/// The document that has a value, as far as is on record or was given away since.
async fn holder(
    region: &Arc<Region>,
    id: ClaimId,
    document: &DocName,
    path: &Path,
    value: &Value,
) -> Result<Option<DocName>, Problem> {
    let collection = region.documents.rules(document).collection().name.clone();
    let (book, at, wanted) = (region.documents.book().clone(), path.clone(), value.clone());
    match super::blocking(move || book.holder(&collection, &at, &wanted)).await? {
        Some((holder, _)) => Ok(Some(holder)),
        None => Ok(given_to(region, id, path, value).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DocName {
        DocName::new(text).expect("a name")
    }

    #[test]
    fn a_claim_that_is_refused_takes_back_no_earlier_one() {
        let (claims, id) = (Claims::default(), ClaimId([7; 16]));
        let first = claims.give(id, &name("a")).expect("room");
        let again = claims.give(id, &name("a")).expect("room");
        claims.take_back(id, again);
        assert_eq!(claims.given_to(id), Some(name("a")), "the first one was made");
        claims.take_back(id, first);
        assert_eq!(claims.given_to(id), None);
    }

    #[test]
    fn no_value_is_forgotten_to_make_room_before_it_must_be_on_record() {
        let claims = Claims::default();
        let id = |at: usize| ClaimId((at as u128).to_be_bytes());
        for at in 0..GIVEN_MAX {
            assert!(claims.give(id(at), &name("a")).is_some());
        }
        assert!(claims.give(id(GIVEN_MAX), &name("b")).is_none());
        assert!(claims.give(id(0), &name("a")).is_some(), "it takes no more room");
        assert_eq!(claims.given_to(id(GIVEN_MAX - 1)), Some(name("a")));
    }
}
