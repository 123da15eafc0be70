//! Documents over HTTP: listing, reading, changing, deleting, restoring and copying them.
//!
//! Nothing is decided here: the document machine answers, after the commit where it writes.
//!
//! Invariant: a write is answered with a frontier that covers it.

use super::bearer::{After, Bearer, Named};
use super::create::{made, make};
use super::problem::{Kind, Problem};
use crate::documents::random_client;
use crate::region::Region;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use quire_protocol::document::{Answer, Request, Splice};
use quire_protocol::fields::home::writer;
use quire_protocol::life::Life;
use quire_protocol::update::StateVector;
use quire_storage::DocInfo;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Covers the write that it came with.
pub(super) const FRONTIER: HeaderName = HeaderName::from_static("quire-frontier");
/// The root text that the page edits, and that requests mean unless they say otherwise.
const ROOT_DEFAULT: &str = "content";
/// The longest name of a root.
const ROOT_BYTES_MAX: usize = 256;
/// More changes than one edit has; each costs the document a walk.
const SPLICES_MAX: usize = 10_000;
/// Documents in one answer, if the request does not say.
const LIST_DEFAULT: usize = 100;
/// Documents in one answer at most.
const LIST_MAX: usize = 1_000;
/// Pages of the log that one answer looks through for documents the bearer may read.
const LIST_PAGES_MAX: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    limit: Option<usize>,
    /// Whether deleted documents are listed, too.
    #[serde(default)]
    deleted: bool,
}

#[derive(Serialize)]
struct Listed {
    documents: Vec<Summary>,
    /// Goes into `after` for more; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    name: String,
    deleted: bool,
    /// Whether an edit that its deletion had not seen keeps it alive, which nobody has settled yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    revived: bool,
    created_ms: u64,
    changed_ms: u64,
    /// How many entries it has had, and how long they were together.
    entries: u64,
    entry_bytes: u64,
}

impl Summary {
    fn new(region: &Region, info: &DocInfo) -> Self {
        let on_delete = region.documents.on_delete(&info.name);
        Self {
            name: info.name.to_string(),
            deleted: info.life.is_deleted(on_delete),
            revived: info.life.is_revived(on_delete),
            created_ms: info.created.ms(),
            changed_ms: info.changed.ms(),
            entries: info.entries,
            entry_bytes: info.bytes,
        }
    }
}

/// Lists the documents that the bearer may read.
pub(super) async fn list(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    _: After,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    let limit = listing.limit.unwrap_or(LIST_DEFAULT);
    if limit == 0 || limit > LIST_MAX {
        return Err(Problem::new(Kind::BadRequest, format!("limit is from 1 to {LIST_MAX}")));
    }
    let mut documents = Vec::new();
    let mut after = listing.after;
    for _ in 0..LIST_PAGES_MAX {
        let (log, prefix, from) = (region.log.clone(), listing.prefix.clone(), after.clone());
        let page = super::blocking(move || log.list(&prefix, from.as_deref(), limit)).await?;
        let full = page.len() == limit;
        for info in page {
            after = Some(info.name.to_string());
            let summary = Summary::new(&region, &info);
            let shown = listing.deleted || !summary.deleted;
            if shown && grant.access(&info.name).is_some() {
                documents.push(summary);
                if documents.len() == limit {
                    return Ok(Json(Listed { documents, next: after }).into_response());
                }
            }
        }
        if !full {
            return Ok(Json(Listed { documents, next: None }).into_response());
        }
    }
    Ok(Json(Listed { documents, next: after }).into_response())
}

#[derive(Serialize)]
struct Info {
    #[serde(flatten)]
    summary: Summary,
    /// The replica that makes its write-backs: the one that was named, else the one that made it.
    home: u16,
    /// The replica that makes them as things are, as far as this region sees: its home while that is reached,
    /// else the lowest leader that is. Absent where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<u16>,
    frontier: String,
    /// The deletion and the edits that it had not seen: by default they have revived the document, and where
    /// deletions win they are on record here. Absent once a restoration or a deletion has settled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    contested: Option<Contested>,
    /// What is in memory; absent for a deleted document.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<StateInfo>,
}

/// A deletion that had not seen all edits.
#[derive(Serialize)]
struct Contested {
    /// The region that deleted the document, and when.
    deleted_by: u16,
    deleted_ms: u64,
    /// The last of the edits, and when it was made.
    edited_by: u16,
    edited_ms: u64,
    /// Where they stand in the log.
    edits: Vec<ContestedEdits>,
}

/// Edits of one stream: from behind the first place up to the last.
#[derive(Serialize)]
struct ContestedEdits {
    after: String,
    last: String,
}

impl Contested {
    fn new(life: &Life) -> Option<Self> {
        let ((deleted, by), (edited, last)) = (life.deletion()?.stamp, life.contested()?);
        let edits = life.unseen();
        Some(Self {
            deleted_by: by.stream.replica.0,
            deleted_ms: deleted.ms(),
            edited_by: last.stream.replica.0,
            edited_ms: edited.ms(),
            edits: edits
                .map(|of| ContestedEdits { after: of.after.to_string(), last: of.last.to_string() })
                .collect(),
        })
    }
}

#[derive(Serialize)]
struct StateInfo {
    sessions: usize,
    bytes: usize,
    /// Yjs's own, base64url.
    state_vector: String,
}

/// Tells about one document, a deleted one, too.
pub(super) async fn info(State(region): State<Arc<Region>>, named: Named) -> Result<Response, Problem> {
    let stored = named.existing().await?;
    let summary = Summary::new(&region, &stored);
    let state = if summary.deleted {
        None
    } else {
        match named.open()?.ask(Request::Info).await? {
            Answer::Info { sessions, bytes, state_vector } => {
                let state_vector = URL_SAFE_NO_PAD.encode(state_vector.encode());
                Some(StateInfo { sessions, bytes, state_vector })
            }
            _ => return Err(Problem::mismatched()),
        }
    };
    let writer = writer(stored.home, &region.peers.live_leaders()).map(|writer| writer.0);
    let home = stored.home.map_or(region.settings.replica, |home| home.0);
    let frontier = region.log.applied().to_token();
    let contested = Contested::new(&stored.life);
    Ok(Json(Info { summary, home, writer, frontier, contested, state }).into_response())
}

/// Deletes a document; its content is kept, and can be restored.
pub(super) async fn delete(State(region): State<Arc<Region>>, named: Named) -> Result<Response, Problem> {
    named.may_write()?;
    saved(&named.open_existing().await?.ask(Request::Delete { seen: region.log.applied() }).await?)?;
    Ok(written(&region, StatusCode::NO_CONTENT))
}

/// Brings a deleted document back.
pub(super) async fn restore(State(region): State<Arc<Region>>, named: Named) -> Result<Response, Problem> {
    named.may_write()?;
    named.existing().await?;
    saved(&named.open()?.ask(Request::Restore).await?)?;
    Ok(written(&region, StatusCode::NO_CONTENT))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copying {
    /// The name of the copy.
    to: String,
}

/// Makes a new document with another one's content.
pub(super) async fn copy(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    named: Named,
    Json(copying): Json<Copying>,
) -> Result<Response, Problem> {
    let target = Named::new(&region, &grant, &copying.to)?;
    target.may_write()?;
    if target.stored().await?.is_some() {
        return Err(Problem::new(Kind::Conflict, "there is a document of the copy's name already"));
    }
    let state = update_of(named.open_existing().await?.ask(Request::State).await?)?;
    if !make(&target, Some(state)).await? {
        return Err(Problem::new(
            Kind::Conflict,
            "somebody else has just made a document of the copy's name",
        ));
    }
    Ok(made(&region, &target, true))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    root: Option<String>,
}

impl Root {
    fn name(self) -> Result<String, Problem> {
        let root = self.root.unwrap_or_else(|| ROOT_DEFAULT.to_owned());
        if root.is_empty() || root.len() > ROOT_BYTES_MAX {
            return Err(Problem::new(Kind::BadRequest, format!("root has 1 to {ROOT_BYTES_MAX} bytes")));
        }
        Ok(root)
    }
}

/// One root text. A root that nobody has written is empty, as it is in Yjs.
pub(super) async fn text(named: Named, Query(root): Query<Root>) -> Result<Response, Problem> {
    let root = root.name()?;
    match named.open_existing().await?.ask(Request::Text(root)).await? {
        Answer::Text(text) => {
            let content_type = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
            Ok((content_type, text.unwrap_or_default()).into_response())
        }
        _ => Err(Problem::mismatched()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Splices {
    splices: Vec<OneSplice>,
}

/// Positions are UTF-16 code units, as in Yjs; each on the text that the one before it left.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneSplice {
    at: u32,
    #[serde(default)]
    delete: u32,
    #[serde(default)]
    insert: String,
}

/// Changes one root text, as an editor would.
pub(super) async fn splice(
    State(region): State<Arc<Region>>,
    named: Named,
    Query(root): Query<Root>,
    Json(Splices { splices }): Json<Splices>,
) -> Result<Response, Problem> {
    named.may_write()?;
    let root = root.name()?;
    if splices.len() > SPLICES_MAX {
        return Err(Problem::new(Kind::TooLarge, format!("an edit has at most {SPLICES_MAX} splices")));
    }
    let splices =
        splices.into_iter().map(|one| Splice { at: one.at, delete: one.delete, insert: one.insert });
    let request = Request::Splice { root, splices: splices.collect(), client: random_client() };
    saved(&named.open_existing().await?.ask(request).await?)?;
    Ok(written(&region, StatusCode::NO_CONTENT))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// A state vector in base64 or base64url.
    sv: Option<String>,
}

/// The whole state as a Yjs v1 update, or what a state vector lacks.
pub(super) async fn update(named: Named, Query(since): Query<Since>) -> Result<Response, Problem> {
    let request = match since.sv {
        None => Request::State,
        Some(text) => Request::Diff(state_vector(&text)?),
    };
    let update = update_of(named.open_existing().await?.ask(request).await?)?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], update).into_response())
}

fn state_vector(text: &str) -> Result<StateVector, Problem> {
    // In a query a plus sign means a space.
    let plain = text.trim_end_matches('=').replace(['+', ' '], "-").replace('/', "_");
    let bytes = URL_SAFE_NO_PAD.decode(plain).ok();
    bytes
        .and_then(|bytes| StateVector::decode(&bytes).ok())
        .ok_or_else(|| Problem::new(Kind::BadRequest, "sv is no state vector in base64"))
}

/// Applies a Yjs v1 update; a document that does not exist is made by it.
pub(super) async fn apply(
    State(region): State<Arc<Region>>,
    named: Named,
    update: Bytes,
) -> Result<Response, Problem> {
    named.may_write()?;
    saved(&named.open()?.ask(Request::Update(update)).await?)?;
    Ok(written(&region, StatusCode::NO_CONTENT))
}

pub(super) fn written(region: &Region, status: StatusCode) -> Response {
    (status, [(FRONTIER, region.log.applied().to_token())]).into_response()
}

pub(super) fn saved(answer: &Answer) -> Result<bool, Problem> {
    match answer {
        Answer::Saved { changed } => Ok(*changed),
        _ => Err(Problem::mismatched()),
    }
}

fn update_of(answer: Answer) -> Result<Bytes, Problem> {
    match answer {
        Answer::Update(update) => Ok(update),
        _ => Err(Problem::mismatched()),
    }
}
