//! Continuous batching and paged KV blocks as pure state transitions.
//!
//! Invariants: no clock, no thread, no tensor, no randomness of its own, no I/O. Time is passed in; the same
//! inputs give the same plan.
#![forbid(unsafe_code)]

mod batch;
mod beam;
mod config;
mod constraint;
mod cost;
mod effects;
mod enqueue;
mod executor;
mod explain;
#[cfg(feature = "fake")]
pub mod fake;
mod growth;
mod ids;
mod kv;
mod outcome;
mod pace;
mod pool;
mod priority;
mod queue;
mod rate;
mod report;
mod request;
mod retention;
mod sampling;
mod scheduler;
mod sequence;
#[cfg(feature = "fake")]
pub mod sim;
mod stats;
mod step;
mod tenant;
mod wheel;

pub use batch::{Batch, BatchStats};
pub use beam::{BeamSearch, EarlyStopping};
pub use config::{Batching, ConfigError, Reservation, SchedulerConfig};
pub use constraint::{ConstraintFault, SharedConstraint, TokenConstraint};
pub use effects::{Effect, Effects};
pub use enqueue::EnqueueError;
pub use executor::{AdapterWeights, ExecError, Executor};
pub use explain::{Estimate, Explanation, MachineState, Rule, Standing};
pub use ids::{AdapterId, BatchId, BlockId, CacheSalt, CacheSpace, RequestId, SampleIndex, Slot, TokenId};
pub use kv::{KvCapacity, KvLayout};
pub use outcome::{CompletionReason, DeadlineKind, Failure, LengthKind, RequestStats};
pub use pool::{
    AllocError, BlockAllocationResult, BlockHandle, BlockManagerStats, BlockMap, BlockPool, BlockState,
    BlockTable, ChainId, Holding, MemoryBlock, PoolConfig, PrefixHit, TokenView,
};
pub use priority::{InvalidPriority, Priority};
pub use queue::{TURNS, WaitingQueue};
pub use report::{Pooling, PromptLogprob, PromptReport, Readout, RowReport};
pub use request::{Deadlines, Request};
pub use retention::Retention;
pub use sampling::SamplingParams;
pub use scheduler::Scheduler;
pub use sequence::{Sequence, SequenceId};
pub use stats::{Counters, SchedulerStats};
pub use step::{BlockCopy, Row, RowFault, SampleRequest, Sampled, StepInput, StepOutput, TokenLogprob};
pub use tenant::{InvalidWeight, Tenant, TenantId, Weight};
