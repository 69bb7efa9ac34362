//! `/v1/cache/reset`.

use crate::error::ApiError;
use crate::state::ServerState;
use crate::wire::cache::CacheReset;
use axum::Json;
use axum::extract::State;

/// Forgets every prefix that no request is using, pinned ones included.
pub(crate) async fn reset(State(state): State<ServerState>) -> Result<Json<CacheReset>, ApiError> {
    if !state.config().allow_cache_reset {
        return Err(ApiError::NotAllowed { flag: "--allow-cache-reset" });
    }
    state.check_ready()?;
    let cleared = state.handle().clear_prefix_cache().await;
    let forgotten_blocks =
        cleared.ok_or_else(|| ApiError::Unavailable("the engine takes no orders".into()))?;
    Ok(Json(CacheReset { object: "cache.reset", forgotten_blocks }))
}
