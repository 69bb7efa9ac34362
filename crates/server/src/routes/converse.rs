//! What all endpoints do that answer a conversation: each only reads its requests and writes its answers in its own words.

use super::generate::Plan;
use crate::call_forms::CallMarks;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::reasoning::Reasoning;
use crate::said::Speech;
use crate::shape::Shape;
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::chat::ChatRequest;
use crate::wire::messages;
use crate::wire::tools::Tools;
use axum::extract::State;
use axum::response::Response;
use pagoda_text::{ChatInput, ChatTemplate, TextError, TextStart};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;

/// The words of one endpoint.
pub(crate) trait Dialect: 'static {
    /// How answers are written.
    type Shape: Shape;

    /// What ids of answers begin with.
    const PREFIX: &'static str;

    /// Takes the fields of a request; what is left is unknown.
    ///
    /// # Errors
    /// Names the first field at fault.
    fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError>;

    /// Pairs of a field as later checks name it and as a request has it.
    const NAMES: &'static [(&'static str, &'static str)];
}

/// Answers a conversation.
pub(crate) async fn create<D: Dialect>(
    State(state): State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    answer::<D>(&state, caller, in_flight, move |state| read::<D>(state, &body)).await
}

/// Answers the conversation that `read` gives.
pub(super) async fn answer<D: Dialect>(
    state: &ServerState,
    caller: Caller,
    in_flight: InFlight,
    read: impl FnOnce(&ServerState) -> Result<ChatRequest, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let plan = move |state: &ServerState| {
        let request = read(state)?;
        plan(state, caller, request).map_err(|error| error.renamed(D::NAMES))
    };
    let answer = state.on_text_thread(plan).await?.answer::<D::Shape>(state, D::PREFIX, in_flight).await;
    answer.map_err(|error| error.renamed(D::NAMES))
}

/// A request whose model is the one that is served.
pub(super) fn read<D: Dialect>(state: &ServerState, body: &[u8]) -> Result<ChatRequest, ApiError> {
    let mut fields = Fields::parse(body)?;
    let mut request = D::take(&mut fields)?;
    state.note_unknown(fields.left());
    request.params.adapter = state.check_model(request.model.as_deref())?;
    Ok(request)
}

/// Tokens of the prompt of a conversation.
pub(super) async fn count<D: Dialect>(
    state: &ServerState,
    body: axum::body::Bytes,
) -> Result<usize, ApiError> {
    let bytes = body.len();
    let count = move |state: &ServerState| {
        let mut request = read::<D>(state, &body)?;
        let tokens = prompt(state, &mut request).and_then(|prompt| tokens(state, &prompt, usize::MAX));
        Ok(tokens.map_err(|error| error.renamed(D::NAMES))?.len())
    };
    state.on_text_thread_for(bytes, count).await
}

fn plan(state: &ServerState, caller: Caller, mut request: ChatRequest) -> Result<Plan, ApiError> {
    request.params.salt = state.salt(caller.tenant.id, request.cache_salt.as_deref());
    let prompt = prompt(state, &mut request)?;
    let tokens = tokens(state, &prompt, state.model().max_model_len as usize)?;
    let speech = speech(state, &mut request, &prompt);
    request.params.kept_special = Arc::clone(&speech.kept);
    if request.continue_final {
        request.params.text_start = TextStart::Continuation;
    }
    let plan = Plan::new(state, caller, (request.delivery, request.shown), request.params, vec![tokens])?;
    Ok(plan.speaking(speech, request.repeated))
}

/// How the answer to `prompt` is to be read. One that has to have a form has it from its first token on, so that all of it is
/// content, or a call.
fn speech(state: &ServerState, request: &mut ChatRequest, prompt: &str) -> Speech {
    let model = state.model();
    let is_free = request.params.constraint.is_none();
    let reasoning = is_free.then(|| Reasoning::of(model, prompt)).flatten();
    let tools = request.tools.take().map(Arc::new);
    let of_calls = if tools.is_some() { CallMarks::tokens() } else { &[] };
    let marks = reasoning.map(Reasoning::texts);
    let marks = marks.iter().flatten().chain(of_calls);
    let kept = marks.filter_map(|mark| model.tokenizer.token_to_id(mark));
    let kept = kept.filter(|&id| model.tokenizer.is_special(id)).collect();
    Speech { reasoning, hides_reasoning: request.hides_reasoning, tools, marks: CallMarks::of(model), kept }
}

/// The text that the chat template makes of a conversation. What the client sent is quoted in it, so that special tokens
/// come from the template alone.
pub(super) fn prompt(state: &ServerState, request: &mut ChatRequest) -> Result<String, ApiError> {
    messages::normalise(&mut request.messages)?;
    let tokenizer = &state.model().tokenizer;
    let template = tokenizer.require_chat_template().map_err(|error| in_messages(&error))?;
    messages::quote(&mut request.messages, tokenizer);
    request.template_extra.values_mut().for_each(|value| messages::quote(value, tokenizer));
    if let Some(tools) = &mut request.tools {
        messages::quote(&mut tools.list, tokenizer);
    }
    if request.continue_final {
        check_last(&request.messages)?;
    }
    let rendered = render(template, request).map_err(|error| in_messages(&error))?;
    if request.continue_final {
        return Ok(rendered);
    }
    // An output that has to have a form has it from its first token on.
    let is_formed = request.params.constraint.is_some() && request.add_generation_prompt;
    let reasoning = is_formed.then(|| Reasoning::of(state.model(), &rendered)).flatten();
    Ok(rendered + &reasoning.map(Reasoning::skipped).unwrap_or_default())
}

/// Whether the last message is one that can be gone on with.
fn check_last(messages: &Value) -> Result<(), ApiError> {
    let last = messages.as_array().and_then(|list| list.last()).unwrap_or(&Value::Null);
    let said = last["content"].as_str().unwrap_or_default().trim();
    if last["role"] != "assistant" || said.is_empty() {
        let message = "only an answer can be gone on with: the last of messages must be the assistant's and say something";
        return Err(ApiError::invalid("messages", message));
    }
    Ok(())
}

/// The tokens of that text, of which no more than `most` can be used.
pub(super) fn tokens(state: &ServerState, prompt: &str, most: usize) -> Result<Vec<u32>, ApiError> {
    let tokens = state.model().tokenizer.encode_quoted_up_to(prompt, most);
    tokens.map_err(|error| ApiError::of_text("messages", &error))
}

fn render(template: &ChatTemplate, request: &mut ChatRequest) -> Result<String, TextError> {
    if !template.mentions("developer") {
        messages::developer_to_system(&mut request.messages);
    }
    let knows_tools = template.mentions("tools");
    if let Some(tools) = request.tools.as_ref().filter(|_| !knows_tools) {
        describe(tools, &mut request.messages);
    }
    template.render(&ChatInput {
        messages: &request.messages,
        tools: request.tools.as_ref().filter(|_| knows_tools).map(|tools| &tools.list),
        add_generation_prompt: request.add_generation_prompt,
        continue_final: request.continue_final,
        extra: Some(&request.template_extra),
        now: Some(SystemTime::now()),
    })
}

/// Tells a model whose template has no place for tools what it may call, before all else.
fn describe(tools: &Tools, messages: &mut Value) {
    let text = format!(
        "You may call functions. To call one, answer with nothing but JSON of the form \
         {{\"name\": ..., \"arguments\": {{...}}}}. The functions are:\n{}",
        tools.list
    );
    let Some(list) = messages.as_array_mut() else { return };
    match list.first_mut().filter(|first| first["role"] == "system") {
        Some(first) => {
            let told = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{text}\n\n{told}").into();
        }
        None => list.insert(0, json!({"role": "system", "content": text})),
    }
}

fn in_messages(error: &TextError) -> ApiError {
    let param = match error {
        TextError::ReservedVariable { name } => format!("chat_template_kwargs.{name}"),
        _ => "messages".to_owned(),
    };
    ApiError::invalid(param, error.to_string())
}
