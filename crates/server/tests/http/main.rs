//! The server over a real socket, with a fake model behind the real engine.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod beams;
mod cache;
mod chat;
mod client;
mod completions;
mod frames;
mod lifecycle;
mod refusals;
mod requests;
mod routes;
mod server;
mod tenants;
mod toy;
