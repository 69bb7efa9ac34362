//! What the engine thread sends to a session.

use crate::{PromptResult, RequestError, TokenInfo};
use pagoda_sched::{CompletionReason, RequestStats};
use std::sync::Arc;

/// One message of a sample's bounded channel, which has room for what is said of the prompt, `max_tokens` tokens and the end. A channel that
/// closes without an end means that the engine let go of the sample.
#[derive(Debug)]
pub(crate) enum Event {
    /// What was found in the prompt, once, before anything else, if it was asked for.
    Prompt(Arc<PromptResult>),
    /// A generated token.
    Token(TokenInfo),
    /// The end, exactly once.
    Ended(Box<Result<Ending, RequestError>>),
}

/// How a sample ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) reason: CompletionReason,
    pub(crate) stats: RequestStats,
}
