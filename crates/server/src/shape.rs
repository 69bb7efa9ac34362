//! The two shapes of an answer.

mod chat;
mod completions;

pub(crate) use chat::ChatShape;
pub(crate) use completions::CompletionShape;

use crate::answer::{Answer, Call};
use crate::error::ApiError;
use crate::finish::Ending;
use crate::wire::common::Usage;
use axum::body::Bytes;
use pagoda_engine::{PromptResult, TokenInfo};
use std::collections::VecDeque;
use std::sync::Arc;

/// Says which build and which numerics made an answer.
const FINGERPRINT: &str = concat!("pagoda-", env!("CARGO_PKG_VERSION"));

/// Writes the parts of an answer as one endpoint's clients read them.
pub(crate) trait Shape: Send + 'static {
    /// State for the stream of a call.
    fn new(call: &Call) -> Self;

    /// What was found in the prompt of a choice, before anything else of it.
    fn prompt(&mut self, choice: usize, found: Arc<PromptResult>);

    /// More text of a choice.
    fn delta(&mut self, call: &Call, piece: Piece<'_>, out: &mut VecDeque<Bytes>);

    /// The end of a choice.
    fn finished(
        &mut self,
        call: &Call,
        choice: usize,
        end: (Ending, Option<Usage>),
        out: &mut VecDeque<Bytes>,
    );

    /// The end of all choices, if the usage was asked for.
    fn usage(&mut self, call: &Call, usage: Usage, out: &mut VecDeque<Bytes>);

    /// The answer in one body.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if it cannot be written.
    fn whole(call: &Call, answers: Vec<Answer>, usage: Usage) -> Result<Vec<u8>, ApiError>;
}

/// More text of a choice.
pub(crate) struct Piece<'a> {
    pub(crate) choice: usize,
    pub(crate) text: String,
    pub(crate) tokens: &'a [TokenInfo],
    /// Usage so far, if every event is to carry it.
    pub(crate) usage: Option<Usage>,
}
