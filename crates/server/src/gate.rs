//! What every request passes before a route sees it: limits of the head, the name of the server, the page that asks,
//! and the API key. What is not open by name needs a key, whatever its path looks like and whether it exists or not.

use crate::credential;
use crate::error::ApiError;
use crate::json;
use crate::state::ServerState;
use crate::tenant::{Admitted, TenantName};
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::ORIGIN;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use std::panic::AssertUnwindSafe;

/// Paths that answer to everybody, exactly as they are here.
const OPEN: [&str; 5] = ["/health", "/live", "/ready", "/ping", "/healthz"];

/// Open unless the server is told otherwise.
const METRICS: &str = "/metrics";

/// Lets a request on, or refuses it.
pub(crate) async fn pass(State(state): State<ServerState>, request: Request, next: Next) -> Response {
    let cors = &state.config().cors_origins;
    let (mut head, body) = request.into_parts();
    let origin = head.headers.get(ORIGIN).cloned();
    let mut response = match check(&state, &mut head) {
        Err(error) => {
            json::discard(body, state.config()).await;
            error.into_response()
        }
        Ok(Some(answer)) => answer,
        Ok(None) => contain(next.run(Request::from_parts(head, body))).await,
    };
    cors.write(origin, response.headers_mut());
    response
}

/// A defect of a route ends its own call, and the connection goes on. What routes share is whole after any panic.
async fn contain(route: impl Future<Output = Response>) -> Response {
    let answer = AssertUnwindSafe(route).catch_unwind().await;
    answer.unwrap_or_else(|_| ApiError::internal(&"a route panicked").into_response())
}

/// Checks a head in order of cost. Some requests are answered here.
fn check(state: &ServerState, head: &mut Parts) -> Result<Option<Response>, ApiError> {
    let config = state.config();
    config.head_limits.check(head)?;
    if let Some(hosts) = &config.allowed_hosts {
        hosts.check(&head.uri, &head.headers)?;
    }
    if let Some(answer) = config.cors_origins.preflight(&head.method, &head.headers) {
        return Ok(Some(answer));
    }
    config.cors_origins.check(&head.method, &head.headers)?;
    admit(state, head)?;
    Ok(None)
}

/// Looks for a key, and tells the routes which one it was.
fn admit(state: &ServerState, head: &mut Parts) -> Result<(), ApiError> {
    let config = state.config();
    if config.api_keys.is_empty() || is_open(head, config.protect_metrics) {
        return Ok(());
    }
    let mut presented = false;
    let valid = credential::presented(&head.headers).find(|key| {
        presented = true;
        config.api_keys.admits(key)
    });
    let name = valid.and_then(|key| TenantName::key(key).ok());
    let name = name.ok_or(ApiError::Unauthorized { presented })?;
    head.extensions.insert(Admitted::new(state.tenants(), &name));
    Ok(())
}

fn is_open(head: &Parts, protect_metrics: bool) -> bool {
    let path = head.uri.path();
    let open = OPEN.contains(&path) || (path == METRICS && !protect_metrics);
    open && matches!(head.method, Method::GET | Method::HEAD) && head.uri.authority().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_route_is_an_answer_that_tells_nothing_of_it() {
        let response = contain(async { panic!("a secret of the inside") }).await;
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("internal_error") && !text.contains("secret"), "{text}");
    }
}
