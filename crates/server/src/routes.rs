//! The handlers.

pub(crate) mod adapters;
pub(crate) mod admin;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod converse;
pub(crate) mod docs;
pub(crate) mod embeddings;
mod generate;
pub(crate) mod health;
pub(crate) mod llama;
pub(crate) mod load;
pub(crate) mod messages;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod native;
pub(crate) mod ollama;
pub(crate) mod render;
pub(crate) mod requests;
pub(crate) mod responses;
pub(crate) mod server_info;
pub(crate) mod tokenize;
pub(crate) mod tokenizer_info;
pub(crate) mod version;
