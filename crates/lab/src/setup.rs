//! What a run goes through: the scheduler's limits, the machine, the aims.

use crate::prompt::VOCABULARY;
use crate::{CostError, RuleSet, StepCost, StepWork};
use pagoda_sched::{ConfigError, KvCapacity, KvLayout, SchedulerConfig, Weight};
use std::time::Duration;

/// What a run goes through.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Limits of the scheduler, with all rules on.
    pub config: SchedulerConfig,
    /// Tokens per KV block.
    pub block_size: u32,
    /// KV blocks that can hold tokens.
    pub kv_blocks: u32,
    /// What a step costs.
    pub cost: StepCost,
    /// Rules that are switched off.
    pub without: RuleSet,
    /// Shares of tenants; others have 1.
    pub weights: Vec<(String, Weight)>,
    /// Longest wait before a request first runs; `None` is no limit.
    pub queue_timeout: Option<Duration>,
    /// What a good answer keeps.
    pub slo: Slo,
}

/// What a good answer keeps; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slo {
    /// Seconds to the first token.
    pub ttft: Option<f64>,
    /// Seconds per token after it, in the mean.
    pub tpot: Option<f64>,
    /// Seconds to the end.
    pub e2e: Option<f64>,
}

/// The defaults of `pagoda serve`, 65,536 tokens of KV blocks, and a queue without end.
impl Default for Setup {
    fn default() -> Self {
        Self {
            config: SchedulerConfig {
                max_num_seqs: 64,
                max_num_batched_tokens: 512,
                max_model_len: 32_768,
                max_waiting_requests: u32::MAX,
                max_waiting_tokens: u64::MAX,
                ..SchedulerConfig::default()
            },
            block_size: 16,
            kv_blocks: 4096,
            cost: StepCost::default(),
            without: RuleSet::NONE,
            weights: Vec::new(),
            queue_timeout: None,
            slo: Slo::default(),
        }
    }
}

/// Why a setup cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The limits contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The costs are no times.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The pool is larger than slots can be counted.
    #[error(
        "{kv_blocks} KV blocks of {block_size} tokens exceed the 2^32 slots of a pool; lower one of them"
    )]
    Pool {
        /// Blocks.
        kv_blocks: u32,
        /// Tokens per block.
        block_size: u32,
    },
    /// No step could be as short as the target.
    #[error(
        "an ITL target of {} ms is below the {:.1} ms that a step of one row costs; raise it",
        target.as_secs_f64() * 1e3,
        row_s * 1e3
    )]
    Target {
        /// The target.
        target: Duration,
        /// Seconds of a step with one row.
        row_s: f64,
    },
}

impl Setup {
    /// What the machine can hold.
    ///
    /// # Errors
    /// [`SetupError`] if that is more than a pool can be, or if costs or the ITL target make no sense.
    pub(crate) fn capacity(&self) -> Result<KvCapacity, SetupError> {
        let cost = self.cost.checked()?;
        let (kv_blocks, block_size) = (self.kv_blocks, self.block_size);
        let blocks = kv_blocks.checked_add(1).filter(|blocks| blocks.checked_mul(block_size).is_some());
        let blocks = blocks.ok_or(SetupError::Pool { kv_blocks, block_size })?;
        let row_s = cost.seconds(&StepWork::default().with(0, 1));
        if let Some(target) = self.config.itl_target.filter(|target| target.as_secs_f64() < row_s) {
            return Err(SetupError::Target { target, row_s });
        }
        let layout = KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            block_size,
            element_bytes: 2,
            scale_bytes: 0,
            blocks,
        };
        let max_context = self.config.max_model_len;
        Ok(KvCapacity { layout, max_context, vocab_size: VOCABULARY, window: None })
    }

    /// The share of a tenant.
    pub(crate) fn weight(&self, tenant: &str) -> Weight {
        self.weights
            .iter()
            .find(|(name, _)| name == tenant)
            .map_or_else(Weight::default, |(_, weight)| *weight)
    }
}
