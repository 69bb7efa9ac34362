//! `/openapi.json` and `/docs`.

use crate::openapi;
use crate::router::endpoints;
use crate::state::ServerState;
use axum::Json;
use axum::extract::State;
use axum::response::Html;
use serde_json::Value;

/// The description of the interface.
pub(crate) async fn document(State(state): State<ServerState>) -> Json<Value> {
    Json(openapi::document(&endpoints(), &state.config().build.version))
}

/// The same for readers.
pub(crate) async fn page(State(state): State<ServerState>) -> Html<String> {
    Html(openapi::page(&endpoints(), &state.config().build.version))
}
