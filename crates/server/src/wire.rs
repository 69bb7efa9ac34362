//! What goes over the wire: requests as they are read, responses as they are written.

pub(crate) mod adapters;
pub(crate) mod anthropic;
pub(crate) mod cache;
pub(crate) mod chat;
pub(crate) mod common;
pub(crate) mod completions;
pub(crate) mod constraint;
pub(crate) mod conversation;
pub(crate) mod dialect_schema;
pub(crate) mod embeddings;
pub(crate) mod llama;
pub(crate) mod load;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod nested;
pub(crate) mod ollama;
pub(crate) mod prompt_logprobs;
pub(crate) mod refused;
pub(crate) mod reload;
pub(crate) mod render;
pub(crate) mod requests;
pub(crate) mod responses;
pub(crate) mod schema;
pub(crate) mod tokenize;
pub(crate) mod tools;
