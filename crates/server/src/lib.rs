//! OpenAI-compatible HTTP routes over an engine.
//!
//! ```text
//! POST /v1/completions   POST /v1/chat/completions   each also with /render: the exact prompt
//! POST /v1/responses   POST /v1/messages   POST /v1/messages/count_tokens
//! POST /v1/embeddings   GET /v1/models[/{id}]   POST /tokenize   POST /detokenize   GET /tokenizer_info
//! GET /v1/requests[/{id}]   DELETE /v1/requests/{id}   POST /abort_request
//! GET /health (/ping /healthz /ready)   /live   /metrics   /version   /load   /v1/loads   /server_info
//! ```
//!
//! [`endpoints`] lists all of them, and [`admin_endpoints`] those of the operator's own listener.
//!
//! Invariants: where there are API keys, nothing but probes answers without a valid one; every response carries
//! `x-request-id`; every error has the shape of [`ApiError::body`]; a field that changes what a request means is obeyed
//! or refused by name; every accepted call ends with one terminal event; a client that goes away cancels what it asked
//! for, wherever it is.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod base64;
mod call_forms;
mod calls;
mod channels;
mod config;
mod cors;
mod credential;
mod error;
mod error_shape;
mod finish;
mod gate;
mod generation;
mod head;
mod held;
mod hosts;
mod json;
mod key_load;
mod keys;
mod listener;
mod logprobs;
mod openapi;
mod patience;
mod placement;
mod reasoning;
mod reload;
mod request_id;
mod router;
mod routes;
mod said;
mod serve;
mod shape;
mod sse;
mod stall;
mod state;
mod suggest;
mod table;
mod tenant;
mod text_threads;
mod throughput;
mod tool_calls;
mod unknown;
mod wire;

pub use config::{BuildInfo, ServerConfig};
pub use cors::CorsOrigins;
pub use error::{ApiError, FieldFault};
pub use generation::Retired;
pub use head::HeadLimits;
pub use hosts::AllowedHosts;
pub use keys::ApiKeys;
pub use listener::Listener;
pub use reload::{Reload, ReloadOrder};
pub use router::{admin_endpoints, admin_router, endpoints, router};
pub use serve::{serve, serve_admin};
pub use state::ServerState;
pub use suggest::edit_distance;
pub use table::Endpoint;
pub use tenant::{TenantName, TenantNameError, TenantWeights};
