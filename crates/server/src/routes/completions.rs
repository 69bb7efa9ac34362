//! `/v1/completions`.

use super::generate::Plan;
use super::native;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::shape::CompletionShape;
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::completions::{CompletionRequest, Prompt};
use axum::extract::State;
use axum::response::Response;
use pagoda_text::Special;

/// Continues one or several prompts.
pub(crate) async fn create(
    State(state): State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let plan = state.on_text_thread(move |state| read(state, caller, &body)).await?;
    plan.answer::<CompletionShape>(&state, "cmpl-", in_flight).await
}

fn read(state: &ServerState, caller: Caller, body: &[u8]) -> Result<Plan, ApiError> {
    let mut fields = Fields::parse(body)?;
    let request = CompletionRequest::take(&mut fields)?;
    state.note_unknown(fields.left());
    plan(state, caller, request)
}

/// Requests for the engine, one per prompt.
pub(super) fn plan(
    state: &ServerState,
    caller: Caller,
    mut request: CompletionRequest,
) -> Result<Plan, ApiError> {
    request.params.adapter = state.check_model(request.model.as_deref())?;
    request.params.salt = state.salt(caller.tenant.id, request.cache_salt.as_deref());
    let special = special(&request);
    let echo = request.echo.then(|| request.prompts.iter().map(|prompt| text(state, prompt)).collect());
    let most = state.model().max_model_len as usize;
    let prompts = prompts(state, request.suffix.as_deref(), request.prompts)?;
    let tokens = prompts.into_iter().map(|prompt| tokens(state, prompt, special, most));
    let tokens = tokens.collect::<Result<_, _>>()?;
    let plan = Plan::new(state, caller, (request.delivery, request.shown), request.params, tokens)?;
    Ok(match echo {
        Some(texts) => plan.echo(texts),
        None => plan,
    })
}

/// The prompts as they run: where there is a suffix, they ask for what belongs before it.
pub(super) fn prompts(
    state: &ServerState,
    suffix: Option<&str>,
    prompts: Vec<Prompt>,
) -> Result<Vec<Prompt>, ApiError> {
    let Some(suffix) = suffix else { return Ok(prompts) };
    let ask = |prompt| match prompt {
        Prompt::Text(before) => {
            let text = native::gap(state, "suffix", &before, suffix)?;
            native::tokens(state, "suffix", &text).map(Prompt::Tokens)
        }
        tokens @ Prompt::Tokens(_) => Ok(tokens),
    };
    prompts.into_iter().map(ask).collect()
}

/// Whether the tokenizer adds its special tokens.
pub(super) fn special(request: &CompletionRequest) -> Special {
    if request.add_special_tokens { Special::Add } else { Special::Skip }
}

/// Tokens of one prompt, of which no more than `most` can be used.
pub(super) fn tokens(
    state: &ServerState,
    prompt: Prompt,
    special: Special,
    most: usize,
) -> Result<Vec<u32>, ApiError> {
    match prompt {
        Prompt::Tokens(ids) => Ok(ids),
        Prompt::Text(text) => {
            let tokens = state.model().tokenizer.encode_up_to(&text, special, most);
            tokens.map_err(|error| ApiError::of_text("prompt", &error))
        }
    }
}

pub(super) fn text(state: &ServerState, prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Tokens(ids) => state.model().tokenizer.decode(ids, false),
    }
}
