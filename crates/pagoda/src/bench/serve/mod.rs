//! Load on a server: requests at their times over HTTP, streams timed, figures as `vllm bench serve` reports them.

mod arrivals;
mod client;
mod load;
mod prompt;
mod sse;
mod stream;
mod summary;
mod target;

pub use arrivals::Arrivals;
pub use client::{Client, ClientError};
pub use load::{Load, LoadOutcome};
pub use prompt::{Ask, BodySettings, PromptForm, PromptSettings};
pub use sse::{EventTooLong, SseDecoder};
pub use stream::Outcome;
pub use summary::{Metric, Summary, SummarySettings, details};
pub use target::{Target, TargetError};
