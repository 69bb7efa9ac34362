//! `/v1/chat/completions`: the request as read, the response and the chunks as written.

use crate::error::ApiError;
use crate::finish::StopReason;
use crate::json::Fields;
use crate::tool_calls::ToolCall;
use crate::wire::common::{
    Delivery, LeastTokens, Shown, Usage, take_cache_salt, take_delivery, take_generation,
};
use crate::wire::prompt_logprobs::PromptLogprobs;
use crate::wire::refused::{self, Endpoint};
use crate::wire::tools::Tools;
use pagoda_engine::GenerateParams;
use serde::Serialize;
use serde_json::{Map, Value};

/// A chat request.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: Option<String>,
    /// As sent; normalised before a template reads it.
    pub(crate) messages: Value,
    pub(crate) delivery: Delivery,
    /// Everything but the prompt.
    pub(crate) params: GenerateParams,
    pub(crate) shown: Shown,
    pub(crate) add_generation_prompt: bool,
    /// Whether the answer goes on with the last message instead of beginning one.
    pub(crate) continue_final: bool,
    /// Further variables of the template.
    pub(crate) template_extra: Map<String, Value>,
    pub(crate) cache_salt: Option<String>,
    /// What the model may call.
    pub(crate) tools: Option<Tools>,
    /// Whether what the model says to itself is left out.
    pub(crate) hides_reasoning: bool,
    /// What the answer repeats of the request.
    pub(crate) repeated: Value,
}

impl ChatRequest {
    /// Takes the fields of a chat request; what is left in `fields` is unknown.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        refused::check(fields, Endpoint::Chat)?;
        let model = fields.string("model")?;
        let messages = fields.value("messages")?.ok_or_else(|| ApiError::missing("messages"))?;
        let delivery = take_delivery(fields)?;
        let mut params = take_generation(fields, LeastTokens::One)?;
        params.logprobs = take_logprobs(fields)?;
        let tools = Tools::take(fields)?;
        if let Some(tools) = &tools {
            check_free(&params)?;
            params.constraint = tools.constraint();
        }
        let shown = Shown::take(fields, params.logprobs)?;
        params.prompt_logprobs = shown.prompt_logprobs.map(|most| most as u32);
        let (add_generation_prompt, continue_final) = take_ending(fields)?;
        Ok(Self {
            model,
            messages,
            delivery,
            params,
            shown,
            add_generation_prompt,
            continue_final,
            template_extra: take_template_extra(fields)?,
            cache_salt: take_cache_salt(fields)?,
            tools,
            hides_reasoning: !fields.flag("include_reasoning")?.unwrap_or(true),
            repeated: Value::Null,
        })
    }
}

/// How the prompt ends: with the beginning of an answer, or with a last message that the answer goes on with.
fn take_ending(fields: &mut Fields<'_>) -> Result<(bool, bool), ApiError> {
    const CONTINUE: &str = "continue_final_message";
    let (add, go_on) = (fields.flag("add_generation_prompt")?, fields.flag(CONTINUE)?.unwrap_or(false));
    if go_on && add == Some(true) {
        let message = "continue_final_message and add_generation_prompt are both true; leave one of them out";
        return Err(ApiError::invalid(CONTINUE, message));
    }
    Ok((add.unwrap_or(!go_on), go_on))
}

/// A text that has to be something else cannot be a call.
pub(crate) fn check_free(params: &GenerateParams) -> Result<(), ApiError> {
    let Some(asked) = &params.constraint else { return Ok(()) };
    let field = asked.place.split('.').next().unwrap_or(asked.place);
    let message = format!(
        "{field} says what the output has to be, and tools that it may be a call; leave one of them out, or set tool_choice to none"
    );
    Err(ApiError::invalid(field, message))
}

fn take_logprobs(fields: &mut Fields<'_>) -> Result<Option<u32>, ApiError> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    match fields.count("top_logprobs")? {
        None if wanted => Ok(Some(0)),
        Some(top) if wanted => Ok(Some(top)),
        None | Some(0) => Ok(None),
        Some(top) => {
            let message = format!("top_logprobs is {top} but logprobs is not true; set logprobs to true");
            Err(ApiError::invalid("top_logprobs", message))
        }
    }
}

fn take_template_extra(fields: &mut Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    let mut extra: Map<String, Value> = fields.take("chat_template_kwargs", "an object")?.unwrap_or_default();
    if let Some(effort) = fields.string("reasoning_effort")? {
        extra.insert("reasoning_effort".into(), effort.into());
    }
    Ok(extra)
}

/// The answer in one body.
#[derive(Serialize)]
pub(crate) struct ChatCompletion<'a> {
    pub(crate) id: &'a str,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: &'a str,
    pub(crate) system_fingerprint: &'static str,
    pub(crate) choices: Vec<ChatChoice>,
    pub(crate) usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_logprobs: Option<PromptLogprobs>,
}

/// One sample.
#[derive(Serialize)]
pub(crate) struct ChatChoice {
    pub(crate) index: usize,
    pub(crate) message: ChatMessage,
    pub(crate) logprobs: Option<ChatLogprobs>,
    pub(crate) finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_reason: Option<StopReason>,
}

/// What the model said.
#[derive(Serialize)]
pub(crate) struct ChatMessage {
    pub(crate) role: &'static str,
    /// `None` where it only called.
    pub(crate) content: Option<String>,
    /// What it said to itself. Clients look for it under one name or the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ChatCall>,
}

/// A call of a function.
#[derive(Serialize)]
pub(crate) struct ChatCall {
    /// Which of the calls of the choice, in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: ChatFunction,
}

#[derive(Serialize)]
struct ChatFunction {
    name: String,
    arguments: String,
}

impl ChatCall {
    /// The call, with its `index` in a stream.
    pub(crate) fn new(call: ToolCall, index: Option<usize>) -> Self {
        let ToolCall { id, name, arguments } = call;
        Self { index, id, kind: "function", function: ChatFunction { name, arguments } }
    }
}

/// One event of a stream.
#[derive(Serialize)]
pub(crate) struct ChatChunk<'a> {
    pub(crate) id: &'a str,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: &'a str,
    pub(crate) system_fingerprint: &'static str,
    /// One, or none in the event that carries the usage.
    pub(crate) choices: &'a [ChatChunkChoice],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    /// In the first event, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_logprobs: Option<PromptLogprobs>,
}

/// More of one sample.
#[derive(Serialize)]
pub(crate) struct ChatChunkChoice {
    pub(crate) index: usize,
    pub(crate) delta: ChatDelta,
    pub(crate) logprobs: Option<ChatLogprobs>,
    pub(crate) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_reason: Option<StopReason>,
}

/// What was added to a message.
#[derive(Default, Serialize)]
pub(crate) struct ChatDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ChatCall>,
}

impl ChatDelta {
    /// More of what the model says to itself.
    pub(crate) fn reasoning(text: String) -> Self {
        Self { reasoning_content: Some(text.clone()), reasoning: Some(text), ..Self::default() }
    }
}

/// Log-probabilities in the shape of chat.
#[derive(Serialize)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<ChatToken>,
    pub(crate) refusal: Option<()>,
}

/// One generated token.
#[derive(Serialize)]
pub(crate) struct ChatToken {
    #[serde(flatten)]
    pub(crate) chosen: ChatTokenLogprob,
    /// Most likely first.
    pub(crate) top_logprobs: Vec<ChatTokenLogprob>,
}

/// A token and its log-probability.
#[derive(Serialize)]
pub(crate) struct ChatTokenLogprob {
    pub(crate) token: String,
    pub(crate) logprob: f32,
    /// The token exactly, where `token` has replacement characters.
    pub(crate) bytes: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<ChatRequest, ApiError> {
        ChatRequest::take(&mut Fields::parse(body.as_bytes()).unwrap())
    }

    fn message(body: &str) -> String {
        take(body).unwrap_err().to_string()
    }

    #[test]
    fn logprobs_need_both_fields_to_agree() {
        let logprobs =
            |fields: &str| take(&format!(r#"{{"messages": [], {fields}}}"#)).map(|chat| chat.params.logprobs);
        assert_eq!(logprobs(r#""logprobs": true"#), Ok(Some(0)));
        assert_eq!(logprobs(r#""logprobs": true, "top_logprobs": 3"#), Ok(Some(3)));
        assert_eq!(logprobs(r#""logprobs": false, "top_logprobs": null"#), Ok(None));
        assert_eq!(logprobs(r#""top_logprobs": 0"#), Ok(None));
        assert!(logprobs(r#""top_logprobs": 2"#).is_err());
    }

    #[test]
    fn further_variables_go_to_the_template() {
        let chat = r#"{"messages": [], "chat_template_kwargs": {"enable_thinking": false}, "reasoning_effort": "low"}"#;
        let extra = take(chat).unwrap().template_extra;
        assert_eq!(
            Value::Object(extra),
            serde_json::json!({"enable_thinking": false, "reasoning_effort": "low"})
        );
        assert_eq!(
            message(r#"{"messages": [], "chat_template_kwargs": 3}"#),
            "chat_template_kwargs must be an object, got 3"
        );
    }

    #[test]
    fn messages_are_required() {
        assert_eq!(message("{}"), "messages is required");
        assert_eq!(message(r#"{"messages": null}"#), "messages is required");
    }
}
