//! What a session answers with.

use crate::ticket::Ticket;
use crate::{PromptResult, SubmitError};
use pagoda_sched::{
    CompletionReason, Deadlines, Failure, RequestId, RequestStats, SampleIndex, TokenId, TokenLogprob,
};
use std::sync::Arc;
use std::time::Duration;

/// One generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// The token.
    pub token: TokenId,
    /// Its natural log-probability under the raw logits; 0 unless log-probabilities, `best_of` or a beam search were asked
    /// for.
    pub logprob: f32,
    /// The most likely tokens, most likely first; empty unless asked for.
    pub top: Box<[TokenLogprob]>,
}

/// One event of a session. What was found in the prompt, if that was asked for, any number of deltas, then exactly one `Finished` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// What was found in the prompt; all samples of a request share it. Only a sample that ends before its prompt is computed
    /// does not get it.
    Prompt(Arc<PromptResult>),
    /// More text. Several tokens may be joined, and a token without text of its own comes with the next text.
    Delta {
        /// Whole characters; empty only in the last delta, when tokens without text were left over.
        text: String,
        /// The tokens since the previous delta.
        tokens: Vec<TokenInfo>,
    },
    /// The request ran as asked and ended.
    Finished(Box<RequestResult>),
    /// The request could not be completed.
    Failed(RequestError),
}

/// A sample that ran to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestResult {
    /// The request.
    pub id: RequestId,
    /// Which of its samples.
    pub sample: SampleIndex,
    /// The whole text: all deltas joined.
    pub text: String,
    /// Generated tokens, a final stop token included, up to the one that completed a stop string.
    pub token_ids: Vec<TokenId>,
    /// Number of generated tokens; the length of `token_ids`.
    pub tokens_generated: u32,
    /// Sum of the log-probabilities of `token_ids`; 0 unless log-probabilities, `best_of` or a beam search were asked for.
    pub cumulative_logprob: f64,
    /// Why it ended.
    pub reason: CompletionReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Prompt tokens taken from the prefix cache.
    pub cached_tokens: u32,
    /// Times the sample was preempted.
    pub preemptions: u32,
    /// From arrival to the end.
    pub processing_time: Duration,
    /// From arrival to the first step that included the request; `None` if it never ran.
    pub queue_time: Option<Duration>,
    /// From arrival to the first generated token; `None` if there was none.
    pub time_to_first_token: Option<Duration>,
    /// Time limits that were in force.
    pub deadlines: Deadlines,
    /// Those that the request itself asked for; where they were longer, the engine's own were in force.
    pub asked: Deadlines,
}

impl RequestResult {
    /// Mean log-probability per token; negative infinity without tokens.
    pub fn mean_logprob(&self) -> f64 {
        match self.tokens_generated {
            0 => f64::NEG_INFINITY,
            tokens => self.cumulative_logprob / f64::from(tokens),
        }
    }

    pub(crate) fn new(
        ticket: &Ticket,
        sample: SampleIndex,
        reason: CompletionReason,
        stats: &RequestStats,
        (text, token_ids, cumulative_logprob): (String, Vec<TokenId>, f64),
    ) -> Self {
        Self {
            id: ticket.id,
            sample,
            text,
            tokens_generated: token_ids.len() as u32,
            token_ids,
            cumulative_logprob,
            reason,
            prompt_tokens: stats.prompt_tokens,
            cached_tokens: stats.cached_tokens,
            preemptions: stats.preemptions,
            processing_time: stats.processing_time,
            queue_time: stats.queue_time,
            time_to_first_token: stats.time_to_first_token,
            deadlines: ticket.deadlines,
            asked: ticket.asked,
        }
    }
}

/// The `n` results of highest mean log-probability per token, best first; among equals in the order given. One without
/// tokens comes last.
///
/// The samples of a request with [`GenerateParams::best_of`](crate::GenerateParams::best_of) above `n` carry the
/// log-probabilities that this needs.
pub fn best_of(mut results: Vec<RequestResult>, n: usize) -> Vec<RequestResult> {
    results.sort_by(|one, other| other.mean_logprob().total_cmp(&one.mean_logprob()));
    results.truncate(n);
    results
}

/// Why an accepted request was not completed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The model failed on this request, or on the step that it was part of.
    #[error(transparent)]
    Model(#[from] Failure),
    /// The scheduler refused the request after the handle had accepted it.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// The client left more unread than [`GenerateParams::max_unread`](crate::GenerateParams::max_unread) lets wait.
    #[error("the client reads too slowly: what it had not read was more than is kept for it")]
    TooSlow,
    /// The engine was shut down before the request ended.
    #[error("the engine was shut down before the request was finished")]
    Shutdown,
    /// The engine stopped on an internal error.
    #[error("the engine failed and the request was ended; the process has to be restarted")]
    EngineFailed,
}
