//! Continuous batching and paged KV blocks as pure state transitions.
//!
//! Invariants: no clock, no thread, no tensor, no randomness of its own, no I/O. Time is passed in; the same
//! inputs give the same plan.
#![forbid(unsafe_code)]

mod executor;
mod ids;
mod kv;
mod outcome;
mod pool;
mod priority;
mod request;
mod sampling;
mod step;

pub use executor::{ExecError, Executor};
pub use ids::{BatchId, BlockId, CacheSalt, RequestId, SampleIndex, Slot, TenantId, TokenId};
pub use kv::{KvCapacity, KvLayout};
pub use outcome::{CompletionReason, DeadlineKind, Failure, LengthKind, RequestStats};
pub use pool::{
    AllocError, BlockAllocationResult, BlockHandle, BlockManagerStats, BlockMap, BlockPool, BlockState,
    BlockTable, ChainId, Holding, MemoryBlock, PoolConfig, PrefixHit, TokenView,
};
pub use priority::{InvalidPriority, Priority};
pub use request::{Deadlines, Request};
pub use sampling::SamplingParams;
pub use step::{BlockCopy, Row, RowFault, SampleRequest, Sampled, StepInput, StepOutput, TokenLogprob};
