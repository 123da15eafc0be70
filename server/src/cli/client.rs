//! A small HTTP client for the commands that ask a running server.
//!
//! Invariant: every wait has an end, and no answer takes more memory than the stated bound.

use crate::net::{self, AskError, Patience};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Method, Request, StatusCode, Uri};
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::time::Duration;

const PATIENCE: Patience = Patience {
    // A server that is there answers sooner.
    connect: Duration::from_secs(10),
    // More than the server itself gives a request.
    answer: Duration::from_secs(120),
    // More than any document's state.
    answer_bytes: 4 << 30,
};

/// Which server a command asks.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "QUIRE_URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// A JWT, where the server asks for one
    #[arg(long, global = true, env = "QUIRE_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl Server {
    /// A client for it.
    pub(super) fn client(&self) -> Result<Client, ClientError> {
        Client::new(&self.url, self.token.as_deref())
    }
}

/// Speaks to one server.
pub(super) struct Client {
    uri: Uri,
    token: Option<String>,
}

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{0:?} is not the address of a server, such as http://127.0.0.1:8080")]
    Url(String),
    #[error("cannot reach {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url} did not answer as HTTP does: {reason}")]
    Broken { url: String, reason: String },
    #[error("{detail} ({status})")]
    Refused { status: StatusCode, detail: String },
    #[error("the answer of the server is not understood: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("the token holds characters that no token has")]
    Token,
}

/// What of a problem a person needs.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

/// What a request carries.
pub(super) struct Content {
    pub(super) content_type: &'static str,
    pub(super) bytes: Bytes,
}

/// A text as part of a path or of a query.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The path of a document.
pub(super) fn path_of(name: &str) -> String {
    format!("/v1/docs/{}", escaped(name))
}

impl Client {
    /// A client for the server at an address.
    fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let uri: Uri = url.parse().map_err(|_| ClientError::Url(url.to_owned()))?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        if !known || uri.host().is_none() || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(ClientError::Url(url.to_owned()));
        }
        Ok(Self { uri, token: token.filter(|token| !token.is_empty()).map(str::to_owned) })
    }

    /// Asks, and returns a good answer's status and body.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        content: Option<Content>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let request = self.request(method, path, content)?;
        let (status, body) = net::ask(&self.uri, request, &PATIENCE).await.map_err(|error| {
            let url = self.uri.to_string();
            match error {
                AskError::Unreachable(reason) => ClientError::Unreachable { url, reason },
                AskError::Broken(reason) => ClientError::Broken { url, reason },
                AskError::TooLong(_) => ClientError::Broken { url, reason: error.to_string() },
            }
        })?;
        if status.is_success() {
            return Ok((status, body));
        }
        let problem = serde_json::from_slice::<Problem>(&body);
        let detail = problem.map_or_else(|_| "the server refused".to_owned(), |problem| problem.detail);
        Err(ClientError::Refused { status, detail })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content: Option<Content>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder().method(method).uri(path).header(HOST, authority);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match content {
            Some(content) => {
                request = request.header(CONTENT_TYPE, content.content_type);
                content.bytes
            }
            None => Bytes::new(),
        };
        // Paths are percent-encoded and types are ours, so only the token can be at fault.
        request.body(Full::new(body)).map_err(|_| ClientError::Token)
    }
}
