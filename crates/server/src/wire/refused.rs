//! Fields that change what a request means and are not offered: refused by name, never dropped.

use crate::error::ApiError;
use crate::json::Fields;
use serde_json::Value;

/// When the value of a refused field asks for nothing after all.
#[derive(Clone, Copy)]
enum Harmless {
    /// Only `null` and absence.
    Never,
    /// `false`.
    False,
    /// An empty list, object or string.
    Empty,
    /// One of these strings.
    Words(&'static [&'static str]),
    /// A list of this one string.
    Only(&'static str),
    /// This number.
    Number(f64),
}

struct Refusal {
    name: &'static str,
    harmless: Harmless,
    advice: &'static str,
}

const fn refuse(name: &'static str, harmless: Harmless, advice: &'static str) -> Refusal {
    Refusal { name, harmless, advice }
}

const LEAVE_OUT: &str = "leave it out";
const NO_TOOLS: &str = "use tools and tool_choice";

const CHAT_HAS_IT: &str = "use /v1/chat/completions";
const STATEFUL: &str = "stateful responses are not offered; send the whole conversation as input";

/// Refused by all endpoints.
const COMMON: &[Refusal] = &[
    refuse("allowed_token_ids", Harmless::Never, "use logit_bias"),
    refuse("bad_words", Harmless::Empty, "use logit_bias"),
    refuse("guided_whitespace_pattern", Harmless::Never, LEAVE_OUT),
    refuse("structural_tag", Harmless::Never, "use response_format or structured_outputs"),
    refuse("return_token_ids", Harmless::False, LEAVE_OUT),
    refuse("truncate_prompt_tokens", Harmless::Never, "shorten the prompt"),
    refuse("typical_p", Harmless::Number(1.0), LEAVE_OUT),
    refuse("mirostat", Harmless::Number(0.0), LEAVE_OUT),
];

/// Refused by the completions endpoint.
const COMPLETIONS: &[Refusal] =
    &[refuse("prompt_embeds", Harmless::Never, "send the prompt as text or token ids")];

/// Refused by the chat endpoint.
const CHAT: &[Refusal] = &[
    refuse("audio", Harmless::Never, "only text is offered"),
    refuse("chat_template", Harmless::Never, "templates come from the model or the server's operator"),
    refuse("documents", Harmless::Empty, "put them into the messages"),
    refuse("echo", Harmless::False, "only /v1/completions repeats its prompt"),
    refuse("function_call", Harmless::Words(&["none", "auto"]), NO_TOOLS),
    refuse("functions", Harmless::Empty, NO_TOOLS),
    refuse("modalities", Harmless::Only("text"), "only text is offered"),
    refuse("web_search_options", Harmless::Never, LEAVE_OUT),
];

/// Refused by the responses endpoint.
const RESPONSES: &[Refusal] = &[
    refuse("background", Harmless::False, STATEFUL),
    refuse("conversation", Harmless::Never, STATEFUL),
    refuse("previous_response_id", Harmless::Never, STATEFUL),
    refuse("prompt", Harmless::Never, "stored prompts are stateful; send the text as input"),
    refuse("truncation", Harmless::Words(&["disabled"]), "a prompt is never cut; shorten the input"),
    refuse("top_logprobs", Harmless::Number(0.0), CHAT_HAS_IT),
    refuse("logprobs", Harmless::False, CHAT_HAS_IT),
    refuse("prompt_logprobs", Harmless::Never, CHAT_HAS_IT),
];

/// Refused by the messages endpoint.
const MESSAGES: &[Refusal] = &[
    refuse("container", Harmless::Never, LEAVE_OUT),
    refuse("mcp_servers", Harmless::Empty, "call them from the client and send tools"),
    refuse("logprobs", Harmless::False, CHAT_HAS_IT),
    refuse("prompt_logprobs", Harmless::Never, CHAT_HAS_IT),
];

/// Which endpoint's fields are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/responses`.
    Responses,
    /// `/v1/messages`.
    Messages,
}

/// Takes all refused fields out of `fields`.
///
/// # Errors
/// For the first one whose value asks for something.
pub(crate) fn check(fields: &mut Fields<'_>, endpoint: Endpoint) -> Result<(), ApiError> {
    let own = match endpoint {
        Endpoint::Completions => COMPLETIONS,
        Endpoint::Chat => CHAT,
        Endpoint::Responses => RESPONSES,
        Endpoint::Messages => MESSAGES,
    };
    for refusal in COMMON.iter().chain(own) {
        let Some(value) = fields.value(refusal.name)? else { continue };
        if !is_harmless(&value, refusal.harmless) {
            return Err(ApiError::unsupported(refusal.name, refusal.advice));
        }
    }
    Ok(())
}

fn is_harmless(value: &Value, harmless: Harmless) -> bool {
    match harmless {
        Harmless::Never => false,
        Harmless::False => value == &Value::Bool(false),
        Harmless::Empty => match value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        },
        Harmless::Words(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        Harmless::Only(word) => value.as_array().is_some_and(|items| items.iter().all(|item| item == word)),
        Harmless::Number(number) => value.as_f64() == Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(endpoint: Endpoint, body: &str) -> Result<(), String> {
        let mut fields = Fields::parse(body.as_bytes()).unwrap();
        check(&mut fields, endpoint).map_err(|error| error.to_string())
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        let asking = [
            (Endpoint::Chat, "functions", r#"[{"name":"look"}]"#),
            (Endpoint::Chat, "function_call", r#"{"name":"look"}"#),
            (Endpoint::Chat, "modalities", r#"["text","audio"]"#),
            (Endpoint::Chat, "structural_tag", r#"{"type":"structural_tag"}"#),
        ];
        for (endpoint, name, value) in asking {
            let error = verdict(endpoint, &format!("{{\"{name}\":{value}}}")).unwrap_err();
            assert!(error.starts_with(&format!("{name} is not offered")), "{error}");
        }
    }

    #[test]
    fn what_asks_for_nothing_passes() {
        let body = r#"{"function_call": "auto", "functions": null, "modalities": ["text"],
            "prompt_logprobs": null, "typical_p": 1.0, "echo": false,
            "bad_words": []}"#;
        assert_eq!(verdict(Endpoint::Chat, body), Ok(()));
        assert_eq!(verdict(Endpoint::Completions, r#"{"tools": [1]}"#), Ok(()));
    }
}
