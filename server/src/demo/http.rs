//! The demo's page, and what its buttons do.
//!
//! Listens on loopback only. What changes something needs a header that no other site's page may send.

use super::Demo;
use crate::http::embedded;
use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Serialize;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The page shows pages of the regions, and asks them how they are.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' http://127.0.0.1:*; \
     frame-src http://127.0.0.1:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// A page of another origin cannot send it without being allowed to, which none is.
const GUARD: &str = "x-quire-demo";

#[derive(Serialize)]
struct Seen {
    regions: Vec<SeenRegion>,
    links: Vec<SeenLink>,
}

#[derive(Serialize)]
struct SeenRegion {
    name: &'static str,
    url: String,
    runs: bool,
}

#[derive(Serialize)]
struct SeenLink {
    from: usize,
    to: usize,
    delay_ms: u64,
    cut: bool,
}

pub(super) async fn serve(listener: TcpListener, demo: Arc<Demo>) {
    let router = Router::new()
        .route("/demo/state", get(state))
        .route("/demo/links/{link}/{what}", post(link))
        .route("/demo/regions/{region}/{what}", post(region))
        .with_state(demo)
        .fallback(async |method: Method, uri: Uri, headers: HeaderMap| -> Response {
            embedded("demo.html", &POLICY, &method, &uri, &headers)
        });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the demo's page is gone");
    }
}

async fn state(State(demo): State<Arc<Demo>>) -> Json<impl Serialize> {
    let mut regions = Vec::new();
    for region in &demo.regions {
        let url = format!("http://{}", region.address);
        regions.push(SeenRegion { name: region.name, url, runs: region.runs().await });
    }
    let links = demo.distances.iter().map(|distance| SeenLink {
        from: distance.from,
        to: distance.to,
        delay_ms: distance.delay_ms,
        cut: distance.is_cut(),
    });
    Json(Seen { regions, links: links.collect() })
}

async fn link(
    State(demo): State<Arc<Demo>>,
    Path((link, what)): Path<(usize, String)>,
    headers: HeaderMap,
) -> StatusCode {
    match (demo.distances.get(link), what.as_str()) {
        _ if !headers.contains_key(GUARD) => StatusCode::FORBIDDEN,
        (Some(distance), "cut" | "heal") => {
            distance.set_cut(what == "cut");
            StatusCode::NO_CONTENT
        }
        _ => StatusCode::NOT_FOUND,
    }
}

async fn region(
    State(demo): State<Arc<Demo>>,
    Path((region, what)): Path<(usize, String)>,
    headers: HeaderMap,
) -> StatusCode {
    match (demo.regions.get(region), what.as_str()) {
        _ if !headers.contains_key(GUARD) => StatusCode::FORBIDDEN,
        (Some(region), "kill") => {
            region.kill().await;
            StatusCode::NO_CONTENT
        }
        (Some(region), "start") => match region.start().await {
            Ok(()) => StatusCode::NO_CONTENT,
            Err(()) => StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => StatusCode::NOT_FOUND,
    }
}
