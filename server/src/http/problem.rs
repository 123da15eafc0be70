//! Errors as `application/problem+json` (RFC 9457).
//!
//! Invariant: `type` names the kind for programs and never changes; `detail` is for people.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The kinds of errors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The page's origin is not allowed.
    Origin,
    /// There is no such route or document.
    NotFound,
    /// The route knows other methods.
    MethodNotAllowed,
    /// The request took too long to arrive or to answer.
    Timeout,
    /// The server is at fault.
    Internal,
    /// The server cannot do it at this moment.
    Unavailable,
}

impl Kind {
    /// Its name for programs, its status and its title.
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Origin => ("origin", StatusCode::FORBIDDEN, "Pages of this origin may not connect"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is nothing here"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed here")
            }
            Self::Timeout => ("timeout", StatusCode::REQUEST_TIMEOUT, "The request took too long"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "The server failed"),
            Self::Unavailable => {
                ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The server cannot do this at the moment")
            }
        }
    }
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// An error of a kind; the detail is a sentence without its full stop.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// Seconds after which a client may try again what the server could not do.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (name, status, title) = self.kind.parts();
        let r#type = format!("urn:quire:problem:{name}");
        let body = Body { r#type, title, status: status.as_u16(), detail: &self.detail };
        let body = serde_json::to_vec(&body).expect("texts and a number are JSON");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.kind == Kind::Unavailable {
            headers.insert(RETRY_AFTER, RETRY_SECONDS);
        }
        response
    }
}
