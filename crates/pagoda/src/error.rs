//! Why an engine could not be built.

use crate::memory::KvSizeError;
use pagoda_cpu::CpuError;
use pagoda_engine::EngineError;
use pagoda_model::ModelError;
use pagoda_text::TextError;
use std::path::PathBuf;

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No model was given and none is embedded.
    #[error("no model was given and this build has none embedded; give a model folder or a GGUF file")]
    NoModel,
    /// The model's configuration or weights cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model has no tokenizer.
    #[error("{origin} has no tokenizer.json; save the model with its fast tokenizer")]
    MissingTokenizer {
        /// Folder or name of the model.
        origin: String,
    },
    /// The model's tokenizer or template cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The KV cache does not fit.
    #[error(transparent)]
    KvSize(#[from] KvSizeError),
    /// The executor could not be made.
    #[error(transparent)]
    Executor(#[from] CpuError),
    /// An adapter that the engine was to start with cannot be used.
    #[error("adapter {name:?} in {path:?}: {reason}")]
    Adapter {
        /// Its name.
        name: String,
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The engine could not be started.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
