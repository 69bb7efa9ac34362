//! `/server_info`: what the server was started with.

use crate::state::ServerState;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::time::Duration;

/// The resolved configuration. Of keys it tells the number.
pub(crate) async fn show(State(state): State<ServerState>) -> Json<Value> {
    Json(json!({
        "version": state.config().build.version,
        "build": state.config().build,
        "model": model(&state),
        "engine": engine(&state),
        "server": server(&state),
    }))
}

fn model(state: &ServerState) -> Value {
    let (model, limits) = (state.model(), &state.model().limits);
    json!({
        "names": model.names,
        "aliases": state.config().aliases,
        "any_model_name": state.config().any_model_name,
        "max_model_len": model.max_model_len,
        "dtype": model.dtype,
        "quantization": model.quantization,
        "parameters": model.parameters,
        "chat": model.tokenizer.chat_template().is_some_and(|template| template.check().is_ok()),
        "limits": {
            "n": limits.samples,
            "stop_strings": limits.stop_strings,
            "stop_string_bytes": limits.stop_string_bytes,
            "stop_token_ids": limits.stop_token_ids,
            "logit_bias": limits.logit_bias,
            "top_logprobs": limits.top_logprobs,
        },
    })
}

fn engine(state: &ServerState) -> Value {
    let (config, load) = (state.handle().config(), state.handle().snapshot());
    let scheduler = &config.scheduler;
    json!({
        "max_num_seqs": scheduler.max_num_seqs,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "itl_target_ms": scheduler.itl_target.map(|target| target.as_secs_f64() * 1e3),
        "block_size": load.block_size,
        "kv_blocks": load.total_blocks,
        "prefix_cache": scheduler.prefix_cache,
        "max_pinned_blocks": scheduler.max_pinned_blocks,
        "max_waiting_requests": scheduler.max_waiting_requests,
        "max_waiting_tokens": scheduler.max_waiting_tokens,
        "ageing_seconds": scheduler.ageing.as_secs_f64(),
        "queue_timeout_seconds": seconds(config.deadlines.queue),
        "first_token_timeout_seconds": seconds(config.deadlines.first_token),
        "request_timeout_seconds": seconds(config.deadlines.total),
    })
}

fn server(state: &ServerState) -> Value {
    let config = state.config();
    json!({
        "api_keys": config.api_keys.len(),
        "protect_metrics": config.protect_metrics,
        "trust_tenant_header": config.trust_tenant_header,
        "share_prefix_cache": config.share_prefix_cache,
        "allowed_hosts": config.allowed_hosts.as_ref().map(|hosts| hosts.names()),
        "cors_origins": config.cors_origins.names(),
        "head_limits": config.head_limits,
        "body_limit": config.body_limit,
        "head_timeout_seconds": config.head_timeout.as_secs_f64(),
        "body_timeout_seconds": config.body_timeout.as_secs_f64(),
        "idle_timeout_seconds": config.idle_timeout.as_secs_f64(),
        "stall_timeout_seconds": config.stall_timeout.as_secs_f64(),
        "keep_alive_seconds": seconds(config.keep_alive),
        "shutdown_timeout_seconds": config.shutdown_timeout.as_secs_f64(),
        "max_connections": config.max_connections,
        "max_in_flight": config.max_in_flight,
        "max_in_flight_per_key": config.max_in_flight_per_key,
        "text_threads": config.text_threads,
    })
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}
