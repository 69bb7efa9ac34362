//! How a request ends.

use std::fmt;
use std::time::Duration;

/// Why a request that ran as asked came to its end. A failure is not a reason; see [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompletionReason {
    /// A stop id of the request or of the model was generated.
    Eos,
    /// `max_tokens` were generated.
    MaxTokens,
    /// The client cancelled or went away.
    Cancelled,
    /// Another length limit was met.
    LengthLimit(LengthKind),
    /// A stop string appeared in the text; the string.
    StopString(String),
    /// A deadline passed.
    Timeout(DeadlineKind),
    /// The output repeated itself beyond the limit.
    Repetition,
}

/// Which length limit ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthKind {
    /// The model's context is full.
    Context,
    /// The KV pool cannot hold a longer sequence, even alone.
    Pool,
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineKind {
    /// Waited too long before it was first scheduled.
    Queue,
    /// Waited too long for the first token.
    FirstToken,
    /// Took too long in all.
    Total,
}

impl fmt::Display for DeadlineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "queue",
            Self::FirstToken => "first token",
            Self::Total => "total",
        })
    }
}

impl CompletionReason {
    /// A short, stable name for logs and metric labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::MaxTokens => "max_tokens",
            Self::Cancelled => "cancelled",
            Self::LengthLimit(_) => "length_limit",
            Self::StopString(_) => "stop_string",
            Self::Timeout(_) => "timeout",
            Self::Repetition => "repetition",
        }
    }
}

/// A fault that ended a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The logits of a row were not finite.
    #[error("the model produced non-finite logits at position {position}; the request was ended")]
    NonFiniteLogits {
        /// Absolute position of the token that was to be sampled.
        position: u32,
    },
    /// No token can follow within the constraint of the request, or finding it takes more work than is allowed.
    #[error(
        "the constraint on the output became too complex at position {position}, or nothing can follow there; the request \
         was ended; make the constraint smaller"
    )]
    Constraint {
        /// Absolute position of the token that was to be sampled.
        position: u32,
    },
    /// The step that the request was part of failed.
    #[error("the model step failed: {0}")]
    Step(String),
}

/// What the scheduler measured about one finished sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestStats {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub generated_tokens: u32,
    /// Prompt tokens taken from the prefix cache when the request was first admitted.
    pub cached_tokens: u32,
    /// Times the sample was preempted.
    pub preemptions: u32,
    /// From arrival to the first step that included the request; `None` if it never ran.
    pub queue_time: Option<Duration>,
    /// From arrival to the first generated token; `None` if there was none.
    pub time_to_first_token: Option<Duration>,
    /// From arrival to the end.
    pub processing_time: Duration,
}
