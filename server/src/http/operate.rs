//! Operating a region: is it alive, is it ready, what has it done, what can it be asked.
//!
//! Invariant: none of these needs a token, and none shows a document's name or content.

use super::problem::{Kind, Problem};
use crate::region::Region;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// The process runs and answers.
pub(super) async fn livez() -> &'static str {
    "ok\n"
}

/// The region is a place for editors, or the reason why not. Documents that cannot be read are told of,
/// and do not keep the others from being served.
pub(super) async fn readyz(State(region): State<Arc<Region>>) -> Response {
    match (region.unready(), region.documents.unreadable()) {
        (Some(reason), _) => Problem::new(Kind::Unavailable, reason).into_response(),
        (None, 0) => "ok\n".into_response(),
        (None, 1) => "ok, but 1 document cannot be read; `quire check` says which\n".into_response(),
        (None, many) => {
            format!("ok, but {many} documents cannot be read; `quire check` says which\n").into_response()
        }
    }
}

/// Metrics for Prometheus.
pub(super) async fn metrics(State(region): State<Arc<Region>>) -> impl IntoResponse {
    let recorded = crate::metrics::render(&region.metrics, &region.log.stats());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], recorded + region.peers.gauges().as_str())
}

/// What can be asked. Written by hand: a generator for these few routes would cost more to build
/// than they do, and a test holds the text to the table of routes.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// The description of this interface.
pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "max-age=300")], OPENAPI)
}

#[cfg(test)]
mod tests {
    use super::super::routes::routes;
    use super::OPENAPI;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).expect("it is JSON");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("a path item") {
                if method == "parameters" {
                    continue;
                }
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
                assert!(operation["responses"].is_object(), "{method} {path} has no responses");
                described.insert((method.clone(), path.clone()));
            }
        }
        let served =
            routes().into_iter().map(|route| (route.method.to_owned(), route.path.replace("{*", "{")));
        let sockets = ["/ws/{document}", "/hocuspocus"].map(|path| ("get".to_owned(), path.to_owned()));
        assert_eq!(described, served.chain(sockets).collect());
    }
}
