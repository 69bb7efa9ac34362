//! The handlers.

pub(crate) mod cache;
pub(crate) mod chat;
pub(crate) mod completions;
mod generate;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod requests;
pub(crate) mod version;
