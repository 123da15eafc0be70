//! What happens to every request: its id, its origin, its deadline, its log line, its metrics.
//!
//! Invariant: a request is answered once, whatever the handler does, a panic included.

use super::origin;
use super::problem::{self, Kind, Problem};
use crate::region::Region;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// Names a request in the log and in its answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A caller's own id is kept up to this length, so that its logs and ours can be joined.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// A body may arrive slowly and a read may wait for its frontier, but not for ever.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// What those who watch a region ask it, for which 503 is an answer like another.
const PROBES: [&str; 2] = ["/readyz", "/healthz/peers"];
/// Whatever is not the page itself needs nothing from anywhere.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Wraps every request.
pub(super) async fn wrap(State(region): State<Arc<Region>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".to_owned());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let span = tracing::info_span!("request", id = %id.to_str().unwrap_or_default());
    let mut response = answer(&region, request, next).instrument(span.clone()).await;
    let status = response.status();
    finish(response.headers_mut(), id);

    let took = began.elapsed();
    let labels = [("route", route.clone()), ("method", method_label(&method).to_owned())];
    metrics::histogram!(crate::metrics::HTTP_SECONDS, &labels[..1]).record(took);
    let status_label = ("status", status.as_str().to_owned());
    metrics::counter!(crate::metrics::HTTP_REQUESTS, &[labels[0].clone(), labels[1].clone(), status_label])
        .increment(1);
    // The path may hold a document's name and the query a token: only the route is logged.
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let peer = peer.map(tracing::field::display);
    let status = status.as_u16();
    span.in_scope(|| {
        // A probe that is told no was answered well, and asks again in a few seconds.
        let is_probe = PROBES.contains(&route.as_str());
        if status >= 500 && !is_probe {
            tracing::warn!(%method, route, status, ms, peer, "request failed");
        } else {
            tracing::debug!(%method, route, status, ms, peer, "request");
        }
    });
    response
}

async fn answer(region: &Region, request: Request, next: Next) -> Response {
    let caller = match region.origins.check(request.headers()) {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let mut response = match origin::preflight(request.method(), request.headers()) {
        Some(response) => response,
        None => guarded(next.run(request)).await,
    };
    origin::tell(&caller, response.headers_mut());
    response
}

/// An answer whatever happens: the handler's, or a problem where it is late or panics.
async fn guarded(handled: impl Future<Output = Response>) -> Response {
    match tokio::time::timeout(REQUEST_MAX, AssertUnwindSafe(handled).catch_unwind()).await {
        Ok(Ok(response)) => problem::adopt(response).await,
        // The panic's own message has gone to stderr by its hook.
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            Problem::new(Kind::Internal, "the request hit a bug; the log has more").into_response()
        }
        Err(_) => Problem::new(Kind::Timeout, "the request was given up").into_response(),
    }
}

/// What every answer carries, unless its handler has said otherwise.
fn finish(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert(REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An address may hold a token, which no other site should be told.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The caller's id where it is short and plain, else a number of our own.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let given = headers.get(REQUEST_ID).filter(|id| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(|byte| plain(*byte))
    });
    given.cloned().unwrap_or_else(|| HeaderValue::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Methods that nobody knows share a label, so that callers cannot make up metrics.
fn method_label(method: &axum::http::Method) -> &'static str {
    ["GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    #[tokio::test(start_paused = true)]
    async fn a_panic_and_a_handler_that_never_ends_are_answered() {
        let answer = guarded(async { panic!("a bug") }).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let answer = guarded(std::future::pending()).await;
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
        let answer = guarded(async { (StatusCode::BAD_REQUEST, "plain").into_response() }).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}
