//! Models as data: config.json, or the metadata of a GGUF file, becomes a [`DecoderSpec`], weight files become named, checked tensors.
//!
//! Invariants: no arithmetic on weights; nothing is computed with before every tensor that the spec calls for
//! has been found with the right shape, in a readable format, inside its file. Model files are untrusted: any
//! bytes give a [`Checkpoint`] or a [`ModelError`], never a panic, and memory is bounded by the size of the
//! files. No code is ever read from a model: safetensors, GGUF and JSON only. A model with random weights reads like a folder.
#![deny(unsafe_code)]

mod adapter;
mod arch;
mod checkpoint;
mod config;
mod dtype;
mod error;
mod expert_naming;
mod expert_role;
mod generation;
mod gguf;
mod header;
mod impostor;
mod json;
mod mmap;
mod mxfp4;
mod naming;
mod quantized;
mod random;
mod role;
mod rope;
mod rope_config;
mod sentencepiece;
mod shards;
mod source;
mod spec;
mod tensor;
mod tokenizer_files;
mod view;
mod weights;
mod writer;

pub use adapter::{Adapter, Update};
pub use arch::{SUPPORTED_ARCHITECTURES, supported_models};
pub use checkpoint::Checkpoint;
pub use dtype::{BlockFormat, Dtype};
pub use error::ModelError;
pub use expert_role::ExpertRole;
pub use generation::GenerationDefaults;
pub use gguf::{GgufPart, gguf_part, is_gguf};
pub use naming::Naming;
pub use quantized::{
    Fp8Data, QuantScheme, QuantizedData, QuantizedFolder, ScaleData, ScaleType, pack_zero_points,
};
pub use random::{RandomShape, ShapeError};
pub use role::{LayerRole, Role};
pub use rope::{RopeScaling, RopeSpec};
pub use source::ModelSource;
pub use spec::{
    Activation, AttentionSpan, BlockSpec, DecoderSpec, ExpertSpec, ExpertWeights, Flow, LayerSpec, Mlp,
    NormKind, NormSpec, QkNorm, SharedExpert,
};
pub use tensor::{Tensor, TensorData};
pub use writer::{FolderWriter, StoredTensor, WriteError};

#[cfg(target_endian = "big")]
compile_error!("weight files are little-endian and are read in place");
