//! Names of calls: every response carries `x-request-id`.

use crate::error_shape::ErrorShape;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use pagoda_engine::RequestId;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id of a caller that is echoed; a longer one is replaced.
const LONGEST: usize = 128;

/// What ids of ours begin with.
const FRESH: &str = "req_";

/// A fresh id.
pub(crate) fn fresh() -> String {
    format!("{FRESH}{}", RequestId::new())
}

/// Echoes the caller's `x-request-id` or makes one, and gives errors the shape that the path's clients read.
pub(crate) async fn tag(request: Request, next: Next) -> Response {
    let asked = asked(request.headers()).cloned();
    let errors = ErrorShape::of(request.uri().path());
    let mut response = next.run(request).await;
    // A route may have named the call after what it has made.
    let made = response.headers().get(X_REQUEST_ID).cloned();
    let id = asked.or(made).unwrap_or_else(|| value(&fresh()));
    errors.write(&mut response, &id);
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

/// The id that the caller gave, if it is one that is echoed.
pub(crate) fn asked(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(X_REQUEST_ID).filter(|id| is_echoable(id))
}

/// The id of a call that is answered by one request or several, of which this is the first.
pub(crate) fn of(first: RequestId) -> HeaderValue {
    value(&text_of(first))
}

/// The same as text.
pub(crate) fn text_of(first: RequestId) -> String {
    format!("{FRESH}{first}")
}

/// The request that an id of ours names: hexadecimal digits behind a prefix such as `req_`, `cmpl-` or `chatcmpl-`.
pub(crate) fn parse(id: &str) -> Option<RequestId> {
    let digits = id.rsplit(['_', '-']).next().filter(|digits| digits.len() == 32)?;
    digits.parse().ok().map(RequestId)
}

fn value(id: &str) -> HeaderValue {
    HeaderValue::try_from(id).expect("an id of ours is visible ASCII")
}

fn is_echoable(id: &HeaderValue) -> bool {
    let id = id.as_bytes();
    !id.is_empty() && id.len() <= LONGEST && id.iter().all(u8::is_ascii_graphic)
}
