//! `/tokenize` and `/detokenize`: requests as read, responses as written, in the words of vLLM and of llama.cpp.

use crate::error::ApiError;
use crate::json::Fields;
use crate::wire::chat::ChatRequest;
use pagoda_text::Special;
use serde::Serialize;

/// A text to tokenize.
#[derive(Debug)]
pub(crate) struct TokenizeRequest {
    pub(crate) model: Option<String>,
    pub(crate) source: Source,
    pub(crate) special: Special,
    /// Whether the text of a special token becomes that token.
    pub(crate) parse_special: bool,
    /// Field of the text, for messages.
    pub(crate) param: &'static str,
    pub(crate) answer: Answer,
}

/// Where the text comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Text(String),
    /// From messages and the chat template.
    Chat(Box<ChatRequest>),
}

/// In which words the answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// vLLM's, with the entries of the vocabulary if asked for.
    Counted { strings: bool },
    /// llama.cpp's, with the text of each token if asked for.
    Plain { pieces: bool },
}

impl TokenizeRequest {
    /// Takes the fields of a request; what is left in `fields` is unknown. The field with the text says whose words the
    /// others are.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        let (prompt, content) = (fields.string("prompt")?, fields.string("content")?);
        match (prompt, content, fields.has("messages")) {
            (Some(prompt), None, false) => Self::counted(fields, Source::Text(prompt), "prompt"),
            (None, Some(content), false) => Self::plain(fields, content),
            (None, None, true) => {
                let chat = Box::new(ChatRequest::take(fields)?);
                Self::counted(fields, Source::Chat(chat), "messages")
            }
            (None, None, false) => {
                let message = "prompt is required, or messages, or content";
                Err(ApiError::Field {
                    param: "prompt".into(),
                    fault: crate::FieldFault::MissingField,
                    message: message.into(),
                })
            }
            _ => {
                Err(ApiError::invalid("prompt", "prompt, messages and content exclude each other; send one"))
            }
        }
    }

    fn counted(fields: &mut Fields<'_>, source: Source, param: &'static str) -> Result<Self, ApiError> {
        let chat = matches!(source, Source::Chat(_));
        // A template writes the special tokens itself.
        let add = fields.flag("add_special_tokens")?.unwrap_or(!chat);
        let strings = fields.flag("return_token_strs")?.unwrap_or(false);
        let model = match &source {
            Source::Chat(chat) => chat.model.clone(),
            Source::Text(_) => fields.string("model")?,
        };
        let answer = Answer::Counted { strings };
        Ok(Self { model, source, special: special(add), parse_special: true, param, answer })
    }

    fn plain(fields: &mut Fields<'_>, content: String) -> Result<Self, ApiError> {
        let add = fields.flag("add_special")?.unwrap_or(false);
        let parse_special = fields.flag("parse_special")?.unwrap_or(true);
        if add && !parse_special {
            let message = "add_special is true and parse_special is false; special tokens are added to parsed text only";
            return Err(ApiError::invalid("parse_special", message));
        }
        let pieces = fields.flag("with_pieces")?.unwrap_or(false);
        let (model, source) = (fields.string("model")?, Source::Text(content));
        let answer = Answer::Plain { pieces };
        Ok(Self { model, source, special: special(add), parse_special, param: "content", answer })
    }
}

fn special(add: bool) -> Special {
    if add { Special::Add } else { Special::Skip }
}

/// vLLM's answer.
#[derive(Serialize)]
pub(crate) struct Counted<'a> {
    pub(crate) count: usize,
    pub(crate) max_model_len: u32,
    pub(crate) tokens: &'a [u32],
    pub(crate) token_strs: Option<Vec<String>>,
}

/// llama.cpp's answer.
#[derive(Serialize)]
pub(crate) struct Plain<T> {
    pub(crate) tokens: T,
}

/// A token with its text.
#[derive(Serialize)]
pub(crate) struct Piece<'a> {
    pub(crate) id: u32,
    pub(crate) piece: PieceText<'a>,
}

/// Text where it is some, else bytes.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum PieceText<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Tokens to make text of.
#[derive(Debug)]
pub(crate) struct DetokenizeRequest {
    pub(crate) model: Option<String>,
    pub(crate) tokens: Vec<u32>,
}

impl DetokenizeRequest {
    /// Takes the fields of a request; what is left in `fields` is unknown.
    ///
    /// # Errors
    /// Names the first field at fault.
    pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Self, ApiError> {
        let model = fields.string("model")?;
        let tokens = fields.take("tokens", "a list of token ids")?;
        Ok(Self { model, tokens: tokens.ok_or_else(|| ApiError::missing("tokens"))? })
    }
}

/// The text, under the names that vLLM and llama.cpp have for it.
#[derive(Serialize)]
pub(crate) struct Detokenized<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) content: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(body: &str) -> Result<TokenizeRequest, ApiError> {
        TokenizeRequest::take(&mut Fields::parse(body.as_bytes()).unwrap())
    }

    fn read(body: &str) -> (Special, &'static str, Answer) {
        let request = take(body).unwrap();
        (request.special, request.param, request.answer)
    }

    #[test]
    fn the_field_with_the_text_says_whose_words_the_others_are() {
        let counted = |strings| Answer::Counted { strings };
        let plain = |pieces| Answer::Plain { pieces };
        assert_eq!(read(r#"{"prompt": "x"}"#), (Special::Add, "prompt", counted(false)));
        assert_eq!(
            read(r#"{"prompt": "x", "add_special_tokens": false, "return_token_strs": true}"#),
            (Special::Skip, "prompt", counted(true))
        );
        assert_eq!(read(r#"{"messages": []}"#), (Special::Skip, "messages", counted(false)));
        assert_eq!(read(r#"{"content": ""}"#), (Special::Skip, "content", plain(false)));
        assert_eq!(
            read(r#"{"content": "x", "add_special": true, "with_pieces": true, "parse_special": true}"#),
            (Special::Add, "content", plain(true))
        );
    }

    #[test]
    fn one_text_is_needed_and_no_more() {
        let message = |body| take(body).unwrap_err().to_string();
        assert_eq!(message("{}"), "prompt is required, or messages, or content");
        assert!(message(r#"{"prompt": "x", "content": "x"}"#).contains("exclude each other"));
        assert!(message(r#"{"prompt": "x", "messages": []}"#).contains("exclude each other"));
        assert_eq!(message(r#"{"prompt": [1]}"#), "prompt must be a string, got [1]");
        assert!(
            message(r#"{"content": "x", "add_special": true, "parse_special": false}"#)
                .contains("parsed text only")
        );
        assert!(take(r#"{"prompt": "x", "content": null, "messages": null}"#).is_ok());
    }
}
