//! The table of routes: the router and the test of `/openapi.json` are made from it.
//!
//! Invariant: a route that is served stands in the table, and so in the document.

use super::problem::{Kind, Problem};
use super::{assets, claim, conflicts, create, documents, events, fields, home, operate, regions, request};
use crate::region::Region;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use std::sync::Arc;

type App = MethodRouter<Arc<Region>>;

/// One route.
pub(super) struct Route {
    /// As `/openapi.json` spells it.
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of openapi.json reads it"))]
    pub(super) method: &'static str,
    /// As axum reads it.
    pub(super) path: &'static str,
    handler: App,
}

fn route<T: 'static>(
    method: &'static str,
    path: &'static str,
    handler: impl Handler<T, Arc<Region>>,
) -> Route {
    let filter = match method {
        "get" => MethodFilter::GET,
        "post" => MethodFilter::POST,
        "put" => MethodFilter::PUT,
        "patch" => MethodFilter::PATCH,
        "delete" => MethodFilter::DELETE,
        other => unreachable!("the table of routes has no method {other}"),
    };
    Route { method, path, handler: on(filter, handler) }
}

/// Every route but the page's files.
pub(super) fn routes() -> Vec<Route> {
    vec![
        route("get", "/livez", operate::livez),
        route("get", "/readyz", operate::readyz),
        route("get", "/metrics", operate::metrics),
        route("get", "/openapi.json", operate::openapi),
        route("get", "/healthz/peers", regions::health),
        route("get", "/peer/v1", regions::peer),
        route("get", "/v1/regions", regions::list),
        route("post", "/v1/regions/{replica}", regions::add),
        route("delete", "/v1/regions/{replica}", regions::remove),
        route("get", "/v1/conflicts", conflicts::list),
        route("get", "/v1/conflicts/events", events::stream),
        route("get", "/v1/docs", documents::list),
        route("post", "/v1/docs", create::create),
        route("get", "/v1/docs/{name}", documents::info),
        route("delete", "/v1/docs/{name}", documents::delete),
        route("post", "/v1/docs/{name}/restore", documents::restore),
        route("post", "/v1/docs/{name}/copy", documents::copy),
        route("put", "/v1/docs/{name}/home", home::put),
        route("get", "/v1/docs/{name}/fields", fields::list),
        route("patch", "/v1/docs/{name}/fields", fields::patch),
        route("get", "/v1/docs/{name}/fields/{field}", fields::get),
        route("post", "/v1/docs/{name}/fields/{field}/resolve", fields::resolve),
        route("post", "/v1/docs/{name}/fields/{field}/claim", claim::claim),
        route("get", "/v1/docs/{name}/text", documents::text),
        route("patch", "/v1/docs/{name}/text", documents::splice),
        route("get", "/v1/docs/{name}/update", documents::update),
        route("post", "/v1/docs/{name}/update", documents::apply),
    ]
}

/// The whole application: these routes, and the paths that editors connect to.
pub(crate) fn router(region: &Arc<Region>, sockets: Router) -> Router {
    let policy = assets::policy(&region.settings.allow_origin);
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, route.handler);
    }
    router
        .with_state(region.clone())
        .merge(sockets)
        .fallback(move |method: Method, uri: Uri, headers: HeaderMap| async move {
            assets::embedded("index.html", &policy, &method, &uri, &headers)
        })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(region.settings.limits.body_bytes))
        .layer(middleware::from_fn_with_state(region.clone(), request::wrap))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} does not know {method}", uri.path()))
}
