//! Orders to load and unload adapters, in vLLM's words.

use super::models::adapter_card;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody, excerpt};
use crate::state::ServerState;
use crate::wire::adapters::{AdapterUnloaded, LoadAdapter, take_unload};
use crate::wire::models::ModelCard;
use axum::Json;
use axum::extract::State;
use pagoda_engine::AdapterError;
use std::path::Path;

/// Loads an adapter; answers when requests can name it.
pub(crate) async fn load(
    State(state): State<ServerState>,
    JsonBody(body): JsonBody,
) -> Result<Json<ModelCard>, ApiError> {
    state.check_ready()?;
    let mut fields = Fields::parse(&body)?;
    let LoadAdapter { name, path } = LoadAdapter::take(&mut fields)?;
    state.note_unknown(fields.left());
    if state.names_model(&name) {
        return Err(AdapterError::Taken(excerpt(&name).into_owned()).into());
    }
    let handle = state.handle().clone();
    // It is finished even when the operator goes away.
    let loaded = tokio::task::spawn_blocking(move || handle.load_adapter(&name, Path::new(&path))).await;
    let adapter = loaded.map_err(|error| ApiError::internal(&error))??;
    tracing::info!(adapter = &*adapter.name, path = %adapter.path.display(), rank = adapter.rank, "adapter loaded");
    Ok(Json(adapter_card(&state, &adapter)))
}

/// Unloads an adapter; answers when its requests have ended.
pub(crate) async fn unload(
    State(state): State<ServerState>,
    JsonBody(body): JsonBody,
) -> Result<Json<AdapterUnloaded>, ApiError> {
    let mut fields = Fields::parse(&body)?;
    let name = take_unload(&mut fields)?;
    state.note_unknown(fields.left());
    state.handle().unload_adapter(&name).await?;
    tracing::info!(adapter = name, "adapter unloaded");
    Ok(Json(AdapterUnloaded { object: "adapter.unloaded", id: name }))
}
