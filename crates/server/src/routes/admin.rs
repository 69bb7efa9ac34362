//! What only the operator may do.

use crate::error::ApiError;
use crate::json::excerpt;
use crate::reload::Reloaded;
use crate::request_id;
use crate::state::ServerState;
use crate::wire::cache::CacheReset;
use crate::wire::reload::ModelReload;
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

/// Loads the model anew; answers when calls meet it.
pub(crate) async fn reload(State(state): State<ServerState>) -> Result<Json<ModelReload>, ApiError> {
    let Some(reload) = &state.config().reload else {
        return Err(ApiError::NoSuchPath("this server cannot load its model anew; restart it".into()));
    };
    match reload.order().await {
        Reloaded::Done => {
            let (state, _) = state.enter();
            Ok(Json(ModelReload { object: "model.reload", model: state.model().name().to_owned() }))
        }
        Reloaded::Busy => Err(ApiError::Reloading),
        Reloaded::Failed(reason) => Err(ApiError::ReloadFailed(reason)),
        Reloaded::Gone => Err(ApiError::Draining),
    }
}

/// The requests of all tenants.
pub(crate) async fn list(State(state): State<ServerState>) -> Json<RequestList> {
    let all: Vec<_> = state.handles().iter().flat_map(|handle| handle.requests(None)).collect();
    Json(RequestList::new(&all, &|_| None))
}

/// Ends a request of any tenant.
pub(crate) async fn cancel(
    State(state): State<ServerState>,
    Path(name): Path<String>,
) -> Result<Json<Cancelled>, ApiError> {
    let id = request_id::parse(&name).filter(|&id| state.handles().iter().any(|handle| handle.cancel(id)));
    let id = id.ok_or_else(|| ApiError::NoSuchRequest(excerpt(&name).into_owned()))?;
    Ok(Json(Cancelled::new(id)))
}
