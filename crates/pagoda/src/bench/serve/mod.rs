//! Load on a server: requests at their times over HTTP, streams timed, figures as `vllm bench serve` reports them.

mod arrivals;
mod load;
mod prompt;
mod stream;
mod summary;

pub use arrivals::Arrivals;
pub use load::{Load, LoadOutcome};
pub use prompt::{Ask, BodySettings, PromptForm, PromptSettings};
pub use stream::Outcome;
pub use summary::{Metric, Summary, SummarySettings, details};
