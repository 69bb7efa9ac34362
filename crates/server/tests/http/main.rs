//! The server over a real socket, with a fake model behind the real engine.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]

mod access;
mod beams;
mod boundaries;
mod cache;
mod chat;
mod client;
mod completions;
mod constraints;
mod dashboard;
mod echo;
mod embeddings;
mod failures;
mod frames;
mod health;
mod lifecycle;
mod limits;
mod listing;
mod outbound;
mod overload;
mod refusals;
mod reload;
mod requests;
mod routes;
mod server;
mod siege;
mod slow;
mod tenants;
mod text;
mod timing;
mod tools;
mod toy;
mod usage;
