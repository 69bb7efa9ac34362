//! `/v1/models`.

use crate::error::ApiError;
use crate::state::ServerState;
use crate::wire::models::{ModelCard, ModelList, ModelMeta};
use axum::Json;
use axum::extract::{Path, State};
use pagoda_engine::{AdapterInfo, EngineState};

/// All names that are served, the model's own first and then those of its adapters.
pub(crate) async fn list(State(state): State<ServerState>) -> Result<Json<ModelList>, ApiError> {
    check_loaded(&state)?;
    let names = state.model().names.iter().chain(&state.config().aliases);
    let mut data: Vec<_> = names.map(|name| card(&state, name)).collect();
    data.extend(state.handle().adapters().iter().map(|adapter| adapter_card(&state, adapter)));
    Ok(Json(ModelList { object: "list", data }))
}

/// One of them.
pub(crate) async fn show(
    State(state): State<ServerState>,
    Path(id): Path<String>,
) -> Result<Json<ModelCard>, ApiError> {
    check_loaded(&state)?;
    let adapter = state.check_model(Some(&id))?.and_then(|name| state.handle().adapter(&name));
    Ok(Json(adapter.map_or_else(|| card(&state, &id), |adapter| adapter_card(&state, &adapter))))
}

/// An adapter as a model, whose parent is the model that it changes.
pub(crate) fn adapter_card(state: &ServerState, adapter: &AdapterInfo) -> ModelCard {
    ModelCard {
        created: adapter.created,
        root: adapter.path.display().to_string(),
        parent: Some(state.model().name().to_owned()),
        ..card(state, &adapter.name)
    }
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
