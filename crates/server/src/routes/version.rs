//! `/version`.

use crate::config::BuildInfo;
use crate::state::ServerState;
use axum::Json;
use axum::extract::State;

/// What the program is.
pub(crate) async fn show(State(state): State<ServerState>) -> Json<BuildInfo> {
    Json(state.config().build.clone())
}
