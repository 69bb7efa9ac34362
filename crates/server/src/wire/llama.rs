//! Requests of llama.cpp's clients, in the words of completions.

use crate::error::ApiError;
use crate::json::{Fields, mistyped};
use crate::wire::completions::{CompletionRequest, Prompt};
use crate::wire::nested::{Nested, list};
use serde_json::{Value, json};

/// A request of `/completion`.
#[derive(Debug)]
pub(crate) struct LlamaRequest {
    pub(crate) completion: CompletionRequest,
}

impl LlamaRequest {
    /// Takes the fields of a request; what is left in `fields` is unknown.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        let (limit, probabilities) = take_own(fields)?;
        let completion = CompletionRequest::take(fields)?;
        Ok(Self::new(completion, limit, probabilities))
    }

    fn new(mut completion: CompletionRequest, limit: Option<u32>, probabilities: Option<u32>) -> Self {
        completion.params.max_tokens = limit;
        completion.params.logprobs = probabilities;
        completion.shown.logprobs = probabilities.map(|most| most as usize);
        Self { completion }
    }

    /// What the answer repeats.
    pub(crate) fn repeated(&self) -> Value {
        let params = &self.completion.params;
        let prompt = match self.completion.prompts.as_slice() {
            [Prompt::Text(text)] => text.as_str().into(),
            _ => Value::Null,
        };
        json!({"prompt": prompt, "generation_settings": {
            "n_predict": params.max_tokens.map_or(-1, i64::from),
            "temperature": params.temperature,
            "top_k": params.top_k,
            "top_p": params.top_p,
            "min_p": params.min_p,
            "seed": params.seed,
            "stop": params.stop,
            "ignore_eos": params.ignore_eos,
        }})
    }
}

/// Takes what has other names here: the limit, below 0 as many as there is room for, and the numbers beside tokens.
fn take_own(fields: &mut Fields<'_>) -> Result<(Option<u32>, Option<u32>), ApiError> {
    let limit = match (fields.integer("n_predict")?, fields.count("max_tokens")?) {
        (Some(0), _) | (None, Some(0)) => {
            return Err(ApiError::invalid("n_predict", "n_predict is 0; allowed: 1 or more, or -1"));
        }
        (Some(limit), _) => u32::try_from(limit.clamp(-1, i64::from(u32::MAX))).ok(),
        (None, limit) => limit,
    };
    let probabilities = fields.count("n_probs")?.filter(|&most| most > 0);
    if probabilities.is_some_and(|most| most > 20) {
        return Err(ApiError::invalid("n_probs", "n_probs is too large; allowed: 0 to 20"));
    }
    Ok((limit, probabilities))
}

/// A request of `/infill`.
#[derive(Debug)]
pub(crate) struct InfillRequest {
    /// Everything but the texts; its prompt is none.
    pub(crate) llama: LlamaRequest,
    prefix: String,
    pub(crate) suffix: String,
    /// What the answer goes on with.
    pub(crate) prompt: String,
    /// Names and texts of other files.
    extra: Vec<(String, String)>,
}

impl InfillRequest {
    /// Takes the fields of a request; what is left in `fields` is unknown.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        let prefix = fields.string("input_prefix")?.ok_or_else(|| ApiError::missing("input_prefix"))?;
        let suffix = fields.string("input_suffix")?.ok_or_else(|| ApiError::missing("input_suffix"))?;
        let prompt = fields.string("prompt")?.unwrap_or_default();
        let extra = take_extra(fields)?;
        let (limit, probabilities) = take_own(fields)?;
        let completion = CompletionRequest::take_prompted(fields, vec![Prompt::Tokens(Vec::new())])?;
        Ok(Self { llama: LlamaRequest::new(completion, limit, probabilities), prefix, suffix, prompt, extra })
    }

    /// The text before the gap, with the other files before it.
    pub(crate) fn before(&self) -> String {
        let mut text = String::new();
        for (name, content) in &self.extra {
            text += &format!("--- {name} ---\n{content}\n\n");
        }
        text + &self.prefix
    }
}

fn take_extra(fields: &mut Fields<'_>) -> Result<Vec<(String, String)>, ApiError> {
    const NAME: &str = "input_extra";
    let Some(given) = fields.value(NAME)? else { return Ok(Vec::new()) };
    if !given.is_array() {
        return Err(mistyped(NAME, "a list of objects with filename and text", &given.to_string()));
    }
    let file = |(path, file): (String, &Value)| {
        let file = Nested::of(file, path)?;
        let name = file.text("filename")?.unwrap_or("snippet");
        Ok((name.to_owned(), file.need_text("text")?.to_owned()))
    };
    list(&given, NAME)?.into_iter().map(file).collect()
}
