//! `/load` and `/v1/loads`: the responses as written.

use serde::Serialize;

/// How much there is to do.
#[derive(Serialize)]
pub(crate) struct Load {
    /// Calls between their head and their last byte.
    pub(crate) server_load: usize,
    /// Samples in the batch.
    pub(crate) running: u64,
    /// Requests that wait.
    pub(crate) waiting: u64,
    pub(crate) kv_used_blocks: u64,
    pub(crate) kv_total_blocks: u64,
}

/// The loads of all engines in one process, of which there is one.
#[derive(Serialize)]
pub(crate) struct Loads {
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: f64,
    pub(crate) version: String,
    pub(crate) loads: [RankLoad; 1],
    pub(crate) dp_rank_count: u32,
}

/// The load of one engine.
#[derive(Serialize)]
pub(crate) struct RankLoad {
    pub(crate) dp_rank: u32,
    pub(crate) num_running_reqs: u64,
    pub(crate) num_waiting_reqs: u64,
    /// Prompt tokens that wait; those of them that are cached are known when they are looked up.
    pub(crate) num_waiting_uncached_tokens: u64,
    pub(crate) num_total_reqs: u64,
    /// Token slots of the KV blocks in use.
    pub(crate) num_used_tokens: u64,
    pub(crate) max_total_num_tokens: u64,
    /// Part of the KV blocks in use, 0 to 1.
    pub(crate) token_usage: f64,
    /// Tokens generated per second between the last two looks that were a second apart.
    pub(crate) gen_throughput: f64,
    /// Part of the prompt tokens that was cached, since the start, 0 to 1.
    pub(crate) cache_hit_rate: f64,
    /// Part of the rows in use, 0 to 1.
    pub(crate) utilization: f64,
    pub(crate) max_running_requests: u32,
}
