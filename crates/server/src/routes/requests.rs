//! `/v1/requests/{id}`.

use crate::error::ApiError;
use crate::json::excerpt;
use crate::request_id;
use crate::state::ServerState;
use crate::tenant::Caller;
use crate::wire::requests::RequestView;
use axum::Json;
use axum::extract::{Path, State};

/// Where a request of the caller's stands. The id is that of its response, or the call's `x-request-id`.
pub(crate) async fn show(
    State(state): State<ServerState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<RequestView>, ApiError> {
    let tenant = caller.tenant.id;
    let unknown = || ApiError::NoSuchRequest(excerpt(&name).into_owned());
    let id = state.calls().find(tenant, &name).or_else(|| request_id::parse(&name)).ok_or_else(unknown)?;
    let explanation = state.handle().explain(id, tenant).await.ok_or_else(unknown)?;
    Ok(Json(RequestView::new(id, caller.label, &explanation)))
}
