//! Where a request stands, and when it is expected to be served.

use crate::{Priority, RequestId, SequenceId};
use std::time::Duration;

/// What is known of a live request at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// As asked.
    pub class: Priority,
    /// After the time that it has waited.
    pub effective_class: Priority,
    /// Time spent in the queue so far.
    pub waited: Duration,
    /// Whether it runs, or what it waits for.
    pub standing: Standing,
    /// When it is expected to be served; `None` before the first step tells what steps cost.
    pub estimate: Option<Estimate>,
    /// State of the machine.
    pub machine: MachineState,
}

/// What all requests share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineState {
    /// Rows that run, and the most that may.
    pub rows: (u32, u32),
    /// Blocks in the pool.
    pub blocks: u32,
    /// Of those, free ones; what they hold of the prefix cache goes when they are taken.
    pub blocks_free: u32,
    /// Of the free ones, those with cached content.
    pub blocks_reclaimable: u32,
}

/// Whether a request runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its samples, or the one that stands for all of them before the first token, run or have run.
    Running {
        /// Tokens whose keys and values are stored, of the sample that is furthest.
        computed: u32,
        /// Tokens generated, of the sample that is furthest.
        generated: u32,
        /// Blocks held; shared ones count once.
        blocks: u32,
    },
    /// It waits.
    Waiting {
        /// Sequences that are expected to go before it.
        position: u32,
        /// What holds it back.
        rule: Rule,
        /// Blocks that have to be free for it, those to leave free included, less those of its cached prefix.
        needed_blocks: u32,
        /// Tokens of it that are cached.
        cached_tokens: u32,
        /// The next of those that go before it, at most eight.
        before: Vec<RequestId>,
    },
}

/// What holds a waiting request back, as things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: it goes into the next step, unless running rows take the blocks first.
    Next,
    /// Others go first by class, share of the tenant or arrival; this one goes next.
    Order {
        /// The one that goes next.
        first: SequenceId,
    },
    /// The batch is full.
    Rows,
    /// Too few blocks are free.
    Blocks,
    /// A running request computes a prefix that this one will find in the cache.
    Prefix {
        /// The one that computes it.
        with: SequenceId,
    },
    /// Two prompts are open, or streams leave no room for a chunk of this one.
    Prefill,
}

impl Rule {
    /// A short, stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Order { .. } => "order",
            Self::Rows => "rows",
            Self::Blocks => "blocks",
            Self::Prefix { .. } => "prefix",
            Self::Prefill => "prefill",
        }
    }
}

/// When a waiting request is expected to be served, from the moment of asking; later arrivals of higher classes are not foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Sequences before it.
    pub position: u32,
    /// Until it is admitted.
    pub start: Duration,
    /// Until its first token.
    pub first_token: Duration,
    /// Until its last token.
    pub finish: Duration,
}
