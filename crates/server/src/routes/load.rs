//! `/load` and `/v1/loads`: how much there is to do, for routers.

use crate::state::ServerState;
use crate::wire::load::{Load, Loads, RankLoad};
use axum::Json;
use axum::extract::State;
use std::time::SystemTime;

/// Counts of requests and blocks.
pub(crate) async fn show(State(state): State<ServerState>) -> Json<Load> {
    let load = state.handle().snapshot();
    Json(Load {
        server_load: state.in_flight(),
        running: load.running,
        waiting: load.waiting,
        kv_used_blocks: load.used_blocks,
        kv_total_blocks: load.total_blocks,
    })
}

/// The same and more as SGLang has it, of the one engine that there is.
pub(crate) async fn list(State(state): State<ServerState>) -> Json<Loads> {
    let load = state.handle().snapshot();
    let of = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let block = u64::from(load.block_size);
    let rows = state.handle().config().scheduler.max_num_seqs;
    let rank = RankLoad {
        dp_rank: 0,
        num_running_reqs: load.running,
        num_waiting_reqs: load.waiting,
        num_waiting_uncached_tokens: load.waiting_tokens,
        num_total_reqs: load.running + load.waiting,
        num_used_tokens: load.used_blocks * block,
        max_total_num_tokens: load.total_blocks * block,
        token_usage: of(load.used_blocks, load.total_blocks),
        gen_throughput: state.throughput(),
        cache_hit_rate: of(load.prefix_hits, load.prefix_queries),
        utilization: of(load.running, u64::from(rows)),
        max_running_requests: rows,
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Json(Loads {
        timestamp: now.map_or(0.0, |since| since.as_secs_f64()),
        version: state.config().build.version.clone(),
        loads: [rank],
        dp_rank_count: 1,
    })
}
