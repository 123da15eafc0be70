//! `quire conflicts`: conflicts of a running server, across its documents.
//!
//! Asks over HTTP, as anybody may; what it resolves, it resolves by the conflict's name, so that what was written
//! beside it since stays.

use super::client::{Client, ClientError, Content, Server, escaped, path_of};
use super::table;
use axum::http::Method;
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

/// How many conflicts are asked for at once.
const PAGE_LEN: usize = 100;
/// A value in a column is cut at so many characters.
const CELL_CHARS_MAX: usize = 60;

#[derive(Debug, Args)]
pub(super) struct Conflicts {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List conflicts
    Ls {
        /// Some of open, merged and resolved with commas between them, or all
        #[arg(long, default_value = "open")]
        status: String,
        /// Only of documents whose names begin with this
        #[arg(long, default_value = "")]
        prefix: String,
        /// Only of this document
        #[arg(long, value_name = "NAME")]
        document: Option<String>,
        /// Print each as JSON, one a line
        #[arg(long)]
        json: bool,
    },
    /// Show the versions that are in conflict in a document
    Show {
        document: String,
        /// Only in this field
        field: Option<String>,
        /// Some of open, merged and resolved with commas between them, or all
        #[arg(long, default_value = "open")]
        status: String,
    },
    /// Resolve a conflict: give a value, take a version, or delete the field
    Resolve(Resolve),
}

#[derive(Debug, Args)]
struct Resolve {
    document: String,
    field: String,
    #[command(flatten)]
    to: To,
    /// The conflict that is meant, as shown; the open one if none is given
    #[arg(long, value_name = "ID")]
    conflict: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// The value, as JSON
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    value: Option<Value>,
    /// The number of a version, as shown
    #[arg(long, value_name = "N")]
    take: Option<usize>,
    /// Delete the field
    #[arg(long)]
    delete: bool,
}

fn parse_json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}; a text has quotes of its own: '\"a text\"'"))
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConflictsError {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{document}, {field}: {error}")]
    Resolve { document: String, field: String, error: ClientError },
    #[error("{document}, {field}: there is no such conflict; `quire conflicts show` lists what there is")]
    None { document: String, field: String },
    #[error("{document}, {field}: there is no version {take}; there are {versions}")]
    Version { document: String, field: String, take: usize, versions: usize },
    #[error("{document}, {field}: version {take} cannot be taken as it is; give a --value, or --delete")]
    NotPlain { document: String, field: String, take: usize },
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

#[derive(Deserialize)]
struct Listed {
    conflicts: Vec<Value>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Conflict {
    id: String,
    document: String,
    kind: String,
    policy: String,
    status: String,
    since_ms: u64,
    field: Option<String>,
    value: Option<Value>,
    #[serde(default)]
    versions: Vec<Version>,
    #[serde(default)]
    left_out: usize,
    base: Option<Left>,
    reason: Option<String>,
    #[serde(default)]
    revived: bool,
    /// The deleted document that the field names.
    target: Option<String>,
    resolved: Option<Resolved>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(flatten)]
    left: Left,
    timestamp: u64,
    #[serde(default)]
    origin: String,
    author: Option<String>,
    /// Which document claims the value, where several do.
    document: Option<String>,
}

#[derive(Deserialize)]
struct Left {
    #[serde(default, deserialize_with = "given")]
    value: Option<Value>,
    #[serde(default)]
    absent: bool,
}

#[derive(Deserialize)]
struct Resolved {
    #[serde(flatten)]
    left: Left,
    timestamp: u64,
    #[serde(default)]
    origin: String,
    author: Option<String>,
}

/// A value that is there, `null` too.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

pub(super) async fn run(conflicts: Conflicts) -> Result<(), ConflictsError> {
    let client = conflicts.server.client()?;
    match conflicts.action {
        Action::Ls { status, prefix, document, json } => {
            let mut query = format!("status={}&prefix={}", escaped(&status), escaped(&prefix));
            if let Some(document) = document {
                query.push_str(&format!("&document={}", escaped(&document)));
            }
            list(&client, &query, json).await
        }
        Action::Show { document, field, status } => {
            let found = find(&client, &document, field.as_deref(), &status).await?;
            if found.is_empty() {
                // The answer is for people, who should not wonder whether it worked.
                return Ok(table::print(b"No such conflicts.\n")?);
            }
            let shown: Vec<_> = found.iter().map(told).collect();
            Ok(table::print(shown.join("\n").as_bytes())?)
        }
        Action::Resolve(resolve) => resolve_one(&client, resolve).await,
    }
}

/// Every conflict that a query asks for, a page at a time.
async fn each(client: &Client, query: &str, mut take: impl FnMut(Vec<Value>)) -> Result<(), ClientError> {
    let mut after = None::<String>;
    loop {
        let mut path = format!("/v1/conflicts?limit={PAGE_LEN}&{query}");
        if let Some(after) = &after {
            path.push_str(&format!("&after={}", escaped(after)));
        }
        let (_, body) = client.ask(Method::GET, &path, None).await?;
        let listed: Listed = serde_json::from_slice(&body)?;
        take(listed.conflicts);
        after = listed.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn list(client: &Client, query: &str, json: bool) -> Result<(), ConflictsError> {
    let mut all = Vec::new();
    each(client, query, |page| all.extend(page)).await?;
    if json {
        let lines: String = all.iter().map(|conflict| format!("{conflict}\n")).collect();
        return Ok(table::print(lines.as_bytes())?);
    }
    let mut rows =
        vec![["DOCUMENT", "FIELD", "POLICY", "STATUS", "SINCE", "VERSIONS"].map(str::to_owned).to_vec()];
    for conflict in all {
        let conflict: Conflict = serde_json::from_value(conflict).map_err(ClientError::from)?;
        let versions = conflict.versions.len() + conflict.left_out;
        rows.push(vec![
            conflict.document,
            conflict.field.unwrap_or_else(|| "(deleted and edited)".to_owned()),
            conflict.policy,
            conflict.status,
            table::time(conflict.since_ms),
            if versions == 0 { "-".to_owned() } else { versions.to_string() },
        ]);
    }
    Ok(table::print(table::aligned(&rows).as_bytes())?)
}

async fn find(
    client: &Client,
    document: &str,
    field: Option<&str>,
    status: &str,
) -> Result<Vec<Conflict>, ClientError> {
    let mut query = format!("status={}&document={}", escaped(status), escaped(document));
    if let Some(field) = field {
        query.push_str(&format!("&field={}", escaped(field)));
    }
    let mut found = Vec::new();
    each(client, &query, |page| found.extend(page)).await?;
    Ok(found.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?)
}

fn told(conflict: &Conflict) -> String {
    let Conflict { id, document, policy, status, since_ms, field, .. } = conflict;
    let what = field.as_deref().map_or_else(
        || format!("{document}: deleted and edited at once"),
        |field| format!("{document}, {field}"),
    );
    let mut facts = vec![
        ("conflict", id.clone()),
        ("status", status.clone()),
        ("policy", policy.clone()),
        ("since", table::time(*since_ms)),
    ];
    if let Some(reason) = &conflict.reason {
        facts.push(("reason", reason.clone()));
    }
    if field.is_none() {
        facts
            .push(("now", if conflict.revived { "brought back by the edits" } else { "deleted" }.to_owned()));
        let remedy = "`quire doc rm` or `quire doc restore` decides it";
        facts.extend((status == "open").then(|| ("remedy", remedy.to_owned())));
    }
    if conflict.kind == "unique" {
        facts.push(("remedy", "write another value in all documents but the first".to_owned()));
    }
    if let Some(target) = &conflict.target {
        facts.push(("target", format!("{target}, which is deleted")));
        facts.push(("remedy", "name another document, or restore this one".to_owned()));
    }
    if let Some(base) = &conflict.base {
        facts.push(("base", cell(base)));
    }
    if let Some(Resolved { left, timestamp, origin, author }) = &conflict.resolved {
        let who = author.iter().chain((!origin.is_empty()).then_some(origin)).cloned().collect::<Vec<_>>();
        let time = table::time(*timestamp);
        facts.push(("resolved", [vec![time], who].concat().join("  ")));
        if field.is_some() {
            facts.push(("left", cell(left)));
        }
    }
    let rows: Vec<_> = facts.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    let mut text = format!("{what}\n{}", table::aligned(&rows));
    if !conflict.versions.is_empty() {
        text.push_str(&told_versions(conflict));
    }
    if let Some(Value::String(shown)) = conflict.value.as_ref().filter(|shown| is_long(shown)) {
        text.push_str(&format!("\nshown is\n{}\n", shown.trim_end_matches('\n')));
    }
    text
}

fn told_versions(conflict: &Conflict) -> String {
    let (writes, claims) = (["N", "VALUE", "TIME", "ORIGIN", "AUTHOR"], ["N", "VALUE", "TIME", "DOCUMENT"]);
    let head = if conflict.kind == "unique" { &claims[..] } else { &writes };
    let mut rows = vec![head.iter().map(|&name| name.to_owned()).collect()];
    for (at, Version { left, timestamp, origin, author, document }) in conflict.versions.iter().enumerate() {
        let mut row = vec![(at + 1).to_string(), cell(left), table::time(*timestamp)];
        match document {
            Some(document) => row.push(document.clone()),
            None => row.extend([origin.clone(), author.clone().unwrap_or_else(|| "-".to_owned())]),
        }
        rows.push(row);
    }
    let mut text = format!("\n{}", table::aligned(&rows));
    if conflict.left_out > 0 {
        text.push_str(&format!("and {} more\n", conflict.left_out));
    }
    text
}

/// Whether a value is a text that one line cannot show, such as one with conflict markers.
fn is_long(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains('\n'))
}

/// What a write left, in one short line.
fn cell(left: &Left) -> String {
    let text = match left {
        Left { value: Some(value), .. } => value.to_string(),
        Left { absent: true, .. } => "(absent)".to_owned(),
        Left { .. } => "(not known any more)".to_owned(),
    };
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

async fn resolve_one(client: &Client, resolve: Resolve) -> Result<(), ConflictsError> {
    let Resolve { document, field, to, conflict: named } = resolve;
    let status = if named.is_some() { "all" } else { "open" };
    let found = find(client, &document, Some(&field), status).await?;
    let is_meant = |conflict: &&Conflict| {
        conflict.kind == "write" && named.as_ref().is_none_or(|named| *named == conflict.id)
    };
    let Some(conflict) = found.iter().find(is_meant) else {
        return Err(ConflictsError::None { document, field });
    };
    let value = match to {
        To { value: Some(value), .. } => Some(value),
        To { take: Some(take), .. } => {
            let Some(version) = take.checked_sub(1).and_then(|at| conflict.versions.get(at)) else {
                return Err(ConflictsError::Version {
                    document,
                    field,
                    take,
                    versions: conflict.versions.len(),
                });
            };
            match &version.left {
                Left { value: Some(value), .. } if is_plain(value) => Some(value.clone()),
                Left { absent: true, .. } => None,
                _ => return Err(ConflictsError::NotPlain { document, field, take }),
            }
        }
        To { .. } => None,
    };
    let body = match value {
        Some(value) => serde_json::json!({ "conflict": conflict.id, "value": value }),
        None => serde_json::json!({ "conflict": conflict.id, "delete": true }),
    };
    let content = Content { content_type: "application/json", bytes: body.to_string().into() };
    let path = format!("{}/fields/{}/resolve", path_of(&document), escaped(&field));
    match client.ask(Method::POST, &path, Some(content)).await {
        Ok(_) => Ok(()),
        Err(error @ ClientError::Refused { .. }) => Err(ConflictsError::Resolve { document, field, error }),
        Err(error) => Err(error.into()),
    }
}

/// Whether a value is one, and does not stand for a shared type or a document within.
fn is_plain(value: &Value) -> bool {
    !value
        .as_object()
        .is_some_and(|map| map.len() == 1 && (map.contains_key("$shared") || map.contains_key("$document")))
}
