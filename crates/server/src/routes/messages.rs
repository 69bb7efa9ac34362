//! `/v1/messages` and `/v1/messages/count_tokens`.

use super::converse::{self, Dialect};
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::shape::MessagesShape;
use crate::state::{InFlight, ServerState};
use crate::wire::anthropic;
use crate::wire::chat::ChatRequest;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

const NAMES: &[(&str, &str)] =
    &[("prompt", "messages"), ("stop", "stop_sequences"), ("tool_choice.function", "tool_choice")];

/// The words of Anthropic's messages.
pub(crate) struct Messages;

impl Dialect for Messages {
    type Shape = MessagesShape;

    const PREFIX: &'static str = "msg_";

    const NAMES: &'static [(&'static str, &'static str)] = NAMES;

    fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
        anthropic::take(fields, anthropic::Limit::Required)
    }
}

/// The same where nothing is to be generated.
struct Counted;

impl Dialect for Counted {
    type Shape = MessagesShape;

    const PREFIX: &'static str = Messages::PREFIX;

    const NAMES: &'static [(&'static str, &'static str)] = NAMES;

    fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
        anthropic::take(fields, anthropic::Limit::Optional)
    }
}

/// The length of the prompt.
pub(crate) async fn count_tokens(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({"input_tokens": converse::count::<Counted>(&state, body).await?})))
}
