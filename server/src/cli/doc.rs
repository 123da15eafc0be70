//! `quire doc`: documents of a running server.
//!
//! Asks over HTTP and never opens a data directory, so it works from anywhere and beside a server.

use super::client::{Client, ClientError, Content, Server, escaped, path_of};
use super::table;
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::Deserialize;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// How many names `ls` asks for at once.
const PAGE_LEN: usize = 1_000;
/// What `import` reads at most; the server's own limits are lower.
const IMPORT_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, Args)]
pub(super) struct Doc {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List documents
    Ls {
        /// Only names that begin with this
        #[arg(default_value = "")]
        prefix: String,
        /// List deleted documents, too
        #[arg(long)]
        deleted: bool,
    },
    /// Tell about a document
    Show { name: String },
    /// Print a document's text
    Cat {
        name: String,
        /// The root text
        #[arg(long, default_value = "content")]
        root: String,
    },
    /// Merge a Yjs update into a document, or make one from a text
    Import {
        name: String,
        /// The file; - is standard input
        file: PathBuf,
        /// The file is a text, for a new document
        #[arg(long)]
        text: bool,
        /// The root text
        #[arg(long, default_value = "content", requires = "text")]
        root: String,
    },
    /// Write a document's whole state as a Yjs update
    Export {
        name: String,
        /// The file; standard output if there is none
        file: Option<PathBuf>,
    },
    /// Delete a document; its content is kept
    Rm { name: String },
    /// Bring a deleted document back
    Restore { name: String },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocError {
    #[error("{0}")]
    Client(#[from] ClientError),
    #[error("{name}: {error}")]
    Document { name: String, error: ClientError },
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("{0}: the file is not UTF-8")]
    NotText(String),
    #[error("{0}: a document of this name exists, and was left as it is")]
    Exists(String),
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

#[derive(Deserialize)]
struct Listed {
    documents: Vec<Summary>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Summary {
    name: String,
    deleted: bool,
    #[serde(default)]
    revived: bool,
    created_ms: u64,
    changed_ms: u64,
    entries: u64,
    entry_bytes: u64,
}

impl Summary {
    const fn state(&self) -> &'static str {
        match (self.deleted, self.revived) {
            (true, _) => "deleted",
            (false, true) => "live, revived by edits that its deletion had not seen",
            (false, false) => "live",
        }
    }
}

#[derive(Deserialize)]
struct Info {
    #[serde(flatten)]
    summary: Summary,
    home: u16,
    frontier: String,
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    sessions: usize,
    bytes: usize,
}

#[derive(Deserialize)]
struct Created {
    created: bool,
}

pub(super) async fn run(doc: Doc) -> Result<(), DocError> {
    let client = doc.server.client()?;
    match doc.action {
        Action::Ls { prefix, deleted } => list(&client, &prefix, deleted).await,
        Action::Show { name } => show(&client, &name).await,
        Action::Cat { name, root } => {
            let path = format!("{}/text?root={}", path_of(&name), escaped(&root));
            Ok(table::print(&ask(&client, &name, Method::GET, &path, None).await?.1)?)
        }
        Action::Import { name, file, text: false, .. } => {
            let content = Content { content_type: "application/octet-stream", bytes: read(&file)?.into() };
            let path = format!("{}/update", path_of(&name));
            ask(&client, &name, Method::POST, &path, Some(content)).await.map(|_| ())
        }
        Action::Import { name, file, text: true, root } => import_text(&client, &name, &file, &root).await,
        Action::Export { name, file } => {
            let path = format!("{}/update", path_of(&name));
            let (_, update) = ask(&client, &name, Method::GET, &path, None).await?;
            match file {
                None => Ok(table::print(&update)?),
                Some(path) => std::fs::write(&path, update).map_err(|error| DocError::File { path, error }),
            }
        }
        Action::Rm { name } => ask(&client, &name, Method::DELETE, &path_of(&name), None).await.map(|_| ()),
        Action::Restore { name } => {
            let path = format!("{}/restore", path_of(&name));
            ask(&client, &name, Method::POST, &path, None).await.map(|_| ())
        }
    }
}

/// Asks about one document, and names it in the error if that fails for the document's sake.
async fn ask(
    client: &Client,
    name: &str,
    method: Method,
    path: &str,
    content: Option<Content>,
) -> Result<(StatusCode, Bytes), DocError> {
    client.ask(method, path, content).await.map_err(|error| match error {
        ClientError::Refused { .. } => DocError::Document { name: name.to_owned(), error },
        error => DocError::Client(error),
    })
}

async fn list(client: &Client, prefix: &str, deleted: bool) -> Result<(), DocError> {
    let mut rows = vec![["NAME", "CHANGED", "ENTRIES", "BYTES", ""].map(str::to_owned).to_vec()];
    let mut after = None::<String>;
    loop {
        let mut path = format!("/v1/docs?limit={PAGE_LEN}&deleted={deleted}&prefix={}", escaped(prefix));
        if let Some(after) = &after {
            path.push_str(&format!("&after={}", escaped(after)));
        }
        let (_, body) = client.ask(Method::GET, &path, None).await?;
        let listed: Listed = serde_json::from_slice(&body).map_err(ClientError::from)?;
        rows.extend(listed.documents.into_iter().map(|document| {
            let state = if document.deleted || document.revived { document.state() } else { "" };
            vec![
                document.name,
                table::time(document.changed_ms),
                document.entries.to_string(),
                document.entry_bytes.to_string(),
                state.to_owned(),
            ]
        }));
        after = listed.next;
        if after.is_none() {
            return Ok(table::print(table::aligned(&rows).as_bytes())?);
        }
    }
}

async fn show(client: &Client, name: &str) -> Result<(), DocError> {
    let (_, body) = ask(client, name, Method::GET, &path_of(name), None).await?;
    let Info { summary, home, frontier, state: open } =
        serde_json::from_slice(&body).map_err(ClientError::from)?;
    let state = summary.state().to_owned();
    let mut rows = vec![
        ("name", summary.name),
        ("state", state),
        ("created", table::time(summary.created_ms)),
        ("changed", table::time(summary.changed_ms)),
        ("entries", format!("{} ({} bytes)", summary.entries, summary.entry_bytes)),
        ("home", format!("replica {home}")),
        ("frontier", frontier),
    ];
    if let Some(open) = open {
        rows.push(("size", format!("{} bytes", open.bytes)));
        rows.push(("sessions", open.sessions.to_string()));
    }
    let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
    Ok(table::print(table::aligned(&rows).as_bytes())?)
}

async fn import_text(client: &Client, name: &str, file: &Path, root: &str) -> Result<(), DocError> {
    let text = String::from_utf8(read(file)?).map_err(|_| DocError::NotText(file.display().to_string()))?;
    let creation = serde_json::json!({ "name": name, "seed": { "text": text, "root": root } });
    let content = Content { content_type: "application/json", bytes: creation.to_string().into() };
    let (_, body) = ask(client, name, Method::POST, "/v1/docs", Some(content)).await?;
    let created: Created = serde_json::from_slice(&body).map_err(ClientError::from)?;
    if created.created { Ok(()) } else { Err(DocError::Exists(name.to_owned())) }
}

fn read(path: &Path) -> Result<Vec<u8>, DocError> {
    let failed = |error| DocError::File { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let source: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    source.take(IMPORT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > IMPORT_BYTES_MAX {
        return Err(failed(std::io::Error::other(format!("it is longer than {IMPORT_BYTES_MAX} bytes"))));
    }
    Ok(bytes)
}
