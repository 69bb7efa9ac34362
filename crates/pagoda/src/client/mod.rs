//! A client of any OpenAI-compatible server: requests over kept connections, and streams of events.

mod events;
mod http;
mod sse;
mod target;

pub use events::Events;
pub use http::{Client, ClientError};
pub use sse::{EventTooLong, SseDecoder};
pub use target::{Target, TargetError};
