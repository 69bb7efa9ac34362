//! The table of routes.

use crate::error::ApiError;
use crate::request_id;
use crate::routes::{cache, chat, completions, health, metrics, models, requests, version};
use crate::state::ServerState;
use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};

/// All routes, to be served as they are or nested into a larger router.
///
/// Every path under `/v1` also answers without `/v1`. Unknown paths and methods are answered in the error shape
/// of the API, and every response carries `x-request-id`.
pub fn router(state: ServerState) -> Router {
    let api = Router::new()
        .route("/completions", posting(post(completions::create)))
        .route("/chat/completions", posting(post(chat::create)))
        .route("/requests/{id}", getting(get(requests::show)))
        .route("/cache/reset", posting(post(cache::reset)))
        .route("/models", getting(get(models::list)))
        .route("/models/{*id}", getting(get(models::show)))
        .route("/health", getting(get(health::ready)));
    Router::new()
        .nest("/v1", api.clone())
        .merge(api)
        .route("/ready", getting(get(health::ready)))
        .route("/healthz", getting(get(health::ready)))
        .route("/ping", getting(get(health::ready)))
        .route("/live", getting(get(health::live)))
        .route("/metrics", getting(get(metrics::show)))
        .route("/version", getting(get(version::show)))
        .fallback(no_such_path)
        .layer(middleware::from_fn(request_id::tag))
        .with_state(state)
}

fn getting(route: MethodRouter<ServerState>) -> MethodRouter<ServerState> {
    route.fallback(|method: Method, uri: Uri| async move { refuse(&method, &uri, "GET, HEAD") })
}

fn posting(route: MethodRouter<ServerState>) -> MethodRouter<ServerState> {
    route.fallback(|method: Method, uri: Uri| async move { refuse(&method, &uri, "POST") })
}

fn refuse(method: &Method, uri: &Uri, allowed: &'static str) -> ApiError {
    ApiError::MethodNotAllowed { path: shown(uri), method: method.to_string(), allowed }
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::NoSuchPath(format!(
        "{} is not offered by this server; it has /v1/completions, /v1/chat/completions, /v1/models, /health, \
         /metrics and /version",
        shown(&uri)
    ))
}

fn shown(uri: &Uri) -> String {
    crate::json::excerpt(uri.path()).into_owned()
}
