//! The shapes of an answer.

mod chat;
mod completions;
mod llama;
mod messages;
mod ollama;
mod responses;

pub(crate) use chat::ChatShape;
pub(crate) use completions::CompletionShape;
pub(crate) use llama::LlamaShape;
pub(crate) use messages::MessagesShape;
pub(crate) use ollama::{InMessage, InResponse, OllamaShape, now};
pub(crate) use responses::ResponsesShape;

use crate::answer::{Answer, Call, Spent};
use crate::error::ApiError;
use crate::finish::Ending;
use crate::said::Said;
use crate::sse::{DONE, event};
use crate::wire::common::Usage;
use axum::body::Bytes;
use pagoda_engine::{PromptResult, TokenInfo};
use std::collections::VecDeque;
use std::sync::Arc;

/// Says which build and which numerics made an answer.
const FINGERPRINT: &str = concat!("pagoda-", env!("CARGO_PKG_VERSION"));

/// Writes the parts of an answer as one endpoint's clients read them.
pub(crate) trait Shape: Send + 'static {
    /// What a stream is.
    const CONTENT_TYPE: &'static str = "text/event-stream; charset=utf-8";

    /// What keeps a silent stream open. An empty line is an empty event, which every reader skips; a comment breaks some.
    const KEEP_ALIVE: &'static [u8] = b"\n";

    /// State for the stream of a call.
    fn new(call: &Call) -> Self;

    /// What goes out before anything is known of the answer.
    fn begin(&mut self, _call: &Call, _out: &mut VecDeque<Bytes>) {}

    /// What was found in the prompt of a choice, before anything else of it.
    fn prompt(&mut self, _choice: usize, _found: Arc<PromptResult>) {}

    /// More of a choice.
    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>);

    /// The end of a choice.
    fn finished(&mut self, call: &Call, end: End, out: &mut VecDeque<Bytes>);

    /// The end of all choices.
    fn end(&mut self, call: &Call, usage: Usage, out: &mut VecDeque<Bytes>);

    /// The end of a stream that cannot go on.
    fn fail(&mut self, _call: &Call, error: &ApiError, out: &mut VecDeque<Bytes>) {
        out.extend([event(&error.body()), DONE]);
    }

    /// The answer in one body.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if it cannot be written.
    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Result<Vec<u8>, ApiError>;
}

/// More of a choice.
pub(crate) struct Piece<'a> {
    pub(crate) choice: usize,
    pub(crate) said: Said,
    pub(crate) tokens: &'a [TokenInfo],
    /// Usage so far, if every event is to carry it.
    pub(crate) usage: Option<Usage>,
}

/// The end of a choice.
pub(crate) struct End {
    pub(crate) choice: usize,
    /// What was held back.
    pub(crate) said: Said,
    pub(crate) ending: Ending,
    /// Usage so far, if every event is to carry it.
    pub(crate) usage: Option<Usage>,
    pub(crate) spent: Spent,
}

/// The only answer of a shape that has no place for several.
///
/// # Errors
/// [`ApiError::Internal`] if there is none.
fn only(answers: Vec<Answer>) -> Result<Answer, ApiError> {
    answers.into_iter().next().ok_or_else(|| ApiError::internal(&"a call without an answer"))
}
