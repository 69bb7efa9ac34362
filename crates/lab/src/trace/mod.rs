//! Recorded traffic: CSV or JSON lines, read as it is needed.
//!
//! One request per line, in order of arrival. Fields: `arrival_s` (seconds since the start), `prompt_tokens` and
//! `output_tokens`; and, if wanted, `max_tokens` (as many as the output if absent), `class` (low, normal, high or urgent),
//! `tenant`, `prefix_group` and `prefix_tokens` (the whole prompt if absent). CSV has the names in its first line.

mod error;
mod fields;
mod lines;
mod names;
mod reader;

pub use error::{Problem, TraceError};
pub use reader::{Format, TraceReader};
