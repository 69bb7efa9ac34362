//! The server over a real socket, with a fake model behind the real engine.

mod chat;
mod client;
mod completions;
mod frames;
mod lifecycle;
mod refusals;
mod routes;
mod server;
mod toy;
