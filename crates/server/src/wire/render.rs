//! Rendered prompts: the responses as written.

use serde::Serialize;

/// A prompt as the model gets it.
#[derive(Serialize)]
pub(crate) struct Rendered {
    pub(crate) token_ids: Vec<u32>,
    /// The text that was tokenized, or that the given tokens stand for.
    pub(crate) prompt: String,
    pub(crate) count: usize,
    pub(crate) max_model_len: u32,
}

/// A prompt as text.
#[derive(Serialize)]
pub(crate) struct RenderedText {
    pub(crate) prompt: String,
}

/// The length of a prompt.
#[derive(Serialize)]
pub(crate) struct InputTokens {
    pub(crate) object: &'static str,
    pub(crate) input_tokens: usize,
}
