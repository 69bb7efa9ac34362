//! `/v1/responses`, without state: what was said before has to be sent again.

use super::converse::{self, Dialect};
use super::tokenize::write;
use crate::error::ApiError;
use crate::json::{Fields, JsonBody};
use crate::shape::ResponsesShape;
use crate::state::{InFlight, ServerState};
use crate::wire::chat::ChatRequest;
use crate::wire::render::InputTokens;
use crate::wire::responses;
use axum::extract::State;
use axum::response::Response;

/// The words of OpenAI's responses.
pub(crate) struct Responses;

impl Dialect for Responses {
    type Shape = ResponsesShape;

    const PREFIX: &'static str = "resp_";

    const NAMES: &'static [(&'static str, &'static str)] = &[
        ("prompt", "input"),
        ("messages", "input"),
        ("tool_choice.function", "tool_choice"),
        ("max_tokens", "max_output_tokens"),
    ];

    fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
        responses::take(fields)
    }
}

/// The length of the prompt.
pub(crate) async fn input_tokens(
    State(state): State<ServerState>,
    _in_flight: InFlight,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let count = converse::count::<Responses>(&state, body).await?;
    state.bulky(write(&InputTokens { object: "response.input_tokens", input_tokens: count })?)
}
