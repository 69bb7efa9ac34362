//! Why a model cannot be run on the CPU.

use crate::ComputeDtype;
use pagoda_kernels::{Activations, Isa, OutOfMemory, PackError, QuantFormat, QuantFormatError, WeightFormat};
use pagoda_model::{Dtype, Role};

/// Why an executor cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The instruction set that was asked for is not there.
    #[error("this machine cannot run {isa}; leave the choice open, or use one of: {available}")]
    Isa {
        /// What was asked for.
        isa: Isa,
        /// Names of those that run here.
        available: String,
    },
    /// A size in the options cannot work.
    #[error("{option} = {value} cannot be used: {rule}")]
    Option {
        /// Field of [`CpuOptions`](crate::CpuOptions).
        option: &'static str,
        /// Its value.
        value: u64,
        /// What it has to be.
        rule: &'static str,
    },
    /// The model's heads do not suit the attention kernels.
    #[error("head_dim = {head_dim} cannot be used: it must be even and at most {max}")]
    HeadDim {
        /// Elements per head.
        head_dim: u32,
        /// Largest that works.
        max: usize,
    },
    /// An adapter has a larger rank than there is room for.
    #[error(
        "the adapter has rank {rank} and there is room for ranks up to {limit}; start with --max-lora-rank {rank}"
    )]
    AdapterRank {
        /// Its largest rank.
        rank: u32,
        /// The largest that was planned for.
        limit: u32,
    },
    /// Both a float format and a quantised one were asked for.
    #[error("the weights cannot be {dtype} and quantised to {quantize}: leave one of the two out")]
    Formats {
        /// The float format.
        dtype: ComputeDtype,
        /// The quantised one.
        quantize: QuantFormat,
    },
    /// A quantised format and, apart from it, a rounding of activations were asked for.
    #[error(
        "activations of {} bits were asked for beside {quantize}, which says it: leave one of the two out",
        activations.bits()
    )]
    Activations {
        /// The format.
        quantize: QuantFormat,
        /// The rounding.
        activations: Activations,
    },
    /// The checkpoint is quantised in another way than was asked for.
    #[error(
        "the checkpoint stores {stored}, which cannot become {asked}: leave the format out, or use the checkpoint in bf16"
    )]
    Stored {
        /// How the checkpoint stores its matrices.
        stored: Dtype,
        /// The format that was asked for.
        asked: WeightFormat,
    },
    /// The quantised format is not computed.
    #[error(transparent)]
    Quantize(#[from] QuantFormatError),
    /// Weights could not be packed.
    #[error("cannot pack {role}: {source}")]
    Pack {
        /// The first tensor of the group that is packed together.
        role: Role,
        /// Why.
        source: PackError,
    },
    /// A stored weight that is packed as it is, or is to be rounded, is no number.
    #[error(
        "{file}: tensor {tensor:?}: row {row}, column {column} is not finite: download the file again, or use another checkpoint"
    )]
    NotFinite {
        /// Name of the file.
        file: String,
        /// Name of the tensor.
        tensor: String,
        /// Output.
        row: usize,
        /// Input.
        column: usize,
    },
    /// Too little memory for something other than weights.
    #[error("no memory for {purpose}: {source}")]
    OutOfMemory {
        /// What the memory was for.
        purpose: &'static str,
        /// How much it was.
        source: OutOfMemory,
    },
    /// A worker thread could not be started.
    #[error("cannot start {threads} worker threads: {source}")]
    Threads {
        /// Workers asked for.
        threads: usize,
        /// The operating system's answer.
        source: std::io::Error,
    },
}
