//! Which web pages may talk to this server, and how browsers are told (CORS).
//!
//! A browser sends the cookies, the network position and the trust of its user along with any page's
//! request; the `Origin` header is what tells pages apart. It is checked on every request that has
//! one, WebSocket upgrades included.
//!
//! Invariant: a page of another origin gets an answer only if that origin was allowed.

use super::problem::{Kind, Problem};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The origins that may connect.
#[derive(Clone, Debug)]
pub(crate) struct Origins {
    /// Besides the server's own.
    allowed: BTreeSet<String>,
    any: bool,
    /// Whether the server can be reached from its own machine alone.
    loopback: bool,
}

/// What the `Origin` of a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// No page of another origin.
    Own,
    /// A page of an allowed origin, which must be told so.
    Allowed(HeaderValue),
}

impl Origins {
    /// These origins, for a server that listens there.
    pub(crate) fn new(allowed: &[String], listen: IpAddr) -> Self {
        Self {
            any: allowed.iter().any(|origin| origin == "*"),
            allowed: allowed.iter().cloned().collect(),
            loopback: listen.is_loopback(),
        }
    }

    /// Who asks.
    ///
    /// # Errors
    /// When it is a page whose origin is not allowed.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(Caller::Own) };
        let text = origin.to_str().unwrap_or_default();
        if self.any || self.allowed.contains(&text.to_ascii_lowercase()) {
            return Ok(Caller::Allowed(origin.clone()));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if host.is_some_and(|host| self.is_own(text, host)) {
            return Ok(Caller::Own);
        }
        Err(Problem::new(
            Kind::Origin,
            format!(
                "a page of origin {text:?} may not connect; allow-origin in the server's configuration lets it"
            ),
        ))
    }

    /// Whether a page was served by this server itself. Behind a proxy that ends TLS the schemes
    /// differ, so the authority alone is compared.
    fn is_own(&self, origin: &str, host: &str) -> bool {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let same = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
        // A foreign page can point its own name at 127.0.0.1 and so look like ours: on loopback only
        // names that nobody else can own are believed.
        same && (!self.loopback || is_local_name(host))
    }
}

fn is_local_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    let name = authority.host().to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// What pages of allowed origins may send.
const HEADERS_ALLOWED: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, if-match, if-none-match, last-event-id, quire-after, x-request-id",
);
/// What they may see of an answer.
const HEADERS_EXPOSED: HeaderValue =
    HeaderValue::from_static("etag, quire-frontier, retry-after, x-request-id");
const METHODS_ALLOWED: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// Two hours is the longest that browsers keep it.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// The answer to a browser that asks before it sends.
pub(super) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if *method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS_ALLOWED);
    answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS_ALLOWED);
    answer.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    Some(response)
}

/// Tells the browser that the page may see the answer.
pub(super) fn tell(caller: &Caller, answer: &mut HeaderMap) {
    if let Caller::Allowed(origin) = caller {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HEADERS_EXPOSED);
        answer.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn check(origins: &Origins, origin: &str, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin.parse().expect("a header"));
        headers.insert(HOST, host.parse().expect("a header"));
        origins.check(&headers).is_ok()
    }

    #[test]
    fn the_own_page_and_programs_may_connect_and_no_other_page() {
        let origins = Origins::new(&[], Ipv4Addr::UNSPECIFIED.into());
        assert_eq!(origins.check(&HeaderMap::new()), Ok(Caller::Own));
        assert!(check(&origins, "https://docs.example.com", "docs.example.com"));
        assert!(check(&origins, "http://192.0.2.1:8080", "192.0.2.1:8080"));
        assert!(!check(&origins, "https://evil.example", "docs.example.com"));
        assert!(!check(&origins, "http://192.0.2.1:3000", "192.0.2.1:8080"));
        assert!(!check(&origins, "null", "docs.example.com"));
    }

    #[test]
    fn allowed_origins_may_connect() {
        let origins = Origins::new(&["https://app.example.com".into()], Ipv4Addr::UNSPECIFIED.into());
        assert!(check(&origins, "https://app.example.com", "docs.example.com"));
        assert!(!check(&origins, "http://app.example.com", "docs.example.com"));
        assert!(!check(&origins, "https://app.example.com.evil.example", "docs.example.com"));
        assert!(check(&Origins::new(&["*".into()], Ipv4Addr::LOCALHOST.into()), "null", "x"));
    }

    #[test]
    fn a_foreign_name_that_points_at_loopback_is_not_believed() {
        let origins = Origins::new(&[], Ipv4Addr::LOCALHOST.into());
        assert!(check(&origins, "http://localhost:8080", "localhost:8080"));
        assert!(check(&origins, "http://127.0.0.1:8080", "127.0.0.1:8080"));
        assert!(check(&origins, "http://[::1]:8080", "[::1]:8080"));
        assert!(!check(&origins, "http://rebound.example:8080", "rebound.example:8080"));
        assert!(!check(&origins, "http://localhost.evil.example", "localhost.evil.example"));
    }
}
