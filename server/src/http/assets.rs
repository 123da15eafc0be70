//! The editor page and its files, embedded when the server is built.
//!
//! Invariant: a file whose name carries a hash is kept for ever; everything else is asked for again.

use super::problem::{Kind, Problem};
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

/// One embedded file.
struct Asset {
    /// Its path below `/`.
    path: &'static str,
    /// What it is.
    content_type: &'static str,
    /// A hash of what it holds.
    etag: &'static str,
    bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The bundler puts files with a hash in their name here.
const HASHED_PREFIX: &str = "assets/";
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
/// Scripts come from this server alone. Styles may stand in the page: the editor component makes
/// its style sheets at run time, and the colours of cursors are attributes of elements.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors";

/// The editor page's policy. Pages that may connect may also show it within their own.
pub(super) fn policy(allowed: &[String]) -> HeaderValue {
    let ancestors = if allowed.is_empty() { "'none'".to_owned() } else { allowed.join(" ") };
    // What a setting accepts as an origin can stand in a header.
    HeaderValue::from_str(&format!("{POLICY} {ancestors}"))
        .unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Serves a file of the page; every path that no route takes ends here. `index` is what `/` shows.
pub(crate) fn embedded(
    index: &str,
    policy: &HeaderValue,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => index,
        path => path,
    };
    let Some(asset) = ASSETS.iter().find(|asset| asset.path == path) else {
        return Problem::new(Kind::NotFound, format!("nothing is served at {}", uri.path())).into_response();
    };
    if method != Method::GET && method != Method::HEAD {
        let problem = Problem::new(Kind::MethodNotAllowed, format!("{} can only be read", uri.path()));
        return ([(ALLOW, "GET, HEAD")], problem).into_response();
    }
    let known = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).is_some_and(|known| {
        known
            .split(',')
            .any(|known| matches!(known.trim().trim_start_matches("W/"), tag if tag == asset.etag))
    });
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(CONTENT_TYPE, asset.content_type)], asset.bytes).into_response(),
    };
    let answer = response.headers_mut();
    answer.insert(ETAG, HeaderValue::from_static(asset.etag));
    answer.insert(CACHE_CONTROL, if path.starts_with(HASHED_PREFIX) { FOREVER } else { ASK_AGAIN });
    answer.insert(CONTENT_SECURITY_POLICY, policy.clone());
    response
}
