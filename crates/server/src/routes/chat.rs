//! `/v1/chat/completions`.

use super::generate::Plan;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::shape::ChatShape;
use crate::state::{InFlight, ServerState};
use crate::tenant::Caller;
use crate::wire::chat::ChatRequest;
use crate::wire::messages;
use axum::extract::State;
use axum::response::Response;
use pagoda_text::{ChatInput, ChatTemplate, Special, TextError};
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
    messages::normalise(&mut request.messages)?;
    request.params.salt = state.salt(caller.tenant.id, request.cache_salt.as_deref());
    let tokenizer = &state.model().tokenizer;
    let template = tokenizer.require_chat_template().map_err(|error| in_messages(&error))?;
    let prompt = render(template, &mut request).map_err(|error| in_messages(&error))?;
    // The template writes the special tokens itself.
    let tokens = tokenizer.encode(&prompt, Special::Skip).map_err(|error| in_messages(&error))?;
    Plan::new(state, caller, request.delivery, request.params, vec![tokens]).map_err(rename)
}

fn render(template: &ChatTemplate, request: &mut ChatRequest) -> Result<String, TextError> {
    if !template.mentions("developer") {
        messages::developer_to_system(&mut request.messages);
    }
    template.render(&ChatInput {
        messages: &request.messages,
        tools: None,
        add_generation_prompt: request.add_generation_prompt,
        extra: Some(&request.template_extra),
        now: Some(SystemTime::now()),
    })
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
