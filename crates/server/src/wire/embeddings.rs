//! `/v1/embeddings`: the request as read, the response as written.

use crate::base64;
use crate::error::ApiError;
use crate::json::{Fields, mistyped};
use crate::wire::common::{take_cache_salt, take_deadlines, take_priority};
use crate::wire::completions::{Prompt, take_prompts};
use pagoda_engine::{Deadlines, Pooling, Priority};
use serde::Serialize;

/// Most inputs of one request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;

/// An embeddings request.
#[derive(Debug)]
pub(crate) struct EmbeddingRequest {
    pub(crate) model: Option<String>,
    /// At least one.
    pub(crate) inputs: Vec<Prompt>,
    pub(crate) encoding: Encoding,
    /// Elements to keep; `None` keeps all.
    pub(crate) dimensions: Option<u32>,
    pub(crate) pooling: Pooling,
    /// Let the tokenizer add its special tokens to texts.
    pub(crate) add_special_tokens: bool,
    pub(crate) priority: Priority,
    pub(crate) deadlines: Deadlines,
    pub(crate) cache_salt: Option<String>,
}

/// How a vector is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A list of numbers.
    Float,
    /// The little-endian bytes of the same numbers in single precision.
    Base64,
}

impl EmbeddingRequest {
    /// Takes the fields of an embeddings request; what is left in `fields` is unknown.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        if fields.take_raw("truncate_prompt_tokens").is_some() {
            return Err(ApiError::unsupported("truncate_prompt_tokens", "shorten the input"));
        }
        Ok(Self {
            model: fields.string("model")?,
            inputs: take_prompts(fields, "input", MAX_INPUTS)?,
            encoding: take_encoding(fields)?,
            dimensions: fields.count("dimensions")?,
            pooling: take_pooling(fields)?,
            add_special_tokens: fields.flag("add_special_tokens")?.unwrap_or(true),
            priority: take_priority(fields)?,
            deadlines: take_deadlines(fields)?,
            cache_salt: take_cache_salt(fields)?,
        })
    }
}

fn take_encoding(fields: &mut Fields<'_>) -> Result<Encoding, ApiError> {
    const NAME: &str = "encoding_format";
    match fields.take_raw(NAME) {
        None | Some("\"float\"") => Ok(Encoding::Float),
        Some("\"base64\"") => Ok(Encoding::Base64),
        Some(raw) => Err(mistyped(NAME, "\"float\" or \"base64\"", raw)),
    }
}

/// Which hidden states stand for an input, which OpenAI's interface does not have.
fn take_pooling(fields: &mut Fields<'_>) -> Result<Pooling, ApiError> {
    const NAME: &str = "pooling";
    match fields.take_raw(NAME) {
        None | Some("\"mean\"") => Ok(Pooling::Mean),
        Some("\"last\"") => Ok(Pooling::Last),
        Some(raw) => Err(mistyped(NAME, "\"mean\" or \"last\"", raw)),
    }
}

/// The answer.
#[derive(Serialize)]
pub(crate) struct EmbeddingList<'a> {
    pub(crate) object: &'static str,
    /// One per input, in order.
    pub(crate) data: Vec<Embedding>,
    pub(crate) model: &'a str,
    pub(crate) usage: EmbeddingUsage,
}

/// The vector of one input.
#[derive(Serialize)]
pub(crate) struct Embedding {
    pub(crate) object: &'static str,
    pub(crate) index: usize,
    pub(crate) embedding: Vector,
}

/// A vector of unit length.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Vector {
    /// As numbers.
    Float(Vec<f32>),
    /// As text.
    Base64(String),
}

impl Vector {
    pub(crate) fn new(elements: Vec<f32>, encoding: Encoding) -> Self {
        match encoding {
            Encoding::Float => Self::Float(elements),
            Encoding::Base64 => {
                let bytes: Vec<u8> = elements.iter().flat_map(|element| element.to_le_bytes()).collect();
                Self::Base64(base64::encode(&bytes))
            }
        }
    }
}

/// Token counts of one call.
#[derive(Serialize)]
pub(crate) struct EmbeddingUsage {
    pub(crate) prompt_tokens: u64,
    pub(crate) total_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<EmbeddingRequest, ApiError> {
        EmbeddingRequest::take(&mut Fields::parse(body.as_bytes()).unwrap())
    }

    #[test]
    fn null_means_the_default() {
        let nulls = take(
            r#"{"input": "a", "encoding_format": null, "dimensions": null, "pooling": null, "truncate_prompt_tokens": null}"#,
        );
        let request = nulls.unwrap();
        assert_eq!(
            (request.encoding, request.pooling, request.dimensions),
            (Encoding::Float, Pooling::Mean, None)
        );
    }

    #[test]
    fn faults_name_the_field() {
        for (body, says) in [
            ("{}", "input is required"),
            (r#"{"input": ""}"#, "input is empty"),
            (r#"{"input": ["a", ""]}"#, "input[1] is empty"),
            (r#"{"input": 3}"#, "input must be a string, a list of strings"),
            (
                r#"{"input": "a", "encoding_format": "hex"}"#,
                "encoding_format must be \"float\" or \"base64\", got",
            ),
            (r#"{"input": "a", "pooling": "max"}"#, "pooling must be \"mean\" or \"last\", got"),
            (r#"{"input": "a", "dimensions": -1}"#, "dimensions must be 0 or more"),
            (r#"{"input": "a", "truncate_prompt_tokens": 5}"#, "truncate_prompt_tokens is not offered"),
        ] {
            let message = take(body).unwrap_err().to_string();
            assert!(message.starts_with(says), "{body}: {message}");
        }
        let many = |count| serde_json::json!({"input": vec!["x"; count]}).to_string();
        assert!(take(&many(MAX_INPUTS)).is_ok());
        assert!(take(&many(MAX_INPUTS + 1)).unwrap_err().to_string().contains("at most 2048"));
    }

    #[test]
    fn base64_holds_little_endian_single_precision() {
        match Vector::new(vec![1.0, -0.5], Encoding::Base64) {
            Vector::Base64(text) => assert_eq!(text, "AACAPwAAAL8="),
            Vector::Float(_) => panic!("not as text"),
        }
    }
}
