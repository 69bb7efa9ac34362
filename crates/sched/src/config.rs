//! What bounds a scheduler.

use crate::KvCapacity;
use std::time::Duration;

/// Limits of a [`Scheduler`](crate::Scheduler). Every queue and every step is bounded by one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Most rows of a step, counting each sample of a request.
    pub max_num_seqs: u32,
    /// Most tokens of a step; at least `max_num_seqs`, so that no decode row ever waits for prefill.
    pub max_num_batched_tokens: u32,
    /// Most prefill tokens of one row in one step.
    pub max_prefill_chunk: u32,
    /// Longest time that a step with decode rows should take, and so the gap between two tokens of a stream; `None` is 1.75
    /// times that of decode rows alone, as measured, and up to four times as much while requests wait for their prefill.
    pub itl_target: Option<Duration>,
    /// Longest sequence, prompt and output together, in tokens.
    pub max_model_len: u32,
    /// Most waiting sequences.
    pub max_waiting_requests: u32,
    /// Most prompt tokens of all waiting sequences together.
    pub max_waiting_tokens: u64,
    /// Waiting this long raises the effective class by one.
    pub ageing: Duration,
    /// Share of the pool that admission leaves free, in percent.
    pub watermark_percent: u32,
    /// When waiting requests may join.
    pub batching: Batching,
    /// What admission sets aside for what sequences have yet to generate.
    pub reservation: Reservation,
    /// Whether requests share the blocks of equal prefixes.
    pub prefix_cache: bool,
    /// Most KV blocks that requests can pin; at most half of the pool, because no sequence can count on them.
    pub max_pinned_blocks: u32,
    /// Share of the pool that can be kept for a time, in percent. Those blocks are still taken when no others are left.
    pub max_kept_percent: u32,
    /// Key of the prefix hash.
    pub hash_seed: u64,
    /// Significant bits of the prefix hash; fewer only make collisions likelier.
    pub hash_bits: u32,
}

/// When waiting requests may join the batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// At every step.
    #[default]
    Continuous,
    /// A baseline to compare with: once the batch is empty, as many as wait at that time and fit. Rows still leave when
    /// they end.
    Static,
}

/// What admission sets aside for what sequences have yet to generate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reservation {
    /// Half of the growth that the outputs of the class let expect; preemption makes up for what comes beyond.
    #[default]
    Expected,
    /// A baseline to compare with: blocks for `max_tokens`, as storage in one piece needs. Nothing is preempted for a block.
    WorstCase,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            max_num_seqs: 256,
            max_num_batched_tokens: 2048,
            max_prefill_chunk: u32::MAX,
            itl_target: None,
            max_model_len: u32::MAX,
            max_waiting_requests: 256,
            max_waiting_tokens: 1 << 20,
            ageing: Duration::from_secs(5),
            watermark_percent: 1,
            batching: Batching::Continuous,
            reservation: Reservation::Expected,
            prefix_cache: true,
            max_pinned_blocks: 0,
            max_kept_percent: 25,
            hash_seed: 0,
            hash_bits: 32,
        }
    }
}

impl SchedulerConfig {
    /// The configuration that holds over `capacity`: the model length is cut to what the executor computes.
    pub(crate) fn validated(mut self, capacity: &KvCapacity) -> Result<Self, ConfigError> {
        self.max_model_len = self.max_model_len.min(capacity.max_context);
        let counts = [
            ("max_num_seqs", u64::from(self.max_num_seqs)),
            ("max_prefill_chunk", u64::from(self.max_prefill_chunk)),
            ("max_model_len", u64::from(self.max_model_len)),
            ("max_waiting_requests", u64::from(self.max_waiting_requests)),
            ("max_waiting_tokens", self.max_waiting_tokens),
            ("block_size", u64::from(capacity.layout.block_size)),
        ];
        if let Some(&(field, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero { field });
        }
        if self.itl_target.is_some_and(|target| target.is_zero()) {
            return Err(ConfigError::Zero { field: "itl_target" });
        }
        if capacity.layout.blocks < 2 {
            return Err(ConfigError::EmptyPool { blocks: capacity.layout.blocks });
        }
        if self.max_num_batched_tokens < self.max_num_seqs {
            return Err(ConfigError::TokensBelowSeqs {
                max_num_batched_tokens: self.max_num_batched_tokens,
                max_num_seqs: self.max_num_seqs,
            });
        }
        if self.watermark_percent > 50 {
            return Err(ConfigError::Watermark { percent: self.watermark_percent });
        }
        let (pinned, blocks) = (self.max_pinned_blocks, capacity.layout.blocks - 1);
        if pinned > blocks / 2 {
            return Err(ConfigError::Pinned { pinned, blocks });
        }
        if self.max_kept_percent > 100 {
            return Err(ConfigError::Kept { percent: self.max_kept_percent });
        }
        Ok(self)
    }
}

/// A configuration under which the scheduler could not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A limit that must be positive is zero.
    #[error("{field} is 0; it must be at least 1")]
    Zero {
        /// Name of the limit.
        field: &'static str,
    },
    /// The pool holds nothing beside the null block.
    #[error("the KV pool has {blocks} blocks; it needs at least 2, because block 0 never holds tokens")]
    EmptyPool {
        /// Blocks in the pool, the null block included.
        blocks: u32,
    },
    /// A full batch would not fit one step.
    #[error(
        "max_num_batched_tokens ({max_num_batched_tokens}) is below max_num_seqs ({max_num_seqs}); \
         raise the first or lower the second, so that each sequence can decode in every step"
    )]
    TokensBelowSeqs {
        /// Token budget of a step.
        max_num_batched_tokens: u32,
        /// Most rows of a step.
        max_num_seqs: u32,
    },
    /// Too much of the pool could be pinned.
    #[error("max_pinned_blocks is {pinned}; it must be at most half of the pool's {blocks} blocks")]
    Pinned {
        /// The value given.
        pinned: u32,
        /// Blocks in the pool, without the null block.
        blocks: u32,
    },
    /// More than the whole pool.
    #[error("max_kept_percent is {percent}; it must be at most 100")]
    Kept {
        /// The value given.
        percent: u32,
    },
    /// Too much of the pool would stay unused.
    #[error("watermark_percent is {percent}; it must be at most 50")]
    Watermark {
        /// The value given.
        percent: u32,
    },
}
