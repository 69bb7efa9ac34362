//! What clients of Ollama ask for.

use super::converse::{self, Dialect};
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::routes::models::check_loaded;
use crate::shape::{InMessage, InResponse, OllamaShape, now};
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::chat::ChatRequest;
use crate::wire::ollama;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The words of `/api/chat`.
struct Chat;

impl Dialect for Chat {
    type Shape = OllamaShape<InMessage>;

    const PREFIX: &'static str = "chat_";

    const NAMES: &'static [(&'static str, &'static str)] = &[("prompt", "messages")];

    fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
        ollama::take_chat(fields)
    }
}

/// The words of `/api/generate`.
struct Generate;

impl Dialect for Generate {
    type Shape = OllamaShape<InResponse>;

    const PREFIX: &'static str = "gen_";

    const NAMES: &'static [(&'static str, &'static str)] = &[("messages", "prompt")];

    fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
        ollama::take_generate(fields)
    }
}

/// Answers a conversation.
pub(crate) async fn chat(
    state: State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    if asks_nothing(&body, "messages") {
        let message = json!({"role": "assistant", "content": ""});
        return loaded(&state, &body, "message", message);
    }
    converse::create::<Chat>(state, caller, in_flight, JsonBody(body)).await
}

/// Answers a prompt.
pub(crate) async fn generate(
    state: State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    if asks_nothing(&body, "prompt") {
        return loaded(&state, &body, "response", "".into());
    }
    converse::create::<Generate>(state, caller, in_flight, JsonBody(body)).await
}

/// Whether a client only wants the model to be there.
fn asks_nothing(body: &[u8], name: &str) -> bool {
    let Ok(mut fields) = Fields::parse(body) else { return false };
    matches!(fields.take_raw(name).map(str::trim), None | Some("\"\"" | "[]"))
}

fn loaded(state: &ServerState, body: &[u8], name: &str, nothing: Value) -> Result<Response, ApiError> {
    let adapter = state.check_model(ollama::take_model(&mut Fields::parse(body)?)?.as_deref())?;
    let model = adapter.as_deref().unwrap_or(state.model().name());
    let mut answer = json!({"model": model, "created_at": now()});
    answer[name] = nothing;
    answer["done"] = true.into();
    answer["done_reason"] = "load".into();
    Ok(Json(answer).into_response())
}

/// The version of the program.
pub(crate) async fn version(State(state): State<ServerState>) -> Json<Value> {
    Json(json!({"version": state.config().build.version}))
}

/// The names that are served.
pub(crate) async fn tags(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    check_loaded(&state)?;
    let adapters = state.handle().adapters();
    let names = state.model().names.iter().chain(&state.config().aliases).map(String::as_str);
    let names = names.chain(adapters.iter().map(|adapter| &*adapter.name));
    let model = |name: &str| {
        json!({
            "name": name,
            "model": name,
            "modified_at": modified(&state),
            "size": state.model().stored_bytes,
            "digest": "",
            "details": details(&state),
        })
    };
    Ok(Json(json!({"models": names.map(model).collect::<Vec<_>>()})))
}

/// What the model is.
pub(crate) async fn show(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    state.check_model(ollama::take_model(&mut Fields::parse(&body)?)?.as_deref())?;
    let (model, tokenizer) = (state.model(), &state.model().tokenizer);
    let template = tokenizer.chat_template();
    let mut capabilities = vec!["completion"];
    capabilities.extend(template.is_some_and(|template| template.mentions("tools")).then_some("tools"));
    capabilities.extend(pagoda_text::ReasoningMarks::of(tokenizer).map(|_| "thinking"));
    capabilities.extend(pagoda_text::FimMarks::of(tokenizer).map(|_| "insert"));
    Ok(Json(json!({
        "modelfile": "",
        "parameters": "",
        "template": template.map_or("", pagoda_text::ChatTemplate::source),
        "modified_at": modified(&state),
        "details": details(&state),
        "model_info": {
            "general.architecture": "pagoda",
            "general.parameter_count": model.parameters,
            "pagoda.context_length": model.max_model_len,
            "pagoda.embedding_length": model.hidden,
        },
        "capabilities": capabilities,
    })))
}

fn modified(state: &ServerState) -> String {
    pagoda_text::utc(SystemTime::UNIX_EPOCH + Duration::from_secs(state.model().created))
}

fn details(state: &ServerState) -> Value {
    let model = state.model();
    let quantization = model.quantization.as_ref().or(model.dtype.as_ref());
    json!({
        "parent_model": "",
        "format": "",
        "family": "",
        "families": [],
        "parameter_size": format!("{:.1}B", model.parameters as f64 / 1e9),
        "quantization_level": quantization.map_or("", String::as_str),
    })
}
