//! `/v1/requests` and `/abort_request`: what a tenant has waiting and running.

use crate::error::ApiError;
use crate::json::{Fields, JsonBody, excerpt};
use crate::request_id;
use crate::state::ServerState;
use crate::tenant::Caller;
use crate::wire::requests::{Aborted, Cancelled, RequestList, RequestView};
use axum::Json;
use axum::extract::{Path, State};
use pagoda_engine::{EngineHandle, RequestId, TenantId};

/// Where a request of the caller's stands. The id is that of its response, or the call's `x-request-id`.
pub(crate) async fn show(
    State(state): State<ServerState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<RequestView>, ApiError> {
    let tenant = caller.tenant.id;
    let id = find(&state, tenant, &name).ok_or_else(|| unknown(&name))?;
    for handle in state.handles() {
        if let Some(explanation) = handle.explain(id, tenant).await {
            return Ok(Json(RequestView::new(id, caller.label, &explanation)));
        }
    }
    Err(unknown(&name))
}

/// All that the caller has waiting or running.
pub(crate) async fn list(State(state): State<ServerState>, caller: Caller) -> Json<RequestList> {
    let tenant = caller.tenant.id;
    let names = state.calls().names(tenant);
    let own: Vec<_> = state.handles().iter().flat_map(|handle| handle.requests(Some(tenant))).collect();
    Json(RequestList::new(&own, &|id| names.get(&id).cloned()))
}

/// Ends a request of the caller's after the running step.
pub(crate) async fn cancel(
    State(state): State<ServerState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Cancelled>, ApiError> {
    match end(&state, caller.tenant.id, &name) {
        Some(id) => Ok(Json(Cancelled::new(id))),
        None => Err(unknown(&name)),
    }
}

/// The same in SGLang's words. A request that is unknown or has ended is no error.
pub(crate) async fn abort(
    State(state): State<ServerState>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Json<Aborted>, ApiError> {
    let tenant = caller.tenant.id;
    let mut fields = Fields::parse(&body)?;
    let id = fields.string("rid")?;
    let id = fields.string("request_id")?.or(id);
    let all = fields.flag("abort_all")?.unwrap_or(false);
    state.note_unknown(fields.left());
    let cancelled = match id {
        _ if all => state.handles().iter().map(|handle| cancel_all(handle, tenant)).sum(),
        Some(id) => usize::from(end(&state, tenant, &id).is_some()),
        None => return Err(ApiError::missing("rid")),
    };
    Ok(Json(Aborted { object: "request.aborted", cancelled }))
}

/// Ends a request; `None` if there is none to end.
fn end(state: &ServerState, tenant: TenantId, name: &str) -> Option<RequestId> {
    let id = find(state, tenant, name)?;
    state.handles().iter().any(|handle| handle.cancel_own(id, tenant)).then_some(id)
}

/// How many requests of a tenant were ended.
fn cancel_all(handle: &EngineHandle, tenant: TenantId) -> usize {
    handle.requests(Some(tenant)).iter().filter(|request| handle.cancel_own(request.id, tenant)).count()
}

fn find(state: &ServerState, tenant: TenantId, name: &str) -> Option<RequestId> {
    state.calls().find(tenant, name).or_else(|| request_id::parse(name))
}

fn unknown(name: &str) -> ApiError {
    ApiError::NoSuchRequest(excerpt(name).into_owned())
}
