//! Settings of the engine.

use crate::AdapterSource;
use pagoda_sched::{Deadlines, SchedulerConfig};
use std::time::Duration;

/// Settings of the engine; `Default` suits an interactive server.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Settings of the scheduler, the bounds of the waiting queue included.
    pub scheduler: SchedulerConfig,
    /// Time limits of every request; a request can only shorten them. Default: 60 s in the queue, no other.
    pub deadlines: Deadlines,
    /// The engine counts as stalled when it has made no progress for this long. It must exceed the longest step
    /// of the backend. Default: 30 s.
    pub stall_after: Duration,
    /// An engine that has made no progress for about this long is given up: every request is ended with an error, the engine
    /// counts as failed, and with it the process. It must exceed [`stall_after`](Self::stall_after). Default: 300 s.
    pub give_up_after: Duration,
    /// The engine fails, and with it the process, after this many failed steps without a good one between.
    /// Default: 8.
    pub step_error_limit: u32,
    /// Where adapters come from. Default: nowhere, there are none.
    pub adapters: Option<AdapterSource>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            scheduler: SchedulerConfig::default(),
            deadlines: Deadlines { queue: Some(Duration::from_secs(60)), first_token: None, total: None },
            stall_after: Duration::from_secs(30),
            give_up_after: Duration::from_secs(300),
            step_error_limit: 8,
            adapters: None,
        }
    }
}
