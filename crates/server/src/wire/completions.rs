//! `/v1/completions`: the request as read, the response and the chunks as written.

use crate::error::ApiError;
use crate::finish::StopReason;
use crate::json::{Fields, mistyped};
use crate::wire::common::{
    Delivery, LeastTokens, Shown, Usage, take_cache_salt, take_delivery, take_generation,
};
use crate::wire::prompt_logprobs::PromptLogprobs;
use crate::wire::refused::{self, Endpoint};
use pagoda_engine::GenerateParams;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

/// Upper bound of tokens where the request states none, as OpenAI has it.
const DEFAULT_MAX_TOKENS: u32 = 16;

/// Most prompts of one request.
const MAX_PROMPTS: usize = 32;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// To be tokenized.
    Text(String),
    /// Used as they are.
    Tokens(Vec<u32>),
}

/// A completions request.
#[derive(Debug)]
pub(crate) struct CompletionRequest {
    pub(crate) model: Option<String>,
    /// At least one.
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) delivery: Delivery,
    /// Everything but the prompt.
    pub(crate) params: GenerateParams,
    pub(crate) shown: Shown,
    /// What stands after the gap that the answer fills; the prompts are texts then.
    pub(crate) suffix: Option<String>,
    /// Repeat the prompt before the answer.
    pub(crate) echo: bool,
    /// Let the tokenizer add its special tokens to text prompts.
    pub(crate) add_special_tokens: bool,
    pub(crate) cache_salt: Option<String>,
}

impl CompletionRequest {
    /// Takes the fields of a completions request; what is left in `fields` is unknown.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        let prompts = take_prompts(fields, "prompt", MAX_PROMPTS)?;
        Self::take_prompted(fields, prompts)
    }

    /// The same for prompts that have been taken.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take_prompted(fields: &mut Fields<'_>, prompts: Vec<Prompt>) -> Result<Self, ApiError> {
        refused::check(fields, Endpoint::Completions)?;
        let model = fields.string("model")?;
        let suffix = take_suffix(fields, &prompts)?;
        let delivery = take_delivery(fields)?;
        let echo = fields.flag("echo")?.unwrap_or(false);
        let logprobs = fields.count("logprobs")?;
        let mut shown = Shown::take(fields, logprobs)?;
        // Without anything said of the prompt, an answer without tokens would be none.
        let reads = echo || shown.prompt_logprobs.is_some();
        let least = if reads { LeastTokens::Zero } else { LeastTokens::One };
        let mut params = take_generation(fields, least)?;
        shown.skip_special = params.skip_special_tokens.unwrap_or(true);
        params.max_tokens.get_or_insert(DEFAULT_MAX_TOKENS);
        params.logprobs = logprobs;
        params.prompt_logprobs = logprobs.filter(|_| echo).max(shown.prompt_logprobs.map(|most| most as u32));
        Ok(Self {
            model,
            prompts,
            delivery,
            params,
            shown,
            suffix,
            echo,
            add_special_tokens: fields.flag("add_special_tokens")?.unwrap_or(true),
            cache_salt: take_cache_salt(fields)?,
        })
    }
}

fn take_suffix(fields: &mut Fields<'_>, prompts: &[Prompt]) -> Result<Option<String>, ApiError> {
    let suffix = fields.string("suffix")?.filter(|suffix| !suffix.is_empty());
    if suffix.is_some() && prompts.iter().any(|prompt| matches!(prompt, Prompt::Tokens(_))) {
        let message = "suffix belongs to prompts that are texts; send prompt as text, or leave suffix out";
        return Err(ApiError::invalid("suffix", message));
    }
    Ok(suffix)
}

/// Takes the field `name`, which has at least one prompt and at most `most`.
///
/// # Errors
/// If it is missing or empty, has another shape, or more prompts.
pub(crate) fn take_prompts(
    fields: &mut Fields<'_>,
    name: &'static str,
    most: usize,
) -> Result<Vec<Prompt>, ApiError> {
    const SHAPES: &str =
        "a string, a list of strings, a list of token ids or a list of lists of token ids (0 to 4294967295)";
    let raw = fields.take_raw(name).ok_or_else(|| ApiError::missing(name))?;
    let prompts = parse_prompts(raw).ok_or_else(|| mistyped(name, SHAPES, raw))?;
    if prompts.len() > most {
        let message = format!("{name} has {} prompts; at most {most} are allowed", prompts.len());
        return Err(ApiError::invalid(name, message));
    }
    for (at, prompt) in prompts.iter().enumerate() {
        let empty = match prompt {
            Prompt::Text(text) => text.is_empty(),
            Prompt::Tokens(ids) => ids.is_empty(),
        };
        if empty {
            let which = if prompts.len() == 1 { name.to_owned() } else { format!("{name}[{at}]") };
            return Err(ApiError::invalid(
                name,
                format!("{which} is empty; send at least one token of text"),
            ));
        }
    }
    Ok(prompts)
}

/// Tries one shape after the other: a wrong one fails at its first element, so nothing large is built in vain.
fn parse_prompts(raw: &str) -> Option<Vec<Prompt>> {
    if let Ok(text) = serde_json::from_str(raw) {
        return Some(vec![Prompt::Text(text)]);
    }
    if let Ok(ids) = serde_json::from_str(raw) {
        return Some(vec![Prompt::Tokens(ids)]);
    }
    if let Ok(texts) = serde_json::from_str::<Vec<String>>(raw) {
        return Some(texts.into_iter().map(Prompt::Text).collect());
    }
    let lists = serde_json::from_str::<Vec<Vec<u32>>>(raw).ok()?;
    Some(lists.into_iter().map(Prompt::Tokens).collect())
}

/// The answer in one body.
#[derive(Serialize)]
pub(crate) struct Completion<'a> {
    pub(crate) id: &'a str,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: &'a str,
    pub(crate) system_fingerprint: &'static str,
    pub(crate) choices: Vec<CompletionChoice>,
    pub(crate) usage: Usage,
}

/// One sample of one prompt.
#[derive(Serialize)]
pub(crate) struct CompletionChoice {
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) logprobs: Option<CompletionLogprobs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prompt_logprobs: Option<PromptLogprobs>,
    /// `None` while it goes on.
    pub(crate) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_reason: Option<StopReason>,
}

/// One event of a stream. The same object name as the whole answer, as OpenAI has it.
#[derive(Serialize)]
pub(crate) struct CompletionChunk<'a> {
    pub(crate) id: &'a str,
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: &'a str,
    pub(crate) system_fingerprint: &'static str,
    /// One, or none in the event that carries the usage.
    pub(crate) choices: &'a [CompletionChoice],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
}

/// Log-probabilities in the shape of completions: four arrays with one entry per token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct CompletionLogprobs {
    pub(crate) tokens: Vec<String>,
    /// `None` for a token that nothing precedes.
    pub(crate) token_logprobs: Vec<Option<f32>>,
    pub(crate) top_logprobs: Vec<Option<TopLogprobs>>,
    /// Where each token starts in the text, in characters.
    pub(crate) text_offset: Vec<usize>,
}

/// Text to log-probability, most likely first. A map on the wire, in which equal numbers are printed equally.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TopLogprobs(pub(crate) Vec<(String, f32)>);

impl Serialize for TopLogprobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, logprob) in &self.0 {
            map.serialize_entry(token, logprob)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<CompletionRequest, ApiError> {
        CompletionRequest::take(&mut Fields::parse(body.as_bytes()).unwrap())
    }

    fn message(body: &str) -> String {
        take(body).unwrap_err().to_string()
    }

    #[test]
    fn prompts_have_four_shapes() {
        let prompts = |prompt: &str| take(&format!(r#"{{"prompt": {prompt}}}"#)).unwrap().prompts;
        let text = |text: &str| Prompt::Text(text.into());
        assert_eq!(prompts(r#""a""#), [text("a")]);
        assert_eq!(prompts(r#"["a", "b"]"#), [text("a"), text("b")]);
        assert_eq!(prompts("[1, 2]"), [Prompt::Tokens(vec![1, 2])]);
        assert_eq!(prompts("[[1], [2, 3]]"), [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]);
    }

    #[test]
    fn bad_prompts_say_what_is_expected() {
        assert_eq!(message("{}"), "prompt is required");
        assert_eq!(message(r#"{"prompt": null}"#), "prompt is required");
        assert_eq!(message(r#"{"prompt": ""}"#), "prompt is empty; send at least one token of text");
        assert_eq!(message(r#"{"prompt": []}"#), "prompt is empty; send at least one token of text");
        assert_eq!(
            message(r#"{"prompt": ["a", ""]}"#),
            "prompt[1] is empty; send at least one token of text"
        );
        for prompt in ["3", "{}", "[-1]", "[1.5]", r#"["a", 1]"#, "[4294967296]", "[[[1]]]"] {
            let error = message(&format!(r#"{{"prompt": {prompt}}}"#));
            assert!(error.starts_with("prompt must be a string, a list of strings"), "{error}");
            assert!(error.ends_with(&format!("got {prompt}")), "{error}");
        }
        let many = serde_json::json!({"prompt": vec!["x"; MAX_PROMPTS + 1]}).to_string();
        assert_eq!(message(&many), "prompt has 33 prompts; at most 32 are allowed");
    }

    #[test]
    fn the_default_limit_is_sixteen_tokens() {
        let limit = |body| take(body).unwrap().params.max_tokens;
        assert_eq!(limit(r#"{"prompt": "a"}"#), Some(16));
        assert_eq!(limit(r#"{"prompt": "a", "max_tokens": null}"#), Some(16));
        assert_eq!(limit(r#"{"prompt": "a", "max_tokens": 3}"#), Some(3));
    }

    #[test]
    fn a_prompt_is_read_for_what_is_shown_of_it() {
        let read = |fields: &str| {
            let request = take(&format!(r#"{{"prompt": "a", {fields}}}"#)).unwrap();
            (request.params.logprobs, request.params.prompt_logprobs)
        };
        assert_eq!(read(r#""echo": true"#), (None, None));
        assert_eq!(read(r#""logprobs": 2"#), (Some(2), None));
        assert_eq!(read(r#""echo": true, "logprobs": 0"#), (Some(0), Some(0)));
        assert_eq!(read(r#""echo": true, "logprobs": 2, "prompt_logprobs": 5"#), (Some(2), Some(5)));
        assert_eq!(read(r#""echo": false, "logprobs": 2, "prompt_logprobs": 1"#), (Some(2), Some(1)));
        assert_eq!(read(r#""echo": null, "logprobs": null, "prompt_logprobs": null"#), (None, None));
    }

    #[test]
    fn no_tokens_may_be_asked_for_where_the_prompt_is_the_answer() {
        let limit = |fields: &str| take(&format!(r#"{{"prompt": "a", "max_tokens": 0{fields}}}"#));
        assert!(limit("").unwrap_err().to_string().starts_with("max_tokens is 0"));
        assert!(limit(r#", "echo": false, "logprobs": 1"#).is_err());
        for reads in [r#", "echo": true"#, r#", "prompt_logprobs": 0"#] {
            assert_eq!(limit(reads).unwrap().params.max_tokens, Some(0));
        }
    }

    #[test]
    fn equal_numbers_are_printed_equally() {
        let logprobs = CompletionLogprobs {
            tokens: vec!["a".into()],
            token_logprobs: vec![Some(-0.3)],
            top_logprobs: vec![Some(TopLogprobs(vec![("a".into(), -0.3), ("b".into(), -1.7)]))],
            text_offset: vec![0],
        };
        assert_eq!(
            serde_json::to_string(&logprobs).unwrap(),
            r#"{"tokens":["a"],"token_logprobs":[-0.3],"top_logprobs":[{"a":-0.3,"b":-1.7}],"text_offset":[0]}"#
        );
    }
}
