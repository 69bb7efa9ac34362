//! Why a request was not accepted.

use crate::RequestId;
use std::time::Duration;

/// A refusal; the scheduler is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// The id is in use.
    #[error("request {0} is known already; give each request an id of its own")]
    DuplicateId(RequestId),
    /// A field that must be positive is not.
    #[error("{field} is empty or 0; it must be at least 1")]
    Empty {
        /// Name of the field.
        field: &'static str,
    },
    /// The prompt leaves no room for a token.
    #[error("the prompt has {tokens} tokens; with a context of {max_model_len} it may have {}", max_model_len - 1)]
    TooLong {
        /// Tokens of the prompt.
        tokens: u32,
        /// Longest sequence.
        max_model_len: u32,
    },
    /// The prompt alone is larger than the pool.
    #[error(
        "the prompt needs {needed_blocks} KV blocks and the pool has {pool_blocks}; shorten it or enlarge the pool"
    )]
    NeverFits {
        /// Blocks of the prompt.
        needed_blocks: u32,
        /// Blocks in the pool.
        pool_blocks: u32,
    },
    /// The samples or beams alone are more than a batch holds.
    #[error(
        "{samples} samples or beams were asked for and a batch holds {max_num_seqs}; ask for fewer or raise \
         max_num_seqs"
    )]
    TooManySamples {
        /// Samples or beams of the request.
        samples: u16,
        /// Most rows of a step.
        max_num_seqs: u32,
    },
    /// More outputs than beams.
    #[error(
        "{samples} outputs were asked for of a search with {width} beams; ask for fewer or widen the search"
    )]
    NarrowBeam {
        /// Outputs asked for.
        samples: u16,
        /// Beams.
        width: u16,
    },
    /// The waiting queue is full.
    #[error("{requests} requests with {tokens} prompt tokens are waiting; try again in {} s", retry_after.as_secs_f32().ceil())]
    QueueFull {
        /// Waiting sequences.
        requests: u32,
        /// Their prompt tokens.
        tokens: u64,
        /// When there will be room, at the measured rate of admission; 1 to 30 seconds.
        retry_after: Duration,
    },
}
