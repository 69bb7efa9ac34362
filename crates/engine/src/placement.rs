//! Where a request came into the queue.

use pagoda_sched::Estimate;

/// Where a request came into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Sequences that were expected to go before it.
    pub position: u32,
    /// When it was expected to be served; `None` before the first step has told what steps cost.
    pub estimate: Option<Estimate>,
}
