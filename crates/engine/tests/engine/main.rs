//! The engine over the fake executor: whole conversations, with every way they can end.

mod adapters;
mod admission;
mod beams;
mod cancel;
mod common;
mod constraints;
mod failure;
mod lifecycle;
mod metrics;
mod prompts;
mod stress;
mod text;
mod validate;
