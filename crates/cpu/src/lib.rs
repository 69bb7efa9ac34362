//! CPU executor: the forward pass over [`pagoda_kernels`], KV storage and the sampler.
//!
//! Invariants: no request, queue or text; no unsafe code; a step allocates nothing; the bits of a row's logits and
//! the tokens drawn from them depend on that row alone, on any number of threads.
#![forbid(unsafe_code)]

mod adapters;
mod candidates;
mod check;
mod error;
mod executor;
mod expert_scratch;
mod experts;
mod forward;
mod kv;
mod mask;
mod options;
mod plan;
mod profile;
mod quantize;
mod report;
mod rng;
mod rope;
mod sampler;
mod sampling;
mod scratch;
mod softmax;
mod source;
mod stopwatch;
mod traffic;
mod weights;
mod work;

pub use adapters::{AdapterLimits, PackedAdapter};
pub use error::CpuError;
pub use executor::{CpuExecutor, LoadProgress};
pub use options::{ComputeDtype, CpuOptions, DtypeError, KvDtype, WeightFormats};
pub use plan::MemoryPlan;
pub use profile::{Cost, Operation, OperationReport, Profile, ProfileReport, StepKind};
pub use quantize::{QuantizeError, quantize_folder};
pub use rng::uniform;
pub use sampler::{RowLogits, Sampler};
