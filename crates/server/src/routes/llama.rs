//! What clients of llama.cpp's server look at before they begin.

use crate::error::ApiError;
use crate::routes::models::check_loaded;
use crate::state::ServerState;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};

/// Context, slots and chat template.
pub(crate) async fn props(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    check_loaded(&state)?;
    let model = state.model();
    let template = model.tokenizer.chat_template().map_or("", pagoda_text::ChatTemplate::source);
    Ok(Json(json!({
        "default_generation_settings": {"n_ctx": model.max_model_len, "params": {
            "temperature": model.defaults.temperature.unwrap_or(1.0),
            "top_k": model.defaults.top_k.unwrap_or(0),
            "top_p": model.defaults.top_p.unwrap_or(1.0),
            "min_p": model.defaults.min_p.unwrap_or(0.0),
        }},
        "total_slots": state.handle().config().scheduler.max_num_seqs,
        "model_alias": model.name(),
        "model_path": model.name(),
        "chat_template": template,
        "bos_token": model.tokenizer.bos_token().unwrap_or_default(),
        "eos_token": model.tokenizer.eos_token().unwrap_or_default(),
        "modalities": {"vision": false, "audio": false},
        "build_info": format!("pagoda-{}", state.config().build.version),
        "is_sleeping": false,
    })))
}

/// The rows of the batch. They are taken and left at every step, so all that can be said is how many are taken.
pub(crate) async fn slots(
    State(state): State<ServerState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Value>>, ApiError> {
    check_loaded(&state)?;
    let running = state.handle().snapshot().running;
    let rows = u64::from(state.handle().config().scheduler.max_num_seqs);
    let asks = query.is_some_and(|query| query.split('&').any(|pair| pair == "fail_on_no_slot=1"));
    if asks && running >= rows {
        return Err(ApiError::Unavailable("no slot is free".into()));
    }
    let context = state.model().max_model_len;
    let slot = |id| json!({"id": id, "n_ctx": context, "is_processing": id < running});
    Ok(Json((0..rows).map(slot).collect()))
}
