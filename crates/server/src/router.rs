//! The tables of routes.

use crate::access;
use crate::gate;
use crate::request_id;
use crate::routes::{
    adapters, admin, completions, converse, docs, embeddings, health, llama, load, messages, metrics, models,
    native, ollama, render, requests, responses, server_info, tokenize, tokenizer_info, version,
};
use crate::routes::{chat::Chat, messages::Messages, responses::Responses};
use crate::state::ServerState;
use crate::table::{Endpoint, Table};
use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

/// All routes for clients, to be served as they are or nested into a larger router.
///
/// Most paths under `/v1` also answer without `/v1`. Unknown paths and methods are answered in the error shape of the
/// API, and every response carries `x-request-id`. Requests pass the limits of
/// [`ServerConfig`](crate::ServerConfig) first: head, host, origin and API key.
pub fn router(state: ServerState) -> Router {
    gated(table(), state)
}

/// Routes for the operator, for a listener that clients cannot reach. They pass the same limits.
pub fn admin_router(state: ServerState) -> Router {
    gated(admin_table(), state)
}

/// What [`router`] answers to.
pub fn endpoints() -> Vec<Endpoint> {
    table().endpoints()
}

/// What [`admin_router`] answers to.
pub fn admin_endpoints() -> Vec<Endpoint> {
    admin_table().endpoints()
}

fn gated(table: Table, state: ServerState) -> Router {
    table
        .finish()
        .layer(middleware::from_fn_with_state(state.clone(), gate::pass))
        .layer(middleware::from_fn(request_id::tag))
        .layer(middleware::from_fn(access::log))
        .with_state(state)
}

fn table() -> Table {
    let table = Table::default()
        .both("/completions", POST, post(completions::create))
        .both("/chat/completions", POST, post(converse::create::<Chat>))
        .both("/responses", POST, post(converse::create::<Responses>))
        .both("/responses/input_tokens", POST, post(responses::input_tokens))
        .both("/messages", POST, post(converse::create::<Messages>))
        .both("/messages/count_tokens", POST, post(messages::count_tokens))
        .both("/embeddings", POST, post(embeddings::create))
        .both("/completions/render", POST, post(render::completions))
        .both("/chat/completions/render", POST, post(render::chat))
        .both("/chat/completions/input_tokens", POST, post(render::input_tokens))
        .both("/requests", GET, get(requests::list))
        .both("/requests/{id}", "GET, HEAD, DELETE", get(requests::show).delete(requests::cancel))
        .both("/models", GET, get(models::list))
        .both("/models/{*id}", GET, get(models::show))
        .both("/tokenize", POST, post(tokenize::tokenize))
        .both("/detokenize", POST, post(tokenize::detokenize))
        .both("/tokenizer_info", GET, get(tokenizer_info::show))
        .both("/load", GET, get(load::show))
        .both("/loads", GET, get(load::list))
        .both("/abort_request", POST, post(requests::abort))
        .at("/apply-template", POST, post(render::template))
        .at("/completion", POST, post(native::completion))
        .at("/infill", POST, post(native::infill))
        .at("/api/chat", POST, post(ollama::chat))
        .at("/api/generate", POST, post(ollama::generate))
        .at("/api/show", POST, post(ollama::show))
        .at("/api/tags", GET, get(ollama::tags))
        .at("/api/version", GET, get(ollama::version))
        .at("/props", GET, get(llama::props))
        .at("/slots", GET, get(llama::slots))
        .at("/server_info", GET, get(server_info::show))
        .at("/openapi.json", GET, get(docs::document))
        .at("/docs", GET, get(docs::page));
    probes(table).at("/v1/health", GET, get(health::ready))
}

fn admin_table() -> Table {
    let table = Table::default()
        .both("/cache/reset", POST, post(admin::reset_cache))
        .at("/reset_prefix_cache", POST, post(admin::reset_cache))
        .both("/reload", POST, post(admin::reload))
        .both("/load_lora_adapter", POST, post(adapters::load))
        .both("/unload_lora_adapter", POST, post(adapters::unload))
        .both("/requests", GET, get(admin::list))
        .both("/requests/{id}", "DELETE", axum::routing::delete(admin::cancel))
        .at("/server_info", GET, get(server_info::show));
    probes(table)
}

/// What both listeners answer to.
fn probes(table: Table) -> Table {
    table
        .at("/health", GET, get(health::ready))
        .at("/ready", GET, get(health::ready))
        .at("/healthz", GET, get(health::ready))
        .at("/ping", GET, get(health::ready))
        .at("/live", GET, get(health::live))
        .at("/metrics", GET, get(metrics::show))
        .at("/version", GET, get(version::show))
}
