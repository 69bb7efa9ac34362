//! `/v1/models`.

use crate::error::ApiError;
use crate::state::ServerState;
use crate::wire::models::{ModelCard, ModelList, ModelMeta};
use axum::Json;
use axum::extract::{Path, State};
use pagoda_engine::EngineState;

/// All names that are served, the model's own first.
pub(crate) async fn list(State(state): State<ServerState>) -> Result<Json<ModelList>, ApiError> {
    check_loaded(&state)?;
    let names = state.model().names.iter().chain(&state.config().aliases);
    let data = names.map(|name| card(&state, name)).collect();
    Ok(Json(ModelList { object: "list", data }))
}

/// One of them.
pub(crate) async fn show(
    State(state): State<ServerState>,
    Path(id): Path<String>,
) -> Result<Json<ModelCard>, ApiError> {
    check_loaded(&state)?;
    state.check_model(Some(&id))?;
    Ok(Json(card(&state, &id)))
}

/// A name must not be shown before it can be served, nor once it never will be again.
pub(crate) fn check_loaded(state: &ServerState) -> Result<(), ApiError> {
    match state.handle().state() {
        EngineState::Ready | EngineState::Draining => Ok(()),
        EngineState::Loading | EngineState::Stopped | EngineState::Failed => state.check_ready(),
    }
}

fn card(state: &ServerState, name: &str) -> ModelCard {
    let model = state.model();
    ModelCard {
        id: name.to_owned(),
        object: "model",
        created: model.created,
        owned_by: "pagoda",
        root: model.name().to_owned(),
        parent: None,
        max_model_len: model.max_model_len,
        meta: ModelMeta {
            n_params: model.parameters,
            size: model.stored_bytes,
            n_vocab: model.vocab_size,
            n_ctx_train: model.trained_context,
            n_embd: model.hidden,
            dtype: model.dtype.clone(),
            quantization: model.quantization.clone(),
        },
    }
}
