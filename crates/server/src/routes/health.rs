//! Probes.

use crate::error::ApiError;
use crate::state::ServerState;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

/// 200 while requests are taken and make progress; else 503 with the reason.
pub(crate) async fn ready(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    state.check_ready()?;
    ok()
}

/// 200 as soon as the socket is open, until only a new process helps.
pub(crate) async fn live(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    state.check_live()?;
    ok()
}

fn ok() -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"status": "ok"})))
}
