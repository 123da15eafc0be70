//! Conflicts across documents over HTTP: open ones, and those that are over.
//!
//! Invariant: nobody is shown a conflict of a document that their token does not cover.

use super::bearer::{After, Bearer};
use super::fields::{Left, Sibling};
use super::problem::{Kind, Problem};
use crate::conflicts::{
    Between, Claimant, Contested, Dangling, FIRST_CLAIM, Filter, Kept, REFERENCE, Told, UNIQUE, kind, policy,
};
use crate::region::Region;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use quire_protocol::batch::Stamp;
use quire_protocol::fields::{ConflictId, Conflicting, Deletion, Held, Resolution, Shown, Status, Writes};
use quire_protocol::ids::DocName;
use quire_protocol::life::Unseen;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const LIST_DEFAULT: usize = 100;
/// Each may have versions of some length.
const LIST_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    /// Names of statuses with commas between them, or `all`.
    status: Option<String>,
    #[serde(default)]
    prefix: String,
    document: Option<String>,
    field: Option<String>,
    policy: Option<String>,
    kind: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Listed {
    conflicts: Vec<Conflict>,
    /// Goes into `after` for more; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A conflict.
#[derive(Serialize)]
pub(crate) struct Conflict {
    id: String,
    document: String,
    /// `write`, `delete` where a document was deleted and edited at once, `unique` where several documents claim
    /// one value, or `reference` where a field names a deleted document.
    kind: &'static str,
    policy: String,
    status: &'static str,
    /// When it became one, in Unix milliseconds.
    since_ms: u64,
    /// Rises with each change of a conflict at this region.
    change: u64,
    #[serde(flatten)]
    of: Of,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolved: Option<Resolved>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Of {
    Writes {
        field: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<serde_json::Value>,
        versions: Vec<Sibling>,
        #[serde(skip_serializing_if = "super::fields::is_zero")]
        left_out: usize,
        base: Left,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    Deletion {
        revived: bool,
        deletions: Vec<Moment>,
        edits: Vec<Edits>,
    },
    Unique {
        field: String,
        value: serde_json::Value,
        versions: Vec<Claiming>,
        #[serde(skip_serializing_if = "super::fields::is_zero")]
        left_out: usize,
    },
    Reference {
        field: String,
        target: String,
    },
}

/// A document that claims a value.
#[derive(Serialize)]
struct Claiming {
    document: String,
    value: serde_json::Value,
    #[serde(flatten)]
    made: Moment,
}

/// When an entry was written, and by which replica.
#[derive(Serialize)]
struct Moment {
    timestamp: u64,
    replica: u16,
}

/// Edits of one stream that no deletion had seen, from behind the first place up to the last.
#[derive(Serialize)]
struct Edits {
    #[serde(flatten)]
    last_made: Moment,
    after: String,
    last: String,
}

/// How a conflict ended.
#[derive(Serialize)]
struct Resolved {
    #[serde(flatten)]
    left: Left,
    #[serde(flatten)]
    made: Moment,
    /// The region that took it, by its name, where it is told.
    #[serde(skip_serializing_if = "str::is_empty")]
    origin: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<Arc<str>>,
}

impl Moment {
    const fn of((hlc, dot): Stamp) -> Self {
        Self { timestamp: hlc.ms(), replica: dot.stream.replica.0 }
    }
}

impl Of {
    fn new(conflicting: &Conflicting) -> Self {
        match conflicting {
            Conflicting::Writes(Writes { path, versions, left_out, base, shown, merged, .. }) => {
                Self::Writes {
                    field: path.to_string(),
                    value: match shown {
                        Shown::Value(value) => value.as_ref().map(quire_protocol::fields::Value::to_json),
                        Shown::AsYjs => None,
                    },
                    versions: versions.iter().map(Sibling::from).collect(),
                    left_out: *left_out,
                    base: Left::base(base),
                    reason: merged.as_ref().err().cloned().flatten(),
                }
            }
            Conflicting::Deletion(Deletion { deletions, edits, is_revived }) => Self::Deletion {
                revived: *is_revived,
                deletions: deletions.iter().copied().map(Moment::of).collect(),
                edits: edits.iter().map(Edits::of).collect(),
            },
        }
    }
}

impl Edits {
    fn of(edits: &Unseen) -> Self {
        let last_made = Moment::of((edits.hlc, edits.last));
        Self { last_made, after: edits.after.to_string(), last: edits.last.to_string() }
    }
}

impl Resolved {
    fn new(Resolution { by, left }: &Resolution) -> Self {
        let left = left.as_ref().map(|left: &Held| Left::of(left)).unwrap_or_default();
        Self {
            left,
            made: Moment::of(by.stamp),
            origin: by.who.region.clone(),
            author: by.who.author.clone(),
        }
    }
}

impl From<&Kept> for Conflict {
    fn from(Kept { change, document, record, .. }: &Kept) -> Self {
        Self {
            id: record.id.to_string(),
            document: document.to_string(),
            kind: kind(record),
            policy: policy(record).to_owned(),
            status: record.status().name(),
            since_ms: record.since.0.ms(),
            change: *change,
            of: Of::new(&record.of),
            resolved: record.resolved.as_ref().map(Resolved::new),
        }
    }
}

impl Conflict {
    /// A conflict of which is told, for somebody who may read some documents; none where it is of others.
    pub(crate) fn told(told: &Told, is_read: &dyn Fn(&DocName) -> bool) -> Option<Self> {
        match told {
            Told::Within(kept) => is_read(&kept.document).then(|| Self::from(&**kept)),
            Told::Between(Between::Contested(contested)) => Self::contested(contested, is_read),
            Told::Between(Between::Dangling(dangling)) => Self::dangling(dangling, is_read),
        }
    }

    /// A value that several documents claim.
    fn contested(contested: &Contested, is_read: &dyn Fn(&DocName) -> bool) -> Option<Self> {
        let Contested { standing, id, claimants, left_out } = contested;
        let read: Vec<&Claimant> = claimants.iter().filter(|claimant| is_read(&claimant.document)).collect();
        let first = claimants.first()?;
        // It is to be renamed by who came too late.
        let flagged = read.iter().find(|claimant| claimant.document != first.document).or(read.first())?;
        let claiming = |claimant: &&Claimant| Claiming {
            document: claimant.document.to_string(),
            value: claimant.value.to_json(),
            made: Moment::of(claimant.since),
        };
        Some(Self {
            id: ConflictId(id.0).to_string(),
            document: flagged.document.to_string(),
            kind: UNIQUE,
            policy: FIRST_CLAIM.to_owned(),
            status: standing.status.name(),
            since_ms: claimants.get(1)?.since.0.ms(),
            change: standing.change,
            of: Of::Unique {
                field: flagged.path.to_string(),
                value: flagged.value.to_json(),
                versions: read.iter().map(claiming).collect(),
                left_out: left_out + claimants.len() - read.len(),
            },
            resolved: None,
        })
    }

    /// A field that names a deleted document.
    fn dangling(dangling: &Dangling, is_read: &dyn Fn(&DocName) -> bool) -> Option<Self> {
        let Dangling { standing, referrer, policy, deleted } = dangling;
        is_read(&referrer.document).then(|| Self {
            id: ConflictId(dangling.id()).to_string(),
            document: referrer.document.to_string(),
            kind: REFERENCE,
            policy: policy.name().to_owned(),
            status: standing.status.name(),
            since_ms: deleted.map_or(0, |(hlc, _)| hlc.ms()),
            change: standing.change,
            // The field tells the name to whoever may read it.
            of: Of::Reference { field: referrer.path.to_string(), target: referrer.target.to_string() },
            resolved: None,
        })
    }
}

/// Lists the conflicts of the documents that the bearer may read.
pub(super) async fn list(
    State(region): State<Arc<Region>>,
    Bearer(grant): Bearer,
    _: After,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    let Listing { status, prefix, document, field, policy, kind, after, limit } = listing;
    let limit = limit.unwrap_or(LIST_DEFAULT);
    if limit == 0 || limit > LIST_MAX {
        return Err(Problem::new(Kind::BadRequest, format!("limit is from 1 to {LIST_MAX}")));
    }
    let statuses = statuses(status.as_deref().unwrap_or("open"))?;
    let filter = Filter { statuses, prefix, document, field, policy, kind };
    let after = after.as_deref().map(place).transpose()?;
    let book = region.documents.book().clone();
    let found = super::blocking(move || book.list(&filter, after.as_deref(), limit)).await?;
    let is_read = |document: &DocName| grant.access(document).is_some();
    let shown = found.conflicts.iter().filter(|kept| is_read(&kept.document));
    let mut conflicts: Vec<Conflict> = shown.map(Conflict::from).collect();
    conflicts.extend(found.contested.iter().filter_map(|one| Conflict::contested(one, &is_read)));
    conflicts.extend(found.dangling.iter().filter_map(|one| Conflict::dangling(one, &is_read)));
    let next = found.next.as_deref().map(|place| URL_SAFE_NO_PAD.encode(place));
    Ok(Json(Listed { conflicts, next }).into_response())
}

pub(super) fn statuses(text: &str) -> Result<std::collections::BTreeSet<Status>, Problem> {
    if text == "all" {
        return Ok(Status::ALL.into());
    }
    let named = |name: &str| Status::ALL.into_iter().find(|status| status.name() == name);
    let statuses = text.split(',').map(named).collect::<Option<_>>();
    statuses.ok_or_else(|| {
        let names = Status::ALL.map(Status::name).join(", ");
        Problem::new(Kind::BadRequest, format!("status is all, or some of {names}, with commas between them"))
    })
}

fn place(after: &str) -> Result<Bytes, Problem> {
    let place = URL_SAFE_NO_PAD
        .decode(after)
        .map_err(|_| Problem::new(Kind::BadRequest, "after is `next` of the page before"));
    place.map(Bytes::from)
}
