//! `/tokenizer_info`.

use crate::error::ApiError;
use crate::routes::models::check_loaded;
use crate::state::ServerState;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

/// The special tokens and the chat template, under the names that tokenizer_config.json has for them.
pub(crate) async fn show(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    check_loaded(&state)?;
    let model = state.model();
    let tokenizer = &model.tokenizer;
    let mut info = Map::new();
    // Clients read these whether there are such tokens or not.
    for role in ["bos_token", "eos_token", "pad_token", "unk_token"] {
        info.insert(role.into(), Value::Null);
    }
    for (role, text) in tokenizer.special_tokens().entries() {
        info.insert(role.into(), text.into());
    }
    let template = tokenizer.chat_template().map(pagoda_text::ChatTemplate::source);
    info.insert("additional_special_tokens".into(), json!(tokenizer.special_tokens().additional()));
    info.insert("chat_template".into(), template.map_or(Value::Null, Value::from));
    info.insert("model_max_length".into(), model.max_model_len.into());
    info.insert("vocab_size".into(), model.vocab_size.into());
    info.insert("eos_token_ids".into(), json!(model.stop_ids));
    info.insert("model".into(), model.name().into());
    Ok(Json(info.into()))
}
