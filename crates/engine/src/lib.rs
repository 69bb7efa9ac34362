//! The serving engine: one thread that runs the scheduler and the backend, and the sessions that talk to it.
//!
//! Invariants: the engine thread never waits for a client; every queue and channel has a bound; every accepted
//! sample hears exactly one end; dropping a session cancels its sample. Knows no HTTP and no tensors, and runs
//! with or without an async runtime.
#![forbid(unsafe_code)]

mod accounts;
mod adapters;
mod admission;
mod beam;
mod cancel;
mod config;
mod constraint;
mod engine;
mod event;
mod grammars;
mod handle;
mod health;
mod histogram;
mod inbox;
mod invalid;
mod live;
mod mask_workers;
mod metrics;
mod model;
mod params;
mod placement;
mod prompt;
mod responder;
mod result;
mod row_cost;
mod run;
mod session;
mod shared;
mod text;
mod ticket;
mod validate;
mod watch;

pub use adapters::{AdapterError, AdapterInfo, AdapterLoader, AdapterSource, InitialAdapter, LoadedAdapter};
pub use config::EngineConfig;
pub use engine::{Engine, EngineError, LoadReport};
pub use grammars::{ConstraintParam, Grammars};
pub use handle::{EngineHandle, EngineSnapshot, RequestBrief, SubmitError};
pub use health::{EngineState, Health};
pub use invalid::{InvalidCode, InvalidRequest};
pub use model::{RequestLimits, SamplingDefaults, ServedModel};
pub use pagoda_grammar::{Constraint, GrammarError, GrammarLimits};
// Words of the conversation with a client, for front ends that know the engine alone.
pub use pagoda_sched::{
    AdapterWeights, CacheSalt, CompletionReason, DeadlineKind, Deadlines, EarlyStopping, Estimate,
    Explanation, Failure, InvalidWeight, LengthKind, MachineState, Pooling, Priority, RequestId, Retention,
    Rule, SampleIndex, Standing, Tenant, TenantId, TokenLogprob, Weight,
};
pub use params::GenerateParams;
pub use placement::Placement;
pub use prompt::{PromptResult, PromptToken};
pub use responder::Progress;
pub use result::{RequestError, RequestResult, SessionEvent, TokenInfo, best_of};
pub use session::Session;
pub use validate::ValidatedRequest;
