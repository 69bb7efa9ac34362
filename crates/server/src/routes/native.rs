//! `/completion` and `/infill` of llama.cpp's server.

use super::completions;
use super::generate::Plan;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::shape::LlamaShape;
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::llama::{InfillRequest, LlamaRequest};
use axum::extract::State;
use axum::response::Response;
use pagoda_text::{FimMarks, Special};

const PREFIX: &str = "cmpl-";

/// Continues one or several prompts.
pub(crate) async fn completion(
    State(state): State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let plan = move |state: &ServerState| {
        let mut fields = Fields::parse(&body)?;
        let request = LlamaRequest::take(&mut fields)?;
        state.note_unknown(fields.left());
        let repeated = request.repeated();
        Ok(completions::plan(state, caller, request.completion)?.speaking(Default::default(), repeated))
    };
    state.on_text_thread(plan).await?.answer::<LlamaShape>(&state, PREFIX, in_flight).await
}

/// Fills the gap between two texts.
pub(crate) async fn infill(
    State(state): State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let plan = move |state: &ServerState| fill(state, caller, &body);
    state.on_text_thread(plan).await?.answer::<LlamaShape>(&state, PREFIX, in_flight).await
}

fn fill(state: &ServerState, caller: Caller, body: &[u8]) -> Result<Plan, ApiError> {
    let mut fields = Fields::parse(body)?;
    let mut request = InfillRequest::take(&mut fields)?;
    state.note_unknown(fields.left());
    let text = gap(state, "input_prefix", &request.before(), &request.suffix)? + &request.prompt;
    let tokens = tokens(state, "input_prefix", &text)?;
    let repeated = request.llama.repeated();
    request.llama.completion.prompts = vec![crate::wire::completions::Prompt::Tokens(tokens)];
    Ok(completions::plan(state, caller, request.llama.completion)?.speaking(Default::default(), repeated))
}

/// The text by which a model is asked for what stands between two others. What the client sent is quoted in it.
///
/// # Errors
/// Names `param` if the model has no tokens for it.
pub(super) fn gap(
    state: &ServerState,
    param: &'static str,
    before: &str,
    after: &str,
) -> Result<String, ApiError> {
    let tokenizer = &state.model().tokenizer;
    let Some(FimMarks { prefix, suffix, middle }) = FimMarks::of(tokenizer) else {
        let advice = "the tokenizer of this model has no tokens that mark a gap in a text; use a model made for filling in code";
        return Err(ApiError::unsupported(param, advice));
    };
    let (before, after) = (tokenizer.quote(before), tokenizer.quote(after));
    Ok(format!("{prefix}{before}{suffix}{after}{middle}"))
}

/// The tokens of such a text, after those that every text begins with.
pub(super) fn tokens(state: &ServerState, param: &'static str, text: &str) -> Result<Vec<u32>, ApiError> {
    let tokenizer = &state.model().tokenizer;
    let failed = |error: pagoda_text::TextError| ApiError::of_text(param, &error);
    let begin = tokenizer.encode("", Special::Add).map_err(failed)?;
    let begin =
        begin.into_iter().filter(|id| tokenizer.id_to_token(*id).as_deref() == tokenizer.bos_token()).take(1);
    let rest = tokenizer.encode_quoted_up_to(text, state.model().max_model_len as usize).map_err(failed)?;
    Ok(begin.chain(rest).collect())
}
