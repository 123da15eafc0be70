//! Fields over HTTP: their values, versions, siblings and bases; writing them, and resolving conflicts.
//!
//! Nothing is decided here: the document machine answers, after the commit where it writes.
//!
//! Invariant: a write is answered with what is committed then, and with a frontier that covers it.

use super::at_home::{self, Made};
use super::bearer::{Bearer, Named};
use super::documents::FRONTIER;
use super::problem::{Kind, Problem};
use super::taken::{TakenBy, taken};
use crate::region::Region;
use axum::Json;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use quire_protocol::document::{Answer, FieldView, Request};
use quire_protocol::fields::{
    Base, ConflictId, EDITS_MAX, Edit, FieldVersion, FieldsWrite, Held, Path, Shown, Value, Version,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reading {
    /// Whether only fields in conflict are listed.
    #[serde(default)]
    conflicts: bool,
}

#[derive(Serialize)]
struct Fields {
    fields: BTreeMap<String, Field>,
}

/// One field.
#[derive(Serialize)]
struct Field {
    /// What is shown; absent where the key is.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
    /// The version that a write is to say it is made on.
    version: String,
    /// Whether the versions differ and could not be merged.
    conflict: bool,
    /// The conflict's name, to resolve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict_id: Option<String>,
    /// Why the policy could not merge the versions, where it could have.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether what was written is not of the field's type: the last value that is, is shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    invalid: bool,
    /// The document that has the value, where the field is unique and another had it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_by: Option<TakenBy>,
    /// Whether it belongs at the document's home and another region took what it holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    away_from_home: bool,
    /// The siblings, where there are several or the one is invalid, in the order of their stamps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<Sibling>,
    /// How many siblings there are beyond those.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: usize,
    /// What they were made on.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<Left>,
}

/// One sibling.
#[derive(Serialize)]
pub(super) struct Sibling {
    #[serde(flatten)]
    left: Left,
    /// When its region took it, in Unix milliseconds.
    timestamp: u64,
    /// The region that took it, by its name, and by its replica number.
    origin: Arc<str>,
    replica: u16,
    /// Who wrote it, where a token said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Arc<str>>,
    /// Whether it belongs at the document's home and another region took it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    away_from_home: bool,
}

/// What a write left.
#[derive(Default, Serialize)]
pub(super) struct Left {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
    /// The key was deleted, or had never been written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    absent: bool,
    /// The value is not known any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unknown: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
pub(super) const fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Left {
    pub(super) fn of(held: &Held) -> Self {
        let value = |value| Self { value: Some(value), ..Self::default() };
        match held {
            Held::Value(plain) => value(plain.to_json()),
            Held::Shared(kind) => value(serde_json::json!({ "$shared": format!("{kind:?}") })),
            Held::Subdoc => value(serde_json::json!({ "$document": true })),
            Held::Deleted => Self { absent: true, ..Self::default() },
            Held::Unknown => Self { unknown: true, ..Self::default() },
        }
    }

    pub(super) fn base(base: &Base) -> Self {
        match base {
            Base::Nothing => Self::of(&Held::Deleted),
            Base::Write(held) => Self::of(held),
            Base::Several(held) => Self::of(held.as_ref().unwrap_or(&Held::Unknown)),
        }
    }
}

impl From<&Version> for Sibling {
    fn from(version: &Version) -> Self {
        let (hlc, dot) = version.by.stamp;
        Self {
            left: Left::of(&version.held),
            timestamp: hlc.ms(),
            origin: version.by.who.region.clone(),
            replica: dot.stream.replica.0,
            author: version.by.who.author.clone(),
            away_from_home: false,
        }
    }
}

impl From<&FieldView> for Field {
    fn from(view: &FieldView) -> Self {
        let FieldView { path, state, shows, last_valid, .. } = view;
        let sibling = |version| Sibling { away_from_home: view.is_away(version), ..Sibling::from(version) };
        let shown = match (last_valid, &state.shown) {
            (Some(valid), _) => valid.as_ref().map(Value::to_json),
            (None, Shown::Value(value)) => value.as_ref().map(Value::to_json),
            (None, Shown::AsYjs) => Left::of(shows).value,
        };
        let is_plain = state.versions.len() == 1 && last_valid.is_none();
        Self {
            value: shown,
            version: state.version().to_string(),
            conflict: state.conflict.is_some(),
            conflict_id: state.conflict.as_ref().map(|_| state.conflict_id(path).to_string()),
            reason: state.conflict.iter().flatten().next().map(ToString::to_string),
            invalid: last_valid.is_some(),
            taken_by: None,
            away_from_home: view.away_from_home(),
            versions: if is_plain { Vec::new() } else { state.versions.iter().map(sibling).collect() },
            left_out: state.left_out,
            base: (!is_plain).then(|| Left::base(&state.base)),
        }
    }
}

/// Every field of a document.
pub(super) async fn list(named: Named, Query(reading): Query<Reading>) -> Result<Response, Problem> {
    let mut fields = shown(&named, None).await?;
    fields.retain(|_, field| !reading.conflicts || field.conflict || field.taken_by.is_some());
    Ok(Json(Fields { fields }).into_response())
}

/// One field; its version is the `ETag`.
pub(super) async fn get(named: Named, field: InPath) -> Result<Response, Problem> {
    let field = shown(&named, Some(vec![field.0])).await?.into_values().next();
    let field = field.ok_or_else(|| Problem::new(Kind::NotFound, "the document has no such field"))?;
    Ok(([(ETAG, format!("\"{}\"", field.version))], Json(field)).into_response())
}

/// Fields by their paths, as they are shown to the bearer.
async fn shown(named: &Named, paths: Option<Vec<Path>>) -> Result<BTreeMap<String, Field>, Problem> {
    let views = views(named, paths).await?;
    let mut taken = taken(named, &views).await?;
    let field = |view: &FieldView| {
        let field = Field { taken_by: taken.remove(&view.path), ..Field::from(view) };
        (view.path.to_string(), field)
    };
    Ok(views.iter().map(field).collect())
}

async fn views(named: &Named, paths: Option<Vec<Path>>) -> Result<Vec<FieldView>, Problem> {
    match named.open_existing().await?.ask(Request::Fields(paths)).await? {
        Answer::Fields(views) => Ok(views),
        _ => Err(Problem::mismatched()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Writing {
    fields: BTreeMap<String, Write>,
}

/// One write: a value, or the deletion of the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Write {
    #[serde(default, deserialize_with = "given")]
    value: Option<serde_json::Value>,
    #[serde(default)]
    delete: bool,
    /// The version that it is made on; without one, the current.
    version: Option<String>,
}

/// A value that is there, `null` too.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(from).map(Some)
}

pub(super) fn value_of(
    field: &str,
    value: Option<serde_json::Value>,
    delete: bool,
) -> Result<Option<Value>, Problem> {
    match (value, delete) {
        (None, true) => Ok(None),
        (Some(json), false) => Value::from_json(&json).map(Some).ok_or_else(|| {
            Problem::new(Kind::Unprocessable, format!("field `{field}`: the value nests too deep"))
        }),
        _ => {
            Err(Problem::new(Kind::BadRequest, format!("field `{field}`: give a value, or \"delete\": true")))
        }
    }
}

fn path_of(field: &str) -> Result<Path, Problem> {
    field.parse().map_err(|error| Problem::new(Kind::BadRequest, format!("field `{field}`: {error}")))
}

pub(super) fn version_of(text: &str) -> Result<FieldVersion, Problem> {
    text.parse().map_err(|error| Problem::new(Kind::BadRequest, format!("version: {error}")))
}

/// Writes fields, all of them or none; where one of them belongs at the document's home, there. A write on an old
/// version becomes a sibling; with `If-Match` it is refused instead.
pub(super) async fn patch(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    named: Named,
    headers: HeaderMap,
    Json(Writing { fields }): Json<Writing>,
) -> Result<Response, Problem> {
    named.may_write()?;
    if fields.len() > EDITS_MAX {
        return Err(Problem::new(Kind::TooLarge, format!("a request writes at most {EDITS_MAX} fields")));
    }
    let is_exact = headers.contains_key(IF_MATCH);
    let mut edits = Vec::with_capacity(fields.len());
    for (field, Write { value, delete, version }) in fields {
        let on = version.as_deref().map(version_of).transpose()?;
        edits.push(Edit { path: path_of(&field)?, value: value_of(&field, value, delete)?, on });
    }
    if let Some(etag) = headers.get(IF_MATCH) {
        match_etag(etag.to_str().unwrap_or_default(), &mut edits)?;
    }
    write(&region, &named, FieldsWrite::Edit { edits, is_exact }, grant.author()).await
}

/// `If-Match: *` holds each write to the version that it names, an `ETag` the one write there is.
fn match_etag(etag: &str, edits: &mut [Edit]) -> Result<(), Problem> {
    if etag != "*" {
        let [edit] = edits else {
            return Err(Problem::new(
                Kind::BadRequest,
                "If-Match names one version: write one field, or send *",
            ));
        };
        edit.on = Some(version_of(etag.trim_matches('"'))?);
    }
    match edits.iter().find(|edit| edit.on.is_none()) {
        Some(edit) => {
            let detail = format!("field `{}`: If-Match asks for the version that it is made on", edit.path);
            Err(Problem::new(Kind::BadRequest, detail))
        }
        None => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolving {
    /// The conflict that is resolved; what else has been written since stays.
    conflict: String,
    #[serde(default, deserialize_with = "given")]
    value: Option<serde_json::Value>,
    #[serde(default)]
    delete: bool,
}

/// Resolves a conflict.
pub(super) async fn resolve(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    named: Named,
    InPath(path): InPath,
    Json(Resolving { conflict, value, delete }): Json<Resolving>,
) -> Result<Response, Problem> {
    named.may_write()?;
    let conflict: ConflictId = conflict
        .parse()
        .map_err(|_| Problem::new(Kind::BadRequest, "conflict is its name: 32 hexadecimal digits"))?;
    let value = value_of(&path.to_string(), value, delete)?;
    write(&region, &named, FieldsWrite::Resolve { path, conflict, value }, grant.author()).await
}

/// Writes fields where they belong, and tells what this region shows then.
async fn write(
    region: &Arc<Region>,
    named: &Named,
    write: FieldsWrite,
    author: Option<Arc<str>>,
) -> Result<Response, Problem> {
    let paths = write.paths().cloned().collect();
    match at_home::write(region, named, write, author).await? {
        Made::Unshown(frontier) => Ok(at_home::accepted(region, &frontier)),
        Made::Here | Made::Shown => tell(region, named, paths).await,
    }
}

/// Tells what this region shows of fields that have been written.
pub(super) async fn tell(region: &Region, named: &Named, paths: Vec<Path>) -> Result<Response, Problem> {
    let fields = shown(named, Some(paths)).await?;
    let headers = [(FRONTIER, region.log.applied().to_token())];
    Ok((StatusCode::OK, headers, Json(Fields { fields })).into_response())
}

/// The field that the URL names.
pub(super) struct InPath(pub(super) Path);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Problem> {
        let found = UrlPath::<BTreeMap<String, String>>::from_request_parts(parts, state).await;
        let mut found = found.map_err(|_| Problem::new(Kind::BadRequest, "the field's path is not UTF-8"))?;
        path_of(&found.remove("field").unwrap_or_default()).map(Self)
    }
}
