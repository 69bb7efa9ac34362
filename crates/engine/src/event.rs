//! What the engine thread sends to a session.

use crate::{RequestError, TokenInfo};
use pagoda_sched::{CompletionReason, RequestStats};

/// One message of a sample's bounded channel, which has room for `max_tokens` tokens and the end.
#[derive(Debug)]
pub(crate) enum Event {
    /// A generated token.
    Token(TokenInfo),
    /// The end, exactly once.
    Ended(Box<Result<Ending, RequestError>>),
    /// The engine let go of the sample without an answer.
    Lost,
}

/// How a sample ended.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) reason: CompletionReason,
    pub(crate) stats: RequestStats,
}
