//! Figures of a scheduler at one moment.

use std::time::Duration;

/// Snapshot of a [`Scheduler`](crate::Scheduler). Counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerStats {
    /// Running sequences.
    pub running: u32,
    /// Waiting sequences, preempted ones included.
    pub waiting: u32,
    /// Waiting sequences per class, lowest class first.
    pub waiting_by_class: [u32; 4],
    /// Prompt tokens of the waiting sequences.
    pub waiting_tokens: u64,
    /// Blocks in the pool, without the null block.
    pub kv_blocks_total: u32,
    /// Blocks held by sequences; a shared block counts once.
    pub kv_blocks_used: u32,
    /// Free blocks with cached content that can be allocated.
    pub kv_blocks_cached: u32,
    /// Blocks that are kept for a time, held ones included.
    pub kv_blocks_kept: u32,
    /// Pinned blocks, held ones included.
    pub kv_blocks_pinned: u32,
    /// How long the request that has waited longest has done so.
    pub oldest_wait: Duration,
    /// Everything that is counted.
    pub counters: Counters,
}

impl SchedulerStats {
    /// Blocks in use in percent; 0 for an empty pool.
    pub fn kv_usage_percent(&self) -> f64 {
        if self.kv_blocks_total == 0 {
            return 0.0;
        }
        100.0 * f64::from(self.kv_blocks_used) / f64::from(self.kv_blocks_total)
    }
}

/// What happened since the scheduler was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Steps committed, failed ones included.
    pub steps: u64,
    /// Steps that failed as a whole.
    pub failed_steps: u64,
    /// Requests accepted.
    pub accepted: u64,
    /// Requests refused.
    pub refused: u64,
    /// Samples that finished.
    pub finished: u64,
    /// Samples that failed.
    pub failed: u64,
    /// Tokens that prompts and resumed sequences looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Of those, tokens found.
    pub prefix_hits: u64,
    /// Tokens computed.
    pub computed_tokens: u64,
    /// Of those, tokens that had been computed before a preemption.
    pub recomputed_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Prompt tokens of admitted requests, cached or not.
    pub prompt_tokens: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Of those, preemptions to let a higher class in.
    pub displaced: u64,
    /// Steps that had both decode rows and prefill.
    pub paced_steps: u64,
    /// Of those, steps that took longer than the ITL target.
    pub late_steps: u64,
    /// Microseconds that steps took.
    pub step_micros: u64,
    /// Microseconds by which steps took longer or shorter than predicted.
    pub misjudged_micros: u64,
}

impl Counters {
    /// Adds the counts of another scheduler.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.failed_steps += other.failed_steps;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.finished += other.finished;
        self.failed += other.failed;
        self.prefix_queries += other.prefix_queries;
        self.prefix_hits += other.prefix_hits;
        self.computed_tokens += other.computed_tokens;
        self.recomputed_tokens += other.recomputed_tokens;
        self.generated_tokens += other.generated_tokens;
        self.prompt_tokens += other.prompt_tokens;
        self.preemptions += other.preemptions;
        self.displaced += other.displaced;
        self.paced_steps += other.paced_steps;
        self.late_steps += other.late_steps;
        self.step_micros += other.step_micros;
        self.misjudged_micros += other.misjudged_micros;
    }
}
