//! Errors as `application/problem+json` (RFC 9457).
//!
//! Invariant: `type` names the kind for programs and never changes; `detail` is for people.

use crate::documents::RequestError;
use axum::body::to_bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use quire_protocol::close::CloseReason;
use quire_protocol::document::Refused;
use quire_protocol::fields::{EditRefused, ToldByHome};
use quire_protocol::update::Refusal;
use serde::Serialize;

/// The kinds of errors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request cannot be understood.
    BadRequest,
    /// A token is needed, or the one shown gives nothing.
    Unauthorized,
    /// The token does not cover this.
    Forbidden,
    /// The page's origin is not allowed.
    Origin,
    /// There is no such route or document.
    NotFound,
    /// The route knows other methods.
    MethodNotAllowed,
    /// The request took too long to arrive or to answer.
    Timeout,
    /// It does not fit what is there.
    Conflict,
    /// What the request is conditional on is not so.
    Precondition,
    /// A value is not what its field takes.
    Unprocessable,
    /// The document has been deleted.
    Deleted,
    /// The content is larger than allowed.
    TooLarge,
    /// This came too often.
    TooMany,
    /// This region has not received what the request has seen.
    Stale,
    /// The server is at fault.
    Internal,
    /// The server cannot do it at this moment.
    Unavailable,
    /// It is done at the document's home alone, which cannot be reached; it was not done.
    HomeUnreachable,
    /// It is done at the document's home alone, which has not answered; it may have been done.
    HomeUnanswered,
    /// Another document has the value.
    Taken,
    /// The region will be able to in a moment; it was not done.
    NotYet,
}

impl Kind {
    /// Every kind.
    const ALL: [Self; 20] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Origin,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::Conflict,
        Self::Precondition,
        Self::Unprocessable,
        Self::Deleted,
        Self::TooLarge,
        Self::TooMany,
        Self::Stale,
        Self::Internal,
        Self::Unavailable,
        Self::HomeUnreachable,
        Self::HomeUnanswered,
        Self::Taken,
        Self::NotYet,
    ];

    /// Its name for programs, its status and its title.
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BadRequest => ("bad-request", StatusCode::BAD_REQUEST, "The request is not understood"),
            Self::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED, "A valid token is needed"),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "The token does not allow this"),
            Self::Origin => ("origin", StatusCode::FORBIDDEN, "Pages of this origin may not connect"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is nothing here"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed here")
            }
            Self::Timeout => ("timeout", StatusCode::REQUEST_TIMEOUT, "The request took too long"),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, "It does not fit what is there"),
            Self::Precondition => {
                ("precondition", StatusCode::PRECONDITION_FAILED, "It has changed since it was read")
            }
            Self::Unprocessable => {
                ("unprocessable", StatusCode::UNPROCESSABLE_ENTITY, "The value is not what the field takes")
            }
            Self::Deleted => ("deleted", StatusCode::GONE, "The document has been deleted"),
            Self::TooLarge => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The content is too large"),
            Self::TooMany => ("too-many", StatusCode::TOO_MANY_REQUESTS, "This came too often"),
            Self::Stale => ("stale", StatusCode::SERVICE_UNAVAILABLE, "This region is behind"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "The server failed"),
            Self::Unavailable => {
                ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The server cannot do this at the moment")
            }
            Self::HomeUnreachable => {
                ("home-unreachable", StatusCode::SERVICE_UNAVAILABLE, "The document's home cannot be reached")
            }
            Self::HomeUnanswered => {
                ("home-unanswered", StatusCode::SERVICE_UNAVAILABLE, "The document's home has not answered")
            }
            Self::Taken => ("taken", StatusCode::CONFLICT, "Another document has this value"),
            Self::NotYet => ("not-yet", StatusCode::SERVICE_UNAVAILABLE, "The region cannot do this yet"),
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
    /// The document machine gave another kind of answer than was asked for.
    pub(crate) fn mismatched() -> Self {
        Self::new(Kind::Internal, "the answer does not fit the question: a bug")
    }

    /// What another region told, by its name; of a kind that this release does not have, it does not fit.
    pub(crate) fn told(name: &str, detail: String) -> Self {
        let kind = Kind::ALL.into_iter().find(|kind| kind.parts().0 == name);
        Self::new(kind.unwrap_or(Kind::Conflict), detail)
    }

    /// The same for another region, of what it asked.
    pub(crate) fn tell(self) -> ToldByHome {
        // What had been given to the disk may be on it.
        if self.is_unknown() {
            return ToldByHome::NotKnown(self.detail);
        }
        ToldByHome::Refused { kind: self.kind.parts().0.to_owned(), detail: self.detail }
    }

    /// Whether what was asked may have been done all the same.
    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Internal)
    }

    /// An error of a kind; the detail is a sentence without its full stop.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let kind = match &error {
            RequestError::Lost => Kind::Unavailable,
            RequestError::Refused(Refused::Missing) => Kind::Conflict,
            RequestError::Refused(Refused::FieldChanged(_)) => Kind::Precondition,
            RequestError::Refused(Refused::FieldType { .. } | Refused::FieldRequired(_)) => {
                Kind::Unprocessable
            }
            RequestError::Refused(Refused::UnknownConflict { .. }) => Kind::NotFound,
            RequestError::Refused(Refused::Edit(refused)) => match refused {
                EditRefused::NoMap(_) | EditRefused::UnknownVersion(_) => Kind::Conflict,
                EditRefused::Twice(_) => Kind::BadRequest,
            },
            RequestError::Refused(Refused::Reason(reason)) => match reason {
                CloseReason::Frame(_)
                | CloseReason::Awareness(_)
                | CloseReason::StateVector
                | CloseReason::NotBinary
                | CloseReason::BadName => Kind::BadRequest,
                CloseReason::Update(Refusal::TooLarge)
                | CloseReason::FrameTooLarge
                | CloseReason::DocumentTooLarge => Kind::TooLarge,
                CloseReason::Update(_) => Kind::BadRequest,
                CloseReason::ClientReused(_) => Kind::Conflict,
                CloseReason::Unauthorized(_) | CloseReason::Expired => Kind::Unauthorized,
                CloseReason::Forbidden => Kind::Forbidden,
                CloseReason::Deleted => Kind::Deleted,
                CloseReason::RateExceeded => Kind::TooMany,
                CloseReason::SessionsFull(_)
                | CloseReason::TimedOut
                | CloseReason::Draining
                | CloseReason::Disk
                | CloseReason::Unreadable
                | CloseReason::LoadFailed => Kind::Unavailable,
            },
        };
        Self::new(kind, error.to_string())
    }
}

/// No answer of a library's own that says what is wrong is longer.
const FOREIGN_BYTES_MAX: usize = 4 * 1024;

/// Marks an answer in plain text as a handler's own, which is read line by line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worded;

/// Gives an error that a library has answered in plain text the form of all others.
pub(super) async fn adopt(response: Response) -> Response {
    let status = response.status();
    let content_type = response.headers().get(CONTENT_TYPE);
    let own =
        content_type.is_some_and(|value| value == PROBLEM) || response.extensions().get::<Worded>().is_some();
    if own || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let detail = to_bytes(body, FOREIGN_BYTES_MAX).await.unwrap_or_default();
    let detail = String::from_utf8_lossy(&detail);
    let title = status.canonical_reason().unwrap_or("An error");
    // What `about:blank` stands for: the status says it all (RFC 9457, section 4.2.1).
    let r#type = "about:blank".to_owned();
    let body = Body { r#type, title, status: status.as_u16(), detail: detail.trim() };
    let body = serde_json::to_vec(&body).expect("texts and a number are JSON");
    parts.headers.insert(CONTENT_TYPE, PROBLEM);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, body.into())
}

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

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
        headers.insert(CONTENT_TYPE, PROBLEM);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.kind {
            Kind::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Kind::Unavailable | Kind::Stale | Kind::TooMany | Kind::HomeUnreachable | Kind::NotYet => {
                headers.insert(RETRY_AFTER, RETRY_SECONDS);
            }
            _ => {}
        }
        response
    }
}
