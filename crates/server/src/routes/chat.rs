//! `/v1/chat/completions`.

use super::generate::Plan;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::shape::ChatShape;
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::chat::ChatRequest;
use crate::wire::messages;
use crate::wire::tools::Tools;
use axum::extract::State;
use axum::response::Response;
use pagoda_text::{ChatInput, ChatTemplate, TextError};
use serde_json::{Value, json};
use std::time::SystemTime;

/// Answers a conversation.
pub(crate) async fn create(
    State(state): State<ServerState>,
    caller: Caller,
    in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let plan = state.on_text_thread(move |state| plan(state, caller, &body)).await?;
    plan.answer::<ChatShape>(&state, "chatcmpl-", in_flight).await.map_err(rename)
}

fn plan(state: &ServerState, caller: Caller, body: &[u8]) -> Result<Plan, ApiError> {
    let mut fields = Fields::parse(body)?;
    let mut request = ChatRequest::take(&mut fields)?;
    state.note_unknown(fields.left());
    state.check_model(request.model.as_deref())?;
    request.params.salt = state.salt(caller.tenant.id, request.cache_salt.as_deref());
    let tokens = tokens(state, &prompt(state, &mut request)?, state.model().max_model_len as usize)?;
    let plan = Plan::new(state, caller, (request.delivery, request.shown), request.params, vec![tokens])
        .map_err(rename)?;
    Ok(plan.calling(request.tools))
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
    render(template, request).map_err(|error| in_messages(&error))
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

/// The names that the fields have in a chat request.
fn rename(error: ApiError) -> ApiError {
    match error {
        ApiError::ContextLength { prompt, context, message, .. } => {
            ApiError::ContextLength { param: "messages", prompt, context, message }
        }
        ApiError::Field { param, fault, message } => match param.as_str() {
            "prompt" => ApiError::Field { param: "messages".into(), fault, message },
            "logprobs" => ApiError::Field { param: "top_logprobs".into(), fault, message },
            _ => ApiError::Field { param, fault, message },
        },
        other => other,
    }
}
