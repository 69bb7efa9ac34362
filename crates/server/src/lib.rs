//! OpenAI-compatible HTTP routes over an engine.
//!
//! ```text
//! POST /v1/completions   POST /v1/chat/completions   GET /v1/models[/{id}]
//! GET /v1/requests/{id}   POST /v1/cache/reset
//! GET /health (/v1/health /ping /healthz /ready)   /live   /metrics   /version
//! ```
//!
//! Invariants: every response carries `x-request-id`; every error has the shape of [`ApiError::body`]; a field
//! that changes what a request means is obeyed or refused by name; every accepted call ends with one terminal
//! event; a client that goes away cancels what it asked for, wherever it is.
#![forbid(unsafe_code)]

mod answer;
mod calls;
mod config;
mod error;
mod finish;
mod json;
mod logprobs;
mod placement;
mod request_id;
mod router;
mod routes;
mod serve;
mod shape;
mod sse;
mod stall;
mod state;
mod tenant;
mod unknown;
mod wire;

pub use config::{BuildInfo, ServerConfig};
pub use error::{ApiError, FieldFault};
pub use router::router;
pub use serve::serve;
pub use state::ServerState;
pub use tenant::{TenantName, TenantNameError, TenantWeights};
