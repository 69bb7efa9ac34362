//! The exact prompt that a request would have, without running it.

use super::chat::Chat;
use super::{completions, converse, tokenize::write};
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::state::{InFlight, ServerState};
use crate::wire::completions::CompletionRequest;
use crate::wire::render::{InputTokens, Rendered, RenderedText};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use pagoda_text::unquote;

/// One prompt per prompt of a completions request.
pub(crate) async fn completions(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let json =
        state.on_text_thread_for(body.len(), move |state| write(&of_completions(state, &body)?)).await?;
    state.bulky(json)
}

/// The prompt of a chat request.
pub(crate) async fn chat(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let json = state.on_text_thread_for(body.len(), move |state| write(&of_chat(state, &body)?)).await?;
    state.bulky(json)
}

/// The length of the prompt of a chat request.
pub(crate) async fn input_tokens(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let count = converse::count::<Chat>(&state, body).await?;
    state.bulky(write(&InputTokens { object: "response.input_tokens", input_tokens: count })?)
}

/// The text of a chat request, as llama.cpp's server gives it.
pub(crate) async fn template(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let text = move |state: &ServerState| {
        let prompt = unquote(&read_chat(state, &body)?).into_owned();
        write(&RenderedText { prompt })
    };
    let json = state.on_text_thread(text).await?;
    state.bulky(json)
}

fn of_completions(state: &ServerState, body: &Bytes) -> Result<Vec<Rendered>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let request = CompletionRequest::take(&mut fields)?;
    state.note_unknown(fields.left());
    state.check_model(request.model.as_deref())?;
    let special = completions::special(&request);
    let render = |prompt| {
        let text = completions::text(state, &prompt);
        let tokens = completions::tokens(state, prompt, special, usize::MAX)?;
        Ok(rendered(state, text, tokens))
    };
    let prompts = completions::prompts(state, request.suffix.as_deref(), request.prompts)?;
    prompts.into_iter().map(render).collect()
}

fn of_chat(state: &ServerState, body: &Bytes) -> Result<Rendered, ApiError> {
    let prompt = read_chat(state, body)?;
    let tokens = converse::tokens(state, &prompt, usize::MAX)?;
    Ok(rendered(state, unquote(&prompt).into_owned(), tokens))
}

/// The prompt of a chat request, in which what the client sent is quoted.
fn read_chat(state: &ServerState, body: &Bytes) -> Result<String, ApiError> {
    converse::prompt(state, &mut converse::read::<Chat>(state, body)?)
}

fn rendered(state: &ServerState, prompt: String, token_ids: Vec<u32>) -> Rendered {
    let (count, max_model_len) = (token_ids.len(), state.model().max_model_len);
    Rendered { token_ids, prompt, count, max_model_len }
}
