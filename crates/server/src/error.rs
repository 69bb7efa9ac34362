//! Everything that can go wrong with a call, and its one translation to HTTP.

use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use pagoda_engine::{
    AdapterError, DeadlineKind, Failure, InvalidCode, InvalidRequest, RequestError, SubmitError,
};
use pagoda_text::TextError;
use serde_json::{Map, Value, json};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Longest time that a client is asked to stay away for the sake of others.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Types of errors.
const INVALID: &str = "invalid_request_error";
const DOWN: &str = "unavailable_error";

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// What is wrong with the value of a request field. Becomes the `code` of the error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldFault {
    /// The value has the wrong type or is out of range.
    InvalidValue,
    /// A field that must be there is not.
    MissingField,
    /// The field asks for something that this server does not offer.
    UnsupportedField,
}

impl FieldFault {
    fn code(self) -> &'static str {
        match self {
            Self::InvalidValue => "invalid_value",
            Self::MissingField => "missing_field",
            Self::UnsupportedField => "unsupported_field",
        }
    }
}

/// Why a call was not answered as asked.
///
/// `Display` is the message that the client reads. Messages name the field, the value and what to do, and hold
/// nothing of the server's inside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The body is not a JSON object.
    #[error("{0}")]
    InvalidJson(String),
    /// A field of the body is at fault.
    #[error("{message}")]
    Field {
        /// Path of the field, such as `messages[2].content`.
        param: String,
        /// What is wrong with it.
        fault: FieldFault,
        /// The message.
        message: String,
    },
    /// The prompt alone is longer than the context.
    #[error("{message}")]
    ContextLength {
        /// Field that holds the prompt.
        param: &'static str,
        /// Tokens of the prompt.
        prompt: u32,
        /// Tokens of the context.
        context: u32,
        /// The message.
        message: String,
    },
    /// The body names a model that is not loaded.
    #[error("the model {asked:?} is not loaded{}{}", if loaded.is_empty() { "" } else { "; this server has: " }, loaded.join(", "))]
    ModelNotFound {
        /// The name in the request.
        asked: String,
        /// The names that would work.
        loaded: Vec<String>,
    },
    /// No route has this path.
    #[error("{0}")]
    NoSuchPath(String),
    /// The caller has no request of this id waiting or running.
    #[error("no request {0} of yours waits or runs")]
    NoSuchRequest(String),
    /// The path exists, but not with this method.
    #[error("{path} does not accept {method}; use {allowed}")]
    MethodNotAllowed {
        /// The path asked for.
        path: String,
        /// The method asked for.
        method: String,
        /// The methods that would work, as the `Allow` header lists them.
        allowed: &'static str,
    },
    /// No valid API key.
    #[error("{}", match presented {
        true => "the API key is not one that this server takes",
        false => "this server needs an API key: send the header `authorization: Bearer KEY`, `x-api-key` or `api-key`",
    })]
    Unauthorized {
        /// Whether there was any.
        presented: bool,
    },
    /// The server was asked for under a name that it does not have.
    #[error(
        "this server does not answer to the name {host:?}; its operator can add names with --allowed-hosts"
    )]
    HostNotAllowed {
        /// The name.
        host: String,
    },
    /// A web page of another origin asked.
    #[error(
        "web pages of {origin:?} may not call this server; its operator can allow them with --cors-origins"
    )]
    OriginNotAllowed {
        /// The origin.
        origin: String,
    },
    /// Path and query are longer than the limit.
    #[error("path and query are longer than the limit of {limit} bytes")]
    UriTooLong {
        /// The limit, bytes.
        limit: usize,
    },
    /// The request head is larger than a limit.
    #[error("the request head has more than the limit of {limit} {unit}")]
    HeadTooLarge {
        /// The limit.
        limit: usize,
        /// What is counted.
        unit: &'static str,
    },
    /// The body is larger than the limit.
    #[error("the request body is larger than the limit of {limit} bytes")]
    BodyTooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the request body did not arrive within {} seconds", limit.as_secs())]
    BodyTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The waiting queue or the number of calls in flight is at its limit.
    #[error("{message}")]
    QueueFull {
        /// Which limit was met.
        message: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The server is finishing its work before it stops.
    #[error("the server is draining and takes no new requests; try again later or elsewhere")]
    Draining,
    /// The model is not loaded yet.
    #[error("the model is being loaded ({loaded}%)")]
    Loading {
        /// How much of it is, percent.
        loaded: u8,
    },
    /// The server does not take requests at the moment.
    #[error("the server is not ready: {0}")]
    Unavailable(String),
    /// The model is being loaded anew already.
    #[error("the model is being loaded anew already; wait for that")]
    Reloading,
    /// An adapter was not loaded or not unloaded.
    #[error(transparent)]
    Adapter(AdapterError),
    /// The model could not be loaded anew.
    #[error("the model could not be loaded, so the one before goes on: {0}")]
    ReloadFailed(String),
    /// A time limit of the request or of the server passed.
    #[error("{}", describe_timeout(*which, *limit, *asked, *elapsed))]
    Timeout {
        /// Which one.
        which: DeadlineKind,
        /// How long it was.
        limit: Option<Duration>,
        /// Whether the request asked for it; else it is the server's own.
        asked: bool,
        /// Time since the request was accepted.
        elapsed: Duration,
    },
    /// The request was cancelled by its id.
    #[error("the request was cancelled")]
    Cancelled,
    /// The client has left too much of a stream unread.
    #[error("the stream was ended because too much of it was left unread")]
    TooSlow,
    /// The output could not go on within what the request says that it has to be.
    #[error("{0}")]
    Constraint(String),
    /// The model failed on this request.
    #[error("{0}")]
    Model(String),
    /// A fault of the server; the details are in its log.
    #[error("internal error; the server's log has the details under {id}")]
    Internal {
        /// What to look for in the log.
        id: String,
    },
}

/// Status line and fixed fields of an error body.
struct Outline {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
}

impl ApiError {
    /// A field with a value of the wrong type or out of range.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field(FieldFault::InvalidValue, param, message)
    }

    /// A field that must be there and is not.
    pub fn missing(param: &str) -> Self {
        Self::field(FieldFault::MissingField, param, format!("{param} is required"))
    }

    /// A field that asks for what this server does not offer; `advice` says what to do instead.
    pub fn unsupported(param: impl Into<String>, advice: &str) -> Self {
        let param = param.into();
        let message = format!("{param} is not offered by this server; {advice}");
        Self::field(FieldFault::UnsupportedField, param, message)
    }

    /// A fault of the server. Logs `detail` under a fresh id and keeps only the id.
    pub fn internal(detail: &dyn std::fmt::Display) -> Self {
        let id = crate::request_id::fresh();
        tracing::error!(error_id = %id, "{detail}");
        Self::Internal { id }
    }

    /// A text that cannot be made tokens of.
    pub(crate) fn of_text(param: &'static str, error: &TextError) -> Self {
        match *error {
            TextError::TooLong { tokens, most, .. } => {
                let count = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
                let message = format!(
                    "This model's maximum context length is {most} tokens. The beginning of the prompt alone has {tokens} tokens, \
                     which exceeds the available context size. Shorten the prompt."
                );
                Self::ContextLength { param, prompt: count(tokens), context: count(most), message }
            }
            _ => Self::invalid(param, error.to_string()),
        }
    }

    /// The same in the words of another interface, of which `names` has pairs: a field as checks name it, and as the request
    /// does.
    pub(crate) fn renamed(self, names: &[(&str, &'static str)]) -> Self {
        let pair = |param: &str| {
            let begins = |from: &str| {
                let rest = param.strip_prefix(from);
                rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
            };
            names.iter().find(|(from, _)| begins(from)).copied()
        };
        match self {
            Self::ContextLength { param, prompt, context, message } => {
                let param = pair(param).map_or(param, |(_, to)| to);
                Self::ContextLength { param, prompt, context, message }
            }
            Self::Field { param, fault, message } => match pair(&param) {
                // Messages about a prompt speak of what it is, not of the field.
                Some(("prompt", to)) => {
                    Self::Field { param: param.replacen("prompt", to, 1), fault, message }
                }
                Some((from, to)) => Self::Field {
                    param: param.replacen(from, to, 1),
                    fault,
                    message: message.replacen(from, to, 1),
                },
                None => Self::Field { param, fault, message },
            },
            other => other,
        }
    }

    fn field(fault: FieldFault, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field { param: param.into(), fault, message: message.into() }
    }

    fn outline(&self) -> Outline {
        let (status, kind, code) = match self {
            Self::InvalidJson(_) => (StatusCode::BAD_REQUEST, INVALID, "invalid_json"),
            Self::Field { fault, .. } => (StatusCode::BAD_REQUEST, INVALID, fault.code()),
            Self::ContextLength { .. } => (StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded"),
            Self::ModelNotFound { .. } => (StatusCode::NOT_FOUND, INVALID, "model_not_found"),
            Self::NoSuchPath(_) => (StatusCode::NOT_FOUND, INVALID, "not_found"),
            Self::NoSuchRequest(_) => (StatusCode::NOT_FOUND, INVALID, "request_not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed"),
            Self::Unauthorized { .. } => {
                (StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key")
            }
            Self::HostNotAllowed { .. } => (StatusCode::FORBIDDEN, INVALID, "host_not_allowed"),
            Self::OriginNotAllowed { .. } => (StatusCode::FORBIDDEN, INVALID, "origin_not_allowed"),
            Self::UriTooLong { .. } => (StatusCode::URI_TOO_LONG, INVALID, "uri_too_long"),
            Self::HeadTooLarge { .. } => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, INVALID, "head_too_large")
            }
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large"),
            Self::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "timeout_error", "body_timeout"),
            Self::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "queue_full"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, DOWN, "draining"),
            Self::Loading { .. } => (StatusCode::SERVICE_UNAVAILABLE, DOWN, "model_loading"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, DOWN, "unavailable"),
            Self::Adapter(error) => adapter_class(error),
            Self::Reloading => (StatusCode::CONFLICT, INVALID, "reloading"),
            Self::ReloadFailed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "reload_failed"),
            Self::Timeout { which, asked: true, .. } => {
                (StatusCode::GATEWAY_TIMEOUT, "timeout_error", timeout_code(*which))
            }
            // The client did not ask for it: the server has more to do than it can.
            Self::Timeout { which, asked: false, .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "timeout_error", timeout_code(*which))
            }
            Self::Cancelled => (client_closed_request(), "cancelled_error", "request_cancelled"),
            Self::TooSlow => (client_closed_request(), "cancelled_error", "client_too_slow"),
            Self::Constraint(_) => (StatusCode::BAD_REQUEST, INVALID, "constraint_failed"),
            Self::Model(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "model_error"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "internal_error"),
        };
        Outline { status, kind, code }
    }

    /// The status that the error is answered with.
    pub fn status(&self) -> StatusCode {
        self.outline().status
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Field { param, .. } => Some(param),
            Self::ContextLength { param, .. } => Some(param),
            Self::ModelNotFound { .. } => Some("model"),
            Self::Adapter(AdapterError::Invalid(_)) => Some("lora_path"),
            Self::Adapter(_) => Some("lora_name"),
            _ => None,
        }
    }

    /// The body: `{"error": {"message", "type", "param", "code"}}` and, for a prompt that is too long, the two
    /// counts.
    pub fn body(&self) -> Value {
        let Outline { kind, code, .. } = self.outline();
        let mut error = Map::new();
        error.insert("message".into(), self.to_string().into());
        error.insert("type".into(), kind.into());
        error.insert("param".into(), self.param().map_or(Value::Null, Value::from));
        error.insert("code".into(), code.into());
        if let Self::ContextLength { prompt, context, .. } = self {
            error.insert("n_prompt_tokens".into(), (*prompt).into());
            error.insert("n_ctx".into(), (*context).into());
        }
        json!({ "error": error })
    }

    /// When the client may try again, if that would help.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. } => Some(spread(*retry_after)),
            Self::Draining
            | Self::Loading { .. }
            | Self::Unavailable(_)
            | Self::Timeout { asked: false, .. } => Some(Duration::from_secs(5)),
            _ => None,
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { retry_after, .. } => {
                Self::QueueFull { message: error.to_string(), retry_after }
            }
            SubmitError::NeverFits { .. } => Self::invalid("prompt", error.to_string()),
            SubmitError::CannotPin => Self::invalid("cache_retention", error.to_string()),
            SubmitError::TooManySamples { .. } => Self::invalid("n", error.to_string()),
            SubmitError::TooLong { tokens, context } => {
                Self::ContextLength { param: "prompt", prompt: tokens, context, message: error.to_string() }
            }
            SubmitError::UnknownAdapter(name) => Self::ModelNotFound { asked: name, loaded: Vec::new() },
            SubmitError::DuplicateId(_) => Self::internal(&error),
            SubmitError::Loading => Self::Loading { loaded: 0 },
            SubmitError::Draining => Self::Draining,
            SubmitError::Stopped | SubmitError::Failed => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<AdapterError> for ApiError {
    fn from(error: AdapterError) -> Self {
        match error {
            AdapterError::Busy => Self::Unavailable(error.to_string()),
            other => Self::Adapter(other),
        }
    }
}

/// Status, type and code of what became of an adapter.
fn adapter_class(error: &AdapterError) -> (StatusCode, &'static str, &'static str) {
    match error {
        AdapterError::NoRoom => (StatusCode::BAD_REQUEST, INVALID, "adapters_disabled"),
        AdapterError::Name(_) => (StatusCode::BAD_REQUEST, INVALID, "invalid_value"),
        AdapterError::Taken(_) => (StatusCode::CONFLICT, INVALID, "adapter_exists"),
        AdapterError::Full { .. } => (StatusCode::CONFLICT, INVALID, "too_many_adapters"),
        AdapterError::Invalid(_) => (StatusCode::BAD_REQUEST, INVALID, "invalid_adapter"),
        AdapterError::Unknown(_) => (StatusCode::NOT_FOUND, INVALID, "adapter_not_found"),
        AdapterError::Busy => (StatusCode::SERVICE_UNAVAILABLE, DOWN, "unavailable"),
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Model(failure @ Failure::Constraint { .. }) => {
                Self::Constraint(failure.to_string())
            }
            RequestError::Model(failure) => Self::Model(failure.to_string()),
            RequestError::Refused(refusal) => refusal.into(),
            RequestError::TooSlow => Self::TooSlow,
            RequestError::Shutdown => Self::Draining,
            RequestError::EngineFailed => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(error: InvalidRequest) -> Self {
        let InvalidRequest { param, code, message } = error;
        match code {
            InvalidCode::InvalidValue => Self::invalid(param, message),
            InvalidCode::ContextLengthExceeded { prompt_tokens, context } => {
                Self::ContextLength { param, prompt: prompt_tokens, context, message }
            }
        }
    }
}

fn timeout_code(which: DeadlineKind) -> &'static str {
    match which {
        DeadlineKind::Queue => "queue_timeout",
        DeadlineKind::FirstToken => "first_token_timeout",
        DeadlineKind::Total => "request_timeout",
    }
}

/// What took too long, its limit and whose that is, and the time that has passed. The smaller limit of request and server holds.
fn describe_timeout(which: DeadlineKind, limit: Option<Duration>, asked: bool, elapsed: Duration) -> String {
    let (what, field) = match which {
        DeadlineKind::Queue => ("waited in the queue", "queue_timeout"),
        DeadlineKind::FirstToken => ("had no first token", "first_token_timeout"),
        DeadlineKind::Total => ("was not finished", "timeout"),
    };
    let limit = limit.map_or_else(String::new, |limit| format!(", its limit is {} s", limit.as_secs_f64()));
    let whose = if asked {
        "; send it again later or allow more time"
    } else {
        " of the server; send it again later"
    };
    format!("the request {what} for {:.3} s{limit} ({field}){whose}", elapsed.as_secs_f64())
}

/// Not retried by OpenAI's clients, unlike 408 and 409.
fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).expect("499 is a status code")
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status(), axum::Json(self.body())).into_response();
        if let Some(wait) = self.retry_after() {
            let headers = response.headers_mut();
            // Some clients read whole seconds only; none may come back too early.
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis(wait)));
        }
        match &self {
            Self::MethodNotAllowed { allowed, .. } => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Unauthorized { .. } => {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        // Other shapes of errors are made from it.
        response.extensions_mut().insert(self);
        response
    }
}

/// Up to a quarter more than `wait`, at random, so that those who were refused together do not return together.
fn spread(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(wait) >> 32;
    let share = random as f64 / (1_u64 << 32) as f64;
    wait.max(wait.mul_f64(1.0 + share / 4.0).min(LONGEST_WAIT))
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_headers_never_send_a_client_back_early() {
        let error = ApiError::QueueFull { message: "full".into(), retry_after: Duration::from_millis(1_250) };
        let waits: Vec<u64> = (0..20)
            .map(|_| {
                let response = error.clone().into_response();
                assert_eq!(response.status(), 429);
                assert_eq!(response.headers()["retry-after"], "2");
                response.headers()["retry-after-ms"].to_str().unwrap().parse().unwrap()
            })
            .collect();
        assert!(waits.iter().all(|wait| (1_250..=1_563).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "all return together: {waits:?}");
        assert_eq!(spread(Duration::from_secs(30)), Duration::from_secs(30));
        assert_eq!(spread(Duration::from_secs(40)), Duration::from_secs(40));
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }

    #[test]
    fn a_prompt_that_is_too_long_carries_both_counts() {
        let error = ApiError::ContextLength { param: "prompt", prompt: 70, context: 64, message: "x".into() };
        let body = error.body();
        assert_eq!(error.status(), 400);
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert_eq!(body["error"]["param"], "prompt");
        assert_eq!(body["error"]["n_prompt_tokens"], 70);
        assert_eq!(body["error"]["n_ctx"], 64);
    }

    #[test]
    fn a_timeout_says_which_with_limit_and_elapsed_time() {
        let timeout = |which, asked| ApiError::Timeout {
            which,
            limit: Some(Duration::from_millis(1_500)),
            asked,
            elapsed: Duration::from_micros(1_502_300),
        };
        for (which, code, part) in [
            (DeadlineKind::Queue, "queue_timeout", "waited in the queue for 1.502 s, its limit is 1.5 s"),
            (DeadlineKind::FirstToken, "first_token_timeout", "had no first token for 1.502 s"),
            (DeadlineKind::Total, "request_timeout", "was not finished for 1.502 s"),
        ] {
            for (asked, status) in [(true, 504), (false, 503)] {
                let error = timeout(which, asked);
                assert_eq!((error.status().as_u16(), &error.body()["error"]["code"]), (status, &json!(code)));
                assert!(error.to_string().contains(part), "{error}");
                assert_eq!(error.retry_after().is_some(), !asked, "{error}");
            }
        }
    }

    #[test]
    fn fields_have_the_names_of_the_request() {
        let names = [("prompt", "input"), ("stop", "stop_sequences")];
        let of = |param: &str| match ApiError::invalid(param, format!("{param} is wrong")).renamed(&names) {
            ApiError::Field { param, message, .. } => (param, message),
            other => panic!("{other:?}"),
        };
        assert_eq!(of("stop[1]"), ("stop_sequences[1]".into(), "stop_sequences[1] is wrong".into()));
        assert_eq!(of("stop_token_ids").0, "stop_token_ids");
        assert_eq!(of("prompt").0, "input");
        assert_eq!(of("prompt_logprobs").0, "prompt_logprobs");
    }

    #[test]
    fn the_body_always_has_the_four_keys() {
        let body = ApiError::Draining.body();
        let keys: Vec<_> = body["error"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        assert!(body["error"]["param"].is_null());
    }
}
