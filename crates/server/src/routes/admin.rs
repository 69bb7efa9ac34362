//! What only the operator may do.

use crate::error::ApiError;
use crate::json::excerpt;
use crate::request_id;
use crate::state::ServerState;
use crate::wire::cache::CacheReset;
use crate::wire::requests::{Cancelled, RequestList};
use axum::Json;
use axum::extract::{Path, State};

/// Forgets every prefix that no request is using, pinned ones included.
pub(crate) async fn reset_cache(State(state): State<ServerState>) -> Result<Json<CacheReset>, ApiError> {
    state.check_ready()?;
    let cleared = state.handle().clear_prefix_cache().await;
    let forgotten_blocks =
        cleared.ok_or_else(|| ApiError::Unavailable("the engine takes no orders".into()))?;
    Ok(Json(CacheReset { object: "cache.reset", forgotten_blocks }))
}

/// The requests of all tenants.
pub(crate) async fn list(State(state): State<ServerState>) -> Json<RequestList> {
    Json(RequestList::new(&state.handle().requests(None), &|_| None))
}

/// Ends a request of any tenant.
pub(crate) async fn cancel(
    State(state): State<ServerState>,
    Path(name): Path<String>,
) -> Result<Json<Cancelled>, ApiError> {
    let id = request_id::parse(&name).filter(|&id| state.handle().cancel(id));
    let id = id.ok_or_else(|| ApiError::NoSuchRequest(excerpt(&name).into_owned()))?;
    Ok(Json(Cancelled::new(id)))
}
