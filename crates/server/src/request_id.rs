//! Names of calls: every response carries `x-request-id`.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use pagoda_engine::RequestId;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id of a caller that is echoed; a longer one is replaced.
const LONGEST: usize = 128;

/// A fresh id.
pub(crate) fn fresh() -> String {
    format!("req_{}", RequestId::new())
}

/// Echoes the caller's `x-request-id` or makes one.
pub(crate) async fn tag(request: Request, next: Next) -> Response {
    let asked = request.headers().get(X_REQUEST_ID).filter(|id| is_echoable(id)).cloned();
    let id = asked.unwrap_or_else(|| HeaderValue::try_from(fresh()).expect("a fresh id is visible ASCII"));
    let mut response = next.run(request).await;
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

fn is_echoable(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    !id.is_empty() && id.len() <= LONGEST && id.iter().all(u8::is_ascii_graphic)
}
