//! Errors in the shapes that clients of other interfaces read.

use crate::error::ApiError;
use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, HeaderName};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

/// Under this name Anthropic's clients look for the id of a call.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Whose clients read an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorShape {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}, "request_id"}`, with the further keys of OpenAI's beside them.
    Anthropic,
    /// `{"error": "message"}`.
    Ollama,
}

impl ErrorShape {
    /// Of the clients of a path, whether there is such a path or not.
    pub(crate) fn of(path: &str) -> Self {
        let bare = path.strip_prefix("/v1").unwrap_or(path);
        let below =
            |root: &str| bare.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below("/messages") {
            Self::Anthropic
        } else if path.starts_with("/api/") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }

    /// Writes the error of `response` anew, if it is one. `id` names the call.
    pub(crate) fn write(self, response: &mut Response, id: &HeaderValue) {
        if self == Self::Anthropic {
            response.headers_mut().insert(REQUEST_ID, id.clone());
        }
        let Some(error) = response.extensions_mut().remove::<ApiError>() else { return };
        let body = match self {
            Self::OpenAi => return,
            Self::Anthropic => anthropic(&error, id.to_str().ok()),
            Self::Ollama => json!({"error": error.to_string()}),
        };
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(body.to_string());
    }
}

/// The error as Anthropic's clients read it.
pub(crate) fn anthropic(error: &ApiError, id: Option<&str>) -> Value {
    let mut own = error.body()["error"].take();
    own["type"] = anthropic_type(error.status()).into();
    json!({"type": "error", "error": own, "request_id": id})
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_who_reads() {
        for (path, shape) in [
            ("/v1/messages", ErrorShape::Anthropic),
            ("/messages/count_tokens", ErrorShape::Anthropic),
            ("/v1/messagesx", ErrorShape::OpenAi),
            ("/v1/chat/completions", ErrorShape::OpenAi),
            ("/api/nothing", ErrorShape::Ollama),
            ("/v1", ErrorShape::OpenAi),
        ] {
            assert_eq!(ErrorShape::of(path), shape, "{path}");
        }
    }

    #[test]
    fn anthropic_has_types_of_its_own() {
        let error = anthropic(&ApiError::missing("max_tokens"), Some("req_1"));
        assert_eq!(
            error,
            json!({"type": "error", "error": {"message": "max_tokens is required", "type": "invalid_request_error",
                "param": "max_tokens", "code": "missing_field"}, "request_id": "req_1"})
        );
        assert_eq!(anthropic(&ApiError::Draining, None)["error"]["type"], "overloaded_error");
        assert_eq!(anthropic(&ApiError::internal(&"x"), None)["error"]["type"], "api_error");
    }
}
