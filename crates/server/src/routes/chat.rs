//! `/v1/chat/completions`.

use super::converse::Dialect;
use crate::error::ApiError;
use crate::json::Fields;
use crate::shape::ChatShape;
use crate::wire::chat::ChatRequest;

/// The words of OpenAI's chat interface, in which all others are told.
pub(crate) struct Chat;

impl Dialect for Chat {
    type Shape = ChatShape;

    const PREFIX: &'static str = "chatcmpl-";

    const NAMES: &'static [(&'static str, &'static str)] =
        &[("prompt", "messages"), ("logprobs", "top_logprobs")];

    fn take(fields: &mut Fields<'_>) -> Result<ChatRequest, ApiError> {
        ChatRequest::take(fields)
    }
}
