//! What goes over the wire: requests as they are read, responses as they are written.

pub(crate) mod cache;
pub(crate) mod chat;
pub(crate) mod common;
pub(crate) mod completions;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod refused;
pub(crate) mod requests;
