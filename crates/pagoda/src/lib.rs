//! Pagoda, embedded: build an engine over a model folder and generate text.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pagoda::{Engine, GenerateParams, SessionEvent};
//!
//! let engine = Engine::builder().model("./Qwen2.5-0.5B-Instruct").build()?;
//! let mut stream = engine.generate("Once upon a time", GenerateParams::default())?;
//! while let Some(event) = stream.next().await {
//!     if let SessionEvent::Delta { text, .. } = event {
//!         print!("{text}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod adapters;
pub mod bench;
mod builder;
pub mod client;
#[cfg(feature = "embedded-model")]
pub mod embedded;
mod engine;
mod error;
pub mod eval;
pub mod hub;
pub mod memory;
mod served;
pub mod templates;

pub use builder::{EngineBuilder, Prepared};
pub use engine::{Engine, GenerateError, Prompt};
pub use error::BuildError;
pub use pagoda_cpu::{
    ComputeDtype, KvDtype, LoadProgress, MemoryPlan, Operation, Profile, ProfileReport, QuantizeError,
    StepKind, WeightFormats, quantize_folder,
};
pub use pagoda_engine::{
    AdapterError, AdapterInfo, Constraint, ConstraintParam, EngineConfig, EngineError, EngineHandle,
    EngineSnapshot, EngineState, GenerateParams, InitialAdapter, RequestError, RequestResult, ServedModel,
    Session, SessionEvent,
};
pub use pagoda_kernels::{Activations, Isa, QuantFormat};
pub use pagoda_model as model;
pub use pagoda_sched as sched;
pub use pagoda_server as server;
pub use pagoda_text as text;
